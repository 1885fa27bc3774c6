// What a session refuses before it computes anything: for Session and for the
// GPU's (ports/jetson), written once.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_DEVICE_SRC_CHECKS_H_
#define FEWSTEP_DEVICE_SRC_CHECKS_H_

#include "fewstep/device/session.h"
#include "fewstep/numerics/real.h"

namespace fewstep {

/// True when every value is finite: v * 0 is +-0 then, and NaN otherwise. Three
/// instructions a value, no branch: each step looks at all parameters.
FEWSTEP_INLINE bool values_are_finite(const float* values, size_t n) {
  float sum = 0.0F;
  for (; n % 4 != 0; --n) sum = fma(values[n - 1], 0.0F, sum);
  for (const float* const end = values + n; values != end; values += 4) {
    sum = fma(values[0], 0.0F, sum);
    sum = fma(values[1], 0.0F, sum);
    sum = fma(values[2], 0.0F, sum);
    sum = fma(values[3], 0.0F, sum);
  }
  return is_finite(sum);
}

// Their callers say how values are looked at, `finite(values, n)`, so that each
// links one such loop.

/// Whether `n` examples at `x`, at most n_max, can be taken; `other` is a
/// pointer that must not be null either.
///
/// @param ready  Whether the session is open and idle.
template <class Finite>
FEWSTEP_INLINE Status check_examples(bool ready,
                                     const Network& network,
                                     const float* x,
                                     uint32_t n,
                                     uint32_t n_max,
                                     const void* other,
                                     const Finite& finite) {
  if (!ready) return Status::kBadState;
  if (x == nullptr || other == nullptr || n == 0) return Status::kBadArgument;
  if (n > n_max) return Status::kTooManyExamples;
  return finite(x, size_t{n} * network.n_in) ? Status::kOk : Status::kBadInput;
}

/// Whether `set` can be taken. examples(answers) is check_examples() of its
/// inputs.
template <class Examples, class Finite>
FEWSTEP_INLINE Status check_answers(const Network& network,
                                    const SupportSet& set,
                                    const Examples& examples,
                                    const Finite& finite) {
  const bool classes = network.loss == LossOp::kSoftmaxCrossEntropy;
  const void* answers = set.targets;
  if (classes) answers = set.labels;
  const Status status = examples(answers);
  if (status != Status::kOk) return status;
  if (!classes) {
    return finite(set.targets, size_t{set.n} * network.n_out)
               ? Status::kOk
               : Status::kBadInput;
  }
  for (uint32_t i = 0; i < set.n; ++i) {
    if (set.labels[i] >= network.n_out) return Status::kBadLabel;
  }
  return Status::kOk;
}

}  // namespace fewstep

#endif  // FEWSTEP_DEVICE_SRC_CHECKS_H_
