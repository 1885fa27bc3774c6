// Update rules and their vector-Jacobian products against their definitions.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/ops.h"
#include "support/test_network.h"

namespace fewstep::testing {
namespace {

constexpr RuleOp kRules[] = {RuleOp::kSgd, RuleOp::kLslr, RuleOp::kMetaSgd};
constexpr uint16_t kSteps = 3;

/// Which learned value parameter i uses at step k (DESIGN section 6).
size_t phi_index(RuleOp op, const Network& network, uint32_t i, uint32_t k) {
  if (op == RuleOp::kSgd) return 0;
  if (op == RuleOp::kMetaSgd) return i;
  size_t tensor = 0;
  for (uint32_t l = 0; l < network.n_layers; ++l) {
    for (const uint32_t n :
         {network.layers[l].n_weights, network.layers[l].n_biases}) {
      if (n == 0) continue;
      if (i < n) return tensor * kSteps + k;
      i -= n;
      ++tensor;
    }
  }
  ADD_FAILURE() << "parameter beyond the network";
  return 0;
}

class Rules : public ::testing::TestWithParam<RuleOp> {
 protected:
  TestNetwork net{
      {3, 1, 1},
      {reference::dense(20), reference::relu_layer(), reference::dense(2)},
      LossOp::kMeanSquaredError};
  Rule rule = make_rule(GetParam(), kSteps, net.network);
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
    AllOps().update(SerialExecutor(),
                    c,
                    PlainView<float>{theta.data()},
                    PlainView<float>{phi.data()});
    for (uint32_t i = 0; i < n; ++i) {
      const float rate = phi[phi_index(GetParam(), net.network, i, k)];
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
      const size_t at = phi_index(GetParam(), net.network, i, k);
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
                         ::testing::ValuesIn(kRules),
                         [](const auto& rule_info) {
                           return std::string(to_string(rule_info.param));
                         });

}  // namespace
}  // namespace fewstep::testing
