// fewstep eval: how good a capsule is on test tasks, judged as stored and
// through the firmware library.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "commands.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/evaluate.h"
#include "fewstep/host/recipe.h"
#include "fewstep/host/task_factory.h"
#include "messages.h"

namespace fewstep::cli {
namespace {

constexpr uint32_t kDefaultTasks = 1000;

struct Arguments {
  std::string capsule, recipe, engine = "cpu";
  std::vector<std::string> overrides;
  uint32_t tasks = 0;
  std::optional<uint64_t> seed;
  uint32_t steps = 0;
  bool one_at_a_time = false;
  bool json = false;
};

nlohmann::ordered_json to_json(const host::Evaluation& e) {
  const auto interval = [](const host::Interval& i) {
    return nlohmann::ordered_json{{"mean", i.mean}, {"ci95", i.ci95}};
  };
  nlohmann::ordered_json json;
  json["loss"] = interval(e.loss);
  if (e.classification) json["accuracy"] = interval(e.accuracy);
  json["loss_before"] = interval(e.loss_before);
  if (e.classification) json["accuracy_before"] = interval(e.accuracy_before);
  json["tasks"] = e.n_tasks;
  json["diverged"] = e.n_diverged;
  json["transductive"] = e.transductive;
  return json;
}

void print(const host::Evaluation& e) {
  fmt::print("{:<20}{:>22}{:>26}\n", "", "adapted", "without adaptation");
  if (e.classification) {
    fmt::print("{:<20}{:>10.2f} +- {:>5.2f} %{:>16.2f} +- {:>5.2f} %\n",
               "accuracy",
               100.0 * e.accuracy.mean,
               100.0 * e.accuracy.ci95,
               100.0 * e.accuracy_before.mean,
               100.0 * e.accuracy_before.ci95);
  }
  fmt::print("{:<20}{:>10.4f} +- {:>7.4f}{:>16.4f} +- {:>7.4f}\n",
             e.classification ? "loss, nats" : "mean squared error",
             e.loss.mean,
             e.loss.ci95,
             e.loss_before.mean,
             e.loss_before.ci95);
  fmt::print("\n{} test tasks, +- is the 95 % interval over tasks; ",
             e.n_tasks);
  if (e.transductive) {
    fmt::print(
        "transductive: the queries of a task are predicted\ntogether "
        "and share statistics (--one-at-a-time predicts each alone)\n");
  } else {
    fmt::print("each query is predicted on its own\n");
  }
  if (e.n_diverged != 0) {
    fmt::print("{} tasks diverged and are left out\n", e.n_diverged);
  }
}

host::Exit run_eval(const Arguments& arguments) {
  const host::EngineKind engine = engine_of(arguments.engine);
  const host::CapsuleFile file = host::load_capsule(arguments.capsule);
  const host::Recipe recipe =
      host::load_recipe(arguments.recipe, arguments.overrides);
  const std::unique_ptr<host::TaskSource> source =
      host::make_task_source(recipe);

  host::EvaluateOptions options;
  options.seed = arguments.seed.value_or(recipe.seed);
  options.steps = arguments.steps;
  options.one_at_a_time = arguments.one_at_a_time;
  options.n_threads = static_cast<uint32_t>(recipe.run.threads);
  options.n_tasks = arguments.tasks;
  if (options.n_tasks == 0) {
    options.n_tasks = kDefaultTasks;
    // A file of episodes: each of them once.
    if (source->n_tasks() != 0) {
      options.n_tasks = static_cast<uint32_t>(
          std::min<uint64_t>(source->n_tasks(), 1U << 30));
    }
  }
  const host::Evaluation evaluation =
      engine == host::EngineKind::kCuda
          ? host::evaluate_by(host::make_cuda_engine, file, *source, options)
          : host::evaluate(file, *source, options);
  if (arguments.json) {
    fmt::print("{}\n", to_json(evaluation).dump(2));
  } else {
    print(evaluation);
  }
  return host::Exit::kOk;
}

}  // namespace

void add_eval(CLI::App& app, Command* run) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      add_command(app, "eval", "Score a capsule on a recipe's test tasks");
  command->add_option("capsule", arguments->capsule, "The capsule")
      ->required()
      ->type_name("CAPSULE");
  command
      ->add_option("--recipe", arguments->recipe, "Where the tasks come from")
      ->required()
      ->type_name("RECIPE.toml");
  command
      ->add_option("--tasks",
                   arguments->tasks,
                   "Test tasks; default: 1000, or all of a file's episodes")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
  command
      ->add_option(
          "--seed", arguments->seed, "Which tasks; default: the recipe's seed")
      ->check(is_seed)
      ->type_name("S");
  command
      ->add_option(
          "--steps", arguments->steps, "Gradient steps; default: the capsule's")
      ->check(CLI::Range(1, 65535))
      ->type_name("K");
  command->add_flag("--one-at-a-time",
                    arguments->one_at_a_time,
                    "Predict each query alone, as firmware does, also with "
                    "batch_norm");
  command
      ->add_option("--engine",
                   arguments->engine,
                   "What computes: cpu (default), by the firmware library, or "
                   "cuda; the results are the same, bit for bit")
      ->type_name("cpu|cuda");
  command
      ->add_option("--set",
                   arguments->overrides,
                   "Change a value of the recipe; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_flag("--json", arguments->json, "Print JSON");
  command->callback([arguments, run] {
    *run = [arguments] { return run_eval(*arguments); };
  });
}

}  // namespace fewstep::cli
