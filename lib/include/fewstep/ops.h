// The set of operations an engine runs, chosen at compile time.
//
// StaticOps dispatches by comparing codes and inlines the kernels: on CUDA a
// switch, in tests the whole library. Firmware dispatches through a table of
// what it links (device/ops.h).
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_OPS_H_
#define FEWSTEP_OPS_H_

#include "fewstep/layer_ops.h"
#include "fewstep/losses/loss.h"
#include "fewstep/rules/adam.h"
#include "fewstep/rules/lstm.h"
#include "fewstep/rules/momentum.h"
#include "fewstep/rules/online_meta_sgd.h"
#include "fewstep/rules/rate_net.h"
#include "fewstep/rules/sgd.h"

namespace fewstep {

using AllLosses = OpList<SoftmaxCrossEntropy, MeanSquaredError>;
using AllRules =
    OpList<Sgd, Lslr, MetaSgd, Momentum, Adam, RateNet, Lstm, OnlineMetaSgd>;

/// Everything fewstep has.
using AllOps = StaticOps<AllLayers, AllLosses, AllRules>;

}  // namespace fewstep

#endif  // FEWSTEP_OPS_H_
