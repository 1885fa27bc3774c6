// What one thread block does for a session: adapt, predict or evaluate, all of
// it, in one launch.
//
// A template over the executor, so that the same source runs as a CUDA kernel
// (cuda_backend.cu) and, in tests, item by item, shuffled, and checked for
// races. The gradient and the step (step_adapted) are lib/'s, which the trainer
// and the firmware run too; the guards and the use of memory are those of
// device/src/session.cpp: theta_0 and what is frozen are read in the capsule, a
// vector holds what adapts, and the gradient turns into theta_{k+1} in place.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_PORTS_JETSON_BLOCK_PROGRAM_H_
#define FEWSTEP_PORTS_JETSON_BLOCK_PROGRAM_H_

#include "fewstep/capsule.h"
#include "fewstep/inner_loop.h"
#include "fewstep/ops.h"
#include "fewstep/step_options.h"
#include "session_layout.h"
#include "stored_view.h"

namespace fewstep::jetson {

enum class BlockCommand : uint32_t { kAdapt, kPredict, kEvaluate };

/// Index of the parameters in the capsule; 1, 2, ... are vectors in memory.
constexpr uint32_t kTheta0 = 0;

/// One call, in memory that both sides reach. The caller writes the first part,
/// the block the second.
struct BlockCall {
  BlockCommand command;
  uint32_t n;        ///< Examples, in BlockMemory::staged_x and its like.
  uint32_t steps;    ///< kAdapt: K.
  uint32_t current;  ///< Parameters to start from.
  uint32_t entry;    ///< kAdapt: parameters that must survive, or kTheta0.

  Status status;  ///< kOk or kDiverged.
  uint32_t dest;  ///< kAdapt: where theta_K is.
};

/// Partial sums of the test for finite values, in two stages.
constexpr uint32_t kSums = 256;
constexpr uint32_t kGroups = 16;
/// Values of BlockMemory::sums: these, and the scale of clipping.
constexpr uint32_t kSumValues = kSums + kGroups + 1;

/// Everything a session's block reads and writes. Pointers are the block's.
template <class T>
struct BlockMemory {
  Network network;  ///< Layers and stored arrays: in the block's own copy of
  Rule rule;        ///< the capsule.
  StoredArray init;
  StoredArray rates;

  Workspace<T> workspace;
  T* vectors;  ///< [n][A] parameters 1, 2, ..., what adapts of them.
  T* state;    ///< [A n_state_per_param], of the rule.
  T* scratch;  ///< [n_scratch] of the rule
  T* sums;     ///< [kSumValues]

  Primal<T>* x;        ///< [n][n_in] examples of the call at hand.
  Label<T>* labels;    ///< [n], or null.
  Primal<T>* targets;  ///< [n][n_out], or null.

  BlockCall* call;
  const Primal<T>* staged_x;  ///< The same, where the caller wrote them.
  const Label<T>* staged_labels;
  const Primal<T>* staged_targets;
  T* losses;   ///< [max_steps] of step k; [0] of an evaluation.
  T* outputs;  ///< [n][n_out] of a prediction.
};

template <class T>
FEWSTEP_INLINE T* vector_at(const BlockMemory<T>& m, uint32_t index) {
  return m.vectors + size_t{index - 1U} * m.network.n_adapted;
}

/// to[i] = from[i] for i in [0, n)
template <class X, class E>
FEWSTEP_CALLED void copy_values(const E& e, const X* from, uint64_t n, X* to) {
  // Counts of values are below 2^32: plan_session.
  e.for_each(static_cast<uint32_t>(n), [=](uint32_t i) { to[i] = from[i]; });
}

/// Whether values[0..n) are finite: sums of v * 0, which is NaN for others. The
/// same answer in every thread.
template <class T, class E>
FEWSTEP_CALLED bool all_finite(const E& e,
                               const T* values,
                               uint32_t n,
                               T* sums) {
  const T zero = constant<T>(0.0F);
  e.for_each(kSums, [=](uint32_t j) {
    T sum = zero;
    for (uint32_t i = j; i < n; i += kSums) sum = fma(values[i], zero, sum);
    sums[j] = sum;
  });
  e.barrier();
  e.for_each(kGroups, [=](uint32_t g) {
    T sum = zero;
    for (uint32_t j = g; j < kSums; j += kGroups) sum = sum + sums[j];
    sums[kSums + g] = sum;
  });
  e.barrier();
  T sum = zero;
  for (uint32_t g = 0; g < kGroups; ++g) sum = sum + sums[kSums + g];
  return is_finite(sum);
}

/// How the block reads parameters: floats as f32 or as the capsule's f16, which
/// is known at run time; other number types (of tests) as they are.
template <class T>
struct Stored {
  using View = PlainView<T>;
  static FEWSTEP_HD View of(const void* data, bool) {
    return {static_cast<const T*>(data)};
  }
};
template <>
struct Stored<float> {
  using View = StoredView;
  static FEWSTEP_HD View of(const void* data, bool f16) { return {data, f16}; }
};
template <class T>
using BlockView = typename Stored<T>::View;

/// The parameters `index`, and those of theta_0 that are frozen.
template <class T>
FEWSTEP_HD AdaptedView<BlockView<T>> theta_at(const BlockMemory<T>& m,
                                              uint32_t index) {
  const bool f16 = m.init.storage == Storage::kF16;
  const BlockView<T> initial = Stored<T>::of(m.init.data, f16);
  if (index == kTheta0) return {initial, initial, true};
  return {initial, Stored<T>::of(vector_at(m, index), false), false};
}

/// Operations for such views: the kernels of `Ops` that read what is there.
template <class Ops>
struct StoredOps {
  Ops ops;

  template <class W, class E, class T>
  FEWSTEP_HD void forward(const E& e, LayerOp op, const LayerCall<T>& c) const {
    if constexpr (IsSame<T, float>::value) {
      if (is_f16(c.weights)) {
        ops.template forward<F16View>(e, op, c);
        return;
      }
    }
    ops.template forward<PlainView<T>>(e, op, c);
  }
  /// Reads no weights.
  template <class W, class E, class T>
  FEWSTEP_HD void weight_gradient(const E& e,
                                  LayerOp op,
                                  const LayerCall<T>& c) const {
    ops.template weight_gradient<PlainView<T>>(e, op, c);
  }
  template <class W, class E, class T>
  FEWSTEP_HD void input_gradient(const E& e,
                                 LayerOp op,
                                 const LayerCall<T>& c) const {
    if constexpr (IsSame<T, float>::value) {
      if (is_f16(c.weights)) {
        ops.template input_gradient<F16View>(e, op, c);
        return;
      }
    }
    ops.template input_gradient<PlainView<T>>(e, op, c);
  }
  template <class E, class T>
  FEWSTEP_HD void loss(const E& e, LossOp op, const LossCall<T>& c) const {
    ops.loss(e, op, c);
  }
  template <class W, class R, class E, class T>
  FEWSTEP_HD void update(const E& e,
                         const RuleCall<T>& c,
                         const W& theta,
                         const StoredArray& phi) const {
    const void* const data = phi.data;
    if constexpr (IsSame<T, float>::value) {
      if (phi.storage == Storage::kF16) {
        const F16View view = {static_cast<const uint16_t*>(data)};
        ops.template update<W, F16View>(e, c, theta, view);
        return;
      }
      if (phi.storage == Storage::kLog8) {
        const Log8View view = {static_cast<const uint8_t*>(data),
                               phi.log8_exponent};
        ops.template update<W, Log8View>(e, c, theta, view);
        return;
      }
    }
    const PlainView<T> view = {static_cast<const T*>(data)};
    ops.template update<W, PlainView<T>>(e, c, theta, view);
  }
};

/// K steps from m.call->current:
///
///   theta_{k+1} = rule(theta_k, gradient of the mean loss at theta_k)
///
/// Stops at the first step whose loss or parameters are not finite.
template <class T, class E, class Ops>
FEWSTEP_HD void adapt_block(const E& e,
                            const Ops& ops,
                            const BlockMemory<T>& m,
                            const Workspace<T>& ws,
                            const Batch<T>& support,
                            const BlockCall& in) {
  const Network& network = m.network;
  const T* const loss = batch_loss(ws);
  uint32_t current = in.current;
  bool fine = true;
  for (uint32_t k = 0; fine && k < in.steps; ++k) {
    const AdaptedView<BlockView<T>> theta = theta_at(m, current);
    const uint32_t dest = free_vector(current, in.entry);
    T* const grad = vector_at(m, dest);
    gradient(e, ops, network, theta, ws, support, grad);
    e.for_each(1, [&](uint32_t) { m.losses[k] = *loss; });
    const bool stateful = m.rule.n_state_per_param != 0;
    RuleCall<T> c = {};
    c.network = &m.network;
    c.rule = &m.rule;
    c.step = k;
    c.loss = loss;
    c.grad = grad;
    c.state = stateful && k != 0 ? m.state : nullptr;
    c.next_state = stateful && k + 1 != in.steps ? m.state : nullptr;
    c.scratch = m.scratch;
    T* const scale = m.sums + kSumValues - 1;
    step_adapted(e, ops, c, theta.current, theta.at_initial, m.rates, scale);
    fine = all_finite(e, grad, network.n_adapted, m.sums) && is_finite(*loss);
    current = dest;
  }
  e.for_each(1, [&](uint32_t) {
    m.call->status = fine ? Status::kOk : Status::kDiverged;
    m.call->dest = current;
  });
}

/// m.outputs of the examples at m.x.
template <class T, class E, class Ops>
FEWSTEP_HD void predict_block(const E& e,
                              const Ops& ops,
                              const BlockMemory<T>& m,
                              const Workspace<T>& ws,
                              const BlockCall& in) {
  const Network& network = m.network;
  const AdaptedView<BlockView<T>> theta = theta_at(m, in.current);
  const T* const from = outputs(network, ws);
  for (uint32_t begin = 0; begin < in.n; begin += ws.tile) {
    const uint32_t left = in.n - begin;
    const uint32_t n = left < ws.tile ? left : ws.tile;
    const Primal<T>* const x = m.x + uint64_t{begin} * network.n_in;
    forward(e, ops, network, theta, ws, x, n);
    copy_values(e,
                from,
                uint64_t{n} * network.n_out,
                m.outputs + uint64_t{begin} * network.n_out);
    e.barrier();
  }
}

/// Does what m.call says, with its activations at `values`: m.workspace's, or
/// the block's shared memory.
template <class T, class E, class AnyOps>
FEWSTEP_HD void run_block(const E& e,
                          const AnyOps& any_ops,
                          const BlockMemory<T>& m,
                          T* values) {
  const StoredOps<AnyOps> ops = {any_ops};
  const Workspace<T> ws = {values, m.workspace.tile};
  const BlockCall in = *m.call;
  const Network& network = m.network;
  const bool answers = in.command != BlockCommand::kPredict;
  // Once over the bus; each step reads them twice.
  copy_values(e, m.staged_x, uint64_t{in.n} * network.n_in, m.x);
  if (answers && m.labels != nullptr) {
    copy_values(e, m.staged_labels, in.n, m.labels);
  }
  if (answers && m.targets != nullptr) {
    copy_values(e, m.staged_targets, uint64_t{in.n} * network.n_out, m.targets);
  }
  e.barrier();
  const Batch<T> batch = {m.x, m.labels, m.targets, in.n};
  switch (in.command) {
    case BlockCommand::kAdapt:
      adapt_block(e, ops, m, ws, batch, in);
      return;  // It says how it went.
    case BlockCommand::kPredict: predict_block(e, ops, m, ws, in); break;
    case BlockCommand::kEvaluate:
      mean_loss(e, ops, network, theta_at(m, in.current), ws, batch);
      e.for_each(1, [&](uint32_t) { m.losses[0] = *batch_loss(ws); });
      break;
  }
  e.for_each(1, [&](uint32_t) { m.call->status = Status::kOk; });
}

}  // namespace fewstep::jetson

#endif  // FEWSTEP_PORTS_JETSON_BLOCK_PROGRAM_H_
