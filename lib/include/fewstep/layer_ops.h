// How operations are chosen by code at compile time, and every layer.
//
// Apart from ops.h, so that what compiles the layers' kernels is not compiled
// again for a rule.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYER_OPS_H_
#define FEWSTEP_LAYER_OPS_H_

#include "fewstep/layers/activation.h"
#include "fewstep/layers/context.h"
#include "fewstep/layers/conv2d.h"
#include "fewstep/layers/dense.h"
#include "fewstep/layers/norm.h"
#include "fewstep/layers/pool.h"

namespace fewstep {

template <class T>
struct LossCall;
template <class T>
struct RuleCall;
template <class T>
struct RuleVjpCall;

template <class... Op>
struct OpList {};

template <class Layers, class Losses, class Rules>
struct StaticOps;

template <class... Layers, class... Losses, class... Rules>
struct StaticOps<OpList<Layers...>, OpList<Losses...>, OpList<Rules...>> {
  template <class W, class E, class T>
  FEWSTEP_HD void forward(const E& e, LayerOp op, const LayerCall<T>& c) const {
    ((op == Layers::kOp ? Layers::template forward<W>(e, c) : void()), ...);
  }
  template <class W, class E, class T>
  FEWSTEP_HD void weight_gradient(const E& e,
                                  LayerOp op,
                                  const LayerCall<T>& c) const {
    ((op == Layers::kOp ? Layers::template weight_gradient<W>(e, c) : void()),
     ...);
  }
  template <class W, class E, class T>
  FEWSTEP_HD void input_gradient(const E& e,
                                 LayerOp op,
                                 const LayerCall<T>& c) const {
    ((op == Layers::kOp ? Layers::template input_gradient<W>(e, c) : void()),
     ...);
  }
  template <class E, class T>
  FEWSTEP_HD void loss(const E& e, LossOp op, const LossCall<T>& c) const {
    ((op == Losses::kOp ? Losses::run(e, c) : void()), ...);
  }
  template <class W, class R, class E, class T>
  FEWSTEP_HD void update(const E& e,
                         const RuleCall<T>& c,
                         const W& theta,
                         const R& phi) const {
    ((c.rule->op == Rules::kOp ? Rules::update(e, c, theta, phi) : void()),
     ...);
  }
  template <class W, class R, class E, class T>
  FEWSTEP_HD void vjp(const E& e,
                      const RuleVjpCall<T>& c,
                      const W& theta,
                      const R& phi) const {
    ((c.rule->op == Rules::kOp ? Rules::vjp(e, c, theta, phi) : void()), ...);
  }
};

using AllLayers = OpList<Dense,
                         Conv2d,
                         Relu,
                         Tanh,
                         MaxPool,
                         GlobalAvgPool,
                         Flatten,
                         GroupNorm,
                         BatchNorm,
                         Context>;

}  // namespace fewstep

#endif  // FEWSTEP_LAYER_OPS_H_
