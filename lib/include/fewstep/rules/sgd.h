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

#include "fewstep/descent.h"
#include "fewstep/executor/serial.h"
#include "fewstep/layers/layer.h"
#include "fewstep/numerics/cortex_m.h"
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
    grad[i] = descended(theta(i), rate, grad[i]);
  });
}

/// grad[i] = theta(i) - phi(i) grad[i] for i in [begin, begin + n)
template <class T, class W, class R, class E>
FEWSTEP_INLINE void descend_each(const E& e,
                                 const W& theta,
                                 const R& phi,
                                 uint32_t begin,
                                 uint32_t n,
                                 T* grad) {
  e.for_each(n, [&](uint32_t j) {
    const uint32_t i = begin + j;
    grad[i] = descended(theta(i), T{phi(i)}, grad[i]);
  });
}

#if FEWSTEP_CORTEX_M
/// The same for f32 storage, four at a time.
FEWSTEP_INLINE void descend_each(const SerialExecutor&,
                                 const PlainView<float>& theta_view,
                                 const PlainView<float>& phi,
                                 uint32_t begin,
                                 uint32_t n,
                                 float* grad) {
  const float* theta = theta_view.data + begin;
  const float* rate = phi.data + begin;
  grad += begin;
  for (; n >= 4; n -= 4, grad += 4) {
    float t0, t1, t2, t3, a0, a1, a2, a3, g0, g1, g2, g3;
    Registers<0>::next(theta, t0, t1, t2, t3);
    Registers<4>::next(rate, a0, a1, a2, a3);
    Registers<8>::load(grad, g0, g1, g2, g3);
    Registers<0>::store(grad,
                        descended(t0, a0, g0),
                        descended(t1, a1, g1),
                        descended(t2, a2, g2),
                        descended(t3, a3, g3));
  }
  for (; n != 0; --n, ++grad) *grad = descended(*theta++, *rate++, *grad);
}
#endif

/// grad_bar = -rate theta_bar, *rate_bar -= sum of g theta_bar, over
/// [begin, begin + n), the sum in the order of partial_sum; a rate that nobody
/// learns has no sum, and g may be null.
template <class T, class E>
FEWSTEP_HD inline void descend_vjp(const E& e,
                                   const RuleVjpCall<T>& c,
                                   const T& rate,
                                   uint32_t begin,
                                   uint32_t n,
                                   T* rate_bar) {
  const T* const theta_bar = c.theta_bar + begin;
  T* const grad_bar = c.grad_bar + begin;
  const auto set = [=](uint32_t j) {
    grad_bar[j] = descent_bar(rate, theta_bar[j]);
  };
  if (c.fixed_phi) {
    e.for_each(n, set);
    return;
  }
  const T* const grad = c.grad + begin;
  // One thread reads theta_bar once.
  constexpr bool kOnePass = IsSame<E, SerialExecutor>::value;
  if constexpr (!kOnePass) e.for_each(n, set);
  e.for_each(1, [&](uint32_t) {
    *rate_bar = *rate_bar - partial_sum<T>(n, [=](uint32_t j, const T& s) {
      if constexpr (kOnePass) set(j);
      return fma(grad[j], theta_bar[j], s);
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
    descend(e, theta, T{phi(0)}, c.begin, c.n, c.grad);
  }

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void vjp(const E& e,
                             const RuleVjpCall<T>& c,
                             const W&,
                             const R& phi) {
    e.for_each(1, [&](uint32_t) { *c.loss_bar = constant<T>(0.0F); });
    descend_vjp(e, c, T{phi(0)}, 0, c.network->n_adapted, c.phi_bar);
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
                    c.begin,
                    c.n,
                    [&](uint32_t tensor, uint32_t begin, uint32_t n) {
                      const T rate = phi(tensor * c.rule->steps + c.step);
                      descend(e, theta, rate, begin, n, c.grad);
                    });
  }

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void vjp(const E& e,
                             const RuleVjpCall<T>& c,
                             const W&,
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
    descend_each(e, theta, phi, c.begin, c.n, c.grad);
  }

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void vjp(const E& e,
                             const RuleVjpCall<T>& c,
                             const W&,
                             const R& phi) {
    e.for_each(1, [&](uint32_t) { *c.loss_bar = constant<T>(0.0F); });
    e.for_each(c.network->n_adapted, [&](uint32_t i) {
      const T lambda = c.theta_bar[i];
      c.grad_bar[i] = descent_bar(T{phi(i)}, lambda);
      c.phi_bar[i] = fma(-c.grad[i], lambda, c.phi_bar[i]);
    });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_RULES_SGD_H_
