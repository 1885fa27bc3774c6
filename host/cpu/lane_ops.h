// The operations of lib/ at Lanes and Dual<Lanes>, compiled once.
//
// An Ops (inner_loop.h) whose members are instantiated in lane_ops_*.cpp, one
// file a weight view, so that no other file compiles the kernels again.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_LANE_OPS_H_
#define FEWSTEP_HOST_CPU_LANE_OPS_H_

#include "fewstep/executor/serial.h"
#include "fewstep/host/lanes.h"
#include "fewstep/layers/layer.h"
#include "fewstep/layers/tile.h"
#include "fewstep/losses/loss.h"

namespace fewstep {

template <class T>
struct RuleCall;
template <class T>
struct RuleVjpCall;

#if defined(__AVX512F__)
// 32 vector registers: 20 sums, 4 weights, and the input read from memory.
// Tangents alone take the weights' values and their tangents in turn.
template <>
struct TileShape<Lanes> : SimdTileShape<4, 5, 5, 0> {};
template <>
struct TileShape<Dual<Lanes>> : SimdTileShape<2, 5, 5, 0> {};
template <>
struct TangentTileShape<Lanes> : SimdTileShape<4, 5, 5, 0> {};
#else
// 16 vector registers: 12 sums, 4 weights, and the input read from memory.
template <>
struct TileShape<Lanes> : SimdTileShape<4, 3, 3, 0> {};
template <>
struct TangentTileShape<Lanes> : SimdTileShape<2, 5, 5, 0> {};
#endif

namespace host {

struct LaneOps {
  template <class W, class T>
  void forward(const SerialExecutor& e,
               LayerOp op,
               const LayerCall<T>& c) const;
  template <class W, class T>
  void weight_gradient(const SerialExecutor& e,
                       LayerOp op,
                       const LayerCall<T>& c) const;
  template <class W, class T>
  void input_gradient(const SerialExecutor& e,
                      LayerOp op,
                      const LayerCall<T>& c) const;
  template <class T>
  void loss(const SerialExecutor& e, LossOp op, const LossCall<T>& c) const;
  template <class W, class R>
  void update(const SerialExecutor& e,
              const RuleCall<Lanes>& c,
              const W& theta,
              const R& phi) const;
  template <class W, class R>
  void vjp(const SerialExecutor& e,
           const RuleVjpCall<Lanes>& c,
           const W& theta,
           const R& phi) const;
};

}  // namespace host
}  // namespace fewstep

#endif  // FEWSTEP_HOST_CPU_LANE_OPS_H_
