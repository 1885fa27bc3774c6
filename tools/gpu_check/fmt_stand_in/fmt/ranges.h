// fmt::join is in format.h.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_GPU_CHECK_FMT_RANGES_H_
#define FEWSTEP_TOOLS_GPU_CHECK_FMT_RANGES_H_

#include "format.h"

#endif  // FEWSTEP_TOOLS_GPU_CHECK_FMT_RANGES_H_
