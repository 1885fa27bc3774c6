// A mask of what adapts that the outer loop learns, parameter by parameter:
//
//   theta_{k+1} = m >= 0 ? theta+ : theta_k,  theta+ = rule(theta_k, ...)
//
// with a logit m for each parameter. The derivative by m is straight-through,
// that of
//
//   theta_{k+1} = theta_k + M (theta+ - theta_k),  M = 1[m >= 0],
//
// by M, as if M were continuous, at its hard value. M is a constant wherever
// else it is looked at (which parameters the norm of a clipped gradient is
// over); theta+ and the rule's state are those of all parameters, so that one
// that the mask stops still learns whether it had better move. With lambda =
// theta_bar:
//
//   m_bar += lambda (theta+ - theta_k)
//   theta+_bar = M lambda,  theta_bar = (1 - M) lambda + what the rule gives
//
// For sgd and its kind m_bar = -sum over k of alpha g_k lambda. (von Oswald et
// al. 2021, sparse-MAML; straight-through: Bengio et al. 2013.)
//
// The logits are the last n_adapted values of phi (Rule::learned_mask).
// Capsules store the mask and no logits: sparse_mask.h.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_LEARNED_MASK_H_
#define FEWSTEP_HOST_LEARNED_MASK_H_

#include <cstdint>

#include "fewstep/network.h"
#include "fewstep/numerics/dual.h"
#include "fewstep/rules/rule.h"

namespace fewstep::host {

/// Logits at the end of phi.
FEWSTEP_HD constexpr uint32_t n_logits(const Rule& rule,
                                       const Network& network) {
  return rule.learned_mask ? network.n_adapted : 0;
}

/// Where they begin: the length of what the rule itself has.
FEWSTEP_HD constexpr uint32_t logits_begin(const Rule& rule,
                                           const Network& network) {
  return rule.n_phi - n_logits(rule, network);
}

/// Whether a parameter adapts: m >= 0; NaN does not.
template <class T>
FEWSTEP_INLINE Mask<T> mask_of(const T& m) {
  return less_equal(constant<T>(0.0F), m);
}

/// m >= 0 ? on : off.
template <class T>
FEWSTEP_INLINE T straight_through(const T& m, const T& on, const T& off) {
  return select(mask_of(m), on, off);
}
/// At dual numbers, with the derivative by m of M on + (1 - M) off.
template <class T>
FEWSTEP_INLINE Dual<T> straight_through(const Dual<T>& m,
                                        const Dual<T>& on,
                                        const Dual<T>& off) {
  const Dual<T> chosen = select(mask_of(m.value), on, off);
  return {chosen.value, fma(m.tangent, on.value - off.value, chosen.tangent)};
}

/// keep(i, value) of step_options.h; `phi` is the view of all of phi.
template <class R>
struct KeepMasked {
  const R& phi;
  uint32_t begin;  ///< logits_begin()

  template <class T>
  FEWSTEP_INLINE T operator()(uint32_t i, const T& value) const {
    return select(mask_of(T{phi(begin + i)}), value, constant<T>(0.0F));
  }
};

/// next [A] = theta_{k+1} of next = theta+; theta [A].
template <class T, class E, class R>
FEWSTEP_HD void mask_step(const E& e,
                          const Network& network,
                          const Rule& rule,
                          const R& phi,
                          const T* theta,
                          T* next) {
  const uint32_t begin = logits_begin(rule, network);
  e.for_each(network.n_adapted, [&](uint32_t i) {
    next[i] = straight_through(T{phi(begin + i)}, next[i], theta[i]);
  });
  e.barrier();
}

/// Adds to the logits' bars in phi_bar; theta_bar [A] = theta+_bar of lambda,
/// and next = lambda of theta+.
template <class T, class E, class R>
FEWSTEP_HD void mask_bars(const E& e,
                          const Network& network,
                          const Rule& rule,
                          const R& phi,
                          const T* theta,
                          T* next,
                          T* theta_bar,
                          T* phi_bar) {
  const uint32_t begin = logits_begin(rule, network);
  e.for_each(network.n_adapted, [&](uint32_t i) {
    const T lambda = theta_bar[i];
    T* const bar = phi_bar + begin + i;
    *bar = fma(lambda, next[i] - theta[i], *bar);
    theta_bar[i] =
        select(mask_of(T{phi(begin + i)}), lambda, constant<T>(0.0F));
    next[i] = lambda;
  });
  e.barrier();
}

/// theta_bar [A] of what the rule gave there, and of next = lambda: what the
/// mask stops passes lambda on.
template <class T, class E, class R>
FEWSTEP_HD void unmask_bar(const E& e,
                           const Network& network,
                           const Rule& rule,
                           const R& phi,
                           const T* next,
                           T* theta_bar) {
  const uint32_t begin = logits_begin(rule, network);
  e.for_each(network.n_adapted, [&](uint32_t i) {
    theta_bar[i] = select(mask_of(T{phi(begin + i)}), theta_bar[i], next[i]);
  });
  e.barrier();
}

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_LEARNED_MASK_H_
