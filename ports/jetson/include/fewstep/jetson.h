/* fewstep on a GPU: adapt a capsule's network with one kernel launch a task.
 *
 * The calls of fewstep/fewstep.h, by a CUDA thread block: the same contract,
 * the same statuses and the same bits. What differs: all memory, the GPU's and
 * pinned memory of the host, is allocated by fewstep_gpu_open() and freed by
 * fewstep_gpu_close(); all operations are linked; there are no slices of a
 * step.
 *
 *   fewstep_gpu_session* session = 0;
 *   fewstep_gpu_open(&session, capsule, capsule_bytes, 0);
 *   fewstep_gpu_adapt(session, &support, 0, &report);
 *   fewstep_gpu_predict(session, x, n, outputs);
 *   fewstep_gpu_close(session);
 *
 * Every function returns 0 or a negative status; two more than on the CPU:
 * FEWSTEP_NO_DEVICE (no GPU, no driver, or one this build is not for) and
 * FEWSTEP_DEVICE_FAILED (after which a session can only be closed).
 * fewstep_gpu_message() says it in words. A session is for one thread at a
 * time; sessions are independent.
 *
 * SPDX-FileCopyrightText: The fewstep authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef FEWSTEP_JETSON_H_
#define FEWSTEP_JETSON_H_

#include "fewstep/fewstep.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fewstep_gpu_session fewstep_gpu_session;

/* Memory that a session for a capsule and options (NULL: all defaults) takes:
 * of the GPU, and pinned of the host. Needs no GPU. */
int fewstep_gpu_required_bytes(const void* capsule,
                               size_t capsule_bytes,
                               const fewstep_options* options,
                               size_t* gpu_bytes,
                               size_t* pinned_bytes);

/* Verifies the capsule, allocates, copies the capsule to the current CUDA
 * device and prepares the launch. `capsule` is 16-byte aligned and must stay
 * readable until close; options may be NULL, tile 0 is the whole support set.
 * On failure *session is not written and nothing is kept.
 *
 * FEWSTEP_ARENA_TOO_SMALL: there is not enough memory. */
int fewstep_gpu_open(fewstep_gpu_session** session,
                     const void* capsule,
                     size_t capsule_bytes,
                     const fewstep_options* options);

/* Frees everything; NULL is fine. */
void fewstep_gpu_close(fewstep_gpu_session* session);

/* As fewstep_adapt(): one launch, whatever the steps. high_water_bytes of the
 * report is all the session's memory on the GPU. */
int fewstep_gpu_adapt(fewstep_gpu_session* session,
                      const fewstep_support* support,
                      uint32_t steps,
                      fewstep_report* report);

/* outputs [n][n_out] of x [n][n_in] at the current parameters. */
int fewstep_gpu_predict(fewstep_gpu_session* session,
                        const float* x,
                        uint32_t n,
                        float* outputs);

/* Mean loss of `set` at the current parameters. */
int fewstep_gpu_evaluate(fewstep_gpu_session* session,
                         const fewstep_support* set,
                         float* loss);

/* Back to the capsule's initialization. */
int fewstep_gpu_reset(fewstep_gpu_session* session);

/* Copies the current parameters, fewstep_gpu_parameters() floats. */
int fewstep_gpu_copy_parameters(fewstep_gpu_session* session, float* theta);

/* 64-bit FNV-1a of the current parameters, fewstep_hash()'s; 0 when they cannot
 * be had. */
uint64_t fewstep_gpu_hash(fewstep_gpu_session* session);

/* Sizes of the network; 0 for NULL. */
uint32_t fewstep_gpu_inputs(const fewstep_gpu_session* session);
uint32_t fewstep_gpu_outputs(const fewstep_gpu_session* session);
uint32_t fewstep_gpu_parameters(const fewstep_gpu_session* session);

/* Replays the capsule's golden episode on the GPU and compares every bit. */
int fewstep_gpu_selftest(const void* capsule, size_t capsule_bytes);

/* Why the last call of this thread gave FEWSTEP_NO_DEVICE,
 * FEWSTEP_DEVICE_FAILED or, for memory, FEWSTEP_ARENA_TOO_SMALL; never NULL. */
const char* fewstep_gpu_message(void);

#ifdef __cplusplus
}
#endif

#endif /* FEWSTEP_JETSON_H_ */
