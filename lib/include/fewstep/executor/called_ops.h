// The operations of lib/ as functions that CUDA kernels call: each is compiled
// once a kernel, with registers of its own. Inlined, all layers at all call
// sites take nvcc minutes and the registers of the worst of them.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_EXECUTOR_CALLED_OPS_H_
#define FEWSTEP_EXECUTOR_CALLED_OPS_H_

#include "fewstep/ops.h"

#if !defined(__CUDACC__)
#error "called_ops.h is for CUDA: compile with nvcc"
#endif

namespace fewstep {

// What an operation is given lies in memory that, as far as the compiler knows,
// its stores could change: it would be loaded again in every loop. Copies that
// nobody else sees stay in registers. (A layer's own fields are read once an
// item: copied, they would not all fit.)

/// f(copy of c)
template <class Call, class F>
FEWSTEP_INLINE void with_copy(const Call& c, const F& f) {
  f(Call(c));
}
/// f(copies of c, theta and phi), for RuleCall and RuleVjpCall.
template <class Call, class W, class R, class F>
FEWSTEP_INLINE void with_copies(const Call& c,
                                const W& theta,
                                const R& phi,
                                const F& f) {
  const Network network = *c.network;
  const Rule rule = *c.rule;
  Call copy = c;
  copy.network = &network;
  copy.rule = &rule;
  f(copy, W(theta), R(phi));
}

/// One operation of a layer, a loss or a rule, not inlined.
template <class Op, class W, class E, class T>
__noinline__ __host__ __device__ void call_forward(const LayerCall<T>& c) {
  with_copy(c, [](const auto& own) { Op::template forward<W>(E(), own); });
}
template <class Op, class W, class E, class T>
__noinline__ __host__ __device__ void call_weight_gradient(
    const LayerCall<T>& c) {
  with_copy(c,
            [](const auto& own) { Op::template weight_gradient<W>(E(), own); });
}
template <class Op, class W, class E, class T>
__noinline__ __host__ __device__ void call_input_gradient(
    const LayerCall<T>& c) {
  with_copy(c,
            [](const auto& own) { Op::template input_gradient<W>(E(), own); });
}
template <class Op, class E, class T>
__noinline__ __host__ __device__ void call_loss(const LossCall<T>& c) {
  with_copy(c, [](const auto& own) { Op::run(E(), own); });
}

template <class Op, class E, class T, class W, class R>
__noinline__ __host__ __device__ void call_update(const RuleCall<T>& c,
                                                  const W& theta,
                                                  const R& phi) {
  with_copies(c, theta, phi, [](const auto& own, const W& t, const R& p) {
    Op::update(E(), own, t, p);
  });
}
template <class Op, class E, class T, class W, class R>
__noinline__ __host__ __device__ void call_vjp(const RuleVjpCall<T>& c,
                                               const W& theta,
                                               const R& phi) {
  with_copies(c, theta, phi, [](const auto& own, const W& t, const R& p) {
    Op::vjp(E(), own, t, p);
  });
}

template <class Layers, class Losses, class Rules>
struct CalledOpsOf;

template <class... Layers, class... Losses, class... Rules>
struct CalledOpsOf<OpList<Layers...>, OpList<Losses...>, OpList<Rules...>> {
  template <class W, class E, class T>
  FEWSTEP_HD void forward(const E&, LayerOp op, const LayerCall<T>& c) const {
    ((op == Layers::kOp ? call_forward<Layers, W, E>(c) : void()), ...);
  }
  template <class W, class E, class T>
  FEWSTEP_HD void weight_gradient(const E&,
                                  LayerOp op,
                                  const LayerCall<T>& c) const {
    ((op == Layers::kOp ? call_weight_gradient<Layers, W, E>(c) : void()), ...);
  }
  template <class W, class E, class T>
  FEWSTEP_HD void input_gradient(const E&,
                                 LayerOp op,
                                 const LayerCall<T>& c) const {
    ((op == Layers::kOp ? call_input_gradient<Layers, W, E>(c) : void()), ...);
  }
  template <class E, class T>
  FEWSTEP_HD void loss(const E&, LossOp op, const LossCall<T>& c) const {
    ((op == Losses::kOp ? call_loss<Losses, E>(c) : void()), ...);
  }
  template <class W, class R, class E, class T>
  FEWSTEP_HD void update(const E&,
                         const RuleCall<T>& c,
                         const W& theta,
                         const R& phi) const {
    ((c.rule->op == Rules::kOp ? call_update<Rules, E>(c, theta, phi) : void()),
     ...);
  }
  template <class W, class R, class E, class T>
  FEWSTEP_HD void vjp(const E&,
                      const RuleVjpCall<T>& c,
                      const W& theta,
                      const R& phi) const {
    ((c.rule->op == Rules::kOp ? call_vjp<Rules, E>(c, theta, phi) : void()),
     ...);
  }
};

/// Everything fewstep has.
using CalledOps = CalledOpsOf<AllLayers, AllLosses, AllRules>;

}  // namespace fewstep

#endif  // FEWSTEP_EXECUTOR_CALLED_OPS_H_
