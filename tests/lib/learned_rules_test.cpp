// The vector-Jacobian products of the learned rules are the transposed
// derivatives of their updates: checked against tangents at dual numbers.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/numerics/dual.h"
#include "fewstep/ops.h"
#include "fewstep/views.h"
#include "support/test_network.h"

namespace fewstep::testing {
namespace {

using reference::dense;
using reference::tanh_layer;
using D = Dual<double>;

std::vector<double> doubles(Uniform* uniform, size_t n) {
  const std::vector<float> v = uniform->vector(static_cast<uint32_t>(n));
  return {v.begin(), v.end()};
}

std::vector<D> duals(const std::vector<double>& v,
                     const std::vector<double>& tangent) {
  std::vector<D> d;
  for (size_t i = 0; i < v.size(); ++i) d.push_back({v[i], tangent[i]});
  return d;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

struct Case {
  const char* name;
  Rule rule;
};

std::vector<Case> cases(const Network& network) {
  return {{"lstm", make_rule(RuleOp::kLstm, 2, network, lstm_options(3))},
          {"rate_net",
           make_rule(RuleOp::kRateNet, 2, network, rate_net_options(4, false))},
          {"rate_net with decay",
           make_rule(RuleOp::kRateNet, 2, network, rate_net_options(4, true))}};
}

TEST(LearnedRules, VjpIsTheTransposedDerivative) {
  const TestNetwork net(
      {1, 1, 3}, {dense(4), tanh_layer(), dense(2)}, LossOp::kMeanSquaredError);
  const uint32_t n = net.network.n_params;
  for (const Case& c : cases(net.network)) {
    for (const uint32_t k : {0U, 1U}) {
      for (const double gradient_scale : {1.0, 1e-5}) {
        SCOPED_TRACE(std::string(c.name) + ", step " + std::to_string(k));
        Uniform uniform(7 + k);
        const size_t n_state = size_t{n} * c.rule.n_state_per_param;
        const std::vector<double> theta = doubles(&uniform, n);
        std::vector<double> grad = doubles(&uniform, n);
        for (double& g : grad) g *= gradient_scale;
        const std::vector<double> state = doubles(&uniform, n_state);
        const std::vector<double> phi = doubles(&uniform, c.rule.n_phi);
        const double loss = 0.7;
        // Directions.
        const std::vector<double> d_theta = doubles(&uniform, n);
        const std::vector<double> d_grad = doubles(&uniform, n);
        std::vector<double> d_state = doubles(&uniform, n_state);
        if (k == 0) d_state.assign(n_state, 0.0);
        const std::vector<double> d_phi = doubles(&uniform, c.rule.n_phi);
        const double d_loss = 0.3;

        const std::vector<D> theta_d = duals(theta, d_theta);
        const std::vector<D> phi_d = duals(phi, d_phi);
        const std::vector<D> state_d = duals(state, d_state);
        std::vector<D> next = duals(grad, d_grad);
        std::vector<D> next_state(n_state);
        std::vector<D> scratch(c.rule.n_scratch);
        const D loss_d = {loss, d_loss};
        RuleCall<D> call = {};
        call.network = &net.network;
        call.rule = &c.rule;
        call.step = k;
        call.loss = &loss_d;
        call.grad = next.data();
        call.state = k == 0 ? nullptr : state_d.data();
        call.next_state = next_state.data();
        call.scratch = scratch.data();
        call.n = n;
        AllOps().update(SerialExecutor(),
                        call,
                        PlainView<D>{theta_d.data()},
                        PlainView<D>{phi_d.data()});

        // Derivatives of an outer loss.
        std::vector<double> theta_bar = doubles(&uniform, n);
        std::vector<double> state_bar = doubles(&uniform, n_state);
        double expected = 0.0;
        for (uint32_t i = 0; i < n; ++i) {
          expected += theta_bar[i] * next[i].tangent;
        }
        for (size_t i = 0; i < n_state; ++i) {
          expected += state_bar[i] * next_state[i].tangent;
        }

        std::vector<double> grad_bar(n, 1e300);
        std::vector<double> phi_bar(c.rule.n_phi, 0.0);
        std::vector<double> kept(vjp_scratch(c.rule, net.network), 1e300);
        double loss_bar = 1e300;
        RuleVjpCall<double> v = {};
        v.network = &net.network;
        v.rule = &c.rule;
        v.step = k;
        v.loss = &loss;
        v.grad = grad.data();
        v.state = k == 0 ? nullptr : state.data();
        v.theta_bar = theta_bar.data();
        v.state_bar = state_bar.data();
        v.grad_bar = grad_bar.data();
        v.loss_bar = &loss_bar;
        v.phi_bar = phi_bar.data();
        v.scratch = kept.data();
        AllOps().vjp(SerialExecutor(),
                     v,
                     PlainView<double>{theta.data()},
                     PlainView<double>{phi.data()});
        const double total = dot(theta_bar, d_theta) + dot(grad_bar, d_grad) +
                             dot(state_bar, d_state) + dot(phi_bar, d_phi) +
                             loss_bar * d_loss;
        EXPECT_NEAR(total, expected, 1e-12 * std::abs(expected));
        EXPECT_NE(expected, 0.0);
      }
    }
  }
}

}  // namespace
}  // namespace fewstep::testing
