// fewstep eval: how good a capsule is on test tasks, judged as stored and
// through the firmware library.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

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
constexpr uint32_t kMaxTasks = 1 << 30;

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
  json["split"] = to_string(e.taken_from);
  json["tasks"] = e.n_tasks;
  json["diverged"] = e.n_diverged;
  json["transductive"] = e.transductive;
  return json;
}

void print(const host::Evaluation& e) {
  fmt::print("{:<20}{:>22}{:>26}\n", "", "adapted", "without adaptation");
  if (e.classification) {
    fmt::print("{:<20}{:>10.2f} +- {:>5} %{:>16.2f} +- {:>5} %\n",
               "accuracy",
               100.0 * e.accuracy.mean,
               host::half_width(100.0 * e.accuracy.ci95, 2),
               100.0 * e.accuracy_before.mean,
               host::half_width(100.0 * e.accuracy_before.ci95, 2));
  }
  fmt::print("{:<20}{:>10.4f} +- {:>7}{:>16.4f} +- {:>7}\n",
             e.classification ? "loss, nats" : "mean squared error",
             e.loss.mean,
             host::half_width(e.loss.ci95, 4),
             e.loss_before.mean,
             host::half_width(e.loss_before.ci95, 4));
  const uint32_t n_scored = e.n_tasks - e.n_diverged;
  fmt::print("\n{}{} {} task{}, {} 95 % interval over tasks; ",
             n_scored,
             e.n_diverged != 0 ? fmt::format(" of {}", e.n_tasks) : "",
             e.taken_from == host::Split::kTrain ? "training" : "test",
             e.n_tasks == 1 ? "" : "s",
             n_scored < 2 ? "too few for a" : "+- is the");
  if (e.transductive) {
    fmt::print(
        "transductive: the queries of a task are predicted\ntogether "
        "and share statistics (--one-at-a-time predicts each alone)\n");
  } else {
    fmt::print("each query is predicted on its own\n");
  }
  if (e.n_diverged != 0) {
    fmt::print("{} of {} tasks diverged and {} left out\n",
               e.n_diverged,
               e.n_tasks,
               e.n_diverged == 1 ? "is" : "are");
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
    // A file of episodes: each of them once.
    const bool drawn = source->n_tasks(host::Split::kTest) == 0;
    options.n_tasks = host::tasks_of(
        *source, host::Split::kTest, drawn ? kDefaultTasks : kMaxTasks);
  }
  const host::Evaluation evaluation =
      engine == host::EngineKind::kCuda
          ? host::evaluate_by(host::make_cuda_engine, file, *source, options)
          : host::evaluate(file, *source, options);
  if (evaluation.taken_from == host::Split::kTrain) {
    fmt::print(stderr,
               "fewstep: warning: the recipe has no task.test_path, so these "
               "are the episodes of task.path; scores on what a capsule was "
               "trained on do not tell how it does on new tasks\n");
  }
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
      ->check(CLI::Range(1U, kMaxTasks))
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
