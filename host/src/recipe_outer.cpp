// [outer]: reading it, and which outer methods go with which inner loops.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "fewstep/host/recipe.h"
#include "fewstep/host/rule_values.h"
#include "recipe_reader.h"

namespace fewstep::host {
namespace {

constexpr std::pair<const char*, OuterMethod> kMethods[] = {
    {"gradient", OuterMethod::kGradient}, {"reptile", OuterMethod::kReptile}};
constexpr std::pair<const char*, OuterOptimizer> kOptimizers[] = {
    {"adam", OuterOptimizer::kAdam}, {"sgd", OuterOptimizer::kSgd}};
constexpr std::pair<const char*, Schedule> kSchedules[] = {
    {"constant", Schedule::kConstant}, {"cosine", Schedule::kCosine}};

// Reptile moves theta towards theta_K and takes no derivative.
void read_reptile(Recipe* recipe) {
  InnerRecipe* inner = &recipe->inner;
  if (inner->adapt == Adapt::kSparse) {
    refuse(*recipe,
           "outer.method",
           "reptile moves the initialization only and cannot learn the mask of "
           "adapt = \"sparse\"; use method = \"gradient\", or another adapt");
  }
  if (learns_phi(*inner)) {
    refuse(*recipe,
           "outer.method",
           fmt::format("reptile moves the initialization only and cannot learn "
                       "the rates of {}; use inner.rule = \"sgd\" with "
                       "learn_rate = false, or method = \"gradient\"",
                       to_string(inner->rule)));
  }
  if (recipe->origins.count("inner.order") == 0) {
    inner->order = 1;
  } else if (inner->order != 1) {
    refuse(*recipe,
           "inner.order",
           "reptile takes no derivative of the inner loop, so there is no "
           "second order; leave inner.order out, or set it to 1");
  }
}

void read_multi_step(const TableReader& r, Recipe* recipe) {
  OuterRecipe* outer = &recipe->outer;
  if (!r.boolean("multi_step", false)) {
    if (r.has("multi_step_iterations")) {
      r.fail("multi_step_iterations", "needs multi_step = true");
    }
    return;
  }
  if (outer->method == OuterMethod::kReptile) {
    r.fail("multi_step",
           "reptile has no query loss to weight; use method = \"gradient\"");
  }
  if (recipe->inner.steps == 1) {
    r.fail("multi_step",
           "weights the query losses after each of several steps, but "
           "inner.steps = 1 has only the last one's; use more steps, or leave "
           "multi_step out");
  }
  outer->multi_step_iterations =
      r.integer("multi_step_iterations",
                1,
                outer->iterations,
                std::max<std::int64_t>(1, outer->iterations / 10));
}

void read_order_annealing(const TableReader& r, Recipe* recipe) {
  OuterRecipe* outer = &recipe->outer;
  outer->order_annealing = r.integer("order_annealing", 0, INT64_MAX, 0);
  if (outer->order_annealing == 0) return;
  if (outer->method == OuterMethod::kReptile) {
    r.fail("order_annealing",
           "reptile takes no derivatives whose order could change; use method "
           "= \"gradient\"");
  }
  if (recipe->inner.order == 1) {
    r.fail("order_annealing",
           "goes from first order to second, but inner.order = 1 keeps every "
           "iteration at first order; set inner.order = 2");
  }
  if (outer->order_annealing >= outer->iterations) {
    r.fail("order_annealing",
           fmt::format("leaves none of outer.iterations = {} to second order; "
                       "use less, or inner.order = 1",
                       outer->iterations));
  }
}

void read_dropout(const TableReader& r, Recipe* recipe) {
  const double rate = r.real("dropout", 0.0, kAny, 0.0);
  if (!(static_cast<float>(rate) < 1.0F)) {
    r.fail("dropout",
           fmt::format("is the share of activations left out while training: "
                       "{} would leave none in; give a number from 0 to below "
                       "1, such as 0.1",
                       rate));
  }
  recipe->outer.dropout = rate;
}

}  // namespace

void read_outer(const TableReader& r, Recipe* recipe) {
  OuterRecipe* outer = &recipe->outer;
  outer->optimizer = r.choice("optimizer",
                              Choices<OuterOptimizer>(kOptimizers),
                              std::optional(OuterOptimizer::kAdam));
  outer->rate = r.real("rate", 0.0, kAny, 1e-3);
  outer->rule_rate = r.real("rule_rate", 0.0, kAny, outer->rate);
  outer->mask_rate = r.real("mask_rate", 0.0, kAny, outer->rate);
  if (r.has("mask_rate") && recipe->inner.adapt != Adapt::kSparse) {
    r.fail("mask_rate", "is of a learned mask: needs inner.adapt = \"sparse\"");
  }
  outer->schedule = r.choice("schedule",
                             Choices<Schedule>(kSchedules),
                             std::optional(Schedule::kConstant));
  outer->min_rate = r.real("min_rate", 0.0, kAny, 0.0);
  if (r.has("min_rate") && outer->min_rate != 0.0) {
    if (outer->schedule != Schedule::kCosine) {
      r.fail("min_rate", "needs schedule = \"cosine\"");
    }
    if (outer->min_rate > outer->rate) {
      r.fail("min_rate", fmt::format("is above outer.rate = {}", outer->rate));
    }
  }
  outer->tasks = r.small("tasks", 1, 1000000);
  outer->iterations = r.integer("iterations", 1, 1000000000000);
  outer->clip_norm = r.real("clip_norm", 0.0, kAny, 0.0);
  const std::vector<double> betas =
      r.reals("betas", 2, 0.0, 0.999999, {0.9, 0.999});
  outer->beta1 = betas[0];
  outer->beta2 = betas[1];
  outer->eps = r.real("eps", 1e-30, 1.0, 1e-8);
  for (const char* key : {"betas", "eps"}) {
    if (r.has(key) && outer->optimizer != OuterOptimizer::kAdam) {
      r.fail(key, "needs optimizer = \"adam\"");
    }
  }
  outer->weight_decay = r.real("weight_decay", 0.0, kAny, 0.0);
  read_dropout(r, recipe);
  outer->method = r.choice("method",
                           Choices<OuterMethod>(kMethods),
                           std::optional(OuterMethod::kGradient));
  if (outer->method == OuterMethod::kReptile) read_reptile(recipe);
  read_multi_step(r, recipe);
  read_order_annealing(r, recipe);
}

const char* to_string(OuterMethod method) {
  switch (method) {
    case OuterMethod::kGradient: return "gradient";
    case OuterMethod::kReptile: return "reptile";
  }
  return "unknown method";
}

const char* to_string(OuterOptimizer optimizer) {
  switch (optimizer) {
    case OuterOptimizer::kAdam: return "adam";
    case OuterOptimizer::kSgd: return "sgd";
  }
  return "unknown optimizer";
}

const char* to_string(Schedule schedule) {
  switch (schedule) {
    case Schedule::kConstant: return "constant";
    case Schedule::kCosine: return "cosine";
  }
  return "unknown schedule";
}

}  // namespace fewstep::host
