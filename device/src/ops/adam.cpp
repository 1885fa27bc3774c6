// Firmware kernels of adam, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/rules/adam.h"

#include "../op_table.h"

FEWSTEP_DEFINE_RULE(Adam, fewstep_op_adam, update_by_tensor);
