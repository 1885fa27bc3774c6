// Firmware kernels of group_norm, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/layers/norm.h"

#include "../op_table.h"

FEWSTEP_DEFINE_LAYER(GroupNorm, fewstep_op_group_norm);
