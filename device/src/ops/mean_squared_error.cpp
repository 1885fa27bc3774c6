// Firmware kernels of mean_squared_error, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/losses/loss.h"

#include "../op_table.h"

FEWSTEP_DEFINE_LOSS(MeanSquaredError, fewstep_op_mean_squared_error);
