// [inner]: reading it, and which options go with which rules.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <optional>
#include <string>
#include <vector>

#include "fewstep/host/network_builder.h"
#include "fewstep/host/recipe.h"
#include "fewstep/host/rule_values.h"
#include "recipe_reader.h"

namespace fewstep::host {
namespace {

constexpr std::pair<const char*, RuleOp> kRules[] = {
    {"sgd", RuleOp::kSgd},
    {"lslr", RuleOp::kLslr},
    {"meta_sgd", RuleOp::kMetaSgd},
    {"momentum", RuleOp::kMomentum},
    {"adam", RuleOp::kAdam},
    {"rate_net", RuleOp::kRateNet},
    {"lstm", RuleOp::kLstm}};
constexpr std::pair<const char*, RateLayout> kLayouts[] = {
    {"scalar", RateLayout::kScalar},
    {"tensor_step", RateLayout::kTensorStep},
    {"parameter", RateLayout::kParameter}};
constexpr std::pair<const char*, Adapt> kAdapts[] = {
    {"all", Adapt::kAll},
    {"head", Adapt::kHead},
    {"body", Adapt::kBody},
    {"context", Adapt::kContext},
    {"sparse", Adapt::kSparse}};

constexpr double kMaskStart = 0.01;

// Rates that change from step to step.
void read_rate_adaptation(const TableReader& r, InnerRecipe* inner) {
  inner->rate_adaptation = r.boolean("rate_adaptation", false);
  if (!inner->rate_adaptation) {
    if (r.has("rate_beta")) r.fail("rate_beta", "needs rate_adaptation = true");
    return;
  }
  if (inner->rule != RuleOp::kMetaSgd) {
    r.fail("rate_adaptation",
           fmt::format("moves one rate a parameter along the product of that "
                       "parameter's gradients; {} has no such rates: use rule "
                       "= \"meta_sgd\"",
                       to_string(inner->rule)));
  }
  if (inner->steps == 1) {
    r.fail("rate_adaptation",
           "changes rates from the second step on, by the gradients of two: "
           "with steps = 1 nothing would change; use more steps, or leave it "
           "out");
  }
  inner->rate_beta = r.real("rate_beta", 0.0, kAny, 1e-6);
  if (static_cast<float>(inner->rate_beta) == 0.0F) {
    r.fail("rate_beta",
           "must be above 0: its cube root is what is learned, which has no "
           "derivative there, so that no rate would ever change; leave "
           "rate_adaptation out for that");
  }
}

// What rules with state have besides, before learn_rate is looked at.
void read_moments(const TableReader& r, InnerRecipe* inner) {
  const bool momentum = inner->rule == RuleOp::kMomentum;
  const bool adam = inner->rule == RuleOp::kAdam;
  for (const char* key : {"rate_layout", "learn_beta", "learn_moments"}) {
    const bool of_rates =
        inner->rate_adaptation && key == std::string("learn_beta");
    if (!momentum && !adam && !of_rates && r.has(key)) {
      r.fail(key,
             fmt::format("{} has none of it; use rule = \"momentum\" or "
                         "\"adam\"{}",
                         to_string(inner->rule),
                         inner->rule == RuleOp::kMetaSgd &&
                                 key == std::string("learn_beta")
                             ? ", or rate_adaptation = true"
                             : ""));
    }
  }
  if (r.has("beta") && !momentum) {
    r.fail("beta",
           adam ? "adam has two: betas = [beta1, beta2]"
                : "needs rule = \"momentum\"");
  }
  for (const char* key : {"betas", "eps", "rms"}) {
    if (r.has(key) && !adam) {
      r.fail(key,
             momentum && std::string(key) == "betas" ? "momentum has one: beta"
                                                     : "needs rule = \"adam\"");
    }
  }
  inner->rate_layout = r.choice("rate_layout",
                                Choices<RateLayout>(kLayouts),
                                std::optional(RateLayout::kScalar));
  inner->learn_beta = r.boolean("learn_beta", inner->rate_adaptation);
  inner->learn_moments = r.boolean("learn_moments", false);
  constexpr double kMax = 0.9999;  // kMaxBeta
  inner->beta1 = r.real("beta", 0.0, kMax, 0.9);
  if (adam) {
    const std::vector<double> betas =
        r.reals("betas", 2, 0.0, kMax, {0.9, 0.999});
    inner->beta1 = betas[0];
    inner->beta2 = betas[1];
  }
  inner->eps = r.real("eps", 1e-15, 1.0, 1e-8);
  if (digit_of_eps(inner->eps) < 0) {
    r.fail("eps", "must be a power of ten, such as 1e-8: capsules store which");
  }
  inner->rms = r.real("rms", 0.0, kAny, 1.0);
  if (r.has("rms") && !inner->learn_moments) {
    r.fail("rms",
           "is the initial sqrt(v_0) of learn_moments = true; without, v_0 "
           "is 0");
  }
  if (adam && inner->learn_moments && !(inner->rms > 0.0)) {
    r.fail("rms",
           "must be above 0: v_0 = s_0^2 has no derivative by s_0 at 0, so it "
           "would never be learned");
  }
  if (momentum && inner->steps == 1 && !inner->learn_moments) {
    r.fail("steps",
           "momentum has no past in the first step: with steps = 1 it is sgd "
           "at rate (1 - beta) rate; use more steps, or learn_moments = true");
  }
}

// What rules that are networks have besides.
void read_learned(const TableReader& r, InnerRecipe* inner) {
  const bool net = inner->rule == RuleOp::kRateNet;
  const bool lstm = inner->rule == RuleOp::kLstm;
  if (r.has("hidden") && !net && !lstm) {
    r.fail("hidden",
           fmt::format("{} has no hidden units; use rule = \"rate_net\" or "
                       "\"lstm\"",
                       to_string(inner->rule)));
  }
  if (r.has("decay") && !net) {
    r.fail("decay",
           "is a second output of rule = \"rate_net\"; no other rule has it");
  }
  inner->hidden =
      r.small("hidden", 1, lstm ? LstmShape::kMaxHidden : 255, inner->hidden);
  inner->decay = r.boolean("decay", false);
  if (lstm && !(inner->rate > 0.0 && inner->rate < 1.0)) {
    r.fail("rate",
           "must be between 0 and 1: it is the initial size of an lstm's "
           "steps, which are never larger than 1");
  }
}

// "all", "head", "body", "context", "sparse", or layers by name or by index.
void read_adapt(const TableReader& r, Recipe* recipe) {
  InnerRecipe* inner = &recipe->inner;
  if (!r.is_array("adapt")) {
    inner->adapt =
        r.choice("adapt", Choices<Adapt>(kAdapts), std::optional(Adapt::kAll));
    return;
  }
  const std::string expected =
      "must be \"all\", \"head\", \"body\", \"context\", \"sparse\", or an "
      "array "
      "of layers, by name (\"conv2d2\", the second conv2d) or by index from 0";
  std::vector<LayerOp> ops;
  for (const LayerRecipe& layer : recipe->network.layers) {
    ops.push_back(layer.op);
  }
  const std::vector<std::string> names = layer_names(ops);
  inner->adapt = Adapt::kLayers;
  for (const toml::node& element : r.array("adapt")) {
    if (element.is_string()) {
      inner->layers.push_back(element.as_string()->get());
      continue;
    }
    if (!element.is_integer()) {
      r.fail("adapt",
             fmt::format("{}; it holds {}", expected, literal(element)));
    }
    const std::int64_t index = element.as_integer()->get();
    if (index < 0 || index >= static_cast<std::int64_t>(names.size())) {
      r.fail("adapt",
             fmt::format("the network has layers 0 to {}, not {}",
                         names.size() - 1,
                         index));
    }
    inner->layers.push_back(names[static_cast<size_t>(index)]);
  }
  if (inner->layers.empty()) {
    r.fail("adapt", "is empty: no parameter would adapt");
  }
}

// What a learned mask has besides, and which rules it goes with.
void read_mask(const TableReader& r, InnerRecipe* inner) {
  const bool sparse = inner->adapt == Adapt::kSparse;
  if (r.has("mask_start") && !sparse) {
    r.fail("mask_start",
           "is where the logits of a learned mask start: needs adapt = "
           "\"sparse\"");
  }
  inner->mask_start = r.real("mask_start", 0.0, kAny, kMaskStart);
  if (sparse && inner->rule == RuleOp::kRateNet) {
    r.fail("adapt",
           "rate_net sets rates from statistics of whole tensors, which a mask "
           "would tear apart: use another rule, or adapt layers");
  }
}

}  // namespace

void read_inner(const TableReader& r, Recipe* recipe) {
  InnerRecipe* inner = &recipe->inner;
  inner->rule = r.choice("rule", Choices<RuleOp>(kRules));
  inner->steps = r.small("steps", 1, 1000, 1);
  inner->batch = r.small("batch", 0, kMaxCount, 0);
  inner->rate = r.real("rate", 0.0, kAny);
  read_rate_adaptation(r, inner);
  read_moments(r, inner);
  read_learned(r, inner);
  const bool always =
      inner->rule == RuleOp::kLslr || inner->rule == RuleOp::kMetaSgd ||
      inner->rule == RuleOp::kRateNet || inner->rule == RuleOp::kLstm ||
      inner->rate_layout != RateLayout::kScalar;
  inner->learn_rate = r.boolean("learn_rate", always);
  if (always && !inner->learn_rate) {
    r.fail("learn_rate",
           inner->rate_layout != RateLayout::kScalar
               ? "more than one rate is always learned; use rate_layout = "
                 "\"scalar\" for a fixed rate"
               : fmt::format("{} always learns its rates; use rule = \"sgd\" "
                             "for a fixed rate",
                             to_string(inner->rule)));
  }
  inner->order = r.small("order", 1, 2, 2);
  read_adapt(r, recipe);
  read_mask(r, inner);
  inner->weight_decay = r.real("weight_decay", 0.0, kAny, 0.0);
  inner->clip_norm = r.real("clip_norm", 0.0, kAny, 0.0);
}

}  // namespace fewstep::host
