// Instructions by core: written by tools/calibrate_core.sh; do not edit.
//
// 40 steps on Cortex-M4F, gcc 12.2.1 -O2. Largest error 5.4 %; a network that
// is not among the measured ones: up to 14.4 %.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_CORE_TABLE_H_
#define FEWSTEP_TOOLS_CORE_TABLE_H_

#include <array>

#include "step_cost.h"

namespace fewstep::cli {

struct CoreTable {
  const char* name;
  double error;    ///< Largest relative error for a network left out.
  CostTerms cost;  ///< Instructions each.
};
constexpr CoreTable kCortexM4f = {
    "Cortex-M4F",
    0.144,
    {{
        2.365,    // dense multiply-add in a tile of four examples
        3.255,    // dense multiply-add beside those tiles
        0.495,    // dense gradient multiply-add
        2.104,    // dense gradient weight and pass
        2.351,    // conv2d forward multiply-add
        2.906,    // conv2d gradient multiply-add
        1.966,    // conv2d input gradient multiply-add, 3x3 at stride 2
        3.340,    // conv2d input gradient multiply-add, others
        7.116,    // relu value
        95.833,   // tanh value
        248.333,  // softmax value
        132.044,  // group_norm value
        90.995,   // pooled value
        6.260,    // parameter
        332.857,  // layer and pass
    }},
};
constexpr std::array<CoreTable, 1> kCoreTables = {{kCortexM4f}};

}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_CORE_TABLE_H_
