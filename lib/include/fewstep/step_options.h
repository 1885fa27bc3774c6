// What may happen to the gradient before any rule sees it: weight decay, then
// clipping, over the parameters that adapt.
//
//   u = g + 2 lambda theta                    (the gradient of lambda
//   |theta|^2) s = |u| <= c ? 1 : c / |u|,  g' = s u     (|u| over all of them)
//
// Their vector-Jacobian product, with bars of g' on entry and of g on return:
//
//   u_bar = |u| <= c ? g'_bar : s (g'_bar - g' (g' . g'_bar) / c^2)
//   g_bar = u_bar,  theta_bar += 2 lambda u_bar
//
// Both sums are in the order of partial_sum (layer.h), over parameters as they
// are counted among those that adapt. No branch depends on data.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_STEP_OPTIONS_H_
#define FEWSTEP_STEP_OPTIONS_H_

#include "fewstep/adapted.h"
#include "fewstep/layers/layer.h"
#include "fewstep/rules/rule.h"

namespace fewstep {

/// Keeps every parameter of an array.
struct KeepAll {
  template <class T>
  FEWSTEP_INLINE const T& operator()(uint32_t, const T& value) const {
    return value;
  }
};

/// grad = g' of grad = g, in place, for rules with has_step_options(). grad is
/// [A], what adapts; so is theta, or, with `whole`, all of theta.
///
/// @param scale  s is left there; [1], in memory that all of `e` can see.
/// @param keep   keep(i, value): value, or +0 where a mask stops parameter i:
///               |u| is over the others.
template <class T, class E, class W, class Keep = KeepAll>
FEWSTEP_HD void apply_step_options(const E& e,
                                   const Network& network,
                                   const Rule& rule,
                                   const W& theta,
                                   bool whole,
                                   T* grad,
                                   T* scale,
                                   const Keep& keep = {}) {
  if (rule.weight_decay != 0.0F) {
    const T twice = constant<T>(2.0F * rule.weight_decay);
    for_each_window(network, [&](const AdaptedWindow& w) {
      const W from = theta.at(whole ? w.begin + w.shift : w.begin);
      T* const to = grad + w.begin;
      e.for_each(w.n, [&](uint32_t i) { to[i] = fma(twice, from(i), to[i]); });
    });
    e.barrier();
  }
  if (rule.clip_norm == 0.0F) return;
  e.for_each(1, [&](uint32_t) {
    const T most = constant<T>(rule.clip_norm);
    const T norm =
        sqrt(partial_sum<T>(network.n_adapted, [&](uint32_t i, const T& s) {
          const T g = keep(i, grad[i]);
          return fma(g, g, s);
        }));
    *scale = select(less_equal(norm, most), constant<T>(1.0F), T{most / norm});
  });
  e.barrier();
  e.for_each(network.n_adapted,
             [&](uint32_t i) { grad[i] = *scale * grad[i]; });
  e.barrier();
}

/// The step of every engine: of what adapts, theta_{k+1} in place of the raw
/// gradient, by weight decay, clipping and the rule.
///
/// call.grad is [A]. So is theta, or, with `whole`, all of theta, [P]; the rule
/// then runs on the pieces that adapt, one by one. (call.begin and call.n are
/// set here.)
///
/// @param scale  [1], in memory that all of `e` can see; for rules with
///               has_step_options().
template <class T, class E, class W, class R, class Ops>
FEWSTEP_CALLED void step_adapted(const E& e,
                                 const Ops& ops,
                                 const RuleCall<T>& call,
                                 const W& theta,
                                 bool whole,
                                 const R& phi,
                                 T* scale) {
  const Network& network = *call.network;
  const Rule& rule = *call.rule;
  if (rule.has_step_options()) {
    apply_step_options(e, network, rule, theta, whole, call.grad, scale);
  }
  const auto run = [&](const AdaptedWindow& w) {
    RuleCall<T> c = call;
    c.begin = w.begin;
    c.n = w.n;
    ops.template update<W, R>(e, c, theta.at(w.shift), phi);
  };
  if (whole) {
    for_each_window(network, run);
  } else {  // What adapts is one piece.
    run({0, network.n_adapted, 0});
  }
  e.barrier();
}

/// The vector-Jacobian product, over what adapts: grad_bar in place, theta_bar
/// added to.
///
/// @param grad   g'
/// @param scale  s, from apply_step_options()
/// @param dot    Scratch; [1], in memory that all of `e` can see.
/// @param keep   As above; grad_bar is 0 where a mask stops a parameter.
template <class T, class E, class Keep = KeepAll>
FEWSTEP_HD void step_options_vjp(const E& e,
                                 const Network& network,
                                 const Rule& rule,
                                 const T* grad,
                                 const T* scale,
                                 T* dot,
                                 T* theta_bar,
                                 T* grad_bar,
                                 const Keep& keep = {}) {
  const uint32_t n = network.n_adapted;
  if (rule.clip_norm != 0.0F) {
    e.for_each(1, [&](uint32_t) {
      const T one = constant<T>(1.0F);
      const T most = constant<T>(rule.clip_norm);
      const T sum = partial_sum<T>(n, [&](uint32_t i, const T& s) {
        return fma(grad[i], grad_bar[i], s);
      });
      *dot = select(
          less_equal(one, *scale), constant<T>(0.0F), T{sum / most / most});
    });
    e.barrier();
    e.for_each(n, [&](uint32_t i) {
      grad_bar[i] = *scale * fma(-keep(i, grad[i]), *dot, grad_bar[i]);
    });
    e.barrier();
  }
  if (rule.weight_decay != 0.0F) {
    const T twice = constant<T>(2.0F * rule.weight_decay);
    e.for_each(n, [&](uint32_t i) {
      theta_bar[i] = fma(twice, grad_bar[i], theta_bar[i]);
    });
    e.barrier();
  }
}

}  // namespace fewstep

#endif  // FEWSTEP_STEP_OPTIONS_H_
