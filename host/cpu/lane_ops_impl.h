// Definitions behind lane_ops.h; included by lane_ops_*.cpp only.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_LANE_OPS_IMPL_H_
#define FEWSTEP_HOST_CPU_LANE_OPS_IMPL_H_

#include "fewstep/ops.h"
#include "lane_ops.h"

namespace fewstep::host {

template <class W, class T>
void LaneOps::forward(const SerialExecutor& e,
                      LayerOp op,
                      const LayerCall<T>& c) const {
  AllOps().template forward<W>(e, op, c);
}
template <class W, class T>
void LaneOps::weight_gradient(const SerialExecutor& e,
                              LayerOp op,
                              const LayerCall<T>& c) const {
  AllOps().template weight_gradient<W>(e, op, c);
}
template <class W, class T>
void LaneOps::input_gradient(const SerialExecutor& e,
                             LayerOp op,
                             const LayerCall<T>& c) const {
  AllOps().template input_gradient<W>(e, op, c);
}
template <class T>
void LaneOps::loss(const SerialExecutor& e,
                   LossOp op,
                   const LossCall<T>& c) const {
  AllOps().loss(e, op, c);
}
template <class W, class R>
void LaneOps::update(const SerialExecutor& e,
                     const RuleCall<Lanes>& c,
                     const W& theta,
                     const R& phi) const {
  AllOps().template update<W, R>(e, c, theta, phi);
}
template <class W, class R>
void LaneOps::vjp(const SerialExecutor& e,
                  const RuleVjpCall<Lanes>& c,
                  const W& theta,
                  const R& phi) const {
  AllOps().template vjp<W, R>(e, c, theta, phi);
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
