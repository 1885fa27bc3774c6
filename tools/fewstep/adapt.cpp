// fewstep adapt: adapts a capsule to given episodes, through the firmware
// library, and says what came of it.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "commands.h"
#include "fewstep/host/adapter.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/episode_file.h"
#include "fewstep/host/npz.h"

namespace fewstep::cli {
namespace {

using host::Episode;
using host::EpisodeShape;
using Json = nlohmann::ordered_json;

struct Arguments {
  std::string capsule, episodes, dump;
  uint32_t steps = 0;
  uint32_t tasks = 0;
  bool json = false;
  bool one_at_a_time = false;
};

struct Outcome {
  bool diverged = false;
  double support_before = 0.0, support_after = 0.0;
  double loss_before = 0.0, loss_after = 0.0;  // Query set.
  double accuracy_before = 0.0, accuracy_after = 0.0;
  uint64_t hash = 0;
};

Outcome adapt(host::Adapter* adapter, const Episode& episode) {
  Outcome o;
  adapter->reset();
  const host::Score before = adapter->score(episode);
  o.diverged = !adapter->adapt(episode);
  if (o.diverged) return o;
  const host::Score after = adapter->score(episode);
  o.support_before = static_cast<double>(adapter->report().loss_first);
  o.support_after = static_cast<double>(adapter->support_loss(episode));
  o.loss_before = static_cast<double>(before.loss);
  o.loss_after = static_cast<double>(after.loss);
  o.accuracy_before = static_cast<double>(before.accuracy);
  o.accuracy_after = static_cast<double>(after.accuracy);
  o.hash = adapter->session().hash();
  o.diverged = !std::isfinite(o.support_after) || !std::isfinite(o.loss_after);
  return o;
}

// Every task's results as arrays, for NumPy.
struct Dump {
  std::vector<float> outputs, theta, losses;
  std::vector<uint64_t> hashes;

  void add(const Outcome& outcome, const host::Adapter& adapter) {
    const Session& session = adapter.session();
    outputs.insert(
        outputs.end(), adapter.outputs().begin(), adapter.outputs().end());
    const uint32_t n = session.capsule().network.n_params;
    for (uint32_t i = 0; i < n; ++i) theta.push_back(session.parameter(i));
    losses.push_back(static_cast<float>(outcome.support_before));
    losses.push_back(static_cast<float>(outcome.support_after));
    hashes.push_back(outcome.hash);
  }

  void save(const std::string& path, const EpisodeShape& shape) const {
    const uint64_t n = hashes.size();
    host::Npz npz;
    npz.set<float>("outputs", {n, shape.n_query, shape.n_out}, outputs);
    npz.set<float>("theta", {n, theta.size() / n}, theta);
    npz.set<float>("support_loss", {n, 2}, losses);
    npz.set<uint64_t>("parameter_hash", {n}, hashes);
    npz.save(path);
  }
};

Json to_json(const Outcome& o, const EpisodeShape& shape) {
  Json json;
  json["diverged"] = o.diverged;
  if (o.diverged) return json;
  json["support_loss"] = {{"before", o.support_before},
                          {"after", o.support_after}};
  json["loss"] = {{"before", o.loss_before}, {"after", o.loss_after}};
  if (shape.classification) {
    json["accuracy"] = {{"before", o.accuracy_before},
                        {"after", o.accuracy_after}};
  }
  json["parameter_hash"] = fmt::format("{:016x}", o.hash);
  return json;
}

void print_row(const std::string& label,
               const Outcome& o,
               const EpisodeShape& shape) {
  if (o.diverged) {
    fmt::print("{:>6}  diverged: the loss or a parameter is not finite\n",
               label);
    return;
  }
  std::string row =
      fmt::format("{:>6}  {:>9.4f} -> {:<9.4f}  {:>9.4f} -> {:<9.4f}",
                  label,
                  o.support_before,
                  o.support_after,
                  o.loss_before,
                  o.loss_after);
  if (shape.classification) {
    row += fmt::format("  {:>6.1f} % -> {:>5.1f} %",
                       100.0 * o.accuracy_before,
                       100.0 * o.accuracy_after);
  }
  if (o.hash != 0) row += fmt::format("  {:016x}", o.hash);
  fmt::print("{}\n", row);
}

Outcome mean_of(const std::vector<Outcome>& outcomes) {
  Outcome mean;
  double n = 0.0;
  for (const Outcome& o : outcomes) {
    if (o.diverged) continue;
    n += 1.0;
    mean.support_before += o.support_before;
    mean.support_after += o.support_after;
    mean.loss_before += o.loss_before;
    mean.accuracy_before += o.accuracy_before;
    mean.loss_after += o.loss_after;
    mean.accuracy_after += o.accuracy_after;
  }
  mean.diverged = n == 0.0;
  for (double* sum : {&mean.support_before,
                      &mean.support_after,
                      &mean.loss_before,
                      &mean.accuracy_before,
                      &mean.loss_after,
                      &mean.accuracy_after}) {
    *sum /= std::max(n, 1.0);
  }
  return mean;
}

host::Exit run_adapt(const Arguments& arguments) {
  const host::CapsuleFile file = host::load_capsule(arguments.capsule);
  const Network& network = file.capsule.network;
  host::EpisodeFileOptions options;
  options.path = arguments.episodes;
  if (network.loss == LossOp::kSoftmaxCrossEntropy) {
    options.ways = network.n_out;
  }
  const host::EpisodeFile episodes(options);
  const EpisodeShape shape = episodes.shape();
  host::Adapter adapter(file, shape, arguments.steps, arguments.one_at_a_time);

  const uint64_t n_episodes = episodes.n_tasks(host::Split::kTest);
  if (arguments.tasks > n_episodes) {
    throw host::Error(
        host::Exit::kUsage,
        fmt::format(
            "--tasks {}: {} has {} episodes; give {} or fewer, or leave "
            "out --tasks for all of them",
            arguments.tasks,
            arguments.episodes,
            n_episodes,
            n_episodes));
  }
  const uint64_t n = arguments.tasks != 0 ? arguments.tasks : n_episodes;
  if (!arguments.json) {
    fmt::print("{:>6}  {:^22}  {:^22}{}  {}\n",
               "task",
               "support loss",
               "query loss",
               shape.classification ? "      accuracy     " : "",
               "  parameters");
  }
  std::vector<Outcome> outcomes;
  Dump dump;
  Episode episode;
  Json tasks = Json::array();
  for (uint64_t i = 0; i < n; ++i) {
    episodes.sample(host::Split::kTest, 0, i, 0, &episode);
    outcomes.push_back(adapt(&adapter, episode));
    if (arguments.json) {
      tasks.push_back(to_json(outcomes.back(), shape));
    } else {
      print_row(fmt::format("{}", i), outcomes.back(), shape);
    }
    if (!arguments.dump.empty()) {
      dump.add(outcomes.back(), adapter);
    }
  }
  const Outcome mean = mean_of(outcomes);
  if (arguments.json) {
    Json json;
    json["model_hash"] = fmt::format("{:016x}", file.capsule.model_hash);
    json["tasks"] = tasks;
    json["mean"] = to_json(mean, shape);
    json["mean"].erase("parameter_hash");
    json["transductive"] =
        network.transductive != 0 && !arguments.one_at_a_time;
    fmt::print("{}\n", json.dump(2));
  } else {
    print_row("mean", mean, shape);
  }
  if (!arguments.dump.empty()) {
    dump.save(arguments.dump, shape);
    fmt::print(stderr, "wrote {}\n", arguments.dump);
  }
  const auto n_diverged =
      std::count_if(outcomes.begin(), outcomes.end(), [](const Outcome& o) {
        return o.diverged;
      });
  if (n_diverged != 0) {
    throw host::Error(host::Exit::kNumeric,
                      fmt::format("{} of {} tasks diverged; fewer --steps, or "
                                  "lower rates in the recipe, may help",
                                  n_diverged,
                                  n));
  }
  return host::Exit::kOk;
}

}  // namespace

void add_adapt(CLI::App& app, Command* run) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command = add_command(
      app, "adapt", "Adapt a capsule to given episodes, as firmware would");
  command->add_option("capsule", arguments->capsule, "The capsule")
      ->required()
      ->type_name("CAPSULE");
  command
      ->add_option("--episodes",
                   arguments->episodes,
                   "NPZ with support_x, support_y, query_x, query_y")
      ->required()
      ->type_name("FILE.npz");
  command
      ->add_option(
          "--steps", arguments->steps, "Gradient steps; default: the capsule's")
      ->check(CLI::Range(1, 65535))
      ->type_name("K");
  command
      ->add_option(
          "--tasks", arguments->tasks, "Only the first N episodes of the file")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
  command->add_flag("--one-at-a-time",
                    arguments->one_at_a_time,
                    "Predict each query alone, also with batch_norm");
  command->add_flag("--json", arguments->json, "Print JSON");
  command
      ->add_option("--dump",
                   arguments->dump,
                   "Write outputs, adapted parameters (theta), losses and "
                   "hashes")
      ->type_name("OUT.npz");
  command->callback([arguments, run] {
    *run = [arguments] { return run_adapt(*arguments); };
  });
}

}  // namespace fewstep::cli
