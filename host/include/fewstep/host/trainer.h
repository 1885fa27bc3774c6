// The trainer: from a recipe to a run folder with a capsule.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_TRAINER_H_
#define FEWSTEP_HOST_TRAINER_H_

#include <cstdint>
#include <filesystem>
#include <functional>

#include "fewstep/host/engine.h"
#include "fewstep/host/optimizer.h"
#include "fewstep/host/recipe.h"

namespace fewstep::host {

/// How to run a recipe.
struct TrainOptions {
  bool resume = false;  ///< Go on from the folder's checkpoint.
  bool quiet = false;   ///< No progress line.
  EngineKind engine = EngineKind::kCpu;  ///< Never changes a bit.
  uint32_t n_gpus = 1;                   ///< Nor does this. kCuda.
  /// Asked once an iteration; true stops after a checkpoint. May be empty.
  std::function<bool()> should_stop;
};

/// How a run ended.
struct TrainResult {
  int64_t iterations = 0;    ///< Done in all.
  bool interrupted = false;  ///< should_stop() said so; resume to go on.
  bool written = false;      ///< The capsule was written.
  std::filesystem::path capsule;
};

/// Meta-trains `recipe` in the folder `dir`: recipe.toml, metrics.jsonl,
/// checkpoint.npz, best.npz and, when all iterations are done, the capsule.
///
/// The checkpoints depend on the recipe alone: not on the number of threads,
/// nor on how often the run was stopped, killed or resumed.
///
/// @throws Error  kUsage (the folder, the recipe against the data), kBadData
///     (task data, checkpoint, init_from), which leave no new folder behind;
///     kNumeric (over 1 % of an iteration's tasks had a loss or gradient that
///     is not finite: with fewer than 100 tasks, one); kResource (memory,
///     disk). The last checkpoint stays intact.
TrainResult train(const Recipe& recipe,
                  const std::filesystem::path& dir,
                  const TrainOptions& options);

/// theta and phi before the first iteration: run.init_from, or He-normal
/// weights (standard deviation sqrt(2 / fan_in)), biases 0, gamma 1, beta 0,
/// and inner.rate for every rate.
OuterState initial_state(const Recipe& recipe);

/// Checkpoints: OuterState as NPZ arrays theta, rate, m, v, beta_powers,
/// iteration, best_score, best_iteration; best_diverged, if it is not 0; and
/// loss_sum, loss_iterations, loss_dropped in the midst of a line of
/// metrics.jsonl.
void save_state(const std::filesystem::path& path, const OuterState& state);
/// @throws Error kBadData when it is damaged or of another network or rule.
OuterState load_state(const std::filesystem::path& path, const Recipe& recipe);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_TRAINER_H_
