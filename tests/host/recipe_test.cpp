// Recipes: what is read, and what is said about what cannot be.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/recipe.h"
#include "fewstep/host/rule_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "fewstep/host/error.h"
#include "fewstep/host/network_builder.h"
#include "fewstep/host/rule_values.h"
#include "fewstep/host/task_factory.h"

namespace fewstep::host {
namespace {

using ::testing::HasSubstr;

// Line numbers in the tests count from `name` = 1.
constexpr const char* kImages = R"(name = "test"
seed = 3
[task]
source = "images"
path = "nowhere.zip"
split = {train = 10, validation = 2, test = "rest", seed = 5}
ways = 5
shots = 1
queries = 2
[network]
input = [1, 28, 28]
layers = [
  {op = "conv2d", filters = 8, kernel = 3, stride = 2, pad = 1},
  {op = "group_norm", groups = 4},
  {op = "relu"},
  {op = "max_pool"},
  {op = "dense", units = 5}]
loss = "softmax_cross_entropy"
[inner]
rule = "lslr"
steps = 3
rate = 0.4
[outer]
tasks = 4
iterations = 100
)";

constexpr const char* kSinusoid = R"([task]
source = "sinusoid"
family = "meta_sgd"
shots = 5
queries = 10
[network]
input = [1, 1, 1]
layers = [{op = "dense", units = 40}, {op = "tanh"}, {op = "dense", units = 1}]
loss = "mean_squared_error"
[inner]
rule = "sgd"
rate = 1
[outer]
tasks = 4
iterations = 100
)";

// `text` with the first `from` replaced.
std::string with(std::string text, const std::string& from, std::string to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string error_of(const std::string& text,
                     const std::vector<std::string>& overrides = {}) {
  try {
    parse_recipe(text, "r.toml", overrides);
  } catch (const Error& e) {
    EXPECT_EQ(e.exit(), Exit::kUsage);
    return e.what();
  }
  return "accepted";
}

TEST(Recipe, ReadsWhatIsWritten) {
  const Recipe r = parse_recipe(kImages, "r.toml");
  EXPECT_EQ(r.name, "test");
  EXPECT_EQ(r.seed, 3U);
  EXPECT_EQ(r.task.source, TaskKind::kImages);
  EXPECT_EQ(r.task.path, std::vector<std::string>{"nowhere.zip"});
  EXPECT_EQ(r.task.split.n_train, 10U);
  EXPECT_EQ(r.task.split.n_test, ClassSplit::kRest);
  EXPECT_EQ(r.task.split.seed, 5U);
  EXPECT_EQ(r.task.ways, 5);
  ASSERT_EQ(r.network.layers.size(), 5U);
  EXPECT_EQ(r.network.layers[0].outputs, 8);
  EXPECT_EQ(r.network.layers[0].pad, 1);
  EXPECT_EQ(r.network.layers[1].groups, 4);
  EXPECT_EQ(r.network.layers[3].kernel, 2);
  EXPECT_EQ(r.network.layers[3].stride, 2);
  EXPECT_EQ(r.inner.rule, RuleOp::kLslr);
  EXPECT_TRUE(r.inner.learn_rate);
  EXPECT_EQ(r.inner.order, 2);
  EXPECT_EQ(r.capsule.steps, 3);
}

TEST(Recipe, HasTheStatedDefaults) {
  const Recipe r = parse_recipe(kSinusoid, "folder/my-run.toml");
  EXPECT_EQ(r.name, "my-run");
  EXPECT_EQ(r.seed, 1U);
  EXPECT_FALSE(r.inner.learn_rate);
  EXPECT_EQ(r.inner.rate, 1.0);
  EXPECT_EQ(r.outer.optimizer, OuterOptimizer::kAdam);
  EXPECT_EQ(r.outer.beta1, 0.9);
  EXPECT_EQ(r.outer.beta2, 0.999);
  EXPECT_EQ(r.outer.eps, 1e-8);
  EXPECT_EQ(r.outer.schedule, Schedule::kConstant);
  EXPECT_EQ(r.capsule.init, Storage::kF32);
  EXPECT_TRUE(r.capsule.golden);
  EXPECT_EQ(r.run.keep, Keep::kBest);
}

TEST(Recipe, SurvivesWritingAndReading) {
  for (const std::string& text :
       {std::string(kImages),
        std::string(kSinusoid),
        with(kImages,
             "train = 10, validation = 2, test = \"rest\", seed = 5",
             "train = [\"a\\\"b\"], test = [\"c\", \"d\"]")}) {
    const std::string once = to_toml(parse_recipe(text, "r.toml"));
    EXPECT_EQ(to_toml(parse_recipe(once, "other.toml")), once);
  }
  Recipe r = parse_recipe(kSinusoid, "r.toml");
  r.inner.rate = 0.1 + 0.2;
  EXPECT_EQ(parse_recipe(to_toml(r), "r.toml").inner.rate, 0.1 + 0.2);
}

std::vector<std::string> adapting(const std::string& value) {
  const Recipe r = parse_recipe(kImages, "r.toml", {"inner.adapt=" + value});
  EXPECT_EQ(to_toml(parse_recipe(to_toml(r), "x.toml")), to_toml(r));
  const PlannedNetwork planned = build_network(r);
  const std::vector<std::string> names = layer_names(planned.network);
  std::vector<std::string> list;
  for (uint32_t i = 0; i < planned.network.n_layers; ++i) {
    if (planned.network.adapts(i)) list.push_back(names[i]);
  }
  return list;
}

TEST(Recipe, ChoosesWhatAdapts) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(adapting("all"), Names({"conv2d1", "group_norm1", "dense1"}));
  EXPECT_EQ(adapting("head"), Names({"dense1"}));
  EXPECT_EQ(adapting("body"), Names({"conv2d1", "group_norm1"}));
  EXPECT_EQ(adapting("[\"dense1\", \"conv2d1\"]"),
            Names({"conv2d1", "dense1"}));
  EXPECT_EQ(adapting("[1, \"dense1\"]"), Names({"group_norm1", "dense1"}));
  // All of them by name is all of them.
  EXPECT_EQ(adapting("[0, 1, 4]"), adapting("all"));
}

TEST(Recipe, GivesTheRuleItsOptions) {
  const Recipe r = parse_recipe(
      kImages,
      "r.toml",
      {"inner.adapt=head", "inner.weight_decay=0.5", "inner.clip_norm=2"});
  const PlannedNetwork planned = build_network(r);
  const Rule rule = build_rule(r.inner, planned.network);
  EXPECT_EQ(rule.weight_decay, 0.5F);
  EXPECT_EQ(rule.clip_norm, 2.0F);
  EXPECT_EQ(rule.n_phi, 2U * 3U);  // lslr: two tensors, three steps.
  EXPECT_EQ(to_toml(parse_recipe(to_toml(r), "x.toml")), to_toml(r));
}

TEST(Recipe, ALearnedMaskIsPartOfTheRule) {
  const Recipe r = parse_recipe(
      kImages,
      "r.toml",
      {"inner.adapt=sparse", "inner.mask_start=0.25", "outer.mask_rate=0.5"});
  EXPECT_EQ(r.inner.adapt, Adapt::kSparse);
  EXPECT_EQ(r.outer.mask_rate, 0.5);
  EXPECT_EQ(to_toml(parse_recipe(to_toml(r), "r.toml")), to_toml(r));
  const PlannedNetwork planned = build_network(r);
  EXPECT_EQ(planned.network.adapted, nullptr);
  const Rule rule = build_rule(r.inner, planned.network);
  const uint32_t n_params = planned.network.n_params;
  EXPECT_TRUE(rule.learned_mask);
  EXPECT_EQ(rule.n_phi, 6U * 3 + n_params);  // lslr: six tensors, three steps.
  EXPECT_TRUE(learns_phi(r.inner));
  std::vector<float> phi = initial_phi(r.inner, r.seed, rule, planned.network);
  ASSERT_EQ(phi.size(), rule.n_phi);
  EXPECT_EQ(phi[17], 0.4F);
  EXPECT_EQ(phi[18], 0.25F);
  EXPECT_EQ(phi.back(), 0.25F);
  // A fixed rate stays; the mask does not.
  Recipe fixed = r;
  fixed.inner.rule = RuleOp::kSgd;
  fixed.inner.learn_rate = false;
  const Rule sgd = build_rule(fixed.inner, planned.network);
  std::vector<float> d_phi(sgd.n_phi, 1.0F);
  freeze_phi(fixed.inner, sgd, planned.network, &d_phi);
  EXPECT_EQ(d_phi[0], 0.0F);
  EXPECT_EQ(d_phi[1], 1.0F);
  EXPECT_EQ(d_phi.back(), 1.0F);
}

TEST(Recipe, AMaskThatMakesNoSenseIsRefused) {
  const auto said = [](const std::vector<std::string>& overrides) {
    return error_of(kImages, overrides);
  };
  EXPECT_THAT(said({"inner.mask_start=0.5"}),
              HasSubstr("inner.mask_start: is where the logits"));
  EXPECT_THAT(said({"outer.mask_rate=0.5"}),
              HasSubstr("outer.mask_rate: is of a learned mask"));
  EXPECT_THAT(said({"inner.adapt=sparse", "inner.rule=rate_net"}),
              HasSubstr("inner.adapt: rate_net sets rates from statistics"));
  EXPECT_THAT(said({"inner.adapt=sparse",
                    "inner.rule=sgd",
                    "inner.learn_rate=false",
                    "outer.method=reptile"}),
              HasSubstr("outer.method: reptile moves the initialization only "
                        "and cannot learn the mask"));
}

// Reptile learns nothing of what does not adapt.
TEST(Recipe, RefusesReptileOfAPart) {
  const std::vector<std::string> reptile = {
      "outer.method=reptile", "inner.rule=sgd", "inner.learn_rate=false"};
  EXPECT_EQ(error_of(kImages, reptile), "accepted");
  std::vector<std::string> part = reptile;
  part.push_back("inner.adapt=body");
  EXPECT_NE(error_of(kImages, part).find("inner.adapt: reptile moves"),
            std::string::npos);
  part.push_back("run.init_from=x.npz");
  EXPECT_EQ(error_of(kImages, part), "accepted");
}

// A body needs a layer below the head.
TEST(Recipe, RefusesTheBodyOfOneLayer) {
  const std::string said =
      error_of(with(kSinusoid, "rate = 1", "rate = 1\nadapt = \"body\""),
               {"network.layers=[{op = \"dense\", units = 1}]"});
  EXPECT_NE(said.find("inner.adapt: no parameter would adapt"),
            std::string::npos)
      << said;
}

TEST(Recipe, TakesOverrides) {
  const Recipe r = parse_recipe(kImages,
                                "r.toml",
                                {"task.ways=3",
                                 "network.layers.4.units=3",
                                 "inner.rule=meta_sgd",
                                 "outer.betas=[0.5, 0.9]",
                                 "name=plain-text"});
  EXPECT_EQ(r.task.ways, 3);
  EXPECT_EQ(r.inner.rule, RuleOp::kMetaSgd);
  EXPECT_EQ(r.outer.beta1, 0.5);
}

struct Refusal {
  const char* what;
  const char* from;
  const char* to;
  const char* message;
};

class RecipeRefuses : public ::testing::TestWithParam<Refusal> {};

TEST_P(RecipeRefuses, Saying) {
  const Refusal& row = GetParam();
  EXPECT_THAT(error_of(with(kImages, row.from, row.to)),
              HasSubstr(row.message));
}

INSTANTIATE_TEST_SUITE_P(
    Images,
    RecipeRefuses,
    ::testing::Values(
        Refusal{"UnknownKey",
                "ways = 5",
                "way = 5",
                "r.toml:7: unknown key task.way in [task] of source "
                "\"images\"; the nearest known key is task.ways"},
        Refusal{"Transposed",
                "tasks = 4",
                "taks = 4",
                "r.toml:24: unknown key outer.taks; the nearest known key is "
                "outer.tasks"},
        Refusal{"NoFloat",
                "rate = 0.4",
                "rate = 1e-50",
                "inner.rate: 1e-50 is too small for a float; use "
                "0, or at least 1.18e-38"},
        Refusal{"UnknownTable",
                "[outer]",
                "[outter]",
                "r.toml:23: unknown key outter; the nearest known key is "
                "outer"},
        Refusal{"KeyOfAnotherTable",
                "rate = 0.4",
                "iterations = 4",
                "unknown key inner.iterations; iterations belongs in [outer]"},
        Refusal{"KeyOfAnotherSource",
                "ways = 5",
                "family = \"maml\"",
                "family belongs in [task] of source \"sinusoid\""},
        Refusal{"KeyOfAnotherLayer",
                "{op = \"relu\"}",
                "{op = \"relu\", units = 3}",
                "r.toml:15: unknown key network.layers.2.units in relu"},
        Refusal{"WrongType",
                "ways = 5",
                "ways = \"five\"",
                "r.toml:7: task.ways: must be an integer from 2 to 65535, not "
                "the string"},
        Refusal{"FractionForCount",
                "shots = 1",
                "shots = 1.5",
                "task.shots: must be an integer from 1 to 65535, not 1.5"},
        Refusal{"OutOfRange",
                "steps = 3",
                "steps = 0",
                "r.toml:21: inner.steps: must be an integer from 1 to 1000, "
                "not 0"},
        Refusal{"NoTasks",
                "tasks = 4",
                "tasks = 0",
                "outer.tasks: must be an integer from 1"},
        Refusal{"NotANumber",
                "rate = 0.4",
                "rate = nan",
                "inner.rate: must be a number >= 0, not nan"},
        Refusal{"Missing",
                "iterations = 100",
                "",
                "r.toml:23: outer.iterations: is missing; give an integer"},
        Refusal{"UnknownChoice",
                "\"lslr\"",
                "\"metasgd\"",
                "inner.rule: \"metasgd\" is not known; the nearest is "
                "\"meta_sgd\""},
        Refusal{"LaterSource",
                "\"images\"",
                "\"table\"",
                "one of \"images\", \"sinusoid\", \"episodes\""},
        Refusal{"UnknownOperation",
                "\"max_pool\"",
                "\"maxpool\"",
                "network.layers.3.op: \"maxpool\" is not known; the nearest "
                "is \"max_pool\""},
        Refusal{"WaysAgainstUnits",
                "units = 5",
                "units = 6",
                "r.toml:17: network.layers.4: the network has 6 outputs but "
                "task.ways = 5"},
        Refusal{"WindowTooBig",
                "{op = \"max_pool\"}",
                "{op = \"max_pool\", kernel = 30}",
                "r.toml:16: network.layers.3 (max_pool): the kernel "
                "exceeds its input; its input is 8x14x14"},
        Refusal{"GroupsDoNotDivide",
                "groups = 4",
                "groups = 3",
                "network.layers.1 (group_norm): needs groups that "
                "divide the channels"},
        Refusal{"InputAgainstSize",
                "[1, 28, 28]",
                "[1, 20, 20]",
                "network.input: is [1, 20, 20] but task.size = 28"},
        Refusal{"FixedLslr",
                "rate = 0.4",
                "rate = 0.4\nlearn_rate = false",
                "inner.learn_rate: lslr always learns its rates"},
        Refusal{"UnknownAdapt",
                "rate = 0.4",
                "rate = 0.4\nadapt = \"heads\"",
                "inner.adapt: \"heads\" is not known; the nearest is "
                "\"head\""},
        Refusal{"AdaptNoSuchLayer",
                "rate = 0.4",
                "rate = 0.4\nadapt = [\"conv2d2\"]",
                "r.toml:23: inner.adapt: the network has no layer "
                "\"conv2d2\"; those with parameters are \"conv2d1\", "
                "\"group_norm1\", \"dense1\""},
        Refusal{"AdaptWithoutParameters",
                "rate = 0.4",
                "rate = 0.4\nadapt = [2]",
                "inner.adapt: \"relu1\" has no parameters"},
        Refusal{"AdaptBeyond",
                "rate = 0.4",
                "rate = 0.4\nadapt = [5]",
                "inner.adapt: the network has layers 0 to 4, not 5"},
        Refusal{"AdaptNothing",
                "rate = 0.4",
                "rate = 0.4\nadapt = []",
                "inner.adapt: is empty: no parameter would adapt"},
        Refusal{"AdaptOfAnotherType",
                "rate = 0.4",
                "rate = 0.4\nadapt = [true]",
                "inner.adapt: must be \"all\", \"head\", \"body\""},
        Refusal{"NegativeDecay",
                "rate = 0.4",
                "rate = 0.4\nweight_decay = -1",
                "inner.weight_decay: must be a number >= 0, not -1"},
        Refusal{"ClipTooSmall",
                "rate = 0.4",
                "rate = 0.4\nclip_norm = 1e-60",
                "inner.clip_norm: 1e-60 is too small for a float"},
        Refusal{"TooManyCapsuleSteps",
                "iterations = 100",
                "iterations = 100\n[capsule]\nsteps = 4",
                "capsule.steps: lslr learns rates for inner.steps = 3"},
        Refusal{"Log8OfANetwork",
                "rule = \"lslr\"\nsteps = 3\nrate = 0.4",
                "rule = \"rate_net\"\nsteps = 3\nrate = 0.4\n"
                "[capsule]\nrates = \"log8\"",
                "capsule.rates: log8 is for rates, and rate_net has the "
                "weights of a network: use \"f16\" or \"f32\""},
        Refusal{"TwoRests",
                "train = 10",
                "train = \"rest\"",
                "at most one count may be \"rest\""},
        Refusal{"RegressionOfImages",
                "softmax_cross_entropy",
                "mean_squared_error",
                "images are classified"},
        Refusal{"NameWithSlash", "\"test\"", "\"a/b\"", "cannot name files"},
        Refusal{"NotToml", "ways = 5", "ways = = 5", "r.toml:7: not TOML"}),
    [](const auto& row) { return std::string(row.param.what); });

TEST(Recipe, RefusesBadOverridesByTheirText) {
  EXPECT_THAT(error_of(kImages, {"task.way=3"}),
              HasSubstr("--set task.way=3: unknown key task.way"));
  EXPECT_THAT(error_of(kImages, {"task.ways=many"}),
              HasSubstr("--set task.ways=many: task.ways: must be an integer"));
  EXPECT_THAT(error_of(kImages, {"task"}),
              HasSubstr("needs the form key.path=value"));
  EXPECT_THAT(error_of(kImages, {"network.layers.9.units=3"}),
              HasSubstr("network.layers has elements 0 to 4, not 9"));
  EXPECT_THAT(error_of(kImages, {"seed.x=3"}),
              HasSubstr("seed is not a table"));
  EXPECT_THAT(error_of(kImages, {"task.ways=3\nseed=4"}),
              HasSubstr("--set task.ways=3"));
}

TEST(Recipe, SaysWhereDataWasLookedFor) {
  try {
    make_task_source(parse_recipe(kImages, "/some/folder/r.toml"));
    FAIL() << "found nowhere.zip";
  } catch (const Error& e) {
    EXPECT_EQ(e.exit(), Exit::kBadData);
    EXPECT_THAT(e.what(), HasSubstr("r.toml:5: task.path"));
    EXPECT_THAT(e.what(), HasSubstr("/some/folder"));
    EXPECT_THAT(e.what(), HasSubstr("FEWSTEP_DATA"));
  }
}

TEST(Recipe, ThoseWeShipAreValid) {
  int n = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(FEWSTEP_RECIPE_DIR)) {
    if (entry.path().extension() != ".toml") continue;
    const Recipe r = load_recipe(entry.path());
    EXPECT_EQ(r.name, entry.path().stem().string());
    ++n;
  }
  EXPECT_GE(n, 12);
}

TEST(Recipe, PlansTheNetwork) {
  const PlannedNetwork planned = build_network(parse_recipe(kImages, "r.toml"));
  EXPECT_EQ(planned.network.n_in, 784U);
  EXPECT_EQ(planned.network.n_out, 5U);
  EXPECT_EQ(planned.network.n_params, 8U * 9 + 8 + 16 + 8 * 49 * 5 + 5);
  EXPECT_EQ(planned.network.layers, planned.layers.data());
}

TEST(Recipe, MakesTheSinusoidSource) {
  const auto source = make_task_source(parse_recipe(kSinusoid, "r.toml"));
  EXPECT_EQ(source->shape().n_support, 5U);
  EXPECT_EQ(source->shape().n_query, 10U);
}

TEST(Nearest, CountsASwapOnce) {
  EXPECT_EQ(nearest("taks", {"steps", "tasks", "rate"}), "tasks");
  EXPECT_EQ(nearest("itertions", {"order", "iterations"}), "iterations");
}

}  // namespace
}  // namespace fewstep::host
