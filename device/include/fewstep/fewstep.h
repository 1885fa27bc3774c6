/* fewstep for C: adapt a capsule's network to new examples on a device.
 *
 * The same library as fewstep/device/session.h, whose comments hold the whole
 * contract of each call; here they are brief. Every function returns 0 or a
 * negative status (fewstep_status_name() names it). No heap, no stdio.
 *
 *   fewstep_session session;
 *   fewstep_open(&session, capsule, capsule_bytes, ops, arena, arena_bytes, 0);
 *   fewstep_adapt(&session, &support, 0, &report);
 *   fewstep_predict(&session, x, n, outputs);
 *
 * SPDX-FileCopyrightText: The fewstep authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef FEWSTEP_FEWSTEP_H_
#define FEWSTEP_FEWSTEP_H_

#include <stddef.h>
#include <stdint.h>

#include "fewstep/device/op_symbols.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Statuses: 0 is success; fewstep/status.h says what each means. */
enum {
  FEWSTEP_OK = 0,
  FEWSTEP_BAD_ARGUMENT = -10,
  FEWSTEP_BAD_STATE = -11,
  FEWSTEP_BAD_LABEL = -12,
  FEWSTEP_BAD_INPUT = -13,
  FEWSTEP_TOO_MANY_EXAMPLES = -14,
  FEWSTEP_BAD_MAGIC = -20,
  FEWSTEP_BAD_VERSION = -21,
  FEWSTEP_BAD_CHECKSUM = -22,
  FEWSTEP_BAD_CAPSULE = -23,
  FEWSTEP_MISALIGNED = -24,
  FEWSTEP_MISSING_SECTION = -25,
  FEWSTEP_ARENA_TOO_SMALL = -30,
  FEWSTEP_UNSUPPORTED_OPERATION = -31,
  FEWSTEP_BAD_FLOAT_ENVIRONMENT = -32,
  FEWSTEP_NO_DEVICE = -33,     /* GPU sessions only (ports/jetson). */
  FEWSTEP_DEVICE_FAILED = -34, /* GPU sessions only. */
  FEWSTEP_DIVERGED = -40,
  FEWSTEP_SELF_TEST_FAILED = -41
};

/* Where a session is after a step that failed. */
enum { FEWSTEP_ON_FAILURE_FACTORY = 0, FEWSTEP_ON_FAILURE_ENTRY = 1 };

/* A session's own memory. Opaque; all zero is a closed session, so a static one
 * lies in .bss and can be used at once; needs no destructor. */
typedef struct fewstep_session {
  uint64_t opaque[(144 + 16 * sizeof(void*)) / sizeof(uint64_t)];
} fewstep_session;

/* What a session is opened for. Zero in any field means its default. */
typedef struct fewstep_options {
  uint32_t max_support; /* Examples a support set may have; the capsule's. */
  uint32_t max_predict; /* Examples predicted together; the capsule's. */
  uint32_t max_steps;   /* Gradient steps; the capsule's. */
  uint32_t tile;      /* Examples at a time, a power of two; largest fitting. */
  uint8_t on_failure; /* FEWSTEP_ON_FAILURE_...; FACTORY. */
  uint8_t continue_from_current; /* 1: start at the current parameters; 0. */
} fewstep_options;

/* One task's examples; must not change between begin and end. */
typedef struct fewstep_support {
  const float* x;         /* [n][n_in] */
  const uint16_t* labels; /* [n], cross-entropy; else NULL */
  const float* targets;   /* [n][n_out], squared error; else NULL */
  uint32_t n;
} fewstep_support;

/* What one adaptation did. */
typedef struct fewstep_report {
  float loss_first;        /* Mean support loss where the first step started. */
  float loss_last;         /* ... where the last step started. */
  uint32_t steps;          /* Gradient steps taken. */
  uint32_t tile;           /* Examples taken at a time. */
  size_t high_water_bytes; /* Most arena bytes in use since open. */
} fewstep_report;

/* Static name of a status, e.g. "kBadLabel". */
const char* fewstep_status_name(int status);

/* Exact arena bytes for a capsule and options (NULL: all defaults). */
int fewstep_required_bytes(const void* capsule,
                           size_t capsule_bytes,
                           const fewstep_options* options,
                           size_t* n_bytes);

/* Verifies the capsule and lays out the arena. `capsule` and `arena` are
 * 16-byte aligned and stay the session's; `ops` is NULL-terminated (the
 * exported header has it); options may be NULL. On failure the session is as
 * before; one that was never opened must be zeroed first (static storage is).
 */
int fewstep_open(fewstep_session* session,
                 const void* capsule,
                 size_t capsule_bytes,
                 const fewstep_op* const* ops,
                 void* arena,
                 size_t arena_bytes,
                 const fewstep_options* options);

/* `steps` gradient steps (0: the capsule's) on `support`; report may be NULL.
 */
int fewstep_adapt(fewstep_session* session,
                  const fewstep_support* support,
                  uint32_t steps,
                  fewstep_report* report);

/* The same, driven by the caller: begin, step (or slices of it), end. */
int fewstep_begin(fewstep_session* session,
                  const fewstep_support* support,
                  uint32_t steps);
int fewstep_step(fewstep_session* session);
/* *step_done (may be NULL) becomes 1 when the slice completed a step, else 0.
 */
int fewstep_step_slice(fewstep_session* session, int* step_done);
int fewstep_end(fewstep_session* session, fewstep_report* report);
int fewstep_abort(fewstep_session* session);

/* outputs [n][n_out] of x [n][n_in] at the current parameters. */
int fewstep_predict(fewstep_session* session,
                    const float* x,
                    uint32_t n,
                    float* outputs);

/* Mean loss of `set` at the current parameters. */
int fewstep_evaluate(fewstep_session* session,
                     const fewstep_support* set,
                     float* loss);

/* Back to the capsule's initialization. */
int fewstep_reset(fewstep_session* session);

/* 64-bit FNV-1a of the current parameters; 0 when not open. */
uint64_t fewstep_hash(const fewstep_session* session);

/* Sizes of the open session's network; 0 when not open. */
uint32_t fewstep_inputs(const fewstep_session* session);
uint32_t fewstep_outputs(const fewstep_session* session);
uint32_t fewstep_parameters(const fewstep_session* session);

/* Replays the capsule's golden episode and compares every bit. */
int fewstep_selftest_bytes(const void* capsule,
                           size_t capsule_bytes,
                           size_t* n_bytes);
int fewstep_selftest(const void* capsule,
                     size_t capsule_bytes,
                     const fewstep_op* const* ops,
                     void* arena,
                     size_t arena_bytes);

#ifdef __cplusplus
}
#endif

#endif /* FEWSTEP_FEWSTEP_H_ */
