// Instructions by core: written by tools/calibrate_core.sh; do not edit.
//
// 442 steps on Cortex-M4F, gcc 12.2.1 -O2. Largest error 14.2 %; a network that
// is not among the measured ones: up to 18.2 %.
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
    0.182,
    {{
        1.386,    // dense multiply-add, four outputs of four examples
        1.875,    // dense multiply-add, four outputs of one example
        4.033,    // dense multiply-add, one output of four examples
        9.582,    // dense multiply-add, one output of one example
        15.244,   // dense output
        1.412,    // dense gradient multiply-add, four by four weights
        5.634,    // dense gradient multiply-add, others
        1.743,    // dense gradient weight and pass
        1.728,    // conv2d forward multiply-add, 3x3
        10.936,   // conv2d forward multiply-add, 3x3, one filter
        1.563,    // conv2d forward multiply-add, others
        3.400,    // conv2d forward multiply-add, others, one filter
        37.407,   // conv2d forward row of a kernel, others
        24.151,   // conv2d output
        2.288,    // conv2d gradient multiply-add
        15.649,   // conv2d gradient multiply-add, one filter
        6.002,    // conv2d gradient weight and pass
        2.182,    // conv2d input gradient multiply-add, 3x3 at stride 2
        5.432,    // conv2d input gradient multiply-add, others
        4.871,    // conv2d input gradient multiply-add, one channel
        4.763,    // dense or conv2d weight read as f16
        -5.229,   // relu value
        56.610,   // tanh value
        36.386,   // group_norm value forward
        65.961,   // group_norm value backward
        26.680,   // pooled value, forward or backward
        15.645,   // context or value beside it
        190.692,  // softmax value
        399.068,  // call of dense or conv2d
        191.435,  // call of another layer
        259.928,  // pass
        842.041,  // step
        5.372,    // parameter
        5.163,    // parameter's rate as f16
        31.402,   // parameter's rate as log8
        21.160,   // parameter under momentum
        72.217,   // parameter under adam
        13.565,   // learned moment of a parameter, first step
        18.932,   // parameter under online_meta_sgd
        16.455,   // value of a rule that is a network, f32
        18.974,   // value of a rule that is a network, f16
        74.658,   // sigmoid or tanh of the lstm rule
        431.319,  // parameter under lstm
        23.700,   // value in a tensor's mean
        231.639,  // mean of a tensor
        11.811,   // decayed parameter
        18.296,   // clipped parameter
        19.623,   // value of a split layer put together
        7.172,    // value of a split layer read as f16
        71.837,   // run of such values
        198.437,  // part of a split layer and example
        28.215,   // masked parameter at theta_0
    }},
};
constexpr std::array<CoreTable, 1> kCoreTables = {{kCortexM4f}};

}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_CORE_TABLE_H_
