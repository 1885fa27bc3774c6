// gradcheck() over any set of operations, so that tests can plant a fault in
// one and see the checks fail.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_GRADCHECK_IMPL_H_
#define FEWSTEP_HOST_GRADCHECK_IMPL_H_

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/host/dropout.h"
#include "fewstep/host/gradcheck.h"
#include "fewstep/host/learned_mask.h"
#include "fewstep/host/meta_gradient.h"
#include "fewstep/host/minibatch_order.h"
#include "fewstep/host/philox.h"
#include "fewstep/host/probe.h"
#include "fewstep/inner_loop.h"
#include "fewstep/ops.h"
#include "fewstep/step_options.h"

namespace fewstep::host {

/// An episode's sets with inputs of type X.
template <class X>
struct CheckedEpisode {
  std::vector<X> support_x, query_x, support_targets, query_targets;
  const Episode* episode;
  EpisodeShape shape;

  CheckedEpisode(const Episode& e, const EpisodeShape& s)
      : episode(&e), shape(s) {
    const auto convert = [](const std::vector<float>& from) {
      std::vector<X> to;
      for (const float v : from) to.push_back(constant<X>(v));
      return to;
    };
    support_x = convert(e.support_x);
    query_x = convert(e.query_x);
    support_targets = convert(e.support_targets);
    query_targets = convert(e.query_targets);
  }
  template <class T>
  Batch<T> support() const {
    const bool c = shape.classification;
    return {support_x.data(),
            c ? episode->support_labels.data() : nullptr,
            c ? nullptr : support_targets.data(),
            shape.n_support};
  }
  template <class T>
  Batch<T> query() const {
    const bool c = shape.classification;
    return {query_x.data(),
            c ? episode->query_labels.data() : nullptr,
            c ? nullptr : query_targets.data(),
            shape.n_query};
  }
};

/// What each step of the inner loop adapts to: minibatch j of `episode` has
/// support examples j, j + m, .. (minibatch.h). Gathered one by one, apart from
/// what the engines do.
struct MinibatchEpisodes {
  std::vector<Episode> parts;
  EpisodeShape shape;  ///< Of each.

  MinibatchEpisodes(const Episode& episode,
                    const EpisodeShape& whole,
                    uint32_t inner_batch)
      : shape(whole) {
    if (inner_batch != 0) shape.n_support = inner_batch;
    const size_t m = whole.n_support / shape.n_support;
    for (size_t j = 0; j < m; ++j) {
      Episode part;
      const auto take = [&](const auto& from, size_t length, auto* to) {
        for (size_t i = j * length; i < from.size(); i += m * length) {
          const auto row = from.begin() + static_cast<std::ptrdiff_t>(i);
          to->insert(to->end(), row, row + static_cast<std::ptrdiff_t>(length));
        }
      };
      take(episode.support_x, whole.n_in, &part.support_x);
      take(episode.support_labels, 1, &part.support_labels);
      take(episode.support_targets, whole.n_out, &part.support_targets);
      parts.push_back(part);
    }
  }
};

/// Query loss after `steps` steps from theta at number type T, or, given
/// weights w_0 .. w_K, the sum over k of w_k times the query loss at theta_k.
/// Step k adapts to the support set of minibatches[k mod m]. Every g_k and
/// loss_k passes through `edit` before the rule sees it. `ops` is a DropoutOps.
template <class T, class Ops, class X, class Edit>
T loss_after_adaptation(Ops& ops,
                        const Network& network,
                        const Rule& rule,
                        uint32_t steps,
                        const std::vector<float>& weights,
                        const CheckedEpisode<X>& episode,
                        const std::vector<CheckedEpisode<X>>& minibatches,
                        std::vector<T> theta,
                        const std::vector<T>& phi,
                        const Edit& edit) {
  const SerialExecutor e;
  const uint32_t tile =
      std::max(episode.shape.n_support, episode.shape.n_query);
  std::vector<T> values(workspace_values(network, tile));
  const Workspace<T> ws = {values.data(), tile};
  // What adapts, by index.
  std::vector<uint32_t> at;
  for (uint32_t l = 0; l < network.n_layers; ++l) {
    if (network.adapted != nullptr && network.adapted[l] == kFrozen) continue;
    for (uint32_t i = 0; i < network.layers[l].n_params(); ++i) {
      at.push_back(network.layers[l].param_offset + i);
    }
  }
  const T zero = constant<T>(0.0F);
  std::vector<T> grad(theta.size()), from(at.size()), next(at.size());
  std::vector<T> state(at.size() * rule.n_state_per_param, zero);
  std::vector<T> scratch(rule.n_scratch);
  const auto query_loss = [&](uint32_t k) {
    ops.start({true, k}, episode.query_x.data());
    mean_loss(e,
              ops,
              network,
              PlainView<T>{theta.data()},
              ws,
              episode.template query<T>());
    return *batch_loss(ws);
  };
  T total = constant<T>(0.0F);
  for (uint32_t k = 0; k < steps; ++k) {
    if (!weights.empty()) {
      total = total + constant<T>(weights[k]) * query_loss(k);
    }
    const PlainView<T> view = {theta.data()};
    const Batch<T> support =
        minibatches[k % minibatches.size()].template support<T>();
    ops.start({false, k}, support.x);
    gradient(e, ops, network, view, ws, support, grad.data());
    for (size_t j = 0; j < at.size(); ++j) {
      from[j] = theta[at[j]];
      next[j] = grad[at[j]];
      edit(&next[j]);
    }
    T loss = *batch_loss(ws);
    edit(&loss);
    RuleCall<T> call = {};
    call.network = &network;
    call.rule = &rule;
    call.step = k;
    call.loss = &loss;
    call.grad = next.data();
    call.state = k == 0 ? nullptr : state.data();
    call.next_state = state.data();
    call.scratch = scratch.data();
    T scale = zero;
    const auto options = [&](const auto& keep) {
      apply_step_options(e,
                         network,
                         rule,
                         PlainView<T>{from.data()},
                         false,
                         next.data(),
                         &scale,
                         keep);
    };
    const T* const logits = phi.data() + logits_begin(rule, network);
    if (rule.learned_mask) {
      options([&](uint32_t j, const T& value) {
        return select(mask_of(logits[j]), value, zero);
      });
    } else {
      options(KeepAll());
    }
    update(e, ops, call, PlainView<T>{from.data()}, PlainView<T>{phi.data()});
    for (size_t j = 0; j < at.size(); ++j) {
      theta[at[j]] = rule.learned_mask
                         ? straight_through(logits[j], next[j], from[j])
                         : next[j];
    }
  }
  if (weights.empty()) return query_loss(steps);
  return total + constant<T>(weights[steps]) * query_loss(steps);
}

/// df/dx by fourth-order central differences, (8 (f(h) - f(-h)) - (f(2h) -
/// f(-2h))) / 12 h, at the largest h of 1e-5, 1e-6, 1e-7 that a tenth of it
/// confirms. `f(step, pattern)` is f(x + step), *pattern how its comparisons
/// came out; an h where they differ between the four points gives nothing.
///
/// A tenth confirms h when both agree within kClose. At 1e-5 they may not: the
/// lstm rule takes log|g| of a gradient that is 1e-4 and moves by half of
/// itself, and under adam the loss bends where a gradient changes sign, which
/// no comparison tells. Where none agrees so well, the h that agrees best:
/// errors of truncation shrink with h, those of rounding grow.
///
/// @retval false  Comparisons differ at every h: a kink. *result is not set.
template <class F>
bool central_difference(const F& f, double* result) {
  constexpr double kClose = 1e-7;
  constexpr double kPoints[4] = {-2.0, -1.0, 1.0, 2.0};
  bool found = false;
  bool compared = false;
  double previous = 0.0;
  double least = 0.0;
  for (const double h : {1e-5, 1e-6, 1e-7, 1e-8}) {
    double at[4];
    uint64_t pattern[4];
    for (int j = 0; j < 4; ++j) at[j] = f(h * kPoints[j], &pattern[j]);
    if (std::count(pattern, pattern + 4, pattern[0]) != 4) continue;
    const double now = (8.0 * (at[2] - at[1]) - (at[3] - at[0])) / (12.0 * h);
    if (!found) {
      *result = now;
    } else if (const double distance = std::abs(now - previous);
               !compared || distance < least) {
      compared = true;
      least = distance;
      *result = previous;
      if (distance <= kClose * std::abs(previous)) break;
    }
    found = true;
    previous = now;
  }
  return found;
}

/// gradcheck() (gradcheck.h) with the sweep run over `ops`; the checks it is
/// compared with always run over the library's own operations.
template <class Ops>
class Gradcheck {
 public:
  Gradcheck(const Ops& ops,
            const Network& network,
            const Rule& rule,
            const Episode& episode,
            const EpisodeShape& shape,
            const std::vector<double>& theta,
            const std::vector<double>& phi,
            const GradcheckOptions& options)
      : ops_(ops),
        network_(network),
        rule_(rule),
        ordered_(in_order(episode, shape, options.inner_batch)),
        episode_(ordered_, shape),
        probed_(ordered_, shape),
        minibatches_(episode, shape, options.inner_batch),
        theta_(theta),
        phi_(phi),
        options_(options) {}
  Gradcheck(const Gradcheck&) = delete;
  Gradcheck& operator=(const Gradcheck&) = delete;

  std::vector<GradcheckResult> run() {
    std::vector<GradcheckResult> results;
    sweep(true);
    tangents("tangent", false, &results);
    for (const Quantity& q : quantities()) {
      if (q.has_differences) differences(q, &results);
    }
    sweep(false);
    tangents("first-order tangent", true, &results);
    return results;
  }

 private:
  using D = Dual<double>;

  static Episode in_order(Episode episode,
                          const EpisodeShape& shape,
                          uint32_t inner_batch) {
    MinibatchOrder(shape, inner_batch).apply(Split::kTrain, &episode);
    return episode;
  }
  template <class X>
  std::vector<CheckedEpisode<X>> checked_minibatches() const {
    std::vector<CheckedEpisode<X>> all;
    for (const Episode& part : minibatches_.parts) {
      all.emplace_back(part, minibatches_.shape);
    }
    return all;
  }
  template <class X, class Inner>
  DropoutOps<Inner, X> with_dropout(const Inner& ops) const {
    const EpisodeShape& shape = episode_.shape;
    DropoutOps<Inner, X> dropout(ops,
                                 network_,
                                 options_.dropout,
                                 std::max(shape.n_support, shape.n_query));
    dropout.draw_for({{options_.seed, 0, 0}});
    return dropout;
  }
  /// Learned values that are compared as one vector: [begin, end) of theta or
  /// of phi.
  struct Quantity {
    const char* name;
    bool of_theta;
    size_t begin, end;
    bool has_differences;
  };
  std::vector<Quantity> quantities() const {
    const size_t logits = logits_begin(rule_, network_);
    std::vector<Quantity> all = {{"theta", true, 0, theta_.size(), true},
                                 {"phi", false, 0, logits, true}};
    // The loss is constant between changes of the mask.
    if (rule_.learned_mask) {
      all.push_back({"mask", false, logits, phi_.size(), false});
    }
    return all;
  }
  const std::vector<double>& gradient(const Quantity& q) const {
    return q.of_theta ? d_theta_ : d_phi_;
  }

  // Fills d_theta_ and d_phi_.
  void sweep(bool second_order) {
    Objective objective;
    objective.steps = options_.steps;
    objective.second_order = second_order;
    objective.step_weights = options_.step_weights;
    objective.inner_batch = options_.inner_batch;
    MetaGradient<double> m(network_,
                           rule_,
                           objective,
                           episode_.shape.n_support,
                           episode_.shape.n_query);
    m.run(SerialExecutor(),
          with_dropout<double>(ops_),
          PlainView<double>{theta_.data()},
          PlainView<double>{phi_.data()},
          episode_.template support<double>(),
          episode_.template query<double>());
    d_theta_ = m.theta_bar();
    d_phi_ = m.phi_bar();
  }

  static double norm(std::span<const double> v) {
    double sum = 0.0;
    for (const double x : v) sum += x * x;
    return std::sqrt(sum);
  }

  static GradcheckResult compare(const char* check,
                                 const char* quantity,
                                 const std::vector<double>& a,
                                 std::vector<double> n,
                                 double tolerance,
                                 uint32_t n_skipped) {
    for (size_t i = 0; i < a.size(); ++i) n[i] -= a[i];
    GradcheckResult r;
    r.check = check;
    r.quantity = quantity;
    // |a| = 0 passes only against exact zeros.
    const double size = norm(a);
    const double difference = norm(n);
    r.error = difference == 0.0 ? 0.0 : difference / size;
    r.tolerance = tolerance;
    r.n_values = static_cast<uint32_t>(a.size());
    r.n_skipped = n_skipped;
    r.passed = r.error <= tolerance && n_skipped * 100 <= a.size() + n_skipped;
    return r;
  }

  // The sweep's gradient times random directions, against the tangent of the
  // inner loop: of each quantity alone.
  void tangents(const char* check,
                bool first_order,
                std::vector<GradcheckResult>* results) {
    Random random(options_.seed, 0, 0, Purpose::kCheck);
    auto ops = with_dropout<double>(AllOps());
    const auto minibatches = checked_minibatches<double>();
    for (const Quantity& q : quantities()) {
      std::vector<double> a, n;
      for (uint32_t j = 0; j < options_.n_directions; ++j) {
        std::vector<D> theta, phi;
        for (const double v : theta_) theta.push_back({v, 0.0});
        for (const double v : phi_) phi.push_back({v, 0.0});
        double product = 0.0;
        std::vector<D>& moved = q.of_theta ? theta : phi;
        for (size_t i = q.begin; i < q.end; ++i) {
          moved[i].tangent = static_cast<double>(random.normal());
          product += gradient(q)[i] * moved[i].tangent;
        }
        a.push_back(product);
        n.push_back(loss_after_adaptation(ops,
                                          network_,
                                          rule_,
                                          options_.steps,
                                          options_.step_weights,
                                          episode_,
                                          minibatches,
                                          theta,
                                          phi,
                                          [&](D* g) {
                                            if (first_order) g->tangent = 0.0;
                                          })
                        .tangent);
      }
      results->push_back(compare(check, q.name, a, n, 1e-11, 0));
    }
  }

  void differences(const Quantity& q, std::vector<GradcheckResult>* results) {
    auto ops = with_dropout<Probe>(AllOps());
    const auto minibatches = checked_minibatches<Probe>();
    const size_t offset = q.of_theta ? 0 : theta_.size();
    const uint32_t n_all = static_cast<uint32_t>(q.end - q.begin);
    std::vector<uint32_t> at(n_all);
    std::iota(at.begin(), at.end(), static_cast<uint32_t>(q.begin));
    if (options_.n_coordinates != 0 && options_.n_coordinates < n_all) {
      Random random(options_.seed, 1, 0, Purpose::kCheck);
      random.shuffle(at);
      at.resize(options_.n_coordinates);
    }
    std::vector<Probe> point;
    for (const double v : theta_) point.push_back({v});
    for (const double v : phi_) point.push_back({v});
    const auto loss = [&](size_t i, double step, uint64_t* pattern) {
      const double value = point[i].v;
      point[i].v = value + step;
      const auto middle =
          point.begin() + static_cast<std::ptrdiff_t>(theta_.size());
      probe_pattern = 0;
      const double l =
          loss_after_adaptation(ops,
                                network_,
                                rule_,
                                options_.steps,
                                options_.step_weights,
                                probed_,
                                minibatches,
                                std::vector<Probe>(point.begin(), middle),
                                std::vector<Probe>(middle, point.end()),
                                [](Probe*) {})
              .v;
      *pattern = probe_pattern;
      point[i].v = value;
      return l;
    };
    std::vector<double> a, n;
    uint32_t n_skipped = 0;
    for (const uint32_t i : at) {
      const auto f = [&](double step, uint64_t* pattern) {
        return loss(offset + i, step, pattern);
      };
      double value = 0.0;
      if (!central_difference(f, &value)) {
        ++n_skipped;
        continue;
      }
      a.push_back(gradient(q)[i]);
      n.push_back(value);
    }
    results->push_back(compare("differences", q.name, a, n, 1e-6, n_skipped));
  }

  const Ops& ops_;
  const Network& network_;
  const Rule& rule_;
  Episode ordered_;
  CheckedEpisode<double> episode_;
  CheckedEpisode<Probe> probed_;
  MinibatchEpisodes minibatches_;
  const std::vector<double>& theta_;
  const std::vector<double>& phi_;
  GradcheckOptions options_;
  std::vector<double> d_theta_, d_phi_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_GRADCHECK_IMPL_H_
