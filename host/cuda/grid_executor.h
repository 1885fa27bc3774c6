// The executor of a whole grid, for kernels of one region and no barrier: items
// are dealt out to all threads of all blocks.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_GRID_EXECUTOR_H_
#define FEWSTEP_HOST_CUDA_GRID_EXECUTOR_H_

#include "fewstep/config.h"

namespace fewstep::host {

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

  /// A row a block: n_i n_j may be 2^32 and more.
  template <class Body>
  FEWSTEP_INLINE void for_each(uint32_t n_i,
                               uint32_t n_j,
                               const Body& body) const {
#if defined(__CUDA_ARCH__)
    for (uint32_t i = blockIdx.x; i < n_i; i += gridDim.x) {
      for (uint32_t j = threadIdx.x; j < n_j; j += blockDim.x) body(i, j);
    }
#else
    static_cast<void>(n_i);
    static_cast<void>(n_j);
    static_cast<void>(body);
#endif
  }
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_GRID_EXECUTOR_H_
