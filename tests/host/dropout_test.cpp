// Dropout in meta-training: its masks, that derivatives are those of the masked
// network, and that nothing but the seed, the iteration and the task decides.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/dropout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/host/error.h"
#include "fewstep/host/gradcheck.h"
#include "fewstep/host/recipe.h"
#include "fewstep/ops.h"
#include "support/engine_problem.h"

namespace fewstep::testing {
namespace {

using host::BatchPass;
using host::DropoutOps;
using host::DropoutPlan;
using host::DropoutStream;
using ::testing::HasSubstr;

constexpr float kRate = 0.25F;

std::vector<float> mask(const DropoutStream& s, uint64_t first, uint32_t n) {
  std::vector<float> m(n);
  host::draw_mask(s, first, n, kRate, 4.0F / 3.0F, m.data());
  return m;
}

TEST(Dropout, MasksAreOfTheirShareAndPosition) {
  constexpr uint32_t kN = 100000;
  const std::vector<float> all = mask({1, 2, 3}, 0, kN);
  uint32_t n_dropped = 0;
  for (const float m : all) {
    EXPECT_TRUE(m == 0.0F || m == 4.0F / 3.0F);
    if (m == 0.0F) ++n_dropped;
  }
  // Four deviations of a binomial.
  const double deviation = std::sqrt(kN * 0.25 * 0.75);
  EXPECT_NEAR(n_dropped, 0.25 * kN, 4.0 * deviation);
  const std::vector<float> part = mask({1, 2, 3}, 400, 17);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + 400));
  for (const DropoutStream& other : {DropoutStream{2, 2, 3},
                                     DropoutStream{1, 3, 3},
                                     DropoutStream{1, 2, 4}}) {
    EXPECT_NE(mask(other, 0, 64), mask({1, 2, 3}, 0, 64));
  }
}

TEST(Dropout, IsOfEveryActivationBelowALayer) {
  constexpr uint32_t kNone = DropoutPlan::kNone;
  struct Expected {
    const char* network;
    std::vector<uint32_t> masks, below;
  };
  const Expected all[] = {
      // dense 7, relu, dense 5, relu, dense 3: masks are padded to fours.
      {"relu", {kNone, 0, kNone, 8, kNone}, {kNone, kNone, 0, kNone, 8}},
      // conv, relu, flatten, tanh in storage of its own, dense 3.
      {"flatten", {kNone, 0, kNone, 8, kNone}, {kNone, kNone, kNone, 0, 8}},
      // tanh, group_norm, relu, tanh, dense, tanh, relu, dense, tanh.
      {"activations",
       {0, kNone, 4, 8, kNone, 12, 16, kNone, kNone},
       {kNone, 0, kNone, 4, 8, kNone, 12, 16, kNone}},
  };
  for (const Expected& e : all) {
    SCOPED_TRACE(e.network);
    const NamedSpecs specs = zoo_network(e.network);
    const TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
    const DropoutPlan plan(net.network);
    for (size_t i = 0; i < net.layers.size(); ++i) {
      EXPECT_EQ(plan.mask_of(i), e.masks[i]) << i;
      EXPECT_EQ(plan.mask_below(i), e.below[i]) << i;
    }
  }
  const TestNetwork none({2, 1, 1},
                         {reference::dense(3), reference::tanh_layer()},
                         LossOp::kMeanSquaredError);
  EXPECT_EQ(DropoutPlan(none.network).n_numbers(), 0U);
}

// Of one example, a mask is a factor of the columns that read it: a network
// without dropout, whose weights have it, gives loss and gradient.
TEST(Dropout, IsAFactorOfTheWeightsAbove) {
  for (const auto& activation :
       {reference::relu_layer(), reference::tanh_layer()}) {
    const TestNetwork net(
        {3, 1, 1},
        {reference::dense(6), activation, reference::dense(2)},
        LossOp::kMeanSquaredError);
    const std::vector<float> theta = net.random_theta(1);
    const host::Episode e = net.random_episode(2, 1, 1);
    const Batch<float> batch = support_of(e, 1);
    const DropoutStream stream = {5, 6, 7};
    const auto gradient_of = [&](auto ops, const std::vector<float>& at) {
      std::vector<float> values(workspace_values(net.network, 1));
      std::vector<float> grad(at.size());
      const Workspace<float> ws = {values.data(), 1};
      host::start_batch(ops, BatchPass{false, 2}, batch.x);
      gradient(SerialExecutor(),
               ops,
               net.network,
               PlainView<float>{at.data()},
               ws,
               batch,
               grad.data());
      grad.push_back(*batch_loss(ws));
      return grad;
    };
    DropoutOps<AllOps, float> ops(AllOps(), net.network, kRate, 9);
    ops.draw_for({stream});
    const std::vector<float> got = gradient_of(ops, theta);
    // Pass 4 (support of step 2), example 0, eight numbers an example.
    const std::vector<float> m = mask(stream, 4 * 9 * 8, 6);
    ASSERT_NE(m, std::vector<float>(6, m[0]));
    std::vector<float> masked = theta;
    const Layer& above = net.layers[2];
    for (uint32_t i = 0; i < above.n_weights; ++i) {
      masked[above.param_offset + i] *= m[i % 6];
    }
    std::vector<float> expected = gradient_of(AllOps(), masked);
    for (uint32_t i = 0; i < above.n_weights; ++i) {
      expected[above.param_offset + i] *= m[i % 6];
    }
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], expected[i], 1e-6F) << i;
    }
    ops.draw_nothing();
    EXPECT_EQ(gradient_of(ops, theta), gradient_of(AllOps(), theta));
  }
}

// ------------------------------------------------------------- derivatives

class DropoutGradchecks : public ::testing::TestWithParam<size_t> {};

TEST_P(DropoutGradchecks, Pass) {
  const NamedSpecs specs = zoo()[GetParam()];
  for (const TestRule& rule : kTestRules) {
    // At 23 a group norm is handed a set that is all but dropped, and the lstm
    // rule gradients that 1e-5 changes by half.
    for (const auto& [steps, seed] : {std::pair(1U, 1U), std::pair(3U, 23U)}) {
      SCOPED_TRACE(specs.name + " " + rule.name + ", steps " +
                   std::to_string(steps));
      const TestNetwork net(
          specs.input, specs.specs, LossOp::kMeanSquaredError);
      const Rule made = rule.make(steps, net.network);
      const auto theta = net.random_theta(2);
      const auto phi = random_phi(made, net.network, rule.phi_seed);
      host::GradcheckOptions options;
      options.steps = steps;
      options.n_coordinates = 20;
      options.dropout = kRate;
      options.seed = seed;
      if (steps == 3) options.step_weights = {0.0F, 0.25F, 0.25F, 0.5F};
      for (const host::GradcheckResult& r :
           host::gradcheck(net.network,
                           made,
                           net.random_episode(6, 4, 3),
                           net.episode_shape(4, 3),
                           {theta.begin(), theta.end()},
                           {phi.begin(), phi.end()},
                           options)) {
        EXPECT_TRUE(r.passed) << r.check << " of " << r.quantity << ": error "
                              << r.error << ", skipped " << r.n_skipped;
        EXPECT_GT(r.n_values, 0U);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Zoo,
                         DropoutGradchecks,
                         ::testing::Range<size_t>(0, zoo().size()),
                         [](const auto& i) { return zoo()[i.param].name; });

enum class Fault { kNone, kHessian, kSteps, kQuery };

/// Dropout whose masks are other ones, in passes that should have those of
/// another or their own.
struct FaultyDropout : DropoutOps<AllOps, double> {
  Fault fault;
  uint32_t n_started = 0;

  FaultyDropout(const Network& network, Fault planted)
      : DropoutOps(AllOps(), network, kRate, 4), fault(planted) {}
  void start(BatchPass pass, const double* x) {
    ++n_started;
    // Two steps, the query set, then a product with the Hessian for each step.
    if (fault == Fault::kHessian && n_started > 3) pass.step += 7;
    if (fault == Fault::kSteps) pass.step = 0;
    if (fault == Fault::kQuery) pass.query = false;
    DropoutOps::start(pass, x);
  }
};

TEST(Dropout, EveryPassHasItsMasks) {
  const NamedSpecs specs = zoo_network("dense");
  const TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
  const Rule rule = make_rule(RuleOp::kMetaSgd, 2, net.network);
  const auto floats = net.random_theta(2);
  const auto rates = random_phi(rule, net.network, 3);
  const std::vector<double> theta(floats.begin(), floats.end());
  const std::vector<double> phi(rates.begin(), rates.end());
  const host::Episode e = net.random_episode(6, 4, 4);
  const auto doubles = [](const std::vector<float>& v) {
    return std::vector<double>(v.begin(), v.end());
  };
  const auto sx = doubles(e.support_x), qx = doubles(e.query_x);
  const auto sy = doubles(e.support_targets), qy = doubles(e.query_targets);
  const auto of = [&](Fault fault) {
    FaultyDropout ops(net.network, fault);
    ops.draw_for({{1, 0, 0}});
    host::Objective objective;
    objective.steps = 2;
    host::MetaGradient<double> m(net.network, rule, objective, 4, 4);
    m.run(SerialExecutor(),
          ops,
          PlainView<double>{theta.data()},
          PlainView<double>{phi.data()},
          Batch<double>{sx.data(), nullptr, sy.data(), 4},
          Batch<double>{qx.data(), nullptr, qy.data(), 4});
    EXPECT_EQ(ops.n_started, 5U);
    return m.theta_bar();
  };
  const std::vector<double> right = of(Fault::kNone);
  for (const Fault fault : {Fault::kHessian, Fault::kSteps, Fault::kQuery}) {
    double difference = 0.0;
    const std::vector<double> wrong = of(fault);
    for (size_t i = 0; i < right.size(); ++i) {
      difference = std::max(difference, std::abs(wrong[i] - right[i]));
    }
    EXPECT_GT(difference, 1e-3) << static_cast<int>(fault);
  }
}

// ----------------------------------------------------------------- engines

/// One task after another at float, summed in task order.
Result one_by_one(const Problem& s, uint64_t iteration, uint32_t n_tasks) {
  const host::EpisodeShape& shape = s.source.shape();
  const uint32_t most = std::max(shape.n_support, shape.n_query);
  DropoutOps<AllOps, float> ops(AllOps(), s.net.network, kRate, most);
  Result r;
  r.d_theta.assign(s.theta.size(), 0.0F);
  r.d_phi.assign(s.phi.size(), 0.0F);
  for (uint32_t t = 0; t < n_tasks; ++t) {
    host::Episode e;
    s.source.sample(host::Split::kTrain, 11, iteration, t, &e);
    host::MetaGradient<float> m(
        s.net.network, s.rule, s.objective, shape.n_support, shape.n_query);
    ops.draw_for({{11, iteration, t}});
    m.run(SerialExecutor(),
          ops,
          PlainView<float>{s.theta.data()},
          PlainView<float>{s.phi.data()},
          support_of(e, shape.n_support),
          query_of(e, shape.n_query));
    r.step.query_loss += static_cast<double>(m.query_loss());
    r.step.support_loss += static_cast<double>(m.support_loss(0));
    for (size_t i = 0; i < r.d_theta.size(); ++i) {
      r.d_theta[i] += m.theta_bar()[i];
    }
    for (size_t i = 0; i < r.d_phi.size(); ++i) r.d_phi[i] += m.phi_bar()[i];
  }
  r.step.query_loss /= n_tasks;
  r.step.support_loss /= n_tasks;
  for (float& g : r.d_theta) g /= static_cast<float>(n_tasks);
  for (float& g : r.d_phi) g /= static_cast<float>(n_tasks);
  return r;
}

TEST(Dropout, IsTheSameForAnyThreadsAndLanes) {
  uint32_t n_tasks = 1;
  for (const NamedSpecs& specs : zoo()) {
    for (const uint32_t k : {0U, 1U, 2U}) {
      n_tasks = n_tasks % 19 + 3;
      Problem s(specs, LossOp::kSoftmaxCrossEntropy, kTestRules[k], 2);
      if (k == 1) s.objective.step_weights = {0.0F, 0.25F, 1.0F};
      if (k == 0) s.objective.method = host::OuterMethod::kReptile;
      SCOPED_TRACE(specs.name + ", tasks " + std::to_string(n_tasks));
      const Result expected = one_by_one(s, 3, n_tasks);
      for (const uint32_t n_threads : {1U, 2U}) {
        for (const host::LaneLayout layout :
             {host::LaneLayout::kTasks, host::LaneLayout::kChannels}) {
          host::EngineConfig config = s.config(n_threads, layout);
          config.dropout = kRate;
          const auto engine = host::make_cpu_engine(config);
          expect_same(by_engine(s, engine.get(), 3, n_tasks), expected);
        }
      }
    }
  }
}

TEST(Dropout, IsForEveryIterationAnewAndNeverInEvaluation) {
  const NamedSpecs specs = zoo_network("relu");
  const Problem s(specs, LossOp::kMeanSquaredError, kTestRules[2], 2);
  host::EngineConfig config = s.config(1);
  const auto without = host::make_cpu_engine(config);
  config.dropout = kRate;
  const auto with = host::make_cpu_engine(config);
  const Result first = by_engine(s, with.get(), 3, 9);
  EXPECT_FALSE(
      same_bits(first.d_theta, by_engine(s, without.get(), 3, 9).d_theta));
  const auto of_test = [&](host::Engine* engine) {
    return engine->evaluate(
        s.theta.data(), s.phi.data(), host::Split::kTest, 20);
  };
  EXPECT_TRUE(same_bits(of_test(with.get()).loss, of_test(without.get()).loss));
  // And drops again, the same.
  expect_same(by_engine(s, with.get(), 3, 9), first);
  // Episodes of another iteration are others, too: only masks are looked at.
  EXPECT_NE(mask({11, 3, 0}, 0, 64), mask({11, 4, 0}, 0, 64));
}

// ----------------------------------------------------------------- recipes

std::string error_of(const std::string& outer,
                     const std::string& layers =
                         R"({op = "dense", units = 4}, {op = "tanh"},
                            {op = "dense", units = 1})") {
  const std::string text = R"([task]
source = "sinusoid"
family = "maml"
shots = 5
queries = 10
[network]
input = [1, 1, 1]
layers = [)" + layers + R"(]
loss = "mean_squared_error"
[inner]
rule = "sgd"
rate = 0.1
[outer]
tasks = 4
iterations = 10
)" + outer;
  try {
    const std::string once = to_toml(host::parse_recipe(text, "r.toml"));
    EXPECT_EQ(to_toml(host::parse_recipe(once, "r.toml")), once);
  } catch (const host::Error& e) {
    EXPECT_EQ(e.exit(), host::Exit::kUsage);
    return e.what();
  }
  return "accepted";
}

TEST(Dropout, RefusesWhatMakesNoSense) {
  EXPECT_EQ(error_of("dropout = 0.1"), "accepted");
  EXPECT_EQ(error_of("dropout = 0"), "accepted");
  EXPECT_EQ(error_of("dropout = 0.1\nmethod = \"reptile\""), "accepted");
  for (const char* all : {"1", "1.5", "0.99999999999"}) {
    EXPECT_THAT(error_of(std::string("dropout = ") + all),
                HasSubstr("outer.dropout: is the share of activations left out "
                          "while training: "));
  }
  EXPECT_THAT(error_of("dropout = -0.1"),
              HasSubstr("outer.dropout: must be a number >= 0"));
  EXPECT_THAT(error_of("dropout = 1e-60"),
              HasSubstr("outer.dropout: 1e-60 is too small for a float"));
  EXPECT_THAT(error_of("dropout = 0.5", R"({op = "dense", units = 1},
                                           {op = "tanh"})"),
              HasSubstr("outer.dropout: there is nothing to leave out: the "
                        "network has no relu or tanh below another layer"));
}

}  // namespace
}  // namespace fewstep::testing
