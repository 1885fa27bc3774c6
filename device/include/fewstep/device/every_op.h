// The list of every operation: what a workstation or a port's self test links,
// and the one place to add an operation to it. Firmware names only what its
// capsule needs (ops.h).
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_DEVICE_EVERY_OP_H_
#define FEWSTEP_DEVICE_EVERY_OP_H_

#include "fewstep/device/ops.h"

namespace fewstep {

/// EveryOp::list opens any capsule of this version.
using EveryOp = OpsF16<Dense,
                       Conv2d,
                       Relu,
                       Tanh,
                       MaxPool,
                       GlobalAvgPool,
                       Flatten,
                       GroupNorm,
                       BatchNorm,
                       Context,
                       SoftmaxCrossEntropy,
                       MeanSquaredError,
                       Sgd,
                       Lslr,
                       MetaSgd,
                       Momentum,
                       Adam,
                       RateNet,
                       Lstm,
                       OnlineMetaSgd,
                       StepOptions,
                       SparseMask>;

}  // namespace fewstep

#endif  // FEWSTEP_DEVICE_EVERY_OP_H_
