// Update rules and their vector-Jacobian products against their definitions.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/ops.h"
#include "support/test_network.h"
#include "support/test_rules.h"

namespace fewstep::testing {
namespace {

constexpr uint16_t kSteps = 3;

class Rules : public ::testing::TestWithParam<TestRule> {
 protected:
  TestNetwork net{
      {3, 1, 1},
      {reference::dense(20), reference::relu_layer(), reference::dense(2)},
      LossOp::kMeanSquaredError};
  Rule rule = GetParam().make(kSteps, net.network);
};

TEST_P(Rules, UpdateIsItsFormula) {
  const uint32_t n = net.network.n_params;
  Uniform uniform(1);
  const auto theta = uniform.vector(n);
  const auto g = uniform.vector(n);
  const auto phi = uniform.vector(rule.n_phi);
  for (uint32_t k = 0; k < kSteps; ++k) {
    std::vector<float> next = g;
    next.push_back(123.0F);
    const float loss = 0.5F;
    RuleCall<float> c = {};
    c.network = &net.network;
    c.rule = &rule;
    c.step = k;
    c.loss = &loss;
    c.grad = next.data();
    c.n = n;
    AllOps().update(SerialExecutor(),
                    c,
                    PlainView<float>{theta.data()},
                    PlainView<float>{phi.data()});
    for (uint32_t i = 0; i < n; ++i) {
      const float rate = phi[rate_index(rule, net.network, i, k)];
      EXPECT_EQ(to_bits(next[i]), to_bits(std::fma(-rate, g[i], theta[i])));
    }
    EXPECT_EQ(next.back(), 123.0F);
  }
}

TEST_P(Rules, VjpIsTheTransposedDerivative) {
  const uint32_t n = net.network.n_params;
  Uniform uniform(2);
  const auto g = uniform.vector(n);
  const auto lambda = uniform.vector(n);
  const auto phi = uniform.vector(rule.n_phi);
  for (uint32_t k = 0; k < kSteps; ++k) {
    // Written values start at what no sum can give; phi_bar is added to.
    std::vector<double> theta_bar(lambda.begin(), lambda.end());
    std::vector<double> grad(g.begin(), g.end());
    std::vector<double> grad_bar(n + 1, 1e300);
    std::vector<double> phi_bar(rule.n_phi + 1, 0.25);
    std::vector<double> expected(rule.n_phi + 1, 0.25);
    const std::vector<double> rates(phi.begin(), phi.end());
    double loss_bar = 1e300;
    const double loss = 0.5;
    RuleVjpCall<double> c = {};
    c.network = &net.network;
    c.rule = &rule;
    c.step = k;
    c.loss = &loss;
    c.grad = grad.data();
    c.theta_bar = theta_bar.data();
    c.grad_bar = grad_bar.data();
    c.loss_bar = &loss_bar;
    c.phi_bar = phi_bar.data();
    const std::vector<double> theta(n, 0.5);
    AllOps().vjp(SerialExecutor(),
                 c,
                 PlainView<double>{theta.data()},
                 PlainView<double>{rates.data()});
    for (uint32_t i = 0; i < n; ++i) {
      const size_t at = rate_index(rule, net.network, i, k);
      EXPECT_EQ(theta_bar[i], static_cast<double>(lambda[i]));
      EXPECT_DOUBLE_EQ(grad_bar[i], -rates[at] * theta_bar[i]);
      expected[at] -= grad[i] * theta_bar[i];
    }
    for (size_t j = 0; j < expected.size(); ++j) {
      EXPECT_NEAR(phi_bar[j], expected[j], 1e-13);
    }
    EXPECT_EQ(grad_bar[n], 1e300);
    EXPECT_EQ(loss_bar, 0.0);
  }
}

INSTANTIATE_TEST_SUITE_P(All,
                         Rules,
                         ::testing::ValuesIn(kStatelessRules),
                         kRuleName);

// ------------------------------------------------------- rules with state

/// A network and one step's inputs.
class StateRules : public ::testing::TestWithParam<TestRule> {
 protected:
  TestNetwork net{
      {3, 1, 1},
      {reference::dense(20), reference::relu_layer(), reference::dense(2)},
      LossOp::kMeanSquaredError};
  Rule rule = GetParam().make(kSteps, net.network);
  uint32_t n = net.network.n_params;
  uint32_t n_state = n * rule.n_state_per_param;
};

/// The rules' formulas with beta = 1 - gain, in double.
struct PlainState {
  const Rule& rule;
  const Network& network;
  std::vector<double> m, v, phi;

  PlainState(const Rule& r,
             const Network& net,
             const std::vector<float>& values)
      : rule(r),
        network(net),
        m(net.n_params),
        v(net.n_params),
        phi(values.begin(), values.end()) {
    if (rule.op == RuleOp::kOnlineMetaSgd) {
      for (uint32_t i = 0; i < network.n_params; ++i) v[i] = phi[i];
    }
    if (!rule.options.learned_moments()) return;
    const size_t at = n_rates(rule, network) + rule.n_state_per_param;
    for (uint32_t i = 0; i < network.n_params; ++i) {
      m[i] = phi[at + i];
      if (rule.op == RuleOp::kAdam) {
        v[i] = std::pow(phi[at + network.n_params + i], 2);
      }
    }
  }
  double step(uint32_t k, uint32_t i, double theta, double g) {
    const double rate = phi[rate_index(rule, network, i, k)];
    const double* const gain = &phi[n_rates(rule, network)];
    if (rule.op == RuleOp::kOnlineMetaSgd) {  // m: g_{k-1}; v: the rates.
      if (k != 0) v[i] += std::pow(gain[0], 3) * m[i] * g;
      m[i] = g;
      return theta - v[i] * g;
    }
    const double beta1 = 1.0 - gain[0];
    m[i] = beta1 * m[i] + (1.0 - beta1) * g;
    if (rule.op == RuleOp::kMomentum) return theta - rate * m[i];
    const double beta2 = 1.0 - gain[1];
    v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
    const double t = k + 1;
    double m_hat = m[i];
    double v_hat = v[i];
    if (!rule.options.learned_moments()) {
      m_hat /= 1.0 - std::pow(beta1, t);
      v_hat /= 1.0 - std::pow(beta2, t);
    }
    const double eps =
        std::pow(10.0, -static_cast<int>(rule.options.eps_digit()));
    return theta - rate * m_hat / (std::sqrt(v_hat) + eps);
  }
};

TEST_P(StateRules, StepsAreTheirFormulas) {
  Uniform uniform(3);
  auto theta = uniform.vector(n);
  const auto phi = random_phi(rule, net.network, 4);
  PlainState plain(rule, net.network, phi);
  std::vector<float> state(n_state + 1, 1e30F);  // Of any contents.
  for (uint32_t k = 0; k < kSteps; ++k) {
    auto g = uniform.vector(n);
    g[1] = 0.0F;  // A dead unit.
    std::vector<float> next = g;
    next.push_back(123.0F);
    const float loss = 0.5F;
    const bool last = k + 1 == kSteps;
    const std::vector<float> before = state;
    RuleCall<float> c = {};
    c.network = &net.network;
    c.rule = &rule;
    c.step = k;
    c.loss = &loss;
    c.grad = next.data();
    if (k != 0) c.state = state.data();
    if (!last) c.next_state = state.data();
    c.n = n;
    AllOps().update(SerialExecutor(),
                    c,
                    PlainView<float>{theta.data()},
                    PlainView<float>{phi.data()});
    for (uint32_t i = 0; i < n; ++i) {
      const double expected =
          plain.step(k, i, static_cast<double>(theta[i]), double(g[i]));
      EXPECT_NEAR(next[i], expected, 4e-6 * (1.0 + std::fabs(expected)))
          << "step " << k << ", parameter " << i;
      theta[i] = next[i];
      if (last) continue;
      EXPECT_NEAR(state[i], plain.m[i], 1e-6);
      if (rule.n_state_per_param == 2) {
        EXPECT_NEAR(state[n + i], plain.v[i], 1e-6);
      }
    }
    if (last) {
      EXPECT_EQ(state, before) << "what nobody reads is not stored";
    }
    EXPECT_EQ(state.back(), 1e30F);
    EXPECT_EQ(next.back(), 123.0F);
  }
}

// With lambda and a bar of the state at random, <lambda, theta'> + <bar,
// state'> is a number whose tangent in any direction is the product's.
TEST_P(StateRules, VjpIsTheTransposedTangent) {
  using D = Dual<double>;
  const auto doubles = [](const std::vector<float>& v) {
    return std::vector<double>(v.begin(), v.end());
  };
  for (uint32_t k = 0; k < kSteps; ++k) {
    SCOPED_TRACE("step " + std::to_string(k));
    Uniform uniform(5 + k);
    const auto theta = doubles(uniform.vector(n));
    const auto phi = doubles(random_phi(rule, net.network, 6));
    auto g = doubles(uniform.vector(n));
    std::vector<double> state = doubles(uniform.vector(n_state));
    // v is never negative; nor, here, is it ever exactly 0 but by a dead unit.
    for (uint32_t i = n; i < n_state; ++i) state[i] = std::fabs(state[i]);
    if (!rule.options.learned_moments()) {
      g[1] = 0.0;
      for (uint32_t i = 1; i < n_state; i += n) state[i] = 0.0;
    }
    const auto lambda = doubles(uniform.vector(n));
    const auto bar = doubles(uniform.vector(n_state));

    std::vector<double> theta_bar = lambda;
    std::vector<double> state_bar = bar;
    state_bar.push_back(1e300);
    std::vector<double> grad_bar(n + 1, 1e300);
    std::vector<double> phi_bar(rule.n_phi + 1, 0.25);
    double loss_bar = 1e300;
    const double loss = 0.5;
    RuleVjpCall<double> c = {};
    c.network = &net.network;
    c.rule = &rule;
    c.step = k;
    c.loss = &loss;
    c.grad = g.data();
    if (k != 0) c.state = state.data();
    c.theta_bar = theta_bar.data();
    c.state_bar = state_bar.data();
    c.grad_bar = grad_bar.data();
    c.loss_bar = &loss_bar;
    c.phi_bar = phi_bar.data();
    AllOps().vjp(SerialExecutor(),
                 c,
                 PlainView<double>{theta.data()},
                 PlainView<double>{phi.data()});
    EXPECT_EQ(grad_bar[n], 1e300);
    EXPECT_EQ(state_bar[n_state], 1e300);
    EXPECT_EQ(phi_bar[rule.n_phi], 0.25);
    EXPECT_EQ(loss_bar, 0.0);
    for (double& p : phi_bar) p -= 0.25;

    // Each input alone, two directions each.
    const std::vector<double>* const inputs[] = {&theta, &g, &state, &phi};
    const std::vector<double>* const bars[] = {
        &theta_bar, &grad_bar, &state_bar, &phi_bar};
    for (int moved = 0; moved < 4; ++moved) {
      if (moved == 2 && k == 0) continue;  // No state.
      for (int direction = 0; direction < 2; ++direction) {
        double product = 0.0;
        double size = 0.0;
        std::vector<D> d[4];
        for (int q = 0; q < 4; ++q) {
          for (size_t i = 0; i < inputs[q]->size(); ++i) {
            const double t = q == moved ? double(uniform()) : 0.0;
            d[q].push_back({(*inputs[q])[i], t});
            product += t * (*bars[q])[i];
            size += std::fabs(t * (*bars[q])[i]);
          }
        }
        std::vector<D> next_state(n_state);
        const D dual_loss = {loss, 0.0};
        RuleCall<D> u = {};
        u.network = &net.network;
        u.rule = &rule;
        u.step = k;
        u.loss = &dual_loss;
        u.grad = d[1].data();
        if (k != 0) u.state = d[2].data();
        u.next_state = next_state.data();
        u.n = n;
        AllOps().update(SerialExecutor(),
                        u,
                        PlainView<D>{d[0].data()},
                        PlainView<D>{d[3].data()});
        double tangent = 0.0;
        for (uint32_t i = 0; i < n; ++i) tangent += lambda[i] * d[1][i].tangent;
        for (uint32_t i = 0; i < n_state; ++i) {
          tangent += bar[i] * next_state[i].tangent;
        }
        EXPECT_GT(size, 1e-3) << "input " << moved;
        EXPECT_NEAR(tangent, product, 1e-13 * size) << "input " << moved;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All,
                         StateRules,
                         ::testing::ValuesIn(kStateRules),
                         kRuleName);

TEST(Rule, SizesFollowTheLayout) {
  const TestNetwork net({3, 1, 1},
                        {reference::dense(4), reference::dense(2)},
                        LossOp::kMeanSquaredError);
  const uint32_t p = net.network.n_params;
  const auto sizes = [&](RuleOp op, RuleOptions options) {
    const Rule r = make_rule(op, 3, net.network, options);
    return std::pair(r.n_phi, r.n_state_per_param);
  };
  using Sizes = std::pair<uint32_t, uint16_t>;
  const RuleOptions scalar = mean_options(RateLayout::kScalar, false);
  const RuleOptions steps = mean_options(RateLayout::kTensorStep, false);
  const RuleOptions each = mean_options(RateLayout::kParameter, true);
  EXPECT_EQ(sizes(RuleOp::kSgd, {}), Sizes(1, 0));
  EXPECT_EQ(sizes(RuleOp::kLslr, {}), Sizes(12, 0));
  EXPECT_EQ(sizes(RuleOp::kMetaSgd, {}), Sizes(p, 0));
  EXPECT_EQ(sizes(RuleOp::kMomentum, scalar), Sizes(2, 1));
  EXPECT_EQ(sizes(RuleOp::kMomentum, steps), Sizes(13, 1));
  EXPECT_EQ(sizes(RuleOp::kMomentum, each), Sizes(2 * p + 1, 1));
  EXPECT_EQ(sizes(RuleOp::kAdam, scalar), Sizes(3, 2));
  EXPECT_EQ(sizes(RuleOp::kAdam, steps), Sizes(14, 2));
  EXPECT_EQ(sizes(RuleOp::kAdam, each), Sizes(3 * p + 2, 2));
  EXPECT_EQ(sizes(RuleOp::kOnlineMetaSgd, online_options()), Sizes(p + 1, 2));
  EXPECT_EQ(sizes(RuleOp::kOnlineMetaSgd, scalar).first, 0U);
}

// What a forged capsule may ask for: no length wraps around to a small one.
TEST(Rule, PhiThatIsTooLongIsRefused) {
  Network huge = {};
  huge.n_tensors = 65534;
  huge.n_params = huge.n_adapted = 1U << 26;
  const RuleOptions options = mean_options(RateLayout::kTensorStep, true);
  EXPECT_EQ(make_rule(RuleOp::kAdam, 65535, huge, options).n_phi, 0U);
}

}  // namespace
}  // namespace fewstep::testing
