// Firmware kernels of softmax_cross_entropy, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/losses/loss.h"

#include "../op_table.h"

FEWSTEP_DEFINE_LOSS(SoftmaxCrossEntropy, fewstep_op_softmax_cross_entropy);
