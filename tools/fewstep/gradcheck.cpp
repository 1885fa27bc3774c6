// fewstep gradcheck: the meta-gradient of a recipe against independent
// calculations in double precision.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/gradcheck.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "commands.h"
#include "fewstep/host/learned_mask.h"
#include "fewstep/host/network_builder.h"
#include "fewstep/host/philox.h"
#include "fewstep/host/recipe.h"
#include "fewstep/host/rule_values.h"
#include "fewstep/host/task_factory.h"
#include "fewstep/host/trainer.h"

namespace fewstep::cli {
namespace {

struct Arguments {
  std::string recipe;
  std::vector<std::string> overrides;
  host::GradcheckOptions options;
};

host::Exit run_gradcheck(const Arguments& arguments) {
  const host::Recipe recipe =
      host::load_recipe(arguments.recipe, arguments.overrides);
  if (recipe.outer.method == host::OuterMethod::kReptile) {
    throw host::Error(host::Exit::kUsage,
                      fmt::format("{}: outer.method: reptile takes no "
                                  "derivative, so there is none to check",
                                  recipe.where("outer.method")));
  }
  const host::PlannedNetwork planned = host::build_network(recipe);
  const Rule rule = host::build_rule(recipe.inner, planned.network);
  const std::unique_ptr<host::TaskSource> source =
      host::make_task_source(recipe);
  host::check_minibatches(recipe, source->shape());
  host::Episode episode;
  source->sample(host::Split::kTrain, recipe.seed, 0, 0, &episode);
  host::OuterState state = host::initial_state(recipe);
  // Training starts with an open mask; here some of it is closed.
  host::Random mask(recipe.seed, 2, 0, host::Purpose::kCheck);
  for (size_t i = host::logits_begin(rule, planned.network);
       i < state.phi.size();
       ++i) {
    state.phi[i] = mask.normal();
  }

  host::GradcheckOptions options = arguments.options;
  options.steps = static_cast<uint32_t>(recipe.inner.steps);
  options.seed = recipe.seed;
  options.dropout = static_cast<float>(recipe.outer.dropout);
  host::Objective objective;
  host::scheduled_objective(recipe, 0, &objective);
  options.step_weights = objective.step_weights;
  options.inner_batch = objective.inner_batch;
  const std::vector<host::GradcheckResult> results = host::gradcheck(
      planned.network,
      rule,
      episode,
      source->shape(),
      std::vector<double>(state.theta.begin(), state.theta.end()),
      std::vector<double>(state.phi.begin(), state.phi.end()),
      options);

  fmt::print("{:<20} {:<9} {:>12} {:>10} {:>9} {:>8}\n",
             "check",
             "quantity",
             "error",
             "tolerance",
             "compared",
             "skipped");
  bool agrees = true;
  bool compared = true;
  for (const host::GradcheckResult& r : results) {
    fmt::print("{:<20} {:<9} {:>12.3e} {:>10.0e} {:>9} {:>8}  {}\n",
               r.check,
               r.quantity,
               r.error,
               r.tolerance,
               r.n_values,
               r.n_skipped,
               r.passed ? "ok" : "FAILED");
    if (!r.passed) (r.error <= r.tolerance ? compared : agrees) = false;
  }
  if (!agrees) {
    throw host::Error(host::Exit::kNumeric,
                      "the meta-gradient disagrees with its checks (or is not "
                      "finite: then lower inner.rate)");
  }
  if (!compared) {
    throw host::Error(host::Exit::kNumeric,
                      "what could be compared agrees, but more than 1 % of the "
                      "coordinates could not: they move a value across a relu "
                      "or a maximum; check at other values (--set seed=2), of "
                      "more coordinates (--coordinates 0), or with tanh in the "
                      "place of relu");
  }
  return host::Exit::kOk;
}

}  // namespace

void add_gradcheck(CLI::App& app, Command* run) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command = add_command(
      app, "gradcheck", "Check a recipe's meta-gradient in double precision");
  command->add_option("recipe", arguments->recipe, "The recipe")
      ->required()
      ->type_name("RECIPE.toml");
  command
      ->add_option("--set",
                   arguments->overrides,
                   "Change a value of the recipe; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--directions",
                   arguments->options.n_directions,
                   "Random directions of the tangent checks")
      ->check(CLI::Range(1, 1000))
      ->type_name("N");
  command
      ->add_option("--coordinates",
                   arguments->options.n_coordinates,
                   "Coordinates for central differences; 0: all")
      ->check(CLI::Range(0, 100000000))
      ->type_name("N");
  command->callback([arguments, run] {
    *run = [arguments] { return run_gradcheck(*arguments); };
  });
}

}  // namespace fewstep::cli
