// Firmware kernels of conv2d, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/layers/conv2d.h"

#include "../op_table.h"

FEWSTEP_DEFINE_LAYER(Conv2d, fewstep_op_conv2d);
