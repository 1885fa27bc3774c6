// Sums over tasks, a quantity a thread.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "grid_executor.h"
#include "kernels.h"

namespace fewstep::host {
namespace {

__global__ void __launch_bounds__(kGridThreads)
    reduce(const __grid_constant__ TaskKernelArguments a) {
  reduce_tasks(GridExecutor(), a.program, a.arrays, a.wave);
}

}  // namespace

const void* reduction() { return reinterpret_cast<const void*>(&reduce); }

}  // namespace fewstep::host
