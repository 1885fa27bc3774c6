// Meta-SGD whose rates follow the task: on-line rate adaptation.
//
//   alpha_0 = learned, one rate a parameter
//   alpha_k = alpha_{k-1} + beta g_{k-1} g_k          elementwise, k >= 1
//   theta_{k+1} = theta_k - alpha_k g_k
//
// -g_{k-1} g_k is the derivative of the support loss at theta_k by alpha_{k-1}:
// a rate grows while two steps agree and shrinks when they do not, which is
// gradient descent on rates. (Hypergradient descent, Baydin et al. 2018, whose
// rates start at learned values here, beta being learned too.)
//
// phi: alpha_0 [P], c with beta = c^3: which beta is of use depends on the
// gradients' size squared, and an outer step that suits rates would be
// thousands of times too long for it. state: g_{k-1} [P], alpha_{k-1} [P].
//
// The vector-Jacobian product, with lambda = theta_bar and p_bar, a_bar the
// derivatives by the stored g_k and alpha_k:
//
//   r         = a_bar - lambda g_k             of alpha_k, all paths
//   g_bar     = -alpha_k lambda + p_bar + beta g_{k-1} r
//   p_bar     = beta g_k r,  a_bar = r,  c_bar = 3 c^2 sum g_{k-1} g_k r
//   theta_bar = lambda
//
// and at k = 0, which has no g_{k-1}: alpha_0_bar = r.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_RULES_ONLINE_META_SGD_H_
#define FEWSTEP_RULES_ONLINE_META_SGD_H_

#include "fewstep/layers/layer.h"
#include "fewstep/rules/rule.h"

namespace fewstep {

struct OnlineMetaSgd {
  static constexpr RuleOp kOp = RuleOp::kOnlineMetaSgd;

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void update(const E& e,
                                const RuleCall<T>& c,
                                const W& theta,
                                const R& phi) {
    const uint32_t n = c.network->n_adapted;
    const T root = phi(n);
    const T beta = root * root * root;
    e.for_each(c.n, [&](uint32_t j) {
      const uint32_t i = c.begin + j;
      const T g = c.grad[i];
      const T rate = rate_of(c.state, n, beta, phi, g, i);
      if (c.next_state != nullptr) {
        c.next_state[i] = g;
        c.next_state[n + i] = rate;
      }
      c.grad[i] = fma(-rate, g, T{theta(i)});
    });
  }

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void vjp(const E& e,
                             const RuleVjpCall<T>& c,
                             const W&,
                             const R& phi) {
    const uint32_t n = c.network->n_adapted;
    const T root = phi(n);
    const T beta = root * root * root;
    const auto rate_bar = [&](uint32_t i) {
      return fma(-c.theta_bar[i], c.grad[i], c.state_bar[n + i]);
    };
    // The sum first: it reads what the second loop overwrites.
    e.for_each(1, [&](uint32_t) {
      *c.loss_bar = constant<T>(0.0F);
      if (c.state == nullptr) return;
      const T of_beta = partial_sum<T>(n, [&](uint32_t i, const T& s) {
        return fma(c.state[i] * c.grad[i], rate_bar(i), s);
      });
      const T slope = constant<T>(3.0F) * root * root;
      c.phi_bar[n] = fma(slope, of_beta, c.phi_bar[n]);
    });
    e.barrier();
    e.for_each(n, [&](uint32_t i) {
      const T g = c.grad[i];
      const T bar = rate_bar(i);
      const T rate = rate_of(c.state, n, beta, phi, g, i);
      const T of_grad = fma(-rate, c.theta_bar[i], c.state_bar[i]);
      if (c.state == nullptr) {
        c.grad_bar[i] = of_grad;
        c.phi_bar[i] = c.phi_bar[i] + bar;
        return;
      }
      const T change = beta * bar;
      c.grad_bar[i] = fma(change, c.state[i], of_grad);
      c.state_bar[i] = change * g;
      c.state_bar[n + i] = bar;
    });
  }

 private:
  // alpha_k of parameter i.
  template <class T, class R>
  static FEWSTEP_INLINE T rate_of(const T* state,
                                  uint32_t n,
                                  const T& beta,
                                  const R& phi,
                                  const T& g,
                                  uint32_t i) {
    if (state == nullptr) return T{phi(i)};
    return fma(beta * state[i], g, state[n + i]);
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_RULES_ONLINE_META_SGD_H_
