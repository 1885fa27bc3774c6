// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "../cpu/worker_pool.h"
#include "fewstep/host/adapter.h"
#include "fewstep/host/error.h"
#include "fewstep/numerics/real.h"

namespace fewstep::host {
namespace {

struct Scores {
  bool diverged = false;
  Score before, after;
};

std::vector<float> losses(const std::vector<Scores>& tasks, bool after) {
  std::vector<float> values;
  for (const Scores& t : tasks) {
    if (!t.diverged) values.push_back(after ? t.after.loss : t.before.loss);
  }
  return values;
}

std::vector<float> accuracies(const std::vector<Scores>& tasks, bool after) {
  std::vector<float> values;
  for (const Scores& t : tasks) {
    if (!t.diverged) {
      values.push_back(after ? t.after.accuracy : t.before.accuracy);
    }
  }
  return values;
}

// Each task by the firmware library, tasks on all cores.
std::vector<Scores> score_by_firmware(const CapsuleFile& file,
                                      const TaskSource& source,
                                      const EvaluateOptions& options) {
  const uint32_t n_threads =
      options.n_threads != 0
          ? options.n_threads
          : std::max(1U, std::thread::hardware_concurrency());
  WorkerPool pool(n_threads);
  std::vector<std::unique_ptr<Adapter>> adapters;
  for (uint32_t w = 0; w < n_threads; ++w) {
    adapters.push_back(std::make_unique<Adapter>(
        file, source.shape(), options.steps, options.one_at_a_time));
  }
  std::vector<Episode> episodes(n_threads);
  std::vector<Scores> tasks(options.n_tasks);
  pool.run(options.n_tasks, [&](uint32_t t, uint32_t w) {
    source.sample(Split::kTest, options.seed, 0, t, &episodes[w]);
    Scores& s = tasks[t];
    adapters[w]->reset();
    s.before = adapters[w]->score(episodes[w]);
    s.diverged = !adapters[w]->adapt(episodes[w]);
    if (!s.diverged) s.after = adapters[w]->score(episodes[w]);
    if (!is_finite(s.after.loss)) s.diverged = true;
  });
  return tasks;
}

// Each task by an engine, which has the same kernels.
std::vector<Scores> score_by_engine(const CapsuleFile& file,
                                    const TaskSource& source,
                                    const EvaluateOptions& options,
                                    const EngineFactory& make) {
  if (options.one_at_a_time) {
    throw Error(Exit::kUsage,
                "--one-at-a-time is how the firmware library predicts: leave "
                "out --engine cuda");
  }
  // Opened for its refusals: other tasks, more steps than rates.
  static_cast<void>(Adapter(file, source.shape(), options.steps, false));
  constexpr uint32_t kAtOnce = 1024;
  const Capsule& capsule = file.capsule;
  EngineConfig config = {};
  config.network = &capsule.network;
  config.rule = &capsule.rule;
  config.objective.steps =
      options.steps != 0 ? options.steps : capsule.limits.steps;
  config.objective.second_order = false;
  config.source = &source;
  config.seed = options.seed;
  config.n_threads = options.n_threads;
  config.n_tasks = std::min(options.n_tasks, kAtOnce);
  config.scores_before = true;
  const TaskScores scores = make(config)->evaluate(decode_init(capsule).data(),
                                                   decode_rates(capsule).data(),
                                                   Split::kTest,
                                                   options.n_tasks);
  const bool classes = source.shape().classification;
  std::vector<Scores> tasks(options.n_tasks);
  for (uint32_t t = 0; t < options.n_tasks; ++t) {
    Scores& s = tasks[t];
    s.before.loss = scores.loss_before[t];
    // As Adapter::score() has it.
    if (!is_finite(s.before.loss)) {
      s.before.loss = std::numeric_limits<float>::quiet_NaN();
    }
    s.after.loss = scores.loss[t];
    if (classes) {
      s.before.accuracy = scores.accuracy_before[t];
      s.after.accuracy = scores.accuracy[t];
    }
    s.diverged = scores.diverged[t] || !is_finite(s.after.loss);
  }
  return tasks;
}

Evaluation summary(const CapsuleFile& file,
                   const TaskSource& source,
                   const EvaluateOptions& options,
                   const std::vector<Scores>& tasks) {
  Evaluation e;
  e.classification = source.shape().classification;
  e.transductive =
      file.capsule.network.transductive != 0 && !options.one_at_a_time;
  e.taken_from = source.taken_from(Split::kTest);
  e.n_tasks = options.n_tasks;
  e.n_diverged = static_cast<uint32_t>(std::count_if(
      tasks.begin(), tasks.end(), [](const Scores& s) { return s.diverged; }));
  if (e.n_diverged == e.n_tasks) {
    throw Error(Exit::kNumeric,
                "adaptation diverged on every task; meta-train with a lower "
                "inner.rate, or with inner.clip_norm");
  }
  e.loss = interval_of(losses(tasks, true));
  e.loss_before = interval_of(losses(tasks, false));
  if (e.classification) {
    e.accuracy = interval_of(accuracies(tasks, true));
    e.accuracy_before = interval_of(accuracies(tasks, false));
  }
  return e;
}

// That there are as many test tasks as asked for: a task counted twice makes
// the interval narrower and tells nothing.
void check_tasks(const TaskSource& source, const EvaluateOptions& options) {
  source.check(Split::kTest);
  const uint64_t n = source.n_tasks(Split::kTest);
  if (n == 0 || options.n_tasks <= n) return;
  const bool trained = source.taken_from(Split::kTest) == Split::kTrain;
  throw Error(
      Exit::kUsage,
      fmt::format("--tasks {}: {} has {} episodes and each counts once; "
                  "give {} or fewer, or leave out --tasks for all of "
                  "them",
                  options.n_tasks,
                  trained ? "task.path" : "task.test_path",
                  n,
                  n));
}

}  // namespace

Evaluation evaluate(const CapsuleFile& file,
                    const TaskSource& source,
                    const EvaluateOptions& options) {
  check_tasks(source, options);
  return summary(
      file, source, options, score_by_firmware(file, source, options));
}

Evaluation evaluate_by(const EngineFactory& make,
                       const CapsuleFile& file,
                       const TaskSource& source,
                       const EvaluateOptions& options) {
  check_tasks(source, options);
  return summary(
      file, source, options, score_by_engine(file, source, options, make));
}

}  // namespace fewstep::host
