// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "fewstep/host/engine.h"
#include "fewstep/host/error.h"
#include "fewstep/host/file.h"
#include "fewstep/host/learned_mask.h"
#include "fewstep/host/network_builder.h"
#include "fewstep/host/npz.h"
#include "fewstep/host/outer_loop.h"
#include "fewstep/host/pack.h"
#include "fewstep/host/philox.h"
#include "fewstep/host/progress.h"
#include "fewstep/host/rule_values.h"
#include "fewstep/host/run_folder.h"
#include "fewstep/host/task_factory.h"
#include "fewstep/host/validation.h"

namespace fewstep::host {
namespace {

// Iterations whose mean loss makes one line of metrics.jsonl.
constexpr int64_t kMetricsEvery = 100;

Npz read_checkpoint(const std::filesystem::path& path) {
  try {
    return Npz::read(path);
  } catch (const Error& e) {
    if (e.exit() != Exit::kBadData) throw;
    throw Error(Exit::kBadData,
                fmt::format("{}: the checkpoint is damaged or incomplete; {}",
                            path.string(),
                            without_checkpoint(path.parent_path())));
  }
}

// The arrays of `path` as theta and phi, their lengths checked.
void read_quantities(const std::filesystem::path& path,
                     const Npz& npz,
                     const Network& network,
                     const Rule& rule,
                     OuterState* state) {
  state->theta = npz.floats("theta");
  if (state->theta.size() != network.n_params) {
    throw Error(Exit::kBadData,
                fmt::format("{}: theta has {} values, the recipe's network has "
                            "{} parameters; use arrays of the same network",
                            path.string(),
                            state->theta.size(),
                            network.n_params));
  }
  if (!npz.has("rate")) return;
  state->phi = npz.floats("rate");
  if (state->phi.size() != rule.n_phi) {
    throw Error(Exit::kBadData,
                fmt::format("{}: rate has {} values, the recipe's rule has {}; "
                            "use arrays of the same rule, or drop `rate`",
                            path.string(),
                            state->phi.size(),
                            rule.n_phi));
  }
}

// He-normal weights by layer; normalizations start as the identity, contexts
// at 0.
std::vector<float> initial_theta(const Recipe& recipe, const Network& network) {
  std::vector<float> theta(network.n_params, 0.0F);
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const Layer& l = network.layers[i];
    float* const weights = theta.data() + l.param_offset;
    if (l.op == LayerOp::kGroupNorm || l.op == LayerOp::kBatchNorm) {
      std::fill(weights, weights + l.n_weights, 1.0F);
    } else if (l.n_weights != 0 && l.op != LayerOp::kContext) {
      Random random(recipe.seed, 0, i, Purpose::kInitialization);
      const float fan_in = static_cast<float>(l.n_weights / l.out_c);
      const float deviation = sqrt(2.0F / fan_in);
      for (uint32_t j = 0; j < l.n_weights; ++j) {
        weights[j] = deviation * random.normal();
      }
    }
  }
  return theta;
}

// What helps against adaptations that diverge.
std::string advice(const InnerRecipe& inner) {
  return inner.clip_norm > 0.0 ? "Lower inner.rate or inner.clip_norm"
                               : "Lower inner.rate, or set inner.clip_norm";
}

// The recipe's tasks, if it can be trained on them.
std::unique_ptr<TaskSource> training_source(const Recipe& recipe) {
  std::unique_ptr<TaskSource> source = make_task_source(recipe);
  check_minibatches(recipe, source->shape());
  return source;
}

// One run, from the first iteration of this process to its end.
class Run {
 public:
  Run(const Recipe& recipe,
      const std::filesystem::path& dir,
      const TrainOptions& options)
      : recipe_(recipe),
        options_(options),
        network_(build_network(recipe)),
        rule_(build_rule(recipe.inner, network_.network)),
        source_(training_source(recipe)),
        engine_(make_engine(options.engine, engine_config())),
        folder_(options.resume ? RunFolder::resume(dir, recipe)
                               : RunFolder::create(dir)) {
    source_->check(Split::kTrain);
    if (validates()) source_->check(Split::kValidation);
    const OuterState state = first_state();
    best_ = state.best;
    losses_ = state.losses;
    loop_ = engine_->start(recipe_, state);
    // After all that may be refused, which is to leave nothing behind.
    folder_.begin(recipe);
  }

  TrainResult run() {
    MetricsLog metrics(folder_.metrics(), loop_->iteration());
    Progress::Options progress_options;
    progress_options.n_iterations = recipe_.outer.iterations;
    progress_options.first_iteration = loop_->iteration();
    progress_options.tasks_per_iteration = recipe_.outer.tasks;
    progress_options.quiet = options_.quiet;
    Progress progress(progress_options);

    if (options_.resume && saved_iteration_ < 0) {
      progress.note(fmt::format(
          "fewstep: warning: {} has no checkpoint yet; starting anew",
          folder_.dir().string()));
    }
    if (validates() &&
        source_->taken_from(Split::kValidation) == Split::kTrain) {
      progress.note(
          "fewstep: warning: the recipe has no task.validation_path, so "
          "validation is on the episodes that are trained on");
    }

    TrainResult result;
    while (loop_->iteration() < recipe_.outer.iterations) {
      if (options_.should_stop && options_.should_stop()) {
        result.interrupted = true;
        break;
      }
      const double loss = iterate();
      progress.update(loop_->iteration(), loss);
      const bool last = loop_->iteration() == recipe_.outer.iterations;
      log(&metrics, loss, last);
      if (validates() &&
          (loop_->iteration() % recipe_.run.validate_every == 0 || last)) {
        validate(&metrics, &progress);
      }
      if (!last && recipe_.run.checkpoint_every > 0 &&
          loop_->iteration() % recipe_.run.checkpoint_every == 0) {
        save();
      }
    }
    save();
    progress.finish();
    result.iterations = loop_->iteration();
    if (!result.interrupted) {
      result.capsule = folder_.capsule(recipe_);
      write_capsule(result.capsule, &progress);
      result.written = true;
    }
    return result;
  }

 private:
  // Where this process starts from.
  OuterState first_state() {
    if (!options_.resume || !folder_.has_checkpoint()) {
      return initial_state(recipe_);
    }
    OuterState state = load_state(folder_.checkpoint(), recipe_);
    if (state.iteration > recipe_.outer.iterations) {
      throw Error(Exit::kUsage,
                  fmt::format("{} has done {} iterations and outer.iterations "
                              "is {}: give {} or more; `fewstep pack` makes a "
                              "capsule of what was learned so far",
                              folder_.dir().string(),
                              state.iteration,
                              recipe_.outer.iterations,
                              state.iteration));
    }
    saved_iteration_ = state.iteration;
    return state;
  }

  bool validates() const { return recipe_.run.validate_every > 0; }

  EngineConfig engine_config() const {
    EngineConfig config = {};
    config.network = &network_.network;
    config.rule = &rule_;
    scheduled_objective(recipe_, 0, &config.objective);
    config.source = source_.get();
    config.seed = recipe_.seed;
    config.n_threads = static_cast<uint32_t>(recipe_.run.threads);
    config.n_tasks = static_cast<uint32_t>(recipe_.outer.tasks);
    config.dropout = static_cast<float>(recipe_.outer.dropout);
    config.n_gpus = options_.n_gpus;
    return config;
  }

  // One outer iteration; the mean query loss.
  double iterate() {
    const int n_tasks = recipe_.outer.tasks;
    const int64_t iteration = loop_->iteration();
    const MetaStep step = loop_->iterate();
    if (int64_t{step.n_dropped} * 100 > n_tasks) {
      throw Error(
          Exit::kNumeric,
          fmt::format("iteration {}: {} of {} tasks gave a loss or gradient "
                      "that is not finite, and training ends where these are "
                      "over 1 %. {}{}{}",
                      iteration,
                      step.n_dropped,
                      n_tasks,
                      advice(recipe_.inner),
                      outer_advice(iteration),
                      saved_iteration_ < 0
                          ? std::string()
                          : fmt::format("; the checkpoint of iteration {} is "
                                        "intact",
                                        saved_iteration_)));
    }
    losses_.n_dropped += step.n_dropped;
    return step.query_loss;
  }

  // What the outer loop can do about it: nothing at the parameters that
  // training starts from.
  std::string outer_advice(int64_t iteration) const {
    if (iteration == 0) return "";
    return recipe_.outer.clip_norm > 0.0
               ? "; if losses rose before, lower outer.rate"
               : "; if losses rose before, lower outer.rate or set "
                 "outer.clip_norm";
  }

  void log(MetricsLog* metrics, double loss, bool last) {
    losses_.sum += loss;
    ++losses_.n;
    if (loop_->iteration() % kMetricsEvery != 0 && !last) return;
    metrics->append(loop_->iteration(),
                    {{"loss", losses_.sum / static_cast<double>(losses_.n)},
                     {"rate",
                      static_cast<double>(scheduled_rate(
                          recipe_.outer, loop_->iteration() - 1))},
                     {"dropped", losses_.n_dropped}});
    losses_ = {};
  }

  void validate(MetricsLog* metrics, Progress* progress) {
    const int64_t iteration = loop_->iteration();
    const Validation v = summary_of(loop_->evaluate(
        Split::kValidation,
        tasks_of(*source_,
                 Split::kValidation,
                 static_cast<uint32_t>(recipe_.run.validate_tasks))));
    const Metric tasks = {"validation_tasks", int64_t{v.n_tasks}};
    const Metric diverged = {"validation_diverged", int64_t{v.n_diverged}};
    const Metric loss = {"validation_loss", v.loss.mean};
    const Metric loss_ci95 = {"validation_loss_ci95", v.loss.ci95};
    if (v.classification) {
      metrics->append(iteration,
                      {loss,
                       loss_ci95,
                       {"validation_accuracy", v.accuracy.mean},
                       {"validation_accuracy_ci95", v.accuracy.ci95},
                       tasks,
                       diverged});
    } else {
      metrics->append(iteration, {loss, loss_ci95, tasks, diverged});
    }
    progress->validation(iteration, to_string(v));
    if (v.all_diverged()) {
      const bool none = best_.iteration < 0;
      if (none) best_.n_diverged = v.n_diverged;
      progress->note(fmt::format(
          "fewstep: warning: all {} validation tasks diverged at iteration {}; "
          "{}. {}",
          v.n_tasks,
          iteration,
          none ? std::string("there are no best parameters yet")
               : fmt::format("the best ones stay those of iteration {}",
                             best_.iteration),
          advice(recipe_.inner)));
    }
    if (is_better(v, best_)) {
      best_ = {v.score(), iteration, v.n_diverged};
      const OuterState& state = loop_->state();
      Npz best;
      best.set<float>("theta", {state.theta.size()}, state.theta);
      best.set<float>("rate", {state.phi.size()}, state.phi);
      best.set_scalar<int64_t>("iteration", iteration);
      best.save(folder_.best());
      // A run that has learned something can be gone on with.
      if (saved_iteration_ < 0 && recipe_.run.checkpoint_every > 0) save();
    }
  }

  void save() {
    OuterState& state = loop_->state();
    state.best = best_;
    state.losses = losses_;
    save_state(folder_.checkpoint(), state);
    saved_iteration_ = state.iteration;
  }

  void write_capsule(const std::filesystem::path& path, Progress* progress) {
    OuterState packed = loop_->state();
    if (recipe_.run.keep == Keep::kBest && best_.iteration < 0) {
      progress->note(fmt::format(
          "fewstep: warning: {}, so there are no best parameters: the capsule "
          "has the last ones",
          best_.n_diverged > 0 ? "in every validation all tasks diverged"
                               : "no validation was done"));
    } else if (recipe_.run.keep == Keep::kBest) {
      const Npz best = Npz::read(folder_.best());
      read_quantities(folder_.best(), best, network_.network, rule_, &packed);
      packed.iteration = best.get_scalar<int64_t>("iteration");
    }
    save_file_atomically(
        path,
        pack_capsule(recipe_,
                     {packed.theta, packed.phi, packed.iteration},
                     source_.get()));
  }

  const Recipe& recipe_;
  const TrainOptions& options_;
  PlannedNetwork network_;
  Rule rule_;
  std::unique_ptr<TaskSource> source_;
  std::unique_ptr<Engine> engine_;  // Before the folder: it may be refused.
  RunFolder folder_;
  std::unique_ptr<OuterLoop> loop_;  // Before engine_ ends.
  BestValidation best_;
  int64_t saved_iteration_ = -1;  // The checkpoint's; -1: there is none.
  LossInterval losses_;
};

}  // namespace

OuterState initial_state(const Recipe& recipe) {
  const PlannedNetwork planned = build_network(recipe);
  const Rule rule = build_rule(recipe.inner, planned.network);
  OuterState state;
  state.phi = initial_phi(recipe.inner, recipe.seed, rule, planned.network);
  if (recipe.run.init_from.empty()) {
    state.theta = initial_theta(recipe, planned.network);
  } else {
    const std::filesystem::path path =
        require_path(recipe, "run.init_from", recipe.run.init_from);
    read_quantities(path, Npz::read(path), planned.network, rule, &state);
    project_phi(rule, planned.network, &state.phi);
  }
  return state;
}

void save_state(const std::filesystem::path& path, const OuterState& state) {
  Npz npz;
  npz.set<float>("theta", {state.theta.size()}, state.theta);
  npz.set<float>("rate", {state.phi.size()}, state.phi);
  npz.set<float>("m", {state.m.size()}, state.m);
  npz.set<float>("v", {state.v.size()}, state.v);
  const float powers[] = {state.beta1_power, state.beta2_power};
  npz.set<float>("beta_powers", {2}, powers);
  npz.set_scalar<int64_t>("iteration", state.iteration);
  npz.set_scalar<float>("best_score", state.best.score);
  npz.set_scalar<int64_t>("best_iteration", state.best.iteration);
  if (state.best.n_diverged != 0) {
    npz.set_scalar<int64_t>("best_diverged", state.best.n_diverged);
  }
  if (state.losses.n != 0) {
    npz.set_scalar<double>("loss_sum", state.losses.sum);
    npz.set_scalar<int64_t>("loss_iterations", state.losses.n);
    npz.set_scalar<int64_t>("loss_dropped", state.losses.n_dropped);
  }
  npz.save(path);
}

OuterState load_state(const std::filesystem::path& path, const Recipe& recipe) {
  const PlannedNetwork planned = build_network(recipe);
  const Npz npz = read_checkpoint(path);
  OuterState state;
  read_quantities(path,
                  npz,
                  planned.network,
                  build_rule(recipe.inner, planned.network),
                  &state);
  state.m = npz.get<float>("m");
  state.v = npz.get<float>("v");
  const std::vector<float> powers = npz.get<float>("beta_powers");
  state.iteration = npz.get_scalar<int64_t>("iteration");
  state.best.score = npz.get_scalar<float>("best_score");
  state.best.iteration = npz.get_scalar<int64_t>("best_iteration");
  if (npz.has("best_diverged")) {
    state.best.n_diverged = npz.get_scalar<int64_t>("best_diverged");
  }
  if (npz.has("loss_sum")) {
    state.losses = {npz.get_scalar<double>("loss_sum"),
                    npz.get_scalar<int64_t>("loss_iterations"),
                    npz.get_scalar<int64_t>("loss_dropped")};
  }
  if (powers.size() != 2 || state.m.size() != state.v.size() ||
      state.phi.empty() || state.iteration < 0 || state.losses.n < 0) {
    throw Error(Exit::kBadData,
                fmt::format("{}: not a checkpoint of this version; start the "
                            "run again in another folder",
                            path.string()));
  }
  state.beta1_power = powers[0];
  state.beta2_power = powers[1];
  return state;
}

TrainResult train(const Recipe& recipe,
                  const std::filesystem::path& dir,
                  const TrainOptions& options) {
  try {
    return Run(recipe, dir, options).run();
  } catch (const std::bad_alloc&) {
    throw Error(Exit::kResource,
                "out of memory: lower outer.tasks, the task's examples or the "
                "network's size");
  }
}

}  // namespace fewstep::host
