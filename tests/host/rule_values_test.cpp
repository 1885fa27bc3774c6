// Rules with state from a recipe: what [inner] says, phi, and which of it
// moves.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/rule_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/error.h"
#include "fewstep/host/network_builder.h"
#include "support/expect_error.h"
#include "support/small_capsule.h"

namespace fewstep::host {
namespace {

using ::testing::HasSubstr;

Recipe recipe_of(const std::string& inner) {
  return parse_recipe(R"([task]
source = "sinusoid"
family = "maml"
shots = 5
queries = 10
[network]
input = [1, 1, 1]
layers = [{op = "dense", units = 2}, {op = "tanh"}, {op = "dense", units = 1}]
loss = "mean_squared_error"
[outer]
tasks = 4
iterations = 100
[inner]
rate = 0.5
)" + inner,
                      "r.toml");
}

std::string error_of(const std::string& inner) {
  try {
    static_cast<void>(recipe_of(inner));
  } catch (const Error& e) {
    EXPECT_EQ(e.exit(), Exit::kUsage);
    return e.what();
  }
  return "accepted";
}

constexpr const char* kAdam = R"(rule = "adam"
steps = 2
rate_layout = "tensor_step"
betas = [0.75, 0.5]
eps = 1e-3
learn_moments = true
rms = 0.25
)";

TEST(RuleRecipe, HasTheStatedDefaults) {
  const InnerRecipe m = recipe_of("rule = \"momentum\"\nsteps = 2\n").inner;
  EXPECT_EQ(m.rate_layout, RateLayout::kScalar);
  EXPECT_EQ(m.beta1, 0.9);
  EXPECT_FALSE(m.learn_rate);
  EXPECT_FALSE(m.learn_beta);
  EXPECT_FALSE(m.learn_moments);
  EXPECT_FALSE(learns_phi(m));
  const InnerRecipe a = recipe_of("rule = \"adam\"\n").inner;
  EXPECT_EQ(a.beta1, 0.9);
  EXPECT_EQ(a.beta2, 0.999);
  EXPECT_EQ(a.eps, 1e-8);
  EXPECT_TRUE(recipe_of("rule = \"adam\"\nrate_layout = \"parameter\"")
                  .inner.learn_rate);
}

TEST(RuleRecipe, SurvivesWritingAndReading) {
  for (const std::string& inner :
       {std::string(kAdam),
        std::string("rule = \"adam\"\neps = 1e-15\nlearn_beta = true\n"),
        std::string("rule = \"rate_net\"\nhidden = 5\ndecay = true\n"),
        std::string("rule = \"lstm\"\nsteps = 2\nhidden = 6\n"),
        std::string("rule = \"meta_sgd\"\nsteps = 2\nrate_adaptation = true\n"
                    "rate_beta = 0.125\nlearn_beta = false\n"),
        std::string("rule = \"momentum\"\nsteps = 3\nbeta = 0.3\n"
                    "rate_layout = \"parameter\"\nlearn_moments = true\n")}) {
    const std::string once = to_toml(recipe_of(inner));
    EXPECT_EQ(to_toml(parse_recipe(once, "other.toml")), once);
  }
}

TEST(RuleRecipe, RefusesWhatMakesNoSense) {
  const std::string m = "rule = \"momentum\"\nsteps = 2\n";
  const std::string a = "rule = \"adam\"\nsteps = 2\n";
  const std::string s = "rule = \"meta_sgd\"\n";
  EXPECT_THAT(error_of(s + "learn_beta = true"),
              HasSubstr("inner.learn_beta: meta_sgd has none"));
  EXPECT_THAT(error_of(s + "beta = 0.5"), HasSubstr("needs rule = \"momentum"));
  EXPECT_THAT(error_of(s + "eps = 0.1"), HasSubstr("needs rule = \"adam"));
  EXPECT_THAT(error_of(m + "betas = [0.5, 0.5]"),
              HasSubstr("inner.betas: momentum has one: beta"));
  EXPECT_THAT(error_of(m + "beta = 1.0"), HasSubstr("inner.beta: must be"));
  EXPECT_THAT(error_of(m + "rate_layout = \"each\""),
              HasSubstr("inner.rate_layout: \"each\" is not known"));
  EXPECT_THAT(error_of(m + "rate_layout = \"parameter\"\nlearn_rate = false"),
              HasSubstr("more than one rate is always learned"));
  EXPECT_THAT(error_of("rule = \"momentum\"\n"),
              HasSubstr("inner.steps: momentum has no past in the first step"));
  EXPECT_THAT(error_of(a + "beta = 0.5"), HasSubstr("adam has two: betas"));
  EXPECT_THAT(error_of(a + "eps = 2e-8"), HasSubstr("a power of ten"));
  EXPECT_THAT(error_of(a + "rms = 1.0"), HasSubstr("learn_moments = true"));
  EXPECT_THAT(error_of(a + "learn_moments = true\nrms = 0.0"),
              HasSubstr("inner.rms: must be above 0"));
  EXPECT_THAT(
      error_of(std::string(kAdam) + "[capsule]\nsteps = 3"),
      HasSubstr("rate_layout = \"tensor_step\" learns rates for inner.steps = "
                "2 and no more"));
  EXPECT_EQ(error_of("rule = \"momentum\"\nlearn_moments = true"), "accepted");
  EXPECT_THAT(error_of(s + "hidden = 4"),
              HasSubstr("inner.hidden: meta_sgd has no hidden units"));
  const std::string online = "rate_adaptation = true\n";
  for (const char* rule :
       {"sgd", "lslr", "momentum", "adam", "rate_net", "lstm"}) {
    EXPECT_THAT(
        error_of("rule = \"" + std::string(rule) + "\"\nsteps = 2\n" + online),
        HasSubstr("inner.rate_adaptation: moves one rate a parameter along "
                  "the product of that parameter's gradients; " +
                  std::string(rule) +
                  " has no such rates: use rule = "
                  "\"meta_sgd\""));
  }
  EXPECT_THAT(error_of(s + online),
              HasSubstr("inner.rate_adaptation: changes rates from the second "
                        "step on, by the gradients of two: with steps = 1"));
  EXPECT_THAT(error_of(s + "steps = 2\nrate_beta = 0.5"),
              HasSubstr("inner.rate_beta: needs rate_adaptation = true"));
  EXPECT_THAT(error_of(s + "steps = 2\nrate_beta = 0\n" + online),
              HasSubstr("inner.rate_beta: must be above 0: its cube root"));
  EXPECT_EQ(error_of(s + "steps = 2\nlearn_beta = false\n" + online),
            "accepted");
  EXPECT_THAT(error_of(s + "steps = 2\nlearn_rate = false\n" + online),
              HasSubstr("meta_sgd always learns its rates"));
  EXPECT_THAT(error_of(s + "steps = 0"),
              HasSubstr("inner.steps: must be an integer from 1"));
  EXPECT_THAT(error_of(s + "steps = 2\nlearn_beta = true"),
              HasSubstr("or rate_adaptation = true"));
  EXPECT_THAT(error_of("rule = \"lstm\"\ndecay = true"),
              HasSubstr("inner.decay: is a second output of rule"));
  EXPECT_THAT(error_of("rule = \"lstm\"\nhidden = 21"),
              HasSubstr("inner.hidden: must be an integer from 1 to 20"));
  EXPECT_THAT(error_of("rule = \"lstm\"\nlearn_rate = false"),
              HasSubstr("lstm always learns"));
  EXPECT_THAT(
      error_of("rule = \"rate_net\"\nsteps = 2\n[capsule]\nsteps = 3"),
      HasSubstr("rate_net learns rates for inner.steps = 2 and no more"));
}

TEST(RuleValues, StartAsTheRecipeSays) {
  const Recipe recipe = recipe_of(kAdam);
  const PlannedNetwork planned = build_network(recipe);
  const Rule rule = build_rule(recipe.inner, planned.network);
  EXPECT_EQ(rule.op, RuleOp::kAdam);
  EXPECT_EQ(rule.options.eps_digit(), 3U);
  // 4 tensors, 2 steps, 7 parameters.
  std::vector<float> expected(8, 0.5F);
  expected.insert(expected.end(), {0.25F, 0.5F});
  expected.insert(expected.end(), 7, 0.0F);
  expected.insert(expected.end(), 7, 0.25F);
  EXPECT_EQ(initial_phi(recipe.inner, recipe.seed, rule, planned.network),
            expected);

  const Recipe one = recipe_of("rule = \"momentum\"\nsteps = 2\nbeta = 0.75");
  const Rule momentum = build_rule(one.inner, planned.network);
  EXPECT_EQ(initial_phi(one.inner, one.seed, momentum, planned.network),
            (std::vector<float>{0.5F, 0.25F}));
}

TEST(RuleValues, RateAdaptationHasRatesAndBeta) {
  for (const bool learned : {true, false}) {
    const Recipe recipe = recipe_of(
        std::string("rule = \"meta_sgd\"\nsteps = 2\nrate_adaptation = true\n"
                    "rate_beta = 0.125\nlearn_beta = ") +
        (learned ? "true" : "false"));
    const PlannedNetwork planned = build_network(recipe);
    const Rule rule = build_rule(recipe.inner, planned.network);
    EXPECT_EQ(rule.op, RuleOp::kOnlineMetaSgd);
    EXPECT_EQ(rule.n_state_per_param, 2U);
    std::vector<float> expected(7, 0.5F);
    std::vector<float> phi =
        initial_phi(recipe.inner, recipe.seed, rule, planned.network);
    EXPECT_NEAR(phi.back(), 0.5F, 1e-6F);  // The cube root of 0.125.
    phi.pop_back();
    EXPECT_EQ(phi, expected);
    std::vector<float> d_phi(8, 1.0F);
    freeze_phi(recipe.inner, rule, planned.network, &d_phi);
    expected.assign(7, 1.0F);
    expected.push_back(learned ? 1.0F : 0.0F);
    EXPECT_EQ(d_phi, expected);
    // Of either sign and any size.
    phi.assign(8, -2.0F);
    project_phi(rule, planned.network, &phi);
    EXPECT_EQ(phi, std::vector<float>(8, -2.0F));
  }
  EXPECT_TRUE(recipe_of("rule = \"meta_sgd\"\nsteps = 2\n"
                        "rate_adaptation = true")
                  .inner.learn_beta);
}

TEST(RuleValues, WhatIsNotLearnedStaysAndBetasStayInRange) {
  const Recipe recipe = recipe_of(kAdam);
  const PlannedNetwork planned = build_network(recipe);
  const Rule rule = build_rule(recipe.inner, planned.network);
  for (const bool rate : {false, true}) {
    for (const bool beta : {false, true}) {
      InnerRecipe inner = recipe.inner;
      inner.learn_rate = rate;
      inner.learn_beta = beta;
      EXPECT_TRUE(learns_phi(inner));
      std::vector<float> d_phi(rule.n_phi, 1.0F);
      freeze_phi(inner, rule, planned.network, &d_phi);
      for (uint32_t i = 0; i < rule.n_phi; ++i) {
        const bool learned = i < 8 ? rate : i < 10 ? beta : true;
        EXPECT_EQ(d_phi[i], learned ? 1.0F : 0.0F) << i;
      }
    }
  }
  std::vector<float> phi(rule.n_phi, -2.0F);
  phi[9] = 1.5F;
  project_phi(rule, planned.network, &phi);
  EXPECT_EQ(phi[8], kMinGain);
  EXPECT_EQ(phi[9], 1.0F);
  for (uint32_t i = 0; i < rule.n_phi; ++i) {
    if (i != 8 && i != 9) {
      EXPECT_EQ(phi[i], -2.0F) << i;
    }
  }
}

TEST(RuleValues, EpsIsAPowerOfTen) {
  EXPECT_EQ(digit_of_eps(1.0), 0);
  EXPECT_EQ(digit_of_eps(1e-8), 8);
  EXPECT_EQ(digit_of_eps(1e-15), 15);
  EXPECT_EQ(digit_of_eps(1e-16), -1);
  EXPECT_EQ(digit_of_eps(3e-8), -1);
}

// A gain of 0 would keep the state, and its bias correction divide by 0.
TEST(RuleValues, NoCapsuleHasAGainOfZero) {
  testing::SmallCapsule small = testing::small_adam();
  const size_t gain = small.contents.network.n_params;
  small.contents.phi[gain] = 1e-4F;
  EXPECT_NO_THROW(encode_capsule(small.contents));
  small.contents.phi[0] = 10.0F;  // Its log8 code is 0 now.
  testing::expect_error([&] { encode_capsule(small.contents); },
                        Exit::kUsage,
                        {"1 - beta = 0.0001", "log8", "f16"});
  small.contents.rate_storage = Storage::kF16;
  EXPECT_NO_THROW(encode_capsule(small.contents));
  for (const float wrong : {0.0F, -0.5F, 1.5F}) {
    small.contents.phi[gain] = wrong;
    testing::expect_error([&] { encode_capsule(small.contents); },
                          Exit::kUsage,
                          {"is not in (0, 1]"});
  }
}

}  // namespace
}  // namespace fewstep::host
