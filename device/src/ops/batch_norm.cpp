// Firmware kernels of batch_norm, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/layers/norm.h"

#include "../op_table.h"

FEWSTEP_DEFINE_LAYER(BatchNorm, fewstep_op_batch_norm);
