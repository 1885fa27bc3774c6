// Firmware kernels of flatten, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/layers/activation.h"

#include "../op_table.h"

FEWSTEP_DEFINE_PLAIN_LAYER(Flatten, fewstep_op_flatten);
