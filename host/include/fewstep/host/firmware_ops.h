// Every operation of the firmware library: what a workstation links.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_FIRMWARE_OPS_H_
#define FEWSTEP_HOST_FIRMWARE_OPS_H_

#include "fewstep/device/ops.h"

namespace fewstep::host {

/// FirmwareOps::list opens any capsule of this version.
using FirmwareOps = OpsF16<Dense,
                           Conv2d,
                           Relu,
                           Tanh,
                           MaxPool,
                           GlobalAvgPool,
                           Flatten,
                           GroupNorm,
                           BatchNorm,
                           SoftmaxCrossEntropy,
                           MeanSquaredError,
                           Sgd,
                           Lslr,
                           MetaSgd>;

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_FIRMWARE_OPS_H_
