// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/validation.h"

#include <fmt/format.h>

#include <vector>

#include "fewstep/numerics/real.h"

namespace fewstep::host {

Validation summary_of(const TaskScores& scores) {
  Validation v;
  v.classification = !scores.accuracy.empty();
  v.n_tasks = static_cast<uint32_t>(scores.loss.size());
  std::vector<float> losses, accuracies;
  for (size_t t = 0; t < scores.loss.size(); ++t) {
    if (!is_finite(scores.loss[t])) {
      ++v.n_diverged;
      continue;
    }
    losses.push_back(scores.loss[t]);
    if (v.classification) accuracies.push_back(scores.accuracy[t]);
  }
  v.loss = interval_of(losses);
  if (v.classification) v.accuracy = interval_of(accuracies);
  return v;
}

bool is_better(const Validation& v, const BestValidation& best) {
  if (v.all_diverged()) return false;
  if (best.iteration >= 0 && v.n_diverged != best.n_diverged) {
    return v.n_diverged < best.n_diverged;
  }
  return v.score() > best.score;
}

std::string to_string(const Validation& v) {
  if (v.all_diverged()) return fmt::format("all {} tasks diverged", v.n_tasks);
  std::string text =
      fmt::format("loss {:.4f} +- {}", v.loss.mean, half_width(v.loss.ci95, 4));
  if (v.classification) {
    text += fmt::format(", accuracy {:.2f} +- {} %",
                        100.0 * v.accuracy.mean,
                        half_width(100.0 * v.accuracy.ci95, 2));
  }
  if (v.n_diverged == 0) return text + fmt::format(", {} tasks", v.n_tasks);
  return text + fmt::format(", {} of {} tasks ({} diverged)",
                            v.n_tasks - v.n_diverged,
                            v.n_tasks,
                            v.n_diverged);
}

}  // namespace fewstep::host
