// The operations of lib/ as functions that kernels call: each is compiled once
// a kernel family, with registers of its own. Inlined, all layers at all of the
// sweep's call sites take nvcc minutes and the registers of the worst of them.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_CUDA_OPS_H_
#define FEWSTEP_HOST_CUDA_CUDA_OPS_H_

#include "fewstep/executor/gpu_tiles.h"
#include "fewstep/ops.h"

namespace fewstep::host {

/// One operation of a layer, a loss or a rule, not inlined.
template <class Op, class W, class E, class T>
__noinline__ __host__ __device__ void call_forward(const LayerCall<T>& c) {
  Op::template forward<W>(E(), c);
}
template <class Op, class W, class E, class T>
__noinline__ __host__ __device__ void call_weight_gradient(
    const LayerCall<T>& c) {
  Op::template weight_gradient<W>(E(), c);
}
template <class Op, class W, class E, class T>
__noinline__ __host__ __device__ void call_input_gradient(
    const LayerCall<T>& c) {
  Op::template input_gradient<W>(E(), c);
}
template <class Op, class E, class T>
__noinline__ __host__ __device__ void call_loss(const LossCall<T>& c) {
  Op::run(E(), c);
}

template <class Op, class E, class T, class W, class R>
__noinline__ __host__ __device__ void call_update(const RuleCall<T>& c,
                                                  const W& theta,
                                                  const R& phi) {
  Op::update(E(), c, theta, phi);
}
template <class Op, class E, class T, class W, class R>
__noinline__ __host__ __device__ void call_vjp(const RuleVjpCall<T>& c,
                                               const W& theta,
                                               const R& phi) {
  Op::vjp(E(), c, theta, phi);
}

template <class Layers, class Losses, class Rules>
struct CalledOps;

template <class... Layers, class... Losses, class... Rules>
struct CalledOps<OpList<Layers...>, OpList<Losses...>, OpList<Rules...>> {
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

using CudaOps = CalledOps<AllLayers, AllLosses, AllRules>;

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_CUDA_OPS_H_
