// fewstep train: meta-trains a recipe and writes its capsule.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "commands.h"
#include "fewstep/host/recipe.h"
#include "fewstep/host/trainer.h"
#include "interrupt.h"
#include "messages.h"

namespace fewstep::cli {
namespace {

struct Arguments {
  std::string recipe, out, engine = "cpu";
  std::vector<std::string> overrides;
  bool resume = false;
  bool quiet = false;
  uint32_t gpus = 1;
};

host::Exit run_train(const Arguments& arguments) {
  const host::EngineKind engine = engine_of(arguments.engine);
  if (arguments.gpus != 1 && engine != host::EngineKind::kCuda) {
    throw host::Error(host::Exit::kUsage,
                      "--gpus is for --engine cuda; add it or drop --gpus");
  }
  const host::Recipe recipe =
      host::load_recipe(arguments.recipe, arguments.overrides);
  const std::filesystem::path dir =
      arguments.out.empty() ? std::filesystem::path("runs") / recipe.name
                            : std::filesystem::path(arguments.out);
  warn_if_transductive(recipe);

  host::TrainOptions options;
  options.resume = arguments.resume;
  options.quiet = arguments.quiet;
  options.engine = engine;
  options.n_gpus = arguments.gpus;
  watch_interrupts();
  options.should_stop = interrupted;
  const host::TrainResult result = host::train(recipe, dir, options);
  if (result.interrupted) {
    std::string resume =
        fmt::format("fewstep train {}", shell_word(arguments.recipe));
    if (!arguments.out.empty()) {
      resume += " --out " + shell_word(arguments.out);
    }
    if (engine == host::EngineKind::kCuda) resume += " --engine cuda";
    if (arguments.gpus != 1)
      resume += fmt::format(" --gpus {}", arguments.gpus);
    for (const std::string& text : arguments.overrides) {
      resume += " --set " + shell_word(text);
    }
    fmt::print(stderr,
               "fewstep: stopped after iteration {}; a checkpoint is in {}; go "
               "on with: {} --resume\n",
               result.iterations,
               dir.string(),
               resume);
    return host::Exit::kInterrupted;
  }
  if (result.written) fmt::print("{}\n", result.capsule.string());
  return host::Exit::kOk;
}

}  // namespace

void add_train(CLI::App& app, Command* run) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      add_command(app, "train", "Meta-train a recipe and write its capsule");
  command->add_option("recipe", arguments->recipe, "The recipe")
      ->required()
      ->type_name("RECIPE.toml");
  command
      ->add_option("--out",
                   arguments->out,
                   "Folder of the run; default: runs/<name of the recipe>")
      ->type_name("DIR");
  command
      ->add_option("--engine",
                   arguments->engine,
                   "What computes: cpu (default) or cuda; the results are the "
                   "same, bit for bit")
      ->type_name("cpu|cuda");
  command
      ->add_option("--gpus",
                   arguments->gpus,
                   "GPUs that share the tasks, for --engine cuda; default: 1; "
                   "the results are the same, bit for bit")
      ->check(CLI::Range(1, 64))
      ->type_name("N");
  command->add_flag(
      "--resume", arguments->resume, "Go on from the folder's checkpoint");
  command
      ->add_option("--set",
                   arguments->overrides,
                   "Change a value of the recipe, e.g. outer.tasks=16; may be "
                   "repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_flag("--quiet", arguments->quiet, "Show no progress");
  command->callback([arguments, run] {
    *run = [arguments] { return run_train(*arguments); };
  });
}

}  // namespace fewstep::cli
