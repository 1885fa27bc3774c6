// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/task_factory.h"

#include <fmt/format.h>

#include "fewstep/host/episode_file.h"
#include "fewstep/host/error.h"
#include "fewstep/host/images.h"
#include "fewstep/host/network_builder.h"
#include "fewstep/host/sinusoid.h"
#include "recipe_reader.h"

namespace fewstep::host {
namespace {

// A file of episodes for each split; null: the training file serves.
class EpisodeFiles final : public TaskSource {
 public:
  EpisodeFiles(std::unique_ptr<EpisodeFile> train,
               std::unique_ptr<EpisodeFile> validation,
               std::unique_ptr<EpisodeFile> test)
      : files_{std::move(train), std::move(validation), std::move(test)} {}

  const EpisodeShape& shape() const override { return files_[0]->shape(); }
  InputShape input_shape() const override { return files_[0]->input_shape(); }
  void sample(Split split,
              uint64_t seed,
              uint64_t iteration,
              uint32_t task,
              Episode* out) const override {
    file(split).sample(split, seed, iteration, task, out);
  }
  void check(Split split) const override { file(split).check(split); }
  uint64_t n_tasks(Split split) const override {
    return file(split).n_tasks(split);
  }
  Split taken_from(Split split) const override {
    return files_[static_cast<size_t>(split)] ? split : Split::kTrain;
  }

 private:
  const EpisodeFile& file(Split split) const {
    const auto& chosen = files_[static_cast<size_t>(split)];
    return chosen ? *chosen : *files_[0];
  }

  std::unique_ptr<EpisodeFile> files_[3];
};

std::unique_ptr<TaskSource> make_images(const Recipe& recipe) {
  const TaskRecipe& task = recipe.task;
  ImagesOptions options;
  for (const std::string& path : task.path) {
    options.paths.push_back(require_path(recipe, "task.path", path));
  }
  options.size = static_cast<uint32_t>(task.size);
  options.invert = task.invert;
  options.rotations = task.rotations;
  options.split = task.split;
  options.ways = static_cast<uint32_t>(task.ways);
  options.shots = static_cast<uint32_t>(task.shots);
  options.queries = static_cast<uint32_t>(task.queries);
  options.threads = static_cast<uint32_t>(recipe.run.threads);
  return std::make_unique<Images>(options);
}

std::unique_ptr<TaskSource> make_episodes(const Recipe& recipe,
                                          const Network& network) {
  const TaskRecipe& task = recipe.task;
  const auto open = [&](const char* key, const std::string& path) {
    EpisodeFileOptions options;
    options.path = require_path(recipe, key, path);
    options.ways =
        network.loss == LossOp::kSoftmaxCrossEntropy ? network.n_out : 0;
    options.tasks_per_iteration = static_cast<uint32_t>(recipe.outer.tasks);
    return std::make_unique<EpisodeFile>(options);
  };
  auto train = open("task.path", task.path.front());
  if (task.validation_path.empty() && task.test_path.empty()) return train;
  const auto open_like_train = [&](const char* key, const std::string& path) {
    if (path.empty()) return std::unique_ptr<EpisodeFile>();
    auto file = open(key, path);
    // A capsule's limits, and the trainer's buffers, come from one shape.
    if (!(file->shape() == train->shape()) ||
        file->input_shape() != train->input_shape()) {
      throw Error(Exit::kBadData,
                  fmt::format("{}: {}: the episodes of {} differ in shape from "
                              "those of {}; make their numbers of examples and "
                              "their example shapes the same",
                              recipe.where(key),
                              key,
                              path,
                              task.path.front()));
    }
    return file;
  };
  auto validation =
      open_like_train("task.validation_path", task.validation_path);
  auto test = open_like_train("task.test_path", task.test_path);
  return std::make_unique<EpisodeFiles>(
      std::move(train), std::move(validation), std::move(test));
}

void check_fit(const Recipe& recipe,
               const TaskSource& source,
               const Network& network) {
  const EpisodeShape& shape = source.shape();
  const bool classes = network.loss == LossOp::kSoftmaxCrossEntropy;
  if (shape.classification != classes) {
    throw Error(
        Exit::kUsage,
        fmt::format("{}: network.loss: the tasks have {}: use \"{}\"",
                    recipe.where("network.loss"),
                    shape.classification ? "class labels" : "float targets",
                    shape.classification ? "softmax_cross_entropy"
                                         : "mean_squared_error"));
  }
  if (shape.n_in != network.n_in) {
    const InputShape input = source.input_shape();
    throw Error(Exit::kUsage,
                fmt::format("{}: network.input: has {} values but an example "
                            "of the tasks has {}: use [{}, {}, {}]",
                            recipe.where("network.input"),
                            network.n_in,
                            shape.n_in,
                            input[0],
                            input[1],
                            input[2]));
  }
  if (shape.n_out != network.n_out) {
    throw Error(Exit::kUsage,
                fmt::format("{}: network.layers: the network has {} outputs "
                            "but the tasks have {}: end it with {{op = "
                            "\"dense\", units = {}}}",
                            recipe.where("network.layers"),
                            network.n_out,
                            shape.n_out,
                            shape.n_out));
  }
}

}  // namespace

void check_minibatches(const Recipe& recipe, const EpisodeShape& shape) {
  const uint32_t n = shape.n_support;
  const uint32_t batch = static_cast<uint32_t>(recipe.inner.batch);
  if (batch == 0) return;
  if (n % batch != 0) {
    uint32_t divisor = std::min(batch, n);
    while (n % divisor != 0) --divisor;
    refuse(recipe,
           "inner.batch",
           fmt::format("is the number of support examples that a training step "
                       "adapts to, and {} does not divide the {} of a task; "
                       "use {}, change task.shots, or leave it out for all of "
                       "them in each step",
                       batch,
                       n,
                       divisor));
  }
  const uint32_t count = n / batch;
  const uint32_t steps = static_cast<uint32_t>(recipe.inner.steps);
  if (steps < count) {
    refuse(recipe,
           "inner.batch",
           fmt::format("makes {} minibatches of the {} support examples, each "
                       "step takes the next, and with inner.steps = {} the "
                       "last {} would never be looked at; use {} steps or "
                       "more, or fewer shots or larger minibatches",
                       count,
                       n,
                       steps,
                       count - steps,
                       count));
  }
}

std::unique_ptr<TaskSource> make_task_source(const Recipe& recipe) {
  const PlannedNetwork planned = build_network(recipe);
  std::unique_ptr<TaskSource> source;
  switch (recipe.task.source) {
    case TaskKind::kImages: source = make_images(recipe); break;
    case TaskKind::kSinusoid: {
      SinusoidOptions options;
      options.family = recipe.task.family;
      options.shots = static_cast<uint32_t>(recipe.task.shots);
      options.queries = static_cast<uint32_t>(recipe.task.queries);
      source = std::make_unique<Sinusoid>(options);
      break;
    }
    case TaskKind::kEpisodes:
      source = make_episodes(recipe, planned.network);
      break;
  }
  check_fit(recipe, *source, planned.network);
  return source;
}

}  // namespace fewstep::host
