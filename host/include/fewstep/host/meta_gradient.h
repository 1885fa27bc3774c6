// The meta-gradient of one task at a time: sweep.h with buffers of its own.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_META_GRADIENT_H_
#define FEWSTEP_HOST_META_GRADIENT_H_

#include <cstdint>
#include <memory_resource>
#include <vector>

#include "fewstep/host/objective.h"
#include "fewstep/host/sweep.h"

namespace fewstep::host {

/// Adaptation and meta-gradient of one task at number type T.
///
/// Buffers are allocated once; run() allocates nothing. About
/// P (2 K + 3) values of T, and a workspace of a tile of examples at T, and one
/// of a tile of the support set at Dual<T>.
template <class T>
class MetaGradient {
 public:
  /// @param support_tile  Examples of a support set that the kernels take at a
  ///     time, and `query_tile` of a query set; with batch_norm all of them.
  /// @param memory  For the buffers.
  MetaGradient(
      const Network& network,
      const Rule& rule,
      const Objective& objective,
      uint32_t support_tile,
      uint32_t query_tile,
      std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : network_(network),
        rule_(rule),
        objective_(objective),
        dual_tile_(objective.inner_batch != 0 &&
                           objective.inner_batch < support_tile
                       ? objective.inner_batch
                       : support_tile),
        tile_(support_tile > query_tile ? support_tile : query_tile),
        theta_(size_t{objective.steps} * network.n_params, memory),
        grad_(memory),
        state_((objective.steps - 1) * size_t{network.n_adapted} *
                   rule.n_state_per_param,
               memory),
        support_loss_(objective.steps, memory),
        state_bar_(memory),
        grad_bar_(memory),
        scratch_(plan().n_scratch(), memory),
        step_(plan().n_step(), memory),
        hessian_(memory),
        values_(workspace_values(network, tile_), memory),
        dual_values_(memory) {
    objective_.step_weights.reserve(size_t{objective.steps} + 1);
  }

  /// The objective of the next run(), of the same steps and minibatches. run()
  /// then allocates only if it is the first of second order.
  void set_objective(const Objective& objective) {
    objective_.second_order = objective.second_order;
    objective_.step_weights.assign(objective.step_weights.begin(),
                                   objective.step_weights.end());
    objective_.method = objective.method;
    objective_.fixed_phi = objective.fixed_phi;
  }

  /// theta_0 -> theta_K as a device adapts, on the whole of `support` in each
  /// step. theta_0 and phi are views whose values are T (views.h).
  template <class E, class Ops, class V, class R>
  void adapt(const E& e,
             Ops&& ops,
             const V& theta_0,
             const R& phi,
             const Batch<T>& support) {
    reserve_gradients();
    SweepPlan p = plan();
    p.inner_batch = 0;
    host::adapt(e, ops, p, buffers(), theta_0, phi, support);
  }

  /// Adaptation, to the objective's minibatches (whose order `support` then is
  /// in), and the sweep or Reptile's difference: query_loss(), theta_bar() and
  /// phi_bar(), or what write_to() names.
  template <class E, class Ops, class V, class R>
  void run(const E& e,
           Ops&& ops,
           const V& theta_0,
           const R& phi,
           const Batch<T>& support,
           const Batch<T>& query) {
    reserve_gradients();
    reserve_sweep();
    if (theta_bar_at_ == nullptr) {
      theta_bar_.resize(network_.n_params);
      phi_bar_.resize(rule_.n_phi);
    }
    solve_task(e, ops, plan(), buffers(), theta_0, phi, support, query);
  }

  /// Mean loss of `batch` at theta_K, without gradient. After adapt().
  template <class E, class Ops>
  T loss_after(const E& e, const Ops& ops, const Batch<T>& batch) {
    mean_loss(e, ops, network_, adapted(), workspace(), batch);
    return *batch_loss(workspace());
  }

  PlainView<T> adapted() const {
    return {theta_.data() + size_t{objective_.steps - 1} * network_.n_params};
  }
  Workspace<T> workspace() { return {&values_[0], tile_}; }
  /// Query loss at theta_K, after run().
  const T& query_loss() const { return query_loss_; }
  /// Support loss at theta_k, of what step k adapts to.
  const T& support_loss(uint32_t k) const { return support_loss_[k]; }
  /// d objective / d theta_0 [P] and d phi [n_phi], after run().
  const std::vector<T>& theta_bar() const { return theta_bar_; }
  const std::vector<T>& phi_bar() const { return phi_bar_; }
  /// SweepBuffers::step, for tests.
  const std::pmr::vector<T>& step_arrays() const { return step_; }
  /// Arrays of the caller's, [P] and [n_phi], that run() writes from now on, in
  /// the place of theta_bar() and phi_bar().
  void write_to(T* theta_bar, T* phi_bar) {
    theta_bar_at_ = theta_bar;
    phi_bar_at_ = phi_bar;
  }

 private:
  SweepPlan plan() const {
    SweepPlan p = {};
    p.network = &network_;
    p.rule = &rule_;
    p.steps = objective_.steps;
    p.second_order = objective_.second_order;
    p.method = objective_.method;
    p.fixed_phi = objective_.fixed_phi;
    p.inner_batch = objective_.inner_batch;
    if (!objective_.step_weights.empty()) {
      p.step_weights = objective_.step_weights.data();
    }
    return p;
  }

  SweepBuffers<T> buffers() {
    SweepBuffers<T> b = {};
    b.theta = theta_.data();
    b.grad = grad_.data();
    b.state = state_.data();
    b.support_loss = support_loss_.data();
    b.scratch = scratch_.data();
    b.step = step_.data();
    b.workspace = workspace();
    b.query_loss = &query_loss_;
    b.theta_bar = theta_bar_at_ != nullptr ? theta_bar_at_ : theta_bar_.data();
    b.state_bar = state_bar_.data();
    b.phi_bar = theta_bar_at_ != nullptr ? phi_bar_at_ : phi_bar_.data();
    b.grad_bar = grad_bar_.data();
    b.loss_bar = &loss_bar_;
    b.hessian = hessian_.data();
    b.dual_workspace = {dual_values_.data(), dual_tile_};
    return b;
  }

  void reserve_gradients() {
    if (plan().keeps_gradients()) grad_.resize(theta_.size());
  }
  // What only the sweep needs. An objective of first order that follows one of
  // second order keeps what that one needs.
  void reserve_sweep() {
    if (objective_.method == OuterMethod::kReptile) return;
    state_bar_.resize(size_t{network_.n_adapted} * rule_.n_state_per_param);
    grad_bar_.resize(network_.n_params);
    if (objective_.second_order) {
      hessian_.resize(network_.n_params);
      dual_values_.resize(workspace_values(network_, dual_tile_));
    }
  }

  Network network_;
  Rule rule_;
  Objective objective_;
  uint32_t dual_tile_;
  uint32_t tile_;  // Of the workspace at T: the larger one.
  std::pmr::vector<T> theta_, grad_, state_, support_loss_;
  T query_loss_ = constant<T>(0.0F);
  T loss_bar_ = constant<T>(0.0F);
  std::vector<T> theta_bar_, phi_bar_;
  T* theta_bar_at_ = nullptr;
  T* phi_bar_at_ = nullptr;
  std::pmr::vector<T> state_bar_, grad_bar_, scratch_, step_;
  std::pmr::vector<Dual<T>> hessian_;
  std::pmr::vector<T> values_;
  std::pmr::vector<Dual<T>> dual_values_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_META_GRADIENT_H_
