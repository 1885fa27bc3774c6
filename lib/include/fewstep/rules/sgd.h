// Gradient descent with learned rates: one (sgd), one per tensor and step
// (lslr), one per parameter (meta_sgd).
//
//   theta_{k+1}[i] = theta_k[i] - alpha(i, k) g_k[i]
//
// Their vector-Jacobian product, with lambda = theta_bar:
//
//   theta_bar = lambda,  g_bar[i] = -alpha(i, k) lambda[i],  loss_bar = 0,
//   alpha_bar = -sum over the parameters that share it of g_k[i] lambda[i]
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_RULES_SGD_H_
#define FEWSTEP_RULES_SGD_H_

#include "fewstep/layers/layer.h"
#include "fewstep/rules/rule.h"

namespace fewstep {

/// grad[i] = theta(i) - rate grad[i] for i in [begin, begin + n)
template <class T, class W, class E>
FEWSTEP_HD inline void descend(const E& e,
                               const W& theta,
                               const T& rate,
                               uint32_t begin,
                               uint32_t n,
                               T* grad) {
  e.for_each(n, [&](uint32_t j) {
    const uint32_t i = begin + j;
    grad[i] = fma(-rate, grad[i], theta(i));
  });
}

/// grad_bar = -rate theta_bar, *rate_bar -= sum of g theta_bar, over
/// [begin, begin + n), the sum in the order of partial_sum.
template <class T, class E>
FEWSTEP_HD inline void descend_vjp(const E& e,
                                   const RuleVjpCall<T>& c,
                                   const T& rate,
                                   uint32_t begin,
                                   uint32_t n,
                                   T* rate_bar) {
  e.for_each(n, [&](uint32_t j) {
    c.grad_bar[begin + j] = -(rate * c.theta_bar[begin + j]);
  });
  e.for_each(1, [&](uint32_t) {
    *rate_bar = *rate_bar - partial_sum<T>(n, [&](uint32_t j, const T& s) {
      return fma(c.grad[begin + j], c.theta_bar[begin + j], s);
    });
  });
}

/// phi = [alpha]  (Finn et al. 2017)
struct Sgd {
  static constexpr RuleOp kOp = RuleOp::kSgd;

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void update(const E& e,
                                const RuleCall<T>& c,
                                const W& theta,
                                const R& phi) {
    descend(e, theta, T{phi(0)}, 0, c.network->n_params, c.grad);
  }

  template <class R, class T, class E>
  static FEWSTEP_HD void vjp(const E& e,
                             const RuleVjpCall<T>& c,
                             const R& phi) {
    e.for_each(1, [&](uint32_t) { *c.loss_bar = constant<T>(0.0F); });
    descend_vjp(e, c, T{phi(0)}, 0, c.network->n_params, c.phi_bar);
  }
};

/// phi = alpha[tensor][k]  (per-layer per-step rates, Antoniou et al. 2019)
struct Lslr {
  static constexpr RuleOp kOp = RuleOp::kLslr;

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void update(const E& e,
                                const RuleCall<T>& c,
                                const W& theta,
                                const R& phi) {
    for_each_tensor(*c.network,
                    [&](uint32_t tensor, uint32_t begin, uint32_t n) {
                      const T rate = phi(tensor * c.rule->steps + c.step);
                      descend(e, theta, rate, begin, n, c.grad);
                    });
  }

  template <class R, class T, class E>
  static FEWSTEP_HD void vjp(const E& e,
                             const RuleVjpCall<T>& c,
                             const R& phi) {
    e.for_each(1, [&](uint32_t) { *c.loss_bar = constant<T>(0.0F); });
    for_each_tensor(*c.network,
                    [&](uint32_t tensor, uint32_t begin, uint32_t n) {
                      const uint32_t at = tensor * c.rule->steps + c.step;
                      descend_vjp(e, c, T{phi(at)}, begin, n, c.phi_bar + at);
                    });
  }
};

/// phi = alpha[P]  (Meta-SGD, Li et al. 2017)
struct MetaSgd {
  static constexpr RuleOp kOp = RuleOp::kMetaSgd;

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void update(const E& e,
                                const RuleCall<T>& c,
                                const W& theta,
                                const R& phi) {
    T* const grad = c.grad;
    e.for_each(c.network->n_params, [&](uint32_t i) {
      grad[i] = fma(-T{phi(i)}, grad[i], theta(i));
    });
  }

  template <class R, class T, class E>
  static FEWSTEP_HD void vjp(const E& e,
                             const RuleVjpCall<T>& c,
                             const R& phi) {
    e.for_each(1, [&](uint32_t) { *c.loss_bar = constant<T>(0.0F); });
    e.for_each(c.network->n_params, [&](uint32_t i) {
      const T lambda = c.theta_bar[i];
      c.grad_bar[i] = -(T{phi(i)} * lambda);
      c.phi_bar[i] = fma(-c.grad[i], lambda, c.phi_bar[i]);
    });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_RULES_SGD_H_
