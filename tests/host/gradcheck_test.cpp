// Every layer, loss and rule through gradcheck, and what its differences do
// where a function bends or has a kink.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "fewstep/host/gradcheck.h"
#include "fewstep/ops.h"
#include "support/gradcheck_case.h"
#include "support/step_choices.h"
#include "support/test_network.h"
#include "support/test_rules.h"

namespace fewstep::testing {
namespace {

using host::central_difference;
using host::Episode;
using host::GradcheckOptions;

class Gradchecks : public ::testing::TestWithParam<size_t> {};

TEST_P(Gradchecks, Pass) {
  const NamedSpecs specs = zoo()[GetParam()];
  for (const LossOp loss :
       {LossOp::kSoftmaxCrossEntropy, LossOp::kMeanSquaredError}) {
    const TestNetwork net(specs.input, specs.specs, loss);
    for (const TestRule& rule : kTestRules) {
      for (const uint32_t steps : {1U, 3U}) {
        SCOPED_TRACE(specs.name + " " + to_string(loss) + " " + rule.name +
                     ", steps " + std::to_string(steps));
        const auto results = check(AllOps(), net, rule, steps, 30);
        EXPECT_EQ(results.size(), 6U);
        for (const GradcheckResult& r : results) {
          EXPECT_TRUE(r.passed) << describe(r);
          EXPECT_GT(r.n_values, 0U);
          EXPECT_EQ(r.tolerance, r.check == "differences" ? 1e-6 : 1e-11);
        }
      }
    }
  }
}

// The multi-step loss, and a weight of the loss before any step.
TEST_P(Gradchecks, PassWithStepWeights) {
  const NamedSpecs specs = zoo()[GetParam()];
  const TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
  for (const TestRule& rule : kTestRules) {
    for (const std::vector<float>& weights :
         {std::vector<float>{0.0F, 0.25F, 0.25F, 0.5F},
          std::vector<float>{0.5F, 0.0F, 0.75F, 0.0F}}) {
      SCOPED_TRACE(specs.name + " " + rule.name);
      for (const GradcheckResult& r :
           check(AllOps(), net, rule, 3, 10, weights)) {
        EXPECT_TRUE(r.passed) << describe(r);
      }
    }
  }
}

// Part of the network adapts, weight decay, clipping: every rule, 1 and 3
// steps.
TEST_P(Gradchecks, PassWithStepOptions) {
  const NamedSpecs specs = zoo()[GetParam()];
  for (const StepChoice& choice : kStepChoices) {
    for (const TestRule& test_rule : kTestRules) {
      for (const uint32_t steps : {1U, 3U}) {
        SCOPED_TRACE(specs.name + " " + test_rule.name + " " + choice.name +
                     ", steps " + std::to_string(steps));
        TestNetwork net(specs.input, specs.specs, LossOp::kSoftmaxCrossEntropy);
        const Rule rule = choice.rule(&net, test_rule, steps);
        // rate_net: layers in one piece, and no mask.
        if (rule.n_phi == 0) continue;
        const auto results =
            check(AllOps(), net, rule, steps, 20, {}, test_rule.phi_seed);
        EXPECT_EQ(results.size(), rule.learned_mask ? 8U : 6U);
        for (const GradcheckResult& r : results) {
          EXPECT_TRUE(r.passed) << describe(r);
          EXPECT_GT(r.n_values, 0U);
        }
      }
    }
  }
}

// Minibatches: 3 steps on two of them, so that the first comes back.
TEST_P(Gradchecks, PassWithMinibatches) {
  const NamedSpecs specs = zoo()[GetParam()];
  for (const LossOp loss :
       {LossOp::kSoftmaxCrossEntropy, LossOp::kMeanSquaredError}) {
    const TestNetwork net(specs.input, specs.specs, loss);
    for (const TestRule& rule : kTestRules) {
      SCOPED_TRACE(specs.name + " " + to_string(loss) + " " + rule.name);
      const auto results = check(AllOps(),
                                 net,
                                 rule.make(3, net.network),
                                 3,
                                 10,
                                 {},
                                 rule.phi_seed,
                                 kSupport / 2);
      EXPECT_EQ(results.size(), 6U);
      for (const GradcheckResult& r : results) {
        EXPECT_TRUE(r.passed) << describe(r);
        EXPECT_GT(r.n_values, 0U);
      }
    }
  }
}

// CAVIA: contexts adapt and nothing else.
TEST(Gradcheck, PassesWhereContextsAdapt) {
  const NamedSpecs specs = zoo_network("context");
  const StepChoice choice = {"contexts", StepChoice::kContexts, 0.0625F, 0.25F};
  for (const TestRule& test_rule : kTestRules) {
    for (const uint32_t steps : {1U, 3U}) {
      SCOPED_TRACE(std::string(test_rule.name) + ", steps " +
                   std::to_string(steps));
      TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
      const Rule rule = choice.rule(&net, test_rule, steps);
      if (rule.n_phi == 0) continue;  // rate_net: layers in one piece.
      EXPECT_EQ(net.network.n_adapted, 6U);
      for (const GradcheckResult& r :
           check(AllOps(), net, rule, steps, 0, {}, test_rule.phi_seed)) {
        EXPECT_TRUE(r.passed) << describe(r);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Zoo,
                         Gradchecks,
                         ::testing::Range<size_t>(0, zoo().size()),
                         [](const auto& i) { return zoo()[i.param].name; });

// ------------------------------------------------------- the differences

/// f at `x` for central_difference(); nothing compared.
template <class F>
auto smooth(double x, const F& f) {
  return [=](double step, uint64_t* pattern) {
    *pattern = 0;
    return f(x + step);
  };
}

TEST(CentralDifference, TakesAStepThatFitsTheFunction) {
  double d = 0.0;
  EXPECT_TRUE(central_difference(
      smooth(1.0, [](double x) { return std::exp(x); }), &d));
  EXPECT_NEAR(d, std::exp(1.0), 1e-9);
  // At h = 1e-5 a fifth of x: wrong by 2e-3 of the derivative.
  EXPECT_TRUE(central_difference(
      smooth(5e-5, [](double x) { return std::log(x); }), &d));
  EXPECT_NEAR(d, 1.0 / 5e-5, 1e-6 / 5e-5);
  // Bends at 3e-6, where no comparison tells.
  EXPECT_TRUE(central_difference(
      smooth(3e-6, [](double x) { return x / (std::fabs(x) + 1e-3); }), &d));
  const double below = 3e-6 + 1e-3;
  EXPECT_NEAR(d, 1e-3 / (below * below), 1e-6 * d);
  EXPECT_TRUE(central_difference(smooth(0.3, [](double) { return 0.7; }), &d));
  EXPECT_EQ(d, 0.0);
}

TEST(CentralDifference, GoesBetweenKinksAndRefusesOneAtThePoint) {
  const auto relu_at = [](double x) {
    return [=](double step, uint64_t* pattern) {
      *pattern = x + step > 0.0 ? 1 : 0;
      return x + step > 0.0 ? 3.0 * (x + step) : 0.0;
    };
  };
  double d = -1.0;
  EXPECT_TRUE(central_difference(relu_at(3e-7), &d));
  EXPECT_NEAR(d, 3.0, 1e-9);
  EXPECT_TRUE(central_difference(relu_at(-3e-7), &d));
  EXPECT_EQ(d, 0.0);
  d = -1.0;
  EXPECT_FALSE(central_difference(relu_at(1e-9), &d));
  EXPECT_FALSE(central_difference(relu_at(0.0), &d));
  EXPECT_EQ(d, -1.0);
}

TEST(Gradcheck, SkipsAndCountsSwitchedComparisons) {
  const TestNetwork net(
      {2, 1, 1},
      {reference::dense(3), reference::relu_layer(), reference::dense(2)},
      LossOp::kMeanSquaredError);
  const Rule rule = make_rule(RuleOp::kSgd, 1, net.network);
  Episode episode = net.random_episode(1, kSupport, kQuery);
  std::vector<double> theta(net.network.n_params, 0.5);
  const std::vector<double> phi = {0.1};
  // Unit 0 sits on the kink for every example.
  theta[0] = theta[1] = theta[6] = 0.0;
  const auto results = host::gradcheck(net.network,
                                       rule,
                                       episode,
                                       net.episode_shape(kSupport, kQuery),
                                       theta,
                                       phi,
                                       GradcheckOptions());
  bool seen = false;
  for (const GradcheckResult& r : results) {
    if (r.check != "differences" || r.quantity != "theta") continue;
    seen = true;
    EXPECT_GE(r.n_skipped, 3U);
    EXPECT_EQ(r.n_skipped + r.n_values, net.network.n_params);
    EXPECT_FALSE(r.passed);
  }
  EXPECT_TRUE(seen);
}

}  // namespace
}  // namespace fewstep::testing
