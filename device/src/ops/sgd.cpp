// Firmware kernels of sgd, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/rules/sgd.h"

#include "../op_table.h"

FEWSTEP_DEFINE_RULE(Sgd, fewstep_op_sgd, update_by_tensor);
