// engine_bench: how fast a recipe's meta-steps are on this machine.
//
// A meta-step is what one iteration of `fewstep train` computes: drawing or
// copying the episodes, the meta-gradient, and the outer optimizer's step;
// through the same public interface, and without checkpoints and validation.
//
//   engine_bench RECIPE.toml [--repeats R] [--seconds S] [options]
//       warms up, times R rounds of at least S seconds, prints one JSON line;
//       with --fields A,B,... those of its values, separated by commas
//   engine_bench RECIPE.toml --serve [options]
//       prints a JSON line, then answers each line of the standard input:
//         time N          N meta-steps
//         gradient FILE I   writes theta and, where they are learned, rate (the
//                         meta-gradient of iteration I at the initial state)
//                         to an .npz file
//         quit
//   options: --set KEY=VALUE changes the recipe; --random S Q takes random
//       examples, S of support and Q of query, instead of the recipe's data
//       (whose source has to be "episodes", at any path)
//
// Multiply-adds are counted as a method needs them, not as we spend them: for
// a task with n_s + n_q examples and K steps, (3 K n_s + n_q) times those of
// one example's gradient (K gradients of the support set, K Hessian-vector
// products of twice a gradient each, one gradient of the query set); first
// order (K n_s + n_q). n_s is inner.batch where there is one. Recomputing
// counts nothing.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "fewstep/host/engine.h"
#include "fewstep/host/error.h"
#include "fewstep/host/network_builder.h"
#include "fewstep/host/npz.h"
#include "fewstep/host/optimizer.h"
#include "fewstep/host/outer_loop.h"
#include "fewstep/host/recipe.h"
#include "fewstep/host/rule_values.h"
#include "fewstep/host/task_factory.h"
#include "fewstep/host/trainer.h"

namespace {

using namespace fewstep;
using Json = nlohmann::ordered_json;

/// Highest resident memory of this process so far, in MB of 1e6 bytes.
double peak_mb() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024.0 / 1e6;
}

/// Episodes of random numbers, drawn beforehand, taken in turn.
class RandomEpisodes final : public host::TaskSource {
 public:
  RandomEpisodes(const host::Recipe& recipe,
                 const Network& network,
                 uint32_t n_support,
                 uint32_t n_query) {
    const bool classes = network.loss == LossOp::kSoftmaxCrossEntropy;
    const uint32_t n_out = network.n_out;
    shape_ = {
        classes ? n_out : 0, n_support, n_query, network.n_in, n_out, classes};
    for (int i = 0; i < 3; ++i) {
      input_[static_cast<size_t>(i)] =
          static_cast<uint32_t>(recipe.network.input[i]);
    }
    constexpr int kMost = 32;
    const int n = std::min(recipe.outer.tasks, kMost);
    for (int t = 0; t < n; ++t) {
      host::Random random(recipe.seed,
                          0,
                          static_cast<uint32_t>(t),
                          host::Purpose::kTrainEpisode);
      host::Episode& e = episodes_.emplace_back();
      e.resize(shape_);
      for (auto* values :
           {&e.support_x, &e.query_x, &e.support_targets, &e.query_targets}) {
        for (float& x : *values) x = random.normal();
      }
      for (auto* labels : {&e.support_labels, &e.query_labels}) {
        for (size_t i = 0; i < labels->size(); ++i) {
          (*labels)[i] = static_cast<uint16_t>(i % n_out);
        }
      }
    }
  }

  const host::EpisodeShape& shape() const override { return shape_; }
  host::InputShape input_shape() const override { return input_; }
  void sample(host::Split,
              uint64_t,
              uint64_t,
              uint32_t task,
              host::Episode* out) const override {
    *out = episodes_[task % episodes_.size()];
  }

 private:
  host::EpisodeShape shape_;
  host::InputShape input_;
  std::vector<host::Episode> episodes_;
};

/// The outer loop of a recipe, one meta-step at a time.
class Training {
 public:
  /// random: sizes of the support and query sets, or empty.
  Training(const host::Recipe& recipe, const std::vector<uint32_t>& random)
      : recipe_(recipe),
        network_(host::build_network(recipe)),
        rule_(host::build_rule(recipe.inner, network_.network)),
        source_(random.empty()
                    ? host::make_task_source(recipe)
                    : std::make_unique<RandomEpisodes>(
                          recipe, network_.network, random[0], random[1])),
        initial_(host::initial_state(recipe)) {
    source_->check(host::Split::kTrain);
    host::check_minibatches(recipe, source_->shape());
    host::EngineConfig config = {};
    config.network = &network_.network;
    config.rule = &rule_;
    host::scheduled_objective(recipe, 0, &config.objective);
    config.source = source_.get();
    config.seed = recipe.seed;
    config.n_threads = static_cast<uint32_t>(recipe.run.threads);
    config.dropout = static_cast<float>(recipe.outer.dropout);
    engine_ = host::make_cpu_engine(config);
    loop_ = engine_->start(recipe_, initial_);
  }

  uint32_t n_tasks() const {
    return static_cast<uint32_t>(recipe_.outer.tasks);
  }

  /// Multiply-adds of one meta-step; see the head of this file.
  uint64_t multiply_adds() const {
    const host::EpisodeShape& s = source_->shape();
    const uint64_t steps = static_cast<uint64_t>(recipe_.inner.steps);
    const uint64_t n_step =
        host::Minibatches(s.n_support,
                          static_cast<uint32_t>(recipe_.inner.batch))
            .n;
    const uint64_t gradients = (recipe_.inner.order == 2 ? 3 : 1) * steps;
    return n_tasks() * multiply_adds_per_example(network_.network) *
           (gradients * n_step + s.n_query);
  }

  Json facts() const {
    return {{"name", recipe_.name},
            {"parameters", network_.network.n_params},
            {"support", source_->shape().n_support},
            {"query", source_->shape().n_query},
            {"steps", recipe_.inner.steps},
            {"tasks", n_tasks()},
            {"threads", recipe_.run.threads},
            {"multiply_adds", multiply_adds()}};
  }

  void meta_step() { expect_all(loop_->iterate(), loop_->iteration() - 1); }

  /// Seconds of `n` meta-steps.
  double time(int64_t n) {
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < n; ++i) meta_step();
    const auto stop = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(stop - start).count();
  }

  /// The meta-gradient of `iteration` at the initial state.
  void save_gradient(const std::string& path, int64_t iteration) {
    std::vector<float> d_theta(initial_.theta.size());
    std::vector<float> d_phi(initial_.phi.size());
    host::Objective objective;
    host::scheduled_objective(recipe_, iteration, &objective);
    engine_->set_objective(objective);
    expect_all(engine_->meta_gradient(initial_.theta.data(),
                                      initial_.phi.data(),
                                      static_cast<uint64_t>(iteration),
                                      n_tasks(),
                                      d_theta.data(),
                                      d_phi.data()),
               iteration);
    host::Npz npz;
    npz.set<float>("theta", {d_theta.size()}, d_theta);
    if (recipe_.inner.learn_rate) {
      npz.set<float>("rate", {d_phi.size()}, d_phi);
    }
    npz.save(path);
  }

 private:
  void expect_all(const host::MetaStep& step, int64_t iteration) const {
    if (step.n_dropped == 0) return;
    throw host::Error(
        host::Exit::kNumeric,
        fmt::format("iteration {}: {} of {} tasks diverged, so this is not the "
                    "work to be timed; lower inner.rate or outer.rate",
                    iteration,
                    step.n_dropped,
                    n_tasks()));
  }

  host::Recipe recipe_;
  host::PlannedNetwork network_;
  Rule rule_;
  std::unique_ptr<host::TaskSource> source_;
  host::OuterState initial_;
  std::unique_ptr<host::Engine> engine_;
  std::unique_ptr<host::OuterLoop> loop_;
};

void serve(Training* training) {
  std::cout << training->facts().dump() << std::endl;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string command, path;
    int64_t n = 0;
    words >> command;
    Json answer;
    if (command == "quit") return;
    if (command == "time" && words >> n && n > 0) {
      answer["seconds"] = training->time(n);
    } else if (command == "gradient" && words >> path >> n && n >= 0) {
      training->save_gradient(path, n);
    } else {
      throw host::Error(host::Exit::kUsage,
                        fmt::format("\"{}\": there are `time N`, `gradient "
                                    "FILE.npz ITERATION` and `quit`",
                                    line));
    }
    answer["peak_mb"] = peak_mb();
    std::cout << answer.dump() << std::endl;
  }
}

void measure(Training* training,
             int repeats,
             double seconds,
             const std::vector<std::string>& fields) {
  double last = training->time(1);
  int64_t n = 1;
  while (last < seconds) {
    const double more = std::clamp(1.2 * seconds / last, 1.5, 100.0);
    n = static_cast<int64_t>(static_cast<double>(n) * more) + 1;
    last = training->time(n);
  }
  std::vector<double> times;
  for (int r = 0; r < repeats; ++r) {
    times.push_back(training->time(n) / static_cast<double>(n));
  }
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  Json json = training->facts();
  json["ms_per_step"] = median * 1e3;
  json["ms_fastest"] = times.front() * 1e3;
  json["ms_slowest"] = times.back() * 1e3;
  json["tasks_per_s"] = training->n_tasks() / median;
  json["gflops"] =
      2e-9 * static_cast<double>(training->multiply_adds()) / median;
  json["peak_mb"] = peak_mb();
  if (fields.empty()) {
    std::cout << json.dump() << std::endl;
    return;
  }
  std::string line;
  for (const std::string& field : fields) {
    if (!json.contains(field)) {
      throw host::Error(
          host::Exit::kUsage,
          fmt::format("--fields: no {} in {}", field, json.dump()));
    }
    const Json& value = json[field];
    line += line.empty() ? "" : ",";
    line += value.is_number_float() ? fmt::format("{:.5g}", value.get<double>())
                                    : value.dump();
  }
  std::cout << line << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Times the meta-steps of a recipe");
  std::string path;
  std::vector<std::string> overrides;
  std::vector<std::string> fields;
  std::vector<uint32_t> random;
  bool serves = false;
  int repeats = 5;
  double seconds = 0.5;
  app.add_option("recipe", path, "The recipe")
      ->required()
      ->type_name("RECIPE.toml");
  app.add_flag("--serve", serves, "Answer commands of the standard input");
  app.add_option("--repeats", repeats, "Rounds; their median is reported")
      ->check(CLI::Range(1, 1000));
  app.add_option("--seconds", seconds, "Least length of a round")
      ->check(CLI::Range(0.0, 600.0));
  app.add_option("--random", random, "Random data of these sizes")
      ->type_name("SUPPORT QUERY")
      ->expected(2)
      ->check(CLI::Range(1, 100000));
  app.add_option("--fields", fields, "Print these values alone")
      ->type_name("NAME,...")
      ->delimiter(',');
  app.add_option("--set", overrides, "Change a value of the recipe")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  CLI11_PARSE(app, argc, argv);
  try {
    Training training(host::load_recipe(path, overrides), random);
    if (serves) {
      serve(&training);
    } else {
      measure(&training, repeats, seconds, fields);
    }
  } catch (const host::Error& error) {
    std::cerr << "engine_bench: " << error.what() << "\n";
    return static_cast<int>(error.exit());
  }
  return 0;
}
