// Gradient descent along a running mean of the gradients.
//
//   v_{k+1} = v_k + c (g_k - v_k)                                 c = 1 - beta
//   theta_{k+1} = theta_k - alpha v_{k+1}
//
// phi: rates, c, and with learned moments v_0 [P] (else v_0 = 0). state: v [P].
// phi holds c and not beta, so that short storage keeps what matters of a beta
// near 1.
//
// The vector-Jacobian product, with lambda = theta_bar and v_bar' = state_bar:
//
//   v_bar     = v_bar' - alpha lambda          of v_{k+1}, all paths
//   theta_bar = lambda,  g_bar = c v_bar,  state_bar = (1 - c) v_bar
//   alpha_bar = -sum lambda v_{k+1},  c_bar = sum v_bar (g_k - v_k)
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_RULES_MOMENTUM_H_
#define FEWSTEP_RULES_MOMENTUM_H_

#include "fewstep/rules/rates.h"

namespace fewstep {

struct Momentum {
  static constexpr RuleOp kOp = RuleOp::kMomentum;

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void update(const E& e,
                                const RuleCall<T>& c,
                                const W& theta,
                                const R& phi) {
    const Network& network = *c.network;
    const Rule& rule = *c.rule;
    const T gain = phi(n_rates(rule, network));
    for_each_rate_run(
        network, rule, c.step, c.begin, c.n, [&](const RateRun& run) {
          e.for_each(run.n, [&](uint32_t j) {
            const uint32_t i = run.begin + j;
            const T v = running_mean(network, rule, c.state, phi, 0, i);
            const T next = fma(gain, c.grad[i] - v, v);
            if (c.next_state != nullptr) c.next_state[i] = next;
            c.grad[i] = fma(-T{phi(run.rate(j))}, next, theta(i));
          });
        });
  }

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void vjp(const E& e,
                             const RuleVjpCall<T>& c,
                             const W&,
                             const R& phi) {
    const Network& network = *c.network;
    const Rule& rule = *c.rule;
    const uint32_t at_gain = n_rates(rule, network);
    const T gain = phi(at_gain);
    const bool to_phi = c.state == nullptr && rule.options.learned_moments();
    const auto bar = [&](const RateRun& run, uint32_t j) {
      const uint32_t i = run.begin + j;
      return fma(-T{phi(run.rate(j))}, c.theta_bar[i], c.state_bar[i]);
    };
    const auto mean = [&](uint32_t i) {
      return running_mean(network, rule, c.state, phi, 0, i);
    };
    // The sums first: they read what the second loop overwrites.
    e.for_each(1, [&](uint32_t) {
      *c.loss_bar = constant<T>(0.0F);
      PartialSums<T> of_gain;
      for_each_rate_run(
          network, rule, c.step, 0, network.n_adapted, [&](const RateRun& run) {
            PartialSums<T> of_rate;
            for (uint32_t j = 0; j < run.n; ++j) {
              const uint32_t i = run.begin + j;
              const T v = mean(i);
              const T difference = c.grad[i] - v;
              of_gain.add(i, bar(run, j), difference);
              of_rate.add(j, c.theta_bar[i], fma(gain, difference, v));
            }
            if (run.each == 0) {
              c.phi_bar[run.first] = c.phi_bar[run.first] - of_rate.sum();
            }
          });
      c.phi_bar[at_gain] = c.phi_bar[at_gain] + of_gain.sum();
    });
    e.barrier();
    for_each_rate_run(
        network, rule, c.step, 0, network.n_adapted, [&](const RateRun& run) {
          e.for_each(run.n, [&](uint32_t j) {
            const uint32_t i = run.begin + j;
            const T v_bar = bar(run, j);
            if (run.each != 0) {
              const T v = mean(i);
              c.phi_bar[i] = fma(
                  -c.theta_bar[i], fma(gain, c.grad[i] - v, v), c.phi_bar[i]);
            }
            const T before = fma(-gain, v_bar, v_bar);
            c.grad_bar[i] = gain * v_bar;
            c.state_bar[i] = before;
            if (to_phi) {
              T& at = c.phi_bar[at_gain + 1 + i];
              at = at + before;
            }
          });
        });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_RULES_MOMENTUM_H_
