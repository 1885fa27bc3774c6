// Adaptation of one task and its meta-gradient, over buffers of the caller:
// what every engine runs.
//
// Start here. adapt() runs the inner loop of lib/ on one task (or, at Lanes, on
// one task a lane); sweep() then goes through it backwards:
//
//   lambda_K = w_K grad L_Q(theta_K),  state_bar_K = 0
//   for k = K-1 .. 0:
//     (theta_bar, state_bar, g_bar, loss_bar, phi_bar) = rule.vjp(lambda_{k+1})
//     lambda_k = theta_bar + H(theta_k) g_bar + loss_bar g_k
//                + w_k grad L_Q(theta_k)
//   d/d theta_0 = lambda_0,  d/d phi = sum of phi_bar
//
// H(theta) v, the Hessian of the support loss times a vector, is the tangent of
// the gradient kernel run at dual numbers theta + eps v. First order leaves H
// and loss_bar out. What is frozen (adapted.h) stays in H and in grad L_Q: only
// g_bar is zero there. Weight decay and clipping (step_options.h) lie between
// the gradient and the rule; g_k is the raw one. A learned mask
// (learned_mask.h) chooses after the rule which parameters take its step. (Finn
// et al. 2017; the sweep is the exact reverse mode of the loop.)
//
// The support set of step k is minibatch k mod m of it (minibatch.h) where the
// plan has minibatches: of the gradient, the loss and H alike.
//
// reptile() stands beside sweep(): theta_0 - theta_K, without derivatives
// (Nichol et al. 2018).
//
// Written over the executor, so that a GPU's thread block runs it as a core
// does: threads share the items of for_each, and all of them the control flow.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_SWEEP_H_
#define FEWSTEP_HOST_SWEEP_H_

#include <cstdint>

#include "fewstep/host/learned_mask.h"
#include "fewstep/host/minibatch.h"
#include "fewstep/host/objective.h"
#include "fewstep/inner_loop.h"
#include "fewstep/network.h"
#include "fewstep/rules/rule.h"
#include "fewstep/step_options.h"
#include "fewstep/views.h"

namespace fewstep::host {

/// What a sweep runs on. Non-owning.
struct SweepPlan {
  const Network* network;
  const Rule* rule;
  uint32_t steps;             ///< K >= 1.
  bool second_order;          ///< Keep the terms with H and loss_bar.
  const float* step_weights;  ///< [K + 1] w_0 .. w_K; null: w_K = 1, else 0.
  OuterMethod method;
  bool fixed_phi;        ///< phi_bar is of no use to anybody.
  uint32_t inner_batch;  ///< Examples that a step adapts to; 0: all.

  /// w_k.
  FEWSTEP_HD float weight(uint32_t k) const {
    if (step_weights == nullptr) return k == steps ? 1.0F : 0.0F;
    return step_weights[k];
  }
  /// S, values of a rule's state.
  FEWSTEP_HD uint64_t n_state() const {
    return uint64_t{rule->n_state_per_param} * network->n_adapted;
  }
  /// Whether a rule's arrays are other ones than the sweep's.
  FEWSTEP_HD bool has_step_arrays() const {
    return network->adapted != nullptr || rule->has_step_options() ||
           rule->learned_mask;
  }
  /// Whether anything reads g_k after step k: derivatives of rates, steps
  /// with options or masks, rules whose step is not linear in it.
  FEWSTEP_HD bool keeps_gradients() const {
    return !fixed_phi || has_step_arrays() || rule->op != RuleOp::kSgd;
  }
  /// Whether steps are gradient descent at one rate, and of g_k nothing is read
  /// but the step.
  FEWSTEP_HD bool descends() const { return !keeps_gradients(); }
  /// That rate.
  template <class T, class R>
  FEWSTEP_HD T fixed_rate(const R& phi) const {
    return descends() ? T{phi(0)} : constant<T>(0.0F);
  }
  /// Values of SweepBuffers::step.
  FEWSTEP_HD uint64_t n_step() const {
    const uint64_t n = rule->learned_mask ? 5 : 4;
    return has_step_arrays() ? n * network->n_adapted + 2 : 0;
  }
  /// Values of the rule's scratch memory.
  FEWSTEP_HD uint64_t n_scratch() const {
    const uint64_t update = rule->n_scratch;
    const uint64_t vjp = vjp_scratch(*rule, *network);
    return update > vjp ? update : vjp;
  }
};

/// A task's arrays, of any contents: each is written before it is read.
template <class T>
struct SweepBuffers {
  T* theta;         ///< [K][P] theta_1 .. theta_K.
  T* grad;          ///< [K][P] g_0 .. g_{K-1}, where they are kept.
  T* state;         ///< [K - 1][S] state_1 .. state_{K-1}.
  T* support_loss;  ///< [K] loss at theta_0 .. theta_{K-1}.
  T* scratch;       ///< [n_scratch()] of the rule.
  T* step;          ///< [n_step()] StepArrays.
  Workspace<T> workspace;

  // For sweep() and reptile() only.
  T* query_loss;  ///< [1] at theta_K.
  T* theta_bar;   ///< [P] result.
  T* phi_bar;     ///< [n_phi] result.

  // For sweep() only.
  T* state_bar;                       ///< [S]
  T* grad_bar;                        ///< [P]
  T* loss_bar;                        ///< [1]
  Dual<T>* hessian;                   ///< [P], second order.
  Workspace<Dual<T>> dual_workspace;  ///< Second order.
};

/// A batch that the sweep passes over: a set at theta_step.
struct BatchPass {
  bool query;
  uint32_t step;
};

/// What step k adapts to of `support`, a set in the order of its minibatches.
template <class T>
FEWSTEP_HD Batch<T> support_of_step(const SweepPlan& plan,
                                    const Batch<T>& support,
                                    uint32_t k) {
  if (plan.inner_batch == 0) return support;
  const Minibatches minibatches(support.n, plan.inner_batch);
  const uint64_t first = minibatches.first_of_step(k);
  return {support.x + first * plan.network->n_in,
          support.labels != nullptr ? support.labels + first : nullptr,
          support.targets != nullptr
              ? support.targets + first * plan.network->n_out
              : nullptr,
          minibatches.n};
}

/// Tells operations that want to know which batch comes (dropout.h,
/// cpu/tape.h).
template <class Ops, class X>
FEWSTEP_HD void start_batch(Ops& ops, const BatchPass& pass, const X* x) {
  if constexpr (requires { ops.start(pass, x); }) ops.start(pass, x);
}

/// What the kernels of a gradient may do on the way instead of a pass over it
/// afterwards: FusedCall of each layer, for all of the network. Addresses [P].
template <class T>
struct Fusion {
  const T* rate = nullptr;  ///< Of a gradient into `grad`.
  const T* grad = nullptr;
  T* grad_bar = nullptr;
  const Dual<T>* hessian = nullptr;  ///< Of one into this,
  T* tangents = nullptr;             ///< which is left alone.
};

/// Whether the gradient that comes, of n examples taken tile at a time, does
/// so; until fuse_nothing(ops). (cpu/tape.h)
template <class Ops, class T>
FEWSTEP_HD bool fuse(Ops& ops,
                     const Fusion<T>& fusion,
                     uint32_t n,
                     uint32_t tile) {
  if constexpr (requires { ops.fuse(fusion, n, tile); }) {
    return ops.fuse(fusion, n, tile);
  } else {
    return false;
  }
}
template <class Ops>
FEWSTEP_HD void fuse_nothing(Ops& ops) {
  if constexpr (requires { ops.fuse_nothing(); }) ops.fuse_nothing();
}

/// grad and the loss (batch_loss(ws)) of a whole batch: inner_loop.h's
/// gradient(), unless the operations bring their own (host/cpu/channel_ops.h).
template <class T, class E, class W, class Ops>
FEWSTEP_HD void batch_gradient(const E& e,
                               Ops& ops,
                               const BatchPass& pass,
                               const Network& network,
                               const W& theta,
                               const Workspace<T>& ws,
                               const Batch<T>& batch,
                               T* grad) {
  start_batch(ops, pass, batch.x);
  if constexpr (requires { ops.gradient(theta, ws, batch, grad); }) {
    ops.gradient(theta, ws, batch, grad);
  } else {
    gradient(e, ops, network, theta, ws, batch, grad);
  }
}

/// batch_loss(ws) of a whole batch, likewise: inner_loop.h's mean_loss(). For
/// reports: not dropped.
template <class T, class E, class W, class Ops>
FEWSTEP_HD void batch_mean_loss(const E& e,
                                Ops& ops,
                                const Network& network,
                                const W& theta,
                                const Workspace<T>& ws,
                                const Batch<T>& batch) {
  if constexpr (requires { ops.stop(); }) ops.stop();
  if constexpr (requires { ops.mean_loss(theta, ws, batch); }) {
    ops.mean_loss(theta, ws, batch);
  } else {
    mean_loss(e, ops, network, theta, ws, batch);
  }
}

/// f(view of theta_k)
template <class T, class V, class F>
FEWSTEP_HD void with_theta(const SweepPlan& plan,
                           const SweepBuffers<T>& b,
                           const V& theta_0,
                           uint32_t k,
                           const F& f) {
  if (k == 0) {
    f(theta_0);
  } else {
    f(PlainView<T>{b.theta + uint64_t{k - 1} * plan.network->n_params});
  }
}

/// state_k, or null where there is none: at k = 0, whose state the rule knows,
/// at k = K, which nobody reads, and for rules without.
template <class T>
FEWSTEP_HD T* state_at(const SweepPlan& plan,
                       const SweepBuffers<T>& b,
                       uint32_t k) {
  const uint64_t n = plan.n_state();
  return n == 0 || k == 0 || k == plan.steps ? nullptr : b.state + (k - 1) * n;
}

/// g_k, or null where it is not kept.
template <class T>
FEWSTEP_HD T* gradient_at(const SweepPlan& plan,
                          const SweepBuffers<T>& b,
                          uint32_t k) {
  return plan.keeps_gradients() ? b.grad + uint64_t{k} * plan.network->n_params
                                : nullptr;
}

// Arrays, element by element: on a GPU functions of their own, since in the
// sweep even their addresses would have to be spilled.

/// x[i] = 0
template <class T, class E>
FEWSTEP_CALLED void clear(const E& e, uint32_t n, T* x) {
  e.for_each(n, [=](uint32_t i) { x[i] = constant<T>(0.0F); });
}
/// y[i] = x(i)
template <class T, class E, class V>
FEWSTEP_CALLED void copy_view(const E& e, uint32_t n, const V& x, T* y) {
  e.for_each(n, [=](uint32_t i) { y[i] = x(i); });
}
/// x[i] = x[i] a
template <class T, class E>
FEWSTEP_CALLED void scale(const E& e, uint32_t n, const T& a, T* x) {
  e.for_each(n, [=](uint32_t i) { x[i] = x[i] * a; });
}
/// y[i] = fma(a, x[i], y[i])
template <class T, class E>
FEWSTEP_CALLED void add_multiple(
    const E& e, uint32_t n, const T& a, const T* x, T* y) {
  e.for_each(n, [=](uint32_t i) { y[i] = fma(a, x[i], y[i]); });
}
/// y[i] = y[i] + x[i].tangent
template <class T, class E>
FEWSTEP_CALLED void add_tangents(const E& e,
                                 uint32_t n,
                                 const Dual<T>* x,
                                 T* y) {
  e.for_each(n, [=](uint32_t i) { y[i] = y[i] + x[i].tangent; });
}
/// *to = *from, one value.
template <class T, class E>
FEWSTEP_INLINE void copy_value(const E& e, const T* from, T* to) {
  e.for_each(1, [=](uint32_t) { *to = *from; });
}

/// What a rule sees of a step where that is not the sweep's own arrays: of what
/// adapts, [A] each.
template <class T>
struct StepArrays {
  T* theta;
  T* grad;  ///< After weight decay and clipping.
  T* theta_bar;
  T* grad_bar;
  T* scale;  ///< [1] of step_options.h, and its dot.
  T* dot;
  T* next;  ///< theta+, then lambda: only with a learned mask.

  FEWSTEP_HD StepArrays(T* values, uint32_t n)
      : theta(values),
        grad(theta + n),
        theta_bar(grad + n),
        grad_bar(theta_bar + n),
        scale(grad_bar + n),
        dot(scale + 1),
        next(dot + 1) {}
};

/// a.theta and a.grad of a step at `theta` with gradient `grad`, both [P].
template <class T, class E, class V, class R>
FEWSTEP_HD void load_step(const E& e,
                          const SweepPlan& plan,
                          const StepArrays<T>& a,
                          const V& theta,
                          const R& phi,
                          const T* grad) {
  gather_adapted(e, *plan.network, theta, a.theta);
  gather_adapted(e, *plan.network, PlainView<T>{grad}, a.grad);
  e.barrier();
  if (!plan.rule->has_step_options()) return;
  const auto apply = [&](const auto& keep) {
    apply_step_options(e,
                       *plan.network,
                       *plan.rule,
                       PlainView<T>{a.theta},
                       false,
                       a.grad,
                       a.scale,
                       keep);
  };
  if (plan.rule->learned_mask) {
    apply(KeepMasked<R>{phi, logits_begin(*plan.rule, *plan.network)});
  } else {
    apply(KeepAll());
  }
}

/// The logits' bars, and a.theta_bar = theta+_bar; a.next keeps lambda. `call`
/// is the step's vector-Jacobian product, before it is taken.
template <class T, class E, class Ops, class R>
FEWSTEP_HD void mask_vjp(const E& e,
                         Ops& ops,
                         const SweepPlan& plan,
                         const StepArrays<T>& a,
                         const RuleVjpCall<T>& call,
                         const R& phi) {
  e.for_each(plan.network->n_adapted,
             [&](uint32_t i) { a.next[i] = a.grad[i]; });
  e.barrier();
  RuleCall<T> again = {};
  again.network = plan.network;
  again.rule = plan.rule;
  again.step = call.step;
  again.loss = call.loss;
  again.grad = a.next;
  again.state = call.state;
  again.scratch = call.scratch;
  update(e, ops, again, PlainView<T>{a.theta}, phi);
  mask_bars(e,
            *plan.network,
            *plan.rule,
            phi,
            a.theta,
            a.next,
            a.theta_bar,
            call.phi_bar);
}

/// theta_0 -> theta_K on `support`, which is in the order of its minibatches if
/// the plan has some: b.theta, b.grad, b.state, b.support_loss.
/// theta_0 and phi are views whose values are T (views.h).
template <class T, class E, class Ops, class V, class R>
FEWSTEP_CALLED void adapt(const E& e,
                          Ops& ops,
                          const SweepPlan& plan,
                          const SweepBuffers<T>& b,
                          const V& theta_0,
                          const R& phi,
                          const Batch<T>& support) {
  const uint32_t n_params = plan.network->n_params;
  for (uint32_t k = 0; k < plan.steps; ++k) {
    T* const next = b.theta + uint64_t{k} * n_params;
    T* const kept = gradient_at(plan, b, k);
    T* const grad = kept != nullptr ? kept : next;
    with_theta(plan, b, theta_0, k, [&](const auto& theta) {
      const Batch<T> s = support_of_step(plan, support, k);
      const T rate = plan.fixed_rate<T>(phi);
      const bool fused =
          plan.descends() &&
          fuse(ops, Fusion<T>{.rate = &rate}, s.n, b.workspace.tile);
      batch_gradient(e,
                     ops,
                     BatchPass{false, k},
                     *plan.network,
                     theta,
                     b.workspace,
                     s,
                     grad);
      fuse_nothing(ops);
      copy_value<T>(e, batch_loss(b.workspace), b.support_loss + k);
      if (fused) return;
      T* stepped = next;  // Of what adapts; the frozen are copied around it.
      T* scale = nullptr;
      if (plan.has_step_arrays()) {
        const StepArrays<T> a(b.step, plan.network->n_adapted);
        stepped = a.grad;
        scale = a.scale;
      }
      RuleCall<T> call = {};
      call.network = plan.network;
      call.rule = plan.rule;
      call.step = k;
      call.loss = b.support_loss + k;
      call.grad = stepped;
      call.state = state_at(plan, b, k);
      call.next_state = state_at(plan, b, k + 1);
      call.scratch = b.scratch;
      if (plan.rule->learned_mask) {
        const StepArrays<T> a(b.step, plan.network->n_adapted);
        load_step(e, plan, a, theta, phi, grad);
        update(e, ops, call, PlainView<T>{a.theta}, phi);
        mask_step(e, *plan.network, *plan.rule, phi, a.theta, a.grad);
      } else {
        if (grad != stepped) {
          gather_adapted(e, *plan.network, PlainView<T>{grad}, stepped);
          e.barrier();
        }
        step_adapted(e, ops, call, theta, true, phi, scale);
      }
      if (stepped != next) {
        copy_view(e, n_params, theta, next);
        e.barrier();
        scatter_adapted(e, *plan.network, stepped, next);
        e.barrier();
      }
    });
  }
}

/// rule.vjp at step k: from b.theta_bar and b.state_bar to those, b.grad_bar,
/// b.loss_bar and b.phi_bar, weight decay and clipping included.
template <class T, class E, class Ops, class V, class R>
FEWSTEP_CALLED void step_vjp(const E& e,
                             Ops& ops,
                             const SweepPlan& plan,
                             const SweepBuffers<T>& b,
                             uint32_t k,
                             const V& theta,
                             const R& phi) {
  const Network& network = *plan.network;
  const T* const grad = gradient_at(plan, b, k);
  RuleVjpCall<T> call = {};
  call.network = plan.network;
  call.rule = plan.rule;
  call.step = k;
  call.loss = b.support_loss + k;
  call.state = state_at(plan, b, k);
  call.state_bar = b.state_bar;
  call.loss_bar = b.loss_bar;
  call.phi_bar = b.phi_bar;
  call.fixed_phi = plan.fixed_phi;
  call.scratch = b.scratch;
  if (!plan.has_step_arrays()) {
    call.grad = grad;
    call.theta_bar = b.theta_bar;
    call.grad_bar = b.grad_bar;
    ops.vjp(e, call, theta, phi);
    e.barrier();
    return;
  }
  const StepArrays<T> a(b.step, network.n_adapted);
  load_step(e, plan, a, theta, phi, grad);
  gather_adapted(e, network, PlainView<T>{b.theta_bar}, a.theta_bar);
  clear(e, network.n_params, b.grad_bar);
  e.barrier();
  call.grad = a.grad;
  call.theta_bar = a.theta_bar;
  call.grad_bar = a.grad_bar;
  const bool masked = plan.rule->learned_mask;
  if (masked) mask_vjp(e, ops, plan, a, call, phi);
  ops.vjp(e, call, PlainView<T>{a.theta}, phi);
  e.barrier();
  const auto options_vjp = [&](const auto& keep) {
    step_options_vjp(e,
                     network,
                     *plan.rule,
                     a.grad,
                     a.scale,
                     a.dot,
                     a.theta_bar,
                     a.grad_bar,
                     keep);
  };
  if (!plan.rule->has_step_options()) {
  } else if (masked) {
    options_vjp(KeepMasked<R>{phi, logits_begin(*plan.rule, network)});
  } else {
    options_vjp(KeepAll());
  }
  if (masked) {
    unmask_bar(e, network, *plan.rule, phi, a.next, a.theta_bar);
  }
  scatter_adapted(e, network, a.theta_bar, b.theta_bar);
  scatter_adapted(e, network, a.grad_bar, b.grad_bar);
  e.barrier();
}

/// The sweep after adapt(): b.query_loss, b.theta_bar and b.phi_bar.
template <class T, class E, class Ops, class V, class R>
FEWSTEP_CALLED void sweep(const E& e,
                          Ops& ops,
                          const SweepPlan& plan,
                          const SweepBuffers<T>& b,
                          const V& theta_0,
                          const R& phi,
                          const Batch<T>& support,
                          const Batch<T>& query) {
  const Network& network = *plan.network;
  const uint32_t n_params = network.n_params;
  const uint32_t n_state = static_cast<uint32_t>(plan.n_state());
  clear(e, plan.rule->n_phi, b.phi_bar);
  clear(e, n_state, b.state_bar);
  const float last = plan.weight(plan.steps);
  const T rate = plan.fixed_rate<T>(phi);
  // Whether grad_bar of the last step is there with the query set's gradient.
  const bool fused =
      plan.descends() && plan.second_order && last == 1.0F &&
      fuse(
          ops,
          Fusion<T>{.rate = &rate, .grad = b.theta_bar, .grad_bar = b.grad_bar},
          query.n,
          b.workspace.tile);
  with_theta(plan, b, theta_0, plan.steps, [&](const auto& theta) {
    batch_gradient(e,
                   ops,
                   BatchPass{true, plan.steps},
                   network,
                   theta,
                   b.workspace,
                   query,
                   b.theta_bar);
  });
  fuse_nothing(ops);
  copy_value<T>(e, batch_loss(b.workspace), b.query_loss);
  if (last != 1.0F) {
    scale(e, n_params, constant<T>(last), b.theta_bar);
  }
  e.barrier();
  for (uint32_t k = plan.steps; k-- > 0;) {
    const T* const grad = gradient_at(plan, b, k);
    with_theta(plan, b, theta_0, k, [&](const auto& theta) {
      using View = Value<decltype(theta)>;
      if (!fused || k + 1 != plan.steps) {
        step_vjp(e, ops, plan, b, k, theta, phi);
      }
      if (plan.second_order) {
        const Batch<T> s = support_of_step(plan, support, k);
        const bool added =
            fuse(ops,
                 Fusion<T>{.hessian = b.hessian, .tangents = b.theta_bar},
                 s.n,
                 b.dual_workspace.tile);
        batch_gradient(e,
                       ops,
                       BatchPass{false, k},
                       network,
                       DualView<View>{theta, b.grad_bar},
                       b.dual_workspace,
                       Batch<Dual<T>>{s.x, s.labels, s.targets, s.n},
                       b.hessian);
        fuse_nothing(ops);
        if (!added) {
          add_tangents(e, n_params, b.hessian, b.theta_bar);
          e.barrier();
        }
        // How the loss, as an input of the rule, moves with theta.
        if (uses_loss(plan.rule->op)) {
          add_multiple(e, n_params, *b.loss_bar, grad, b.theta_bar);
          e.barrier();
        }
      }
      const float w = plan.weight(k);
      if (w != 0.0F) {
        batch_gradient(e,
                       ops,
                       BatchPass{true, k},
                       network,
                       theta,
                       b.workspace,
                       query,
                       b.grad_bar);
        add_multiple(e, n_params, constant<T>(w), b.grad_bar, b.theta_bar);
        e.barrier();
      }
    });
  }
}

/// Reptile after adapt(): b.theta_bar = theta_0 - theta_K, which the outer
/// optimizer takes for a gradient, and b.phi_bar = 0. Moves nothing but theta;
/// the query set only gives b.query_loss, for reports: one forward pass.
/// (Nichol et al. 2018, algorithm 2.)
template <class T, class E, class Ops, class V>
FEWSTEP_CALLED void reptile(const E& e,
                            Ops& ops,
                            const SweepPlan& plan,
                            const SweepBuffers<T>& b,
                            const V& theta_0,
                            const Batch<T>& query) {
  const uint32_t n_params = plan.network->n_params;
  clear(e, plan.rule->n_phi, b.phi_bar);
  const PlainView<T> theta = {b.theta + uint64_t{plan.steps - 1} * n_params};
  e.for_each(n_params,
             [&](uint32_t i) { b.theta_bar[i] = T{theta_0(i)} - theta(i); });
  batch_mean_loss(e, ops, *plan.network, theta, b.workspace, query);
  copy_value<T>(e, batch_loss(b.workspace), b.query_loss);
  e.barrier();
}

/// adapt(), then what plan.method asks for: all of a task's part in an
/// iteration.
template <class T, class E, class Ops, class V, class R>
FEWSTEP_HD void solve_task(const E& e,
                           Ops& ops,
                           const SweepPlan& plan,
                           const SweepBuffers<T>& b,
                           const V& theta_0,
                           const R& phi,
                           const Batch<T>& support,
                           const Batch<T>& query) {
  adapt(e, ops, plan, b, theta_0, phi, support);
  if (plan.method == OuterMethod::kReptile) {
    reptile(e, ops, plan, b, theta_0, query);
  } else {
    sweep(e, ops, plan, b, theta_0, phi, support, query);
  }
}

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_SWEEP_H_
