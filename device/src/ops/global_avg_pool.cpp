// Firmware kernels of global_avg_pool, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/layers/pool.h"

#include "../op_table.h"

FEWSTEP_DEFINE_PLAIN_LAYER(GlobalAvgPool, fewstep_op_global_avg_pool);
