// fewstep pack: a finished or stopped run as a capsule.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/pack.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "commands.h"
#include "fewstep/host/file.h"
#include "fewstep/host/npz.h"
#include "fewstep/host/run_folder.h"
#include "fewstep/host/task_factory.h"
#include "fewstep/host/trainer.h"
#include "messages.h"

namespace fewstep::cli {
namespace {

struct Arguments {
  std::string run_dir, output, init, rates;
  bool golden = false;
};

// Why a run that keeps its best parameters has none, and what to do.
std::string why_no_best(const host::RunFolder& folder,
                        const host::Recipe& recipe) {
  host::BestValidation best;
  std::error_code ignored;
  if (std::filesystem::exists(folder.checkpoint(), ignored)) {
    best = host::load_state(folder.checkpoint(), recipe).best;
  }
  constexpr const char* kLast =
      "`fewstep train --resume --set run.keep=last` ends with a capsule of the "
      "last ones";
  if (best.iteration >= 0) {
    return fmt::format("the best parameters, of iteration {}, were removed; {}",
                       best.iteration,
                       kLast);
  }
  if (best.n_diverged > 0) {
    return fmt::format(
        "in every validation all tasks diverged, so there are no best "
        "parameters; meta-train with a lower inner.rate, or with "
        "inner.clip_norm; {}",
        kLast);
  }
  return "the run has not been validated yet; go on with `fewstep train "
         "--resume`";
}

host::Exit run_pack(const Arguments& arguments) {
  const host::RunFolder folder = host::RunFolder::open(arguments.run_dir);
  std::vector<std::string> overrides;
  if (!arguments.init.empty()) {
    overrides.push_back("capsule.init=" + arguments.init);
  }
  if (!arguments.rates.empty()) {
    overrides.push_back("capsule.rates=" + arguments.rates);
  }
  if (arguments.golden) overrides.push_back("capsule.golden=true");
  const host::Recipe recipe = host::load_recipe(folder.recipe(), overrides);

  const bool best = recipe.run.keep == host::Keep::kBest;
  const std::filesystem::path file = best ? folder.best() : folder.checkpoint();
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) {
    throw host::Error(host::Exit::kBadData,
                      fmt::format("{} has no {}: {}",
                                  arguments.run_dir,
                                  file.filename().string(),
                                  best ? why_no_best(folder, recipe)
                                       : "the run has not saved a checkpoint "
                                         "yet; go on with `fewstep train "
                                         "--resume`"));
  }
  const host::Npz npz = host::Npz::read(file);
  const std::vector<float> theta = npz.floats("theta");
  const std::vector<float> rate = npz.floats("rate");
  host::Trained trained{theta, rate, 0};
  if (npz.has("iteration")) trained.iteration = npz.integers("iteration").at(0);

  std::unique_ptr<host::TaskSource> source;
  if (host::needs_source(recipe)) source = host::make_task_source(recipe);
  const host::CapsuleBytes bytes =
      host::pack_capsule(recipe, trained, source.get());
  host::save_file_atomically(arguments.output, bytes);
  fmt::print(stderr, "wrote {} ({} bytes)\n", arguments.output, bytes.size());
  warn_if_transductive(recipe);
  return host::Exit::kOk;
}

}  // namespace

void add_pack(CLI::App& app, Command* run) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      add_command(app, "pack", "Write the capsule of a run once more");
  command->add_option("run", arguments->run_dir, "The folder of the run")
      ->required()
      ->type_name("RUN_DIR");
  command->add_option("-o,--output", arguments->output, "The capsule")
      ->required()
      ->type_name("X.capsule");
  command
      ->add_option("--init",
                   arguments->init,
                   "Storage of the initialization; default: the recipe's")
      ->type_name("f32|f16");
  command
      ->add_option("--rates",
                   arguments->rates,
                   "Storage of the rates; default: the recipe's")
      ->type_name("f32|f16|log8");
  command->add_flag("--golden",
                    arguments->golden,
                    "Add a golden episode, which selftest() replays");
  command->callback([arguments, run] {
    *run = [arguments] { return run_pack(*arguments); };
  });
}

}  // namespace fewstep::cli
