// Firmware kernels of dense, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/layers/dense.h"

#include "../op_table.h"

FEWSTEP_DEFINE_LAYER(Dense, fewstep_op_dense);
