// A validation of what is learned so far, and which one is the best.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_VALIDATION_H_
#define FEWSTEP_HOST_VALIDATION_H_

#include <cstdint>
#include <string>

#include "fewstep/host/engine.h"
#include "fewstep/host/optimizer.h"
#include "fewstep/host/statistics.h"

namespace fewstep::host {

/// Scores over the validation tasks. Those whose query loss is not finite after
/// adaptation diverged: they are counted, and left out of the means.
struct Validation {
  Interval loss;
  Interval accuracy;  ///< Classification only.
  bool classification = false;
  uint32_t n_tasks = 0;
  uint32_t n_diverged = 0;

  bool all_diverged() const { return n_diverged == n_tasks; }
  /// What is to be high: the accuracy of classes, else minus the loss.
  float score() const {
    return static_cast<float>(classification ? accuracy.mean : -loss.mean);
  }
};

Validation summary_of(const TaskScores& scores);

/// Whether `v` is better than the best so far: fewer tasks diverged, or as many
/// and its score is higher. Never where all did.
bool is_better(const Validation& v, const BestValidation& best);

/// E.g. "loss 0.8312 +- 0.0208, accuracy 95.10 +- 0.31 %, 200 tasks", or "loss
/// 0.8312 +- 0.0208, 197 of 200 tasks (3 diverged)".
std::string to_string(const Validation& v);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_VALIDATION_H_
