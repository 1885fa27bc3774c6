// Firmware kernels of lstm, one object file.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/rules/lstm.h"

#include "../op_table.h"

FEWSTEP_DEFINE_RULE(Lstm, fewstep_op_lstm, update_by_tensor);
