// The meta-gradient: how the query loss after adaptation depends on the
// initialization and on the rule.
//
// Start here. MetaGradient runs the inner loop of lib/ on one task (or, at
// Lanes, on one task a lane), then sweeps it backwards:
//
//   lambda_K = w_K grad L_Q(theta_K)
//   for k = K-1 .. 0:
//     (theta_bar, g_bar, phi_bar) = rule.vjp(lambda_{k+1})
//     lambda_k = theta_bar + H(theta_k) g_bar + w_k grad L_Q(theta_k)
//   d/d theta_0 = lambda_0,  d/d phi = sum of phi_bar
//
// H(theta) v, the Hessian of the support loss times a vector, is the tangent of
// the gradient kernel run at dual numbers theta + eps v. First order leaves H
// out. (Finn et al. 2017; the sweep is the exact reverse mode of the loop.)
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_META_GRADIENT_H_
#define FEWSTEP_HOST_META_GRADIENT_H_

#include <cstdint>
#include <vector>

#include "fewstep/inner_loop.h"
#include "fewstep/network.h"
#include "fewstep/rules/rule.h"
#include "fewstep/views.h"

namespace fewstep::host {

/// What is differentiated.
struct Objective {
  uint32_t steps = 1;        ///< K >= 1.
  bool second_order = true;  ///< Keep the term with H.
  /// w_0 .. w_K, the weight of the query loss after k steps. Empty: w_K = 1.
  std::vector<float> step_weights;
};

/// grad and the loss (batch_loss(ws)) of a whole batch: inner_loop.h's
/// gradient(), unless the operations bring their own (host/cpu/channel_ops.h).
template <class T, class E, class W, class Ops>
void batch_gradient(const E& e,
                    Ops& ops,
                    const Network& network,
                    const W& theta,
                    const Workspace<T>& ws,
                    const Batch<T>& batch,
                    T* grad) {
  if constexpr (requires { ops.gradient(theta, ws, batch, grad); }) {
    ops.gradient(theta, ws, batch, grad);
  } else {
    gradient(e, ops, network, theta, ws, batch, grad);
  }
}

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
  MetaGradient(const Network& network,
               const Rule& rule,
               const Objective& objective,
               uint32_t support_tile,
               uint32_t query_tile)
      : network_(network),
        rule_(rule),
        objective_(objective),
        support_tile_(support_tile),
        tile_(support_tile > query_tile ? support_tile : query_tile),
        theta_(objective.steps),
        grad_(objective.steps),
        support_loss_(objective.steps),
        theta_bar_(network.n_params),
        phi_bar_(rule.n_phi),
        values_(workspace_values(network, tile_)) {
    for (auto& v : theta_) v.resize(network.n_params);
    for (auto& v : grad_) v.resize(network.n_params);
  }

  /// theta_0 -> theta_K on `support`. theta_0 and phi are views whose values
  /// are T (views.h).
  template <class E, class Ops, class V, class R>
  void adapt(const E& e,
             Ops&& ops,
             const V& theta_0,
             const R& phi,
             const Batch<T>& support) {
    for (uint32_t k = 0; k < objective_.steps; ++k) {
      with_theta(k, theta_0, [&](const auto& theta) {
        batch_gradient(
            e, ops, network_, theta, workspace(), support, &grad_[k][0]);
        support_loss_[k] = *batch_loss(workspace());
        theta_[k] = grad_[k];
        RuleCall<T> call = {};
        call.network = &network_;
        call.rule = &rule_;
        call.step = k;
        call.loss = &support_loss_[k];
        call.grad = &theta_[k][0];
        update(e, ops, call, theta, phi);
      });
    }
  }

  /// adapt(), then the sweep: query_loss(), theta_bar() and phi_bar().
  template <class E, class Ops, class V, class R>
  void run(const E& e,
           Ops&& ops,
           const V& theta_0,
           const R& phi,
           const Batch<T>& support,
           const Batch<T>& query) {
    const uint32_t n_steps = objective_.steps;
    adapt(e, ops, theta_0, phi, support);
    reserve_sweep();
    for (T& v : phi_bar_) v = constant<T>(0.0F);
    batch_gradient(e,
                   ops,
                   network_,
                   PlainView<T>{&theta_[n_steps - 1][0]},
                   workspace(),
                   query,
                   &theta_bar_[0]);
    query_loss_ = *batch_loss(workspace());
    const float last = weight(n_steps);
    if (last != 1.0F) {
      for (T& v : theta_bar_) v = v * constant<T>(last);
    }
    for (uint32_t k = n_steps; k-- > 0;) {
      T loss_bar = constant<T>(0.0F);
      RuleVjpCall<T> call = {};
      call.network = &network_;
      call.rule = &rule_;
      call.step = k;
      call.loss = &support_loss_[k];
      call.grad = &grad_[k][0];
      call.theta_bar = &theta_bar_[0];
      call.grad_bar = &grad_bar_[0];
      call.loss_bar = &loss_bar;
      call.phi_bar = &phi_bar_[0];
      ops.vjp(e, call, phi);
      e.barrier();
      with_theta(k, theta_0, [&](const auto& theta) {
        if (objective_.second_order) {
          using View = std::decay_t<decltype(theta)>;
          batch_gradient(e,
                         ops,
                         network_,
                         DualView<View>{theta, &grad_bar_[0]},
                         Workspace<Dual<T>>{&dual_values_[0], support_tile_},
                         dual(support),
                         &hessian_[0]);
          for (uint32_t i = 0; i < network_.n_params; ++i) {
            theta_bar_[i] = theta_bar_[i] + hessian_[i].tangent;
          }
          // How the loss, as an input of the rule, moves with theta.
          if (uses_loss(rule_.op)) {
            for (uint32_t i = 0; i < network_.n_params; ++i) {
              theta_bar_[i] = fma(loss_bar, grad_[k][i], theta_bar_[i]);
            }
          }
        }
        const float w = weight(k);
        if (w != 0.0F) {
          batch_gradient(
              e, ops, network_, theta, workspace(), query, &grad_bar_[0]);
          for (uint32_t i = 0; i < network_.n_params; ++i) {
            theta_bar_[i] = fma(constant<T>(w), grad_bar_[i], theta_bar_[i]);
          }
        }
      });
    }
  }

  /// Mean loss of `batch` at theta_K, without gradient. After adapt().
  template <class E, class Ops>
  T loss_after(const E& e, const Ops& ops, const Batch<T>& batch) {
    mean_loss(e, ops, network_, adapted(), workspace(), batch);
    return *batch_loss(workspace());
  }

  PlainView<T> adapted() const { return {&theta_[objective_.steps - 1][0]}; }
  Workspace<T> workspace() { return {&values_[0], tile_}; }
  /// Query loss at theta_K, after run().
  const T& query_loss() const { return query_loss_; }
  /// Support loss at theta_k.
  const T& support_loss(uint32_t k) const { return support_loss_[k]; }
  /// d objective / d theta_0 [P] and d phi [n_phi], after run().
  const std::vector<T>& theta_bar() const { return theta_bar_; }
  const std::vector<T>& phi_bar() const { return phi_bar_; }
  /// Hands these two arrays out and takes others for the next run(), of any
  /// contents; allocates when they are of another length.
  void swap_bars(std::vector<T>* theta_bar, std::vector<T>* phi_bar) {
    theta_bar->resize(theta_bar_.size());
    phi_bar->resize(phi_bar_.size());
    theta_bar_.swap(*theta_bar);
    phi_bar_.swap(*phi_bar);
  }

 private:
  // w_k of the objective.
  float weight(uint32_t k) const {
    if (objective_.step_weights.empty()) {
      return k == objective_.steps ? 1.0F : 0.0F;
    }
    return objective_.step_weights[k];
  }

  template <class V, class F>
  void with_theta(uint32_t k, const V& theta_0, const F& f) {
    if (k == 0) {
      f(theta_0);
    } else {
      f(PlainView<T>{&theta_[k - 1][0]});
    }
  }

  static Batch<Dual<T>> dual(const Batch<T>& b) {
    return {b.x, b.labels, b.targets, b.n};
  }

  // What only the sweep needs.
  void reserve_sweep() {
    grad_bar_.resize(network_.n_params);
    if (objective_.second_order) {
      hessian_.resize(network_.n_params);
      dual_values_.resize(workspace_values(network_, support_tile_));
    }
  }

  Network network_;
  Rule rule_;
  Objective objective_;
  uint32_t support_tile_;
  uint32_t tile_;                      // Of the workspace at T: the larger one.
  std::vector<std::vector<T>> theta_;  // theta_1 .. theta_K.
  std::vector<std::vector<T>> grad_;   // g_0 .. g_{K-1}.
  std::vector<T> support_loss_;
  T query_loss_ = constant<T>(0.0F);
  std::vector<T> theta_bar_;
  std::vector<T> phi_bar_;
  std::vector<T> grad_bar_;
  std::vector<Dual<T>> hessian_;
  std::vector<T> values_;
  std::vector<Dual<T>> dual_values_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_META_GRADIENT_H_
