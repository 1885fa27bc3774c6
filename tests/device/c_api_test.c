/* The C API, used from C99: the header must compile, a static session must be
 * usable at once, and a program in C must get through a whole adaptation.
 *
 * SPDX-FileCopyrightText: The fewstep authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include "fewstep/fewstep.h"

/* The smallest network's operations: dense, squared error, sgd. */
static const fewstep_op* const kOps[] = {
    &fewstep_op_dense, &fewstep_op_mean_squared_error, &fewstep_op_sgd, NULL};

static fewstep_session session; /* Zeroed: closed. */

int c_program(const void* capsule,
              size_t capsule_bytes,
              void* arena,
              size_t arena_bytes,
              const float* x,
              const float* targets,
              uint32_t n,
              float* outputs,
              fewstep_report* report,
              uint64_t* hash);

/* Adapts on the n examples and predicts them; the first status that is not
 * FEWSTEP_OK. */
int c_program(const void* capsule,
              size_t capsule_bytes,
              void* arena,
              size_t arena_bytes,
              const float* x,
              const float* targets,
              uint32_t n,
              float* outputs,
              fewstep_report* report,
              uint64_t* hash) {
  fewstep_options options = {0};
  fewstep_support support = {0};
  int status;
  if (fewstep_hash(&session) != 0) return FEWSTEP_BAD_STATE;
  options.max_support = n;
  status = fewstep_open(
      &session, capsule, capsule_bytes, kOps, arena, arena_bytes, &options);
  if (status != FEWSTEP_OK) return status;
  support.x = x;
  support.targets = targets;
  support.n = n;
  status = fewstep_adapt(&session, &support, 0, report);
  if (status != FEWSTEP_OK) return status;
  *hash = fewstep_hash(&session);
  return fewstep_predict(&session, x, n, outputs);
}
