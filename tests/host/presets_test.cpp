// Presets and outer methods in recipes: what they set, what wins, and which
// combinations are refused.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/presets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "fewstep/device/every_op.h"
#include "fewstep/device/session.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/error.h"
#include "fewstep/host/recipe.h"
#include "fewstep/host/trainer.h"
#include "support/temp_dir.h"

namespace fewstep::host {
namespace {

using ::testing::HasSubstr;

using Overrides = std::vector<std::string>;

// A recipe with `top` before, `inner` in and `outer` in its tables.
std::string recipe(const std::string& inner = "rule = \"sgd\"",
                   const std::string& outer = "",
                   const std::string& top = "") {
  return top + R"(
[task]
source = "sinusoid"
family = "meta_sgd"
shots = 5
queries = 10
[network]
input = [1, 1, 1]
layers = [{op = "dense", units = 4}, {op = "tanh"}, {op = "dense", units = 1}]
loss = "mean_squared_error"
[inner]
steps = 3
rate = 0.01
)" + inner +
         "\n[outer]\ntasks = 4\niterations = 1000\n" + outer + "\n";
}

// `text` with a network that preset `name` can be of.
std::string fit_for(const std::string& name, std::string text) {
  const std::string layers = "layers = [";
  if (name == "cavia") {
    text.insert(text.find(layers) + layers.size(),
                "{op = \"context\", units = 2}, ");
  }
  return text;
}

std::string error_of(const std::string& text, const Overrides& overrides = {}) {
  try {
    parse_recipe(text, "r.toml", overrides);
  } catch (const Error& e) {
    EXPECT_EQ(e.exit(), Exit::kUsage);
    return e.what();
  }
  return "accepted";
}

TEST(Presets, EachIsAValidRecipeAndNamesEveryAxis) {
  std::set<std::string> names;
  for (const Preset& preset : presets()) {
    SCOPED_TRACE(preset.name);
    EXPECT_TRUE(names.insert(preset.name).second);
    const std::string name = preset.name;
    const Recipe by_file = parse_recipe(
        fit_for(name, recipe("", "", "preset = \"" + name + "\"")), "r.toml");
    const Recipe by_set =
        parse_recipe(fit_for(name, recipe("")), "r.toml", {"preset=" + name});
    EXPECT_EQ(to_toml(by_file), to_toml(by_set));
    // Whatever preset the recipe had before.
    for (const Preset& other : presets()) {
      const std::string top = std::string("preset = \"") + other.name + "\"";
      const Recipe changed =
          parse_recipe(fit_for(name, recipe("", "schedule = \"cosine\"", top)),
                       "r.toml",
                       {"preset=" + name});
      Recipe expected = by_set;
      expected.outer.schedule = Schedule::kCosine;
      EXPECT_EQ(to_toml(changed), to_toml(expected)) << other.name;
    }
    // What a run folder keeps spells the axes out and reads back.
    const std::string resolved = to_toml(by_file);
    EXPECT_THAT(resolved, ::testing::Not(HasSubstr("preset")));
    EXPECT_EQ(to_toml(parse_recipe(resolved, "r.toml")), resolved);
  }
}

TEST(Presets, AreTheirMethods) {
  const auto of = [](const char* name) {
    return parse_recipe(
        fit_for(name, recipe("")), "r.toml", {std::string("preset=") + name});
  };
  EXPECT_EQ(of("maml").inner.rule, RuleOp::kSgd);
  EXPECT_FALSE(of("maml").inner.learn_rate);
  EXPECT_EQ(of("maml").inner.order, 2);
  EXPECT_EQ(of("fomaml").inner.order, 1);
  EXPECT_EQ(of("anil").inner.adapt, Adapt::kHead);
  EXPECT_EQ(of("boil").inner.adapt, Adapt::kBody);
  EXPECT_EQ(of("maml").inner.adapt, Adapt::kAll);
  EXPECT_EQ(of("cavia").inner.adapt, Adapt::kContext);
  EXPECT_EQ(of("cavia").inner.rule, RuleOp::kSgd);
  EXPECT_EQ(of("alfa").inner.rule, RuleOp::kRateNet);
  EXPECT_TRUE(of("alfa").inner.decay);
  EXPECT_EQ(of("meta_sgd_online").inner.rule, RuleOp::kMetaSgd);
  EXPECT_TRUE(of("meta_sgd_online").inner.rate_adaptation);
  EXPECT_TRUE(of("meta_sgd_online").inner.learn_beta);
  for (const char* name : {"meta_momentum", "meta_adam"}) {
    const InnerRecipe inner = of(name).inner;
    EXPECT_EQ(
        inner.rule,
        name == std::string("meta_adam") ? RuleOp::kAdam : RuleOp::kMomentum);
    EXPECT_EQ(inner.rate_layout, RateLayout::kParameter);
    EXPECT_TRUE(inner.learn_rate && inner.learn_beta && inner.learn_moments);
  }
  EXPECT_EQ(of("meta_lstm").inner.rule, RuleOp::kLstm);
  EXPECT_EQ(of("meta_lstm").inner.order, 1);
  EXPECT_EQ(of("sparse_maml").inner.adapt, Adapt::kSparse);
  EXPECT_EQ(of("sparse_maml").inner.rule, RuleOp::kSgd);
  EXPECT_EQ(of("meta_sgd").inner.rule, RuleOp::kMetaSgd);
  EXPECT_EQ(of("reptile").outer.method, OuterMethod::kReptile);
  EXPECT_EQ(of("maml_lslr").inner.rule, RuleOp::kLslr);
  EXPECT_EQ(of("maml_lslr").outer.multi_step_iterations, 0);
  const Recipe r = of("maml_plus_plus");
  EXPECT_EQ(r.inner.rule, RuleOp::kLslr);
  EXPECT_EQ(r.outer.multi_step_iterations, 100);
  EXPECT_EQ(r.outer.schedule, Schedule::kCosine);
}

// From preset to capsule, which replays on the firmware library.
TEST(Presets, EachTrainsToACapsule) {
  for (const Preset& preset : presets()) {
    SCOPED_TRACE(preset.name);
    const std::string name = preset.name;
    const Recipe r = parse_recipe(
        fit_for(name, recipe("")),
        "r.toml",
        {"preset=" + name, "outer.iterations=3", "run.validate_every=0"});
    const testing::TempDir dir;
    TrainOptions options;
    options.quiet = true;
    const TrainResult result = train(r, dir / "run", options);
    ASSERT_TRUE(result.written);
    const CapsuleFile file = load_capsule(result.capsule);
    size_t bytes = 0;
    ASSERT_EQ(selftest_bytes(file.capsule, &bytes), Status::kOk);
    std::vector<uint64_t> arena((bytes + 7) / 8);
    EXPECT_EQ(selftest({file.bytes.data(), file.bytes.size()},
                       EveryOp::list,
                       {arena.data(), bytes}),
              Status::kOk);
  }
}

TEST(Presets, WhoWins) {
  // The file's own keys over its preset.
  Recipe r =
      parse_recipe(recipe("order = 1", "", "preset = \"meta_sgd\""), "r.toml");
  EXPECT_EQ(r.inner.rule, RuleOp::kMetaSgd);
  EXPECT_EQ(r.inner.order, 1);
  // A preset of the command line over the file's keys, in any order with other
  // overrides, which win.
  for (const Overrides& overrides :
       {Overrides{"preset=maml_lslr", "outer.schedule=cosine"},
        Overrides{"outer.schedule=cosine", "preset=maml_lslr"}}) {
    r = parse_recipe(recipe("rule = \"sgd\"\nlearn_rate = false\norder = 1"),
                     "r.toml",
                     overrides);
    EXPECT_EQ(r.inner.rule, RuleOp::kLslr);
    EXPECT_TRUE(r.inner.learn_rate);
    EXPECT_EQ(r.inner.order, 2);
    EXPECT_EQ(r.outer.schedule, Schedule::kCosine);
  }
  r = parse_recipe(
      recipe(), "r.toml", {"inner.order=1", "preset=maml_plus_plus"});
  EXPECT_EQ(r.inner.order, 1);
  EXPECT_EQ(r.where("inner.rule"), "preset maml_plus_plus: inner.rule=lslr");
}

TEST(Presets, UnknownOnesNameTheNearest) {
  EXPECT_THAT(error_of(recipe("", "", "preset = \"maml++\"")),
              HasSubstr("r.toml:1: preset: \"maml++\" is not known; the "
                        "nearest is \"maml\" (one of \"maml\", \"fomaml\""));
  EXPECT_THAT(error_of(recipe(""), {"preset=reptil"}),
              HasSubstr("--set preset=reptil: preset: \"reptil\" is not known; "
                        "the nearest is \"reptile\""));
  EXPECT_THAT(error_of(recipe("", "", "preset = 3")),
              HasSubstr("preset: must be one of \"maml\""));
}

TEST(OuterMethods, DefaultsAreTheMetaGradientOfTheLastStep) {
  const Recipe r = parse_recipe(recipe(), "r.toml");
  EXPECT_EQ(r.outer.method, OuterMethod::kGradient);
  EXPECT_EQ(r.outer.multi_step_iterations, 0);
  EXPECT_EQ(r.outer.order_annealing, 0);
  EXPECT_EQ(r.outer.weight_decay, 0.0);
  EXPECT_EQ(r.outer.rule_rate, r.outer.rate);
}

TEST(OuterMethods, AreReadAndWritten) {
  const std::string inner = "rule = \"sgd\"";
  for (const char* outer : {"method = \"reptile\"",
                            "multi_step = true",
                            "multi_step = true\nmulti_step_iterations = 77",
                            "rule_rate = 1e-4",
                            "order_annealing = 31\nweight_decay = 0.25"}) {
    const std::string resolved =
        to_toml(parse_recipe(recipe(inner, outer), "r.toml"));
    EXPECT_EQ(to_toml(parse_recipe(resolved, "r.toml")), resolved);
    EXPECT_NE(resolved, to_toml(parse_recipe(recipe(), "r.toml")));
  }
  const Recipe r = parse_recipe(
      recipe(inner, "multi_step = true\nmulti_step_iterations = 77"), "r.toml");
  EXPECT_EQ(r.outer.multi_step_iterations, 77);
  EXPECT_EQ(
      parse_recipe(recipe(inner, "method = \"reptile\""), "r.toml").inner.order,
      1);
}

struct Refusal {
  const char* what;
  const char* inner;
  const char* outer;
  const char* message;
};

class RefusedOuter : public ::testing::TestWithParam<Refusal> {};

TEST_P(RefusedOuter, SaysWhy) {
  const Refusal& r = GetParam();
  EXPECT_THAT(error_of(recipe(r.inner, r.outer)), HasSubstr(r.message));
}

INSTANTIATE_TEST_SUITE_P(
    Rows,
    RefusedOuter,
    ::testing::Values(
        Refusal{"UnknownMethod",
                "rule = \"sgd\"",
                "method = \"reptil\"",
                "outer.method: \"reptil\" is not known; the nearest is "
                "\"reptile\""},
        Refusal{"ReptileWithMetaSgd",
                "rule = \"meta_sgd\"",
                "method = \"reptile\"",
                "r.toml:18: outer.method: reptile moves the initialization "
                "only and cannot learn the rates of meta_sgd; use"},
        Refusal{"ReptileWithALearnedRate",
                "rule = \"sgd\"\nlearn_rate = true",
                "method = \"reptile\"",
                "cannot learn the rates of sgd"},
        Refusal{"ReptileOfSecondOrder",
                "rule = \"sgd\"\norder = 2",
                "method = \"reptile\"",
                "r.toml:15: inner.order: reptile takes no derivative"},
        Refusal{"ReptileWithMultiStep",
                "rule = \"sgd\"",
                "method = \"reptile\"\nmulti_step = true",
                "outer.multi_step: reptile has no query loss to weight"},
        Refusal{"ReptileWithOrderAnnealing",
                "rule = \"sgd\"",
                "method = \"reptile\"\norder_annealing = 10",
                "outer.order_annealing: reptile takes no derivatives"},
        Refusal{"OrderAnnealingOfFirstOrder",
                "rule = \"sgd\"\norder = 1",
                "order_annealing = 10",
                "outer.order_annealing: goes from first order to second, but "
                "inner.order = 1"},
        Refusal{"OrderAnnealingToTheEnd",
                "rule = \"sgd\"",
                "order_annealing = 1000",
                "leaves none of outer.iterations = 1000 to second order"},
        Refusal{"MultiStepIterationsAlone",
                "rule = \"sgd\"",
                "multi_step_iterations = 10",
                "multi_step_iterations: needs multi_step = true"},
        Refusal{"MultiStepForTooLong",
                "rule = \"sgd\"",
                "multi_step = true\nmulti_step_iterations = 1001",
                "must be an integer from 1 to 1000, not 1001"},
        Refusal{"NegativeDecay",
                "rule = \"sgd\"",
                "weight_decay = -1.0",
                "outer.weight_decay: must be a number >= 0"}),
    [](const auto& row) { return std::string(row.param.what); });

TEST(OuterMethods, MultiStepNeedsSteps) {
  EXPECT_THAT(
      error_of(recipe("", "", "preset = \"maml_plus_plus\""),
               {"inner.steps=1"}),
      HasSubstr("preset maml_plus_plus: outer.multi_step=true: "
                "outer.multi_step: weights the query losses after each of "
                "several steps, but inner.steps = 1"));
}

}  // namespace
}  // namespace fewstep::host
