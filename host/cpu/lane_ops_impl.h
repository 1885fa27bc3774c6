// Definitions behind lane_ops.h; included by lane_ops_*.cpp only.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_LANE_OPS_IMPL_H_
#define FEWSTEP_HOST_CPU_LANE_OPS_IMPL_H_

#include "fewstep/layer_ops.h"
#include "lane_ops.h"

namespace fewstep::host {

/// Of tangents alone (tape.h) there are kernels of dense and conv2d only.
template <class W>
struct LaneLayersOf {
  using Type = StaticOps<AllLayers, OpList<>, OpList<>>;
};
template <class View>
struct LaneLayersOf<TangentView<View>> {
  using Type = StaticOps<OpList<Dense, Conv2d>, OpList<>, OpList<>>;
};
template <class W>
using LaneLayers = typename LaneLayersOf<W>::Type;

template <class W, class T>
void LaneOps::forward(const SerialExecutor& e,
                      LayerOp op,
                      const LayerCall<T>& c) const {
  LaneLayers<W>().template forward<W>(e, op, c);
}
template <class W, class T>
void LaneOps::weight_gradient(const SerialExecutor& e,
                              LayerOp op,
                              const LayerCall<T>& c) const {
  LaneLayers<W>().template weight_gradient<W>(e, op, c);
}
template <class W, class T>
void LaneOps::input_gradient(const SerialExecutor& e,
                             LayerOp op,
                             const LayerCall<T>& c) const {
  LaneLayers<W>().template input_gradient<W>(e, op, c);
}

}  // namespace fewstep::host

/// Instantiates the layer operations for number type T at weight view W.
#define FEWSTEP_LANE_LAYERS(T, ...)                               \
  template void LaneOps::forward<__VA_ARGS__, T>(                 \
      const SerialExecutor&, LayerOp, const LayerCall<T>&) const; \
  template void LaneOps::weight_gradient<__VA_ARGS__, T>(         \
      const SerialExecutor&, LayerOp, const LayerCall<T>&) const; \
  template void LaneOps::input_gradient<__VA_ARGS__, T>(          \
      const SerialExecutor&, LayerOp, const LayerCall<T>&) const

#endif  // FEWSTEP_HOST_CPU_LANE_OPS_IMPL_H_
