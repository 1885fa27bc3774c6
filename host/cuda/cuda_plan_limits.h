// Numbers that the plan and the kernels share.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_CUDA_PLAN_LIMITS_H_
#define FEWSTEP_HOST_CUDA_CUDA_PLAN_LIMITS_H_

#include <cstdint>

namespace fewstep::host {

/// Most threads of a block that the kernels are compiled for: 128 registers
/// each, of the 65,536 that a multiprocessor has.
constexpr uint32_t kMaxBlockThreads = 512;

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_CUDA_PLAN_LIMITS_H_
