// Firmware kernels of momentum, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/rules/momentum.h"

#include "../op_table.h"

FEWSTEP_DEFINE_RULE(Momentum, fewstep_op_momentum, update_by_parameter);
