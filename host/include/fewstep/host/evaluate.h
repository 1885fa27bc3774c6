// Judging a capsule: adapt and predict with the firmware library itself, on the
// values as stored.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_EVALUATE_H_
#define FEWSTEP_HOST_EVALUATE_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/engine.h"
#include "fewstep/host/statistics.h"
#include "fewstep/host/task_source.h"

namespace fewstep::host {

struct EvaluateOptions {
  uint32_t n_tasks = 1000;  ///< At most the source's test tasks.
  uint64_t seed = 1;
  uint32_t steps = 0;          ///< 0: the capsule's.
  bool one_at_a_time = false;  ///< Predict each query alone, as firmware does.
  uint32_t n_threads = 0;      ///< 0: one a core.
};

/// Scores over tasks of the test split. "before" is the same network without
/// adaptation, at theta_0. Losses and accuracies are of the query set.
struct Evaluation {
  Interval loss, loss_before;
  Interval accuracy, accuracy_before;  ///< Classification only.
  bool classification = false;
  bool transductive = false;  ///< Queries shared statistics (batch_norm).
  uint32_t n_tasks = 0;
  uint32_t n_diverged = 0;          ///< Left out of the means.
  Split taken_from = Split::kTest;  ///< kTrain: there are no test tasks.
};

/// Adapts `file` to `n_tasks` test tasks of `source` and scores their queries.
///
/// @throws Error  kBadData: the capsule's network does not fit the tasks.
///                kUsage: more tasks than the source has.
///                kNumeric: every task diverged.
Evaluation evaluate(const CapsuleFile& file,
                    const TaskSource& source,
                    const EvaluateOptions& options);

/// Makes the engine of a configuration; make_cuda_engine() is one. It has to
/// heed EngineConfig::scores_before.
using EngineFactory =
    std::function<std::unique_ptr<Engine>(const EngineConfig&)>;

/// The same scores, bit for bit, by an engine in place of the firmware library.
///
/// @throws Error  as evaluate() and the engine; kUsage: one_at_a_time.
Evaluation evaluate_by(const EngineFactory& make,
                       const CapsuleFile& file,
                       const TaskSource& source,
                       const EvaluateOptions& options);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_EVALUATE_H_
