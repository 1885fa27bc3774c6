// Firmware kernels of rate_net, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/rules/rate_net.h"

#include "../op_table.h"

FEWSTEP_DEFINE_RULE(RateNet, fewstep_op_rate_net, update_by_tensor);
