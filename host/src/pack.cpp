// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/pack.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "fewstep/device/every_op.h"
#include "fewstep/device/session.h"
#include "fewstep/host/error.h"
#include "fewstep/host/learned_mask.h"
#include "fewstep/host/mask_packing.h"
#include "fewstep/host/network_builder.h"
#include "fewstep/host/rule_values.h"

namespace fewstep::host {
namespace {

// Random stream of the golden episode: any fixed one does.
constexpr uint64_t kGoldenSeed = 0;

void check_length(const char* name, size_t has, size_t wants) {
  if (has == wants) return;
  throw Error(Exit::kBadData,
              fmt::format("{} has {} values, the recipe's network and rule "
                          "have {}: these are the parameters of another recipe",
                          name,
                          has,
                          wants));
}

Limits limits_of(const Recipe& recipe, const TaskSource* source) {
  const TaskRecipe& task = recipe.task;
  const auto ways = static_cast<uint32_t>(std::max(task.ways, 1));
  uint32_t n_support = ways * static_cast<uint32_t>(task.shots);
  uint32_t n_query = ways * static_cast<uint32_t>(task.queries);
  if (source != nullptr) {
    n_support = source->shape().n_support;
    n_query = source->shape().n_query;
  }
  const CapsuleRecipe& capsule = recipe.capsule;
  Limits limits{};
  limits.support_max = capsule.support_max != 0
                           ? static_cast<uint32_t>(capsule.support_max)
                           : n_support;
  limits.predict_max = capsule.predict_max != 0
                           ? static_cast<uint32_t>(capsule.predict_max)
                           : n_query;
  limits.steps = static_cast<uint32_t>(capsule.steps);
  return limits;
}

void require(Status status, const char* call) {
  if (status == Status::kOk) return;
  throw Error(
      status == Status::kDiverged ? Exit::kNumeric : Exit::kInternal,
      fmt::format(
          "recording the golden episode: {} gave {}", call, to_string(status)));
}

Split golden_split(const TaskSource& source) {
  try {
    source.check(Split::kTest);
    return Split::kTest;
  } catch (const Error&) {
    return Split::kTrain;
  }
}

// Runs one episode on the capsule as stored and records what it gives.
GoldenEpisode record_golden(const CapsuleBytes& bytes,
                            const TaskSource& source) {
  Episode episode;
  source.sample(golden_split(source), kGoldenSeed, 0, 0, &episode);
  const EpisodeShape& shape = source.shape();

  Capsule capsule;
  require(read_capsule(bytes.data(), bytes.size(), &capsule), "read_capsule");
  GoldenEpisode golden;
  golden.steps = capsule.limits.steps;
  // Within the limits of the capsule, which selftest() runs under.
  const uint32_t n_support =
      std::min(shape.n_support, capsule.limits.support_max);
  const uint32_t n_query =
      capsule.network.transductive != 0
          ? std::min(shape.n_query, capsule.limits.predict_max)
          : std::min<uint32_t>(shape.n_query, 8);
  const auto take = [](auto& to, const auto& from, size_t n) {
    to.assign(from.begin(), from.begin() + std::ptrdiff_t(n));
  };
  take(golden.support_x, episode.support_x, size_t{n_support} * shape.n_in);
  take(golden.query_x, episode.query_x, size_t{n_query} * shape.n_in);
  if (shape.classification) {
    take(golden.support_labels, episode.support_labels, n_support);
  } else {
    take(golden.support_targets,
         episode.support_targets,
         size_t{n_support} * shape.n_out);
  }

  SessionOptions options;
  options.max_support = n_support;
  options.max_predict = n_query;
  size_t arena_bytes = 0;
  require(required_bytes(capsule, options, &arena_bytes), "required_bytes");
  CapsuleBytes arena(arena_bytes);
  Session session;
  require(session.open({bytes.data(), bytes.size()},
                       EveryOp::list,
                       {arena.data(), arena.size()},
                       options),
          "open");
  const SupportSet support = {
      golden.support_x.data(),
      shape.classification ? golden.support_labels.data() : nullptr,
      shape.classification ? nullptr : golden.support_targets.data(),
      n_support};
  // The loss at theta_k is what an adaptation of k + 1 steps starts its last
  // step from.
  for (uint32_t k = 1; k <= golden.steps; ++k) {
    AdaptReport report;
    require(session.adapt(support, &report, k), "adapt");
    golden.losses.push_back(report.loss_last);
  }
  golden.outputs.resize(size_t{n_query} * shape.n_out);
  require(
      session.predict(golden.query_x.data(), n_query, golden.outputs.data()),
      "predict");
  golden.parameter_hash = session.hash();
  return golden;
}

// The network as the logits at the end of trained.rate leave it.
MaskedNetwork mask_network(const Recipe& recipe,
                           const Network& whole,
                           std::span<const float> logits) {
  MaskedNetwork masked(whole, logits);
  if (masked.adapts) return masked;
  throw Error(Exit::kNumeric,
              fmt::format("{}: inner.adapt: the learned mask stops every "
                          "parameter, so nothing would adapt; lower "
                          "outer.mask_rate, or raise inner.mask_start",
                          recipe.where("inner.adapt")));
}

// No time stamps and no paths: the same run gives the same bytes anywhere.
std::string provenance_of(const Recipe& recipe, const Trained& trained) {
  nlohmann::ordered_json json;
  json["fewstep"] = fmt::format("{}.{}.{}",
                                FEWSTEP_VERSION_MAJOR,
                                FEWSTEP_VERSION_MINOR,
                                FEWSTEP_VERSION_PATCH);
  json["recipe"] = recipe.name;
  json["seed"] = recipe.seed;
  json["source"] = to_string(recipe.task.source);
  json["order"] = recipe.inner.order;
  json["tasks_per_iteration"] = recipe.outer.tasks;
  json["iteration"] = trained.iteration;
  return json.dump();
}

}  // namespace

bool needs_source(const Recipe& recipe) {
  const bool open_limits =
      recipe.capsule.support_max == 0 || recipe.capsule.predict_max == 0;
  return recipe.capsule.golden ||
         (recipe.task.source == TaskKind::kEpisodes && open_limits);
}

CapsuleBytes pack_capsule(const Recipe& recipe,
                          const Trained& trained,
                          const TaskSource* source) {
  const PlannedNetwork planned = build_network(recipe);
  CapsuleContents contents;
  contents.network = planned.network;
  contents.rule = build_rule(recipe.inner, planned.network);
  check_length("theta", trained.theta.size(), planned.network.n_params);
  check_length("rate", trained.rate.size(), contents.rule.n_phi);
  contents.theta.assign(trained.theta.begin(), trained.theta.end());
  contents.phi.assign(trained.rate.begin(), trained.rate.end());
  std::optional<MaskedNetwork> masked;
  if (contents.rule.learned_mask) {
    const Rule all = contents.rule;
    const Network& whole = planned.network;
    masked.emplace(mask_network(
        recipe, whole, trained.rate.subspan(logits_begin(all, whole))));
    contents.network = masked->network;
    contents.rule = make_rule(all.op, all.steps, contents.network, all.options);
    contents.rule.weight_decay = all.weight_decay;
    contents.rule.clip_norm = all.clip_norm;
    contents.phi.clear();
    for (const uint32_t i : kept_phi(all, whole, contents.network)) {
      contents.phi.push_back(trained.rate[i]);
    }
  }
  contents.init_storage = recipe.capsule.init;
  contents.rate_storage = recipe.capsule.rates;
  contents.limits = limits_of(recipe, source);
  contents.provenance = provenance_of(recipe, trained);
  CapsuleBytes bytes = encode_capsule(contents);
  if (!recipe.capsule.golden || source == nullptr) return bytes;
  contents.golden = record_golden(bytes, *source);
  return encode_capsule(contents);
}

}  // namespace fewstep::host
