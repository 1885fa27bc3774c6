// Sums over tasks, a quantity a thread.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels.h"

namespace fewstep::host {
namespace {

// All threads of the grid.
struct GridExecutor {
  template <class Body>
  FEWSTEP_INLINE void for_each(uint32_t n, const Body& body) const {
#if defined(__CUDA_ARCH__)
    const uint32_t step = gridDim.x * blockDim.x;
    for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
      body(i);
    }
#else
    static_cast<void>(n);
    static_cast<void>(body);
#endif
  }
};

__global__ void __launch_bounds__(kReductionThreads)
    reduce(const __grid_constant__ TaskKernelArguments a) {
  reduce_tasks(GridExecutor(), a.program, a.arrays, a.wave);
}

}  // namespace

const void* reduction() { return reinterpret_cast<const void*>(&reduce); }

}  // namespace fewstep::host
