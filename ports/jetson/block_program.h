// What one thread block does for a session: adapt, predict or evaluate, all of
// it, in one launch.
//
// A template over the executor, so that the same source runs as a CUDA kernel
// (cuda_backend.cu) and, in tests, item by item, shuffled, and checked for
// races. What it computes is lib/'s inner loop with the guards of
// device/src/session.cpp, and gives that session's bits.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_PORTS_JETSON_BLOCK_PROGRAM_H_
#define FEWSTEP_PORTS_JETSON_BLOCK_PROGRAM_H_

#include "fewstep/capsule.h"
#include "fewstep/inner_loop.h"
#include "fewstep/ops.h"

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

/// Everything a session's block reads and writes. Pointers are the block's.
template <class T>
struct BlockMemory {
  Network network;  ///< Layers and stored arrays: in the block's own copy of
  Rule rule;        ///< the capsule.
  StoredArray init;
  StoredArray rates;

  Workspace<T> workspace;
  T* vectors;  ///< [n][P] parameters 1, 2, ...
  T* state;    ///< [P n_state_per_param], of the rule.
  T* scratch;  ///< [n_scratch] of the rule
  T* sums;     ///< [kSums + kGroups]

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

/// A vector that is neither theta_k nor the parameters of entry, if these must
/// survive (entry != kTheta0).
FEWSTEP_HD constexpr uint32_t free_vector(uint32_t current, uint32_t entry) {
  uint32_t index = 1;
  while (index == current || index == entry) ++index;
  return index;
}

template <class T>
FEWSTEP_INLINE T* vector_at(const BlockMemory<T>& m, uint32_t index) {
  return m.vectors + size_t{index - 1U} * m.network.n_params;
}

/// to[i] = from[i] for i in [0, n)
template <class X, class E>
FEWSTEP_HD void copy_values(const E& e, const X* from, uint64_t n, X* to) {
  // Counts of values are below 2^32: plan_session.
  e.for_each(static_cast<uint32_t>(n), [=](uint32_t i) { to[i] = from[i]; });
}

/// Whether values[0..n) are finite: sums of v * 0, which is NaN for others. The
/// same answer in every thread.
template <class T, class E>
FEWSTEP_HD bool all_finite(const E& e, const T* values, uint32_t n, T* sums) {
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

/// One pass over the examples of the call at `theta`: the batch's gradient in
/// `grad` when that is not null, the loss in batch_loss() when `loss`, the
/// outputs in m.outputs otherwise.
template <class T, class E, class W, class Ops>
FEWSTEP_HD void run_batch(const E& e,
                          const Ops& ops,
                          const BlockMemory<T>& m,
                          const W& theta,
                          uint32_t n_total,
                          bool loss,
                          T* grad) {
  const Network& network = m.network;
  const Batch<T> batch = {m.x, m.labels, m.targets, n_total};
  for (uint32_t begin = 0; begin < n_total; begin += m.workspace.tile) {
    const uint32_t left = n_total - begin;
    const uint32_t n = left < m.workspace.tile ? left : m.workspace.tile;
    const Primal<T>* const x = m.x + uint64_t{begin} * network.n_in;
    forward(e, ops, network, theta, m.workspace, x, n);
    if (loss) {
      const bool gradient = grad != nullptr;
      tile_loss(e, ops, network, m.workspace, batch, begin, n, gradient);
    } else {
      copy_values(e,
                  static_cast<const T*>(outputs(network, m.workspace)),
                  uint64_t{n} * network.n_out,
                  m.outputs + uint64_t{begin} * network.n_out);
      e.barrier();
    }
    if (grad != nullptr) {
      backward(e, ops, network, theta, m.workspace, x, n, begin == 0, grad);
    }
  }
}

/// The step's update, whatever the storage of the rates. (Number types of tests
/// are stored as f32 only.)
template <class T, class E, class W, class Ops>
FEWSTEP_HD void run_update(const E& e,
                           const Ops& ops,
                           const BlockMemory<T>& m,
                           const RuleCall<T>& c,
                           const W& theta) {
  const void* const data = m.rates.data;
  if constexpr (IsSame<T, float>::value) {
    if (m.rates.storage == Storage::kF16) {
      update(e, ops, c, theta, F16View{static_cast<const uint16_t*>(data)});
      return;
    }
    if (m.rates.storage == Storage::kLog8) {
      const int16_t exponent = m.rates.log8_exponent;
      const Log8View phi = {static_cast<const uint8_t*>(data), exponent};
      update(e, ops, c, theta, phi);
      return;
    }
  }
  update(e, ops, c, theta, PlainView<T>{static_cast<const T*>(data)});
}

/// f(view of the parameters `index`). W0 is the view of the stored theta_0.
template <class W0, class T, class F>
FEWSTEP_HD void with_theta(const BlockMemory<T>& m,
                           uint32_t index,
                           const F& f) {
  const PlainView<T> plain = {index != kTheta0
                                  ? vector_at(m, index)
                                  : static_cast<const T*>(m.init.data)};
  if constexpr (IsSame<W0, PlainView<T>>::value) {
    f(plain);
  } else if (index != kTheta0) {
    f(plain);
  } else {
    f(W0::from({m.init.data, nullptr}));
  }
}

/// K steps from m.call->current:
///
///   theta_{k+1} = rule(theta_k, gradient of the mean loss at theta_k)
///
/// Stops at the first step whose loss or parameters are not finite.
template <class W0, class T, class E, class Ops>
FEWSTEP_HD void adapt_block(const E& e,
                            const Ops& ops,
                            const BlockMemory<T>& m,
                            const BlockCall& in) {
  uint32_t current = in.current;
  bool fine = true;
  for (uint32_t k = 0; fine && k < in.steps; ++k) {
    const uint32_t dest = free_vector(current, in.entry);
    T* const grad = vector_at(m, dest);
    with_theta<W0>(m, current, [&](const auto& theta) {
      run_batch(e, ops, m, theta, in.n, true, grad);
      const T* const loss = batch_loss(m.workspace);
      e.for_each(1, [&](uint32_t) { m.losses[k] = *loss; });
      RuleCall<T> c = {};
      c.network = &m.network;
      c.rule = &m.rule;
      c.step = k;
      c.loss = loss;
      c.grad = grad;
      c.begin = 0;
      c.n = m.network.n_params;
      const bool stateful = m.rule.n_state_per_param != 0;
      c.state = stateful && k != 0 ? m.state : nullptr;
      c.next_state = stateful && k + 1 != in.steps ? m.state : nullptr;
      c.scratch = m.scratch;
      run_update(e, ops, m, c, theta);
    });
    const bool finite_loss = is_finite(*batch_loss(m.workspace));
    fine = all_finite(e, grad, m.network.n_params, m.sums) && finite_loss;
    current = dest;
  }
  e.for_each(1, [&](uint32_t) {
    m.call->status = fine ? Status::kOk : Status::kDiverged;
    m.call->dest = current;
  });
}

/// Does what m.call says.
template <class W0, class T, class E, class Ops>
FEWSTEP_HD void run_block(const E& e, const Ops& ops, const BlockMemory<T>& m) {
  const BlockCall in = *m.call;
  const Network& network = m.network;
  const bool loss = in.command != BlockCommand::kPredict;
  // Once over the bus; each step reads them twice.
  copy_values(e, m.staged_x, uint64_t{in.n} * network.n_in, m.x);
  if (loss && m.labels != nullptr) {
    copy_values(e, m.staged_labels, in.n, m.labels);
  }
  if (loss && m.targets != nullptr) {
    copy_values(e, m.staged_targets, uint64_t{in.n} * network.n_out, m.targets);
  }
  e.barrier();
  if (in.command == BlockCommand::kAdapt) {
    adapt_block<W0>(e, ops, m, in);
    return;
  }
  with_theta<W0>(m, in.current, [&](const auto& theta) {
    run_batch(e, ops, m, theta, in.n, loss, static_cast<T*>(nullptr));
  });
  e.for_each(1, [&](uint32_t) {
    if (loss) m.losses[0] = *batch_loss(m.workspace);
    m.call->status = Status::kOk;
  });
}

}  // namespace fewstep::jetson

#endif  // FEWSTEP_PORTS_JETSON_BLOCK_PROGRAM_H_
