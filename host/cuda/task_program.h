// What the threads that share a task do: adapt it and take its meta-gradient,
// or score it; then add up the tasks.
//
// Start here. Templates over the number type and the executor, like all of the
// inner loop: on a GPU an executor is a block or a cluster of blocks; tests run
// the same source under executors that shuffle, check and emulate threads, and
// compare its bits with the CPU engine's.
//
//   run_meta_gradients   the tasks of one team, one after another
//   run_evaluations      likewise, adaptation and scores only
//   reduce_tasks         sums over tasks ascending, one thread a quantity
//
// What comes before and after is in episode_program.h (drawing the tasks) and
// outer_program.h (the outer step).
//
// A team is what adapts one task at a time: it owns a slot of scratch memory,
// whose parts TaskLayout places in the block's shared memory or in global
// memory. cuda_plan.h chooses.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_TASK_PROGRAM_H_
#define FEWSTEP_HOST_CUDA_TASK_PROGRAM_H_

#include <cstdint>

#include "fewstep/host/sweep.h"

namespace fewstep::host {

/// Arrays of a team's scratch memory, in order of how much they gain from
/// shared memory.
enum class Part : uint8_t {
  kScalars,        ///< Support losses [K], query loss, loss_bar.
  kFlags,          ///< [max(kFlags, n_query)] see below.
  kWorkspace,      ///< Activations of a tile, at T.
  kDualWorkspace,  ///< The same at Dual<T>; second order only.
  kGradBar,        ///< [P]
  kHessian,        ///< [P] of Dual<T>; second order only.
  kTheta,          ///< [K][P]
  kGrad,           ///< [K][P]
  kState,          ///< [K - 1][S]
  kStateBar,       ///< [S]
  kRuleScratch,    ///< SweepPlan::n_scratch().
  kStep,           ///< SweepPlan::n_step().
};
constexpr uint32_t kParts = 12;

/// Partial results of looking for values that are not finite.
constexpr uint32_t kFlags = 256;

/// Where a part lies: `offset` values from the beginning of the slot, or of the
/// block's shared memory.
struct Place {
  uint64_t offset;
  uint64_t values;
  bool shared;
};

/// Sizes and places of a team's scratch memory, in values of 4 bytes.
struct TaskLayout {
  Place parts[kParts];
  uint64_t slot_values;    ///< Global memory of a team.
  uint64_t shared_values;  ///< Shared memory of a block.

  FEWSTEP_HD const Place& at(Part part) const {
    return parts[static_cast<uint32_t>(part)];
  }
};

/// Whether a flag, 0 or 1, is set.
template <class T>
FEWSTEP_INLINE bool is_one(const T& flag) {
  return flag > constant<T>(0.0F);
}

/// What every task of a launch shares. No pointers but those of the network.
struct TaskProgram {
  Network network;
  Rule rule;
  uint32_t steps;
  bool second_order;
  bool has_step_weights;
  OuterMethod method;
  bool fixed_phi;
  uint32_t inner_batch;  ///< Of meta-gradients; 0: the whole support set.
  bool scores_before;    ///< Evaluations also score theta_0.
  uint32_t n_support, n_query;
  uint32_t support_tile;  ///< Of the dual workspace.
  uint32_t tile;          ///< Of the workspace: the larger one.
  TaskLayout layout;
};

/// Arrays in global memory. Rows of `tasks` arrays are tasks of the iteration;
/// rows of the bars are tasks of the wave, from its first on.
template <class T>
struct TaskArrays {
  const T* theta;             ///< [P]
  const T* phi;               ///< [n_phi]
  const float* step_weights;  ///< [K + 1], if has_step_weights.

  // Training tasks' support sets are in the order of their minibatches.
  const T* support_x;              ///< [tasks][n_support][n_in]
  const T* query_x;                ///< [tasks][n_query][n_in]
  const uint16_t* support_labels;  ///< [tasks][n_support], or null.
  const uint16_t* query_labels;    ///< [tasks][n_query], or null.
  const T* support_targets;        ///< [tasks][n_support][n_out], or null.
  const T* query_targets;          ///< [tasks][n_query][n_out], or null.

  T* scratch;  ///< [teams][slot_values]

  T* theta_bar;     ///< [wave][P]
  T* phi_bar;       ///< [wave][n_phi]
  T* query_loss;    ///< [tasks]
  T* support_loss;  ///< [tasks] before adaptation.
  T* finite;        ///< [tasks] 1: loss and gradients are all finite, else 0.
  T* n_right;       ///< [tasks] evaluations: queries right.
  /// [tasks] Evaluations of scores_before: queries right at theta_0, their loss
  /// in support_loss; and finite is 1 if adaptation never diverged.
  T* n_right_before;
  /// [P + n_phi + 1] the last counts the tasks that are in the sums.
  T* sum;
};

/// Arrays of [tasks] above that are results.
constexpr uint32_t kTaskResults = 5;

/// Tasks [begin, end) of those a GPU has of an iteration.
struct Wave {
  uint32_t begin, end;
  /// The sums of the wave at 0 go on from what is in `sum`, another GPU's
  /// tasks.
  bool goes_on = false;
};

/// A team's scratch memory.
template <class T>
struct Slot {
  const TaskLayout* layout;
  T* global;
  T* shared;

  FEWSTEP_HD T* at(Part part) const {
    const Place& place = layout->at(part);
    return (place.shared ? shared : global) + place.offset;
  }
  FEWSTEP_HD Dual<T>* dual_at(Part part) const {
    return reinterpret_cast<Dual<T>*>(at(part));
  }
};

FEWSTEP_HD inline SweepPlan sweep_plan(const TaskProgram& p,
                                       const float* step_weights) {
  SweepPlan plan = {};
  plan.network = &p.network;
  plan.rule = &p.rule;
  plan.steps = p.steps;
  plan.second_order = p.second_order;
  plan.step_weights = p.has_step_weights ? step_weights : nullptr;
  plan.method = p.method;
  plan.fixed_phi = p.fixed_phi;
  plan.inner_batch = p.inner_batch;
  return plan;
}

/// Buffers of adapt(), and of sweep() but for its results.
template <class T>
FEWSTEP_HD SweepBuffers<T> scratch_buffers(const TaskProgram& p,
                                           const Slot<T>& slot) {
  T* const scalars = slot.at(Part::kScalars);
  SweepBuffers<T> b = {};
  b.theta = slot.at(Part::kTheta);
  b.grad = slot.at(Part::kGrad);
  b.state = slot.at(Part::kState);
  b.support_loss = scalars;
  b.scratch = slot.at(Part::kRuleScratch);
  b.step = slot.at(Part::kStep);
  b.query_loss = scalars + p.steps;
  b.loss_bar = scalars + p.steps + 1;
  b.workspace = {slot.at(Part::kWorkspace), p.tile};
  b.state_bar = slot.at(Part::kStateBar);
  b.grad_bar = slot.at(Part::kGradBar);
  b.hessian = slot.dual_at(Part::kHessian);
  b.dual_workspace = {slot.dual_at(Part::kDualWorkspace), p.support_tile};
  return b;
}

template <class T>
FEWSTEP_HD Batch<T> support_of(const TaskProgram& p,
                               const TaskArrays<T>& a,
                               uint32_t t) {
  const uint64_t first = uint64_t{t} * p.n_support;
  return {a.support_x + first * p.network.n_in,
          a.support_labels != nullptr ? a.support_labels + first : nullptr,
          a.support_targets != nullptr
              ? a.support_targets + first * p.network.n_out
              : nullptr,
          p.n_support};
}
template <class T>
FEWSTEP_HD Batch<T> query_of(const TaskProgram& p,
                             const TaskArrays<T>& a,
                             uint32_t t) {
  const uint64_t first = uint64_t{t} * p.n_query;
  return {a.query_x + first * p.network.n_in,
          a.query_labels != nullptr ? a.query_labels + first : nullptr,
          a.query_targets != nullptr ? a.query_targets + first * p.network.n_out
                                     : nullptr,
          p.n_query};
}

/// flags[i] = 1 if values i, i + kFlags, .. of both arrays are finite, else 0.
template <class T, class E>
FEWSTEP_HD void look_for_not_finite(
    const E& e, const T* a, uint32_t n_a, const T* b, uint32_t n_b, T* flags) {
  e.for_each(kFlags, [&](uint32_t i) {
    bool finite = true;
    for (uint32_t k = i; k < n_a; k += kFlags) {
      finite = finite && is_finite(a[k]);
    }
    for (uint32_t k = i; k < n_b; k += kFlags) {
      finite = finite && is_finite(b[k]);
    }
    flags[i] = constant<T>(finite ? 1.0F : 0.0F);
  });
}

/// Task t: its row of theta_bar and phi_bar, its losses, and whether all of
/// them are finite (the loss before adaptation may be anything).
template <class T, class E, class Ops>
FEWSTEP_HD void meta_gradient_task(const E& e,
                                   Ops& ops,
                                   const TaskProgram& p,
                                   const TaskArrays<T>& a,
                                   const Slot<T>& slot,
                                   uint32_t t,
                                   uint32_t row) {
  const SweepPlan plan = sweep_plan(p, a.step_weights);
  SweepBuffers<T> b = scratch_buffers(p, slot);
  b.theta_bar = a.theta_bar + uint64_t{row} * p.network.n_params;
  b.phi_bar = a.phi_bar + uint64_t{row} * p.rule.n_phi;
  const PlainView<T> theta = {a.theta};
  const PlainView<T> phi = {a.phi};
  solve_task(
      e, ops, plan, b, theta, phi, support_of(p, a, t), query_of(p, a, t));

  T* const flags = slot.at(Part::kFlags);
  look_for_not_finite(
      e, b.theta_bar, p.network.n_params, b.phi_bar, p.rule.n_phi, flags);
  e.barrier();
  e.for_each(1, [&](uint32_t) {
    bool finite = is_finite(*b.query_loss);
    for (uint32_t i = 0; i < kFlags; ++i) {
      finite = finite && is_one(flags[i]);
    }
    a.query_loss[t] = *b.query_loss;
    a.support_loss[t] = b.support_loss[0];
    a.finite[t] = constant<T>(finite ? 1.0F : 0.0F);
  });
  e.barrier();
}

/// The queries at `theta`: batch_loss(ws), and for classes right[q] = 1 if
/// query q is: the first output that no other exceeds is the label.
template <class T, class E, class Ops>
FEWSTEP_HD void score_queries(const E& e,
                              Ops& ops,
                              const Network& network,
                              const PlainView<T>& theta,
                              const Workspace<T>& ws,
                              const Batch<T>& batch,
                              T* right) {
  for (uint32_t begin = 0; begin < batch.n; begin += ws.tile) {
    const uint32_t left = batch.n - begin;
    const uint32_t n = left < ws.tile ? left : ws.tile;
    forward(e,
            ops,
            network,
            theta,
            ws,
            batch.x + uint64_t{begin} * network.n_in,
            n);
    tile_loss(e, ops, network, ws, batch, begin, n, false);
    if (batch.labels == nullptr) continue;
    e.for_each(n, [&](uint32_t q) {
      const T* const z = outputs(network, ws) + uint64_t{q} * network.n_out;
      uint32_t best = 0;
      for (uint32_t o = 1; o < network.n_out; ++o) {
        if (z[o] > z[best]) best = o;
      }
      right[begin + q] =
          constant<T>(best == batch.labels[begin + q] ? 1.0F : 0.0F);
    });
    e.barrier();
  }
}

/// *loss and, for classes, *n_right of what score_queries() left.
template <class T, class E>
FEWSTEP_HD void store_score(const E& e,
                            const Workspace<T>& ws,
                            const Batch<T>& batch,
                            const T* right,
                            T* loss,
                            T* n_right) {
  e.for_each(1, [&](uint32_t) {
    *loss = *batch_loss(ws);
    if (batch.labels == nullptr) return;
    T sum = constant<T>(0.0F);
    for (uint32_t q = 0; q < batch.n; ++q) sum = sum + right[q];
    *n_right = sum;
  });
  e.barrier();
}

/// Task t: its query loss after adaptation and, for classes, how many queries
/// are right; with scores_before the same before it, and whether a loss or a
/// parameter on the way was not finite.
template <class T, class E, class Ops>
FEWSTEP_HD void evaluate_task(const E& e,
                              Ops& ops,
                              const TaskProgram& p,
                              const TaskArrays<T>& a,
                              const Slot<T>& slot,
                              uint32_t t) {
  const Network& network = p.network;
  SweepPlan plan = sweep_plan(p, a.step_weights);
  plan.inner_batch = 0;
  const SweepBuffers<T> b = scratch_buffers(p, slot);
  const Workspace<T> ws = b.workspace;
  const Batch<T> batch = query_of(p, a, t);
  T* const flags = slot.at(Part::kFlags);
  const PlainView<T> theta = {a.theta};
  if (p.scores_before) {
    score_queries(e, ops, network, theta, ws, batch, flags);
    store_score(e, ws, batch, flags, a.support_loss + t, a.n_right_before + t);
  }
  adapt(e, ops, plan, b, theta, PlainView<T>{a.phi}, support_of(p, a, t));
  const PlainView<T> adapted = {b.theta +
                                uint64_t{p.steps - 1} * network.n_params};
  if (p.scores_before) {
    look_for_not_finite(
        e, adapted.data, network.n_params, b.support_loss, p.steps, flags);
    e.barrier();
    e.for_each(1, [&](uint32_t) {
      bool finite = true;
      for (uint32_t i = 0; i < kFlags; ++i) finite = finite && is_one(flags[i]);
      a.finite[t] = constant<T>(finite ? 1.0F : 0.0F);
    });
    e.barrier();
  }
  score_queries(e, ops, network, adapted, ws, batch, flags);
  store_score(e, ws, batch, flags, a.query_loss + t, a.n_right + t);
}

/// The scratch memory of a team.
template <class T>
FEWSTEP_HD Slot<T> slot_of(const TaskProgram& p,
                           const TaskArrays<T>& a,
                           T* shared,
                           uint32_t team) {
  return {&p.layout, a.scratch + uint64_t{team} * p.layout.slot_values, shared};
}

/// Tasks team, team + n_teams, .. of the wave.
template <class T, class E, class Ops>
FEWSTEP_HD void run_meta_gradients(const E& e,
                                   Ops& ops,
                                   const TaskProgram& p,
                                   const TaskArrays<T>& a,
                                   const Wave& wave,
                                   T* shared,
                                   uint32_t team,
                                   uint32_t n_teams) {
  const Slot<T> slot = slot_of(p, a, shared, team);
  for (uint32_t t = wave.begin + team; t < wave.end; t += n_teams) {
    meta_gradient_task(e, ops, p, a, slot, t, t - wave.begin);
  }
}

template <class T, class E, class Ops>
FEWSTEP_HD void run_evaluations(const E& e,
                                Ops& ops,
                                const TaskProgram& p,
                                const TaskArrays<T>& a,
                                const Wave& wave,
                                T* shared,
                                uint32_t team,
                                uint32_t n_teams) {
  const Slot<T> slot = slot_of(p, a, shared, team);
  for (uint32_t t = wave.begin + team; t < wave.end; t += n_teams) {
    evaluate_task(e, ops, p, a, slot, t);
  }
}

/// sum[i] = (sum over the finite tasks of the waves so far, ascending, of
/// bar[i]): the first wave starts at +0, or goes on from another GPU's tasks. A
/// task left out by the CPU engine has a loss or a gradient that is not finite,
/// so leaving those out here gives the same sums. The last sum is of ones.
template <class T, class E>
FEWSTEP_HD void reduce_tasks(const E& e,
                             const TaskProgram& p,
                             const TaskArrays<T>& a,
                             const Wave& wave) {
  const uint32_t n_theta = p.network.n_params;
  const uint32_t n_learned = n_theta + p.rule.n_phi;
  const uint32_t n_tasks = wave.end - wave.begin;
  const bool begins = wave.begin == 0 && !wave.goes_on;
  e.for_each(n_learned + 1, [&](uint32_t i) {
    const T* const finite = a.finite + wave.begin;
    T sum = begins ? constant<T>(0.0F) : a.sum[i];
    if (i == n_learned) {
      for (uint32_t t = 0; t < n_tasks; ++t) {
        if (is_one(finite[t])) sum = sum + constant<T>(1.0F);
      }
      a.sum[i] = sum;
      return;
    }
    const bool is_theta = i < n_theta;
    const uint64_t step = is_theta ? n_theta : p.rule.n_phi;
    const T* const bars =
        is_theta ? a.theta_bar + i : a.phi_bar + (i - n_theta);
    uint32_t t = 0;
    // Loads in flight hide the memory's latency; the sum goes by one.
    constexpr uint32_t kAhead = 16;
    for (; t + kAhead <= n_tasks; t += kAhead) {
      T bar[kAhead];
      T used[kAhead];
      FEWSTEP_UNROLL(16)
      for (uint32_t k = 0; k < kAhead; ++k) {
        bar[k] = bars[(t + k) * step];
        used[k] = finite[t + k];
      }
      FEWSTEP_UNROLL(16)
      for (uint32_t k = 0; k < kAhead; ++k) {
        if (is_one(used[k])) sum = sum + bar[k];
      }
    }
    for (; t < n_tasks; ++t) {
      if (is_one(finite[t])) sum = sum + bars[t * step];
    }
    a.sum[i] = sum;
  });
}

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_TASK_PROGRAM_H_
