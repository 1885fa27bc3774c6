// Firmware kernels of online_meta_sgd, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/rules/online_meta_sgd.h"

#include "../op_table.h"

FEWSTEP_DEFINE_RULE(OnlineMetaSgd,
                    fewstep_op_online_meta_sgd,
                    update_by_parameter);
