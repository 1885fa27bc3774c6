// Firmware kernels of max_pool, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/layers/pool.h"

#include "../op_table.h"

FEWSTEP_DEFINE_PLAIN_LAYER(MaxPool, fewstep_op_max_pool);
