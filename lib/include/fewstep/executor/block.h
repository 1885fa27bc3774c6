// The executor of a CUDA thread block: items are dealt out to its threads.
//
// Every thread of the block runs the inner loop; each for_each hands thread t
// the items t, t + threads, t + 2 threads, ... Blocks of one dimension only.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_EXECUTOR_BLOCK_H_
#define FEWSTEP_EXECUTOR_BLOCK_H_

#include "fewstep/config.h"

#if !defined(__CUDACC__)
#error "block.h is for CUDA: compile with nvcc"
#endif

namespace fewstep {

// Templates instantiated for the GPU are compiled for the host too, where
// nothing may run: hence __CUDA_ARCH__ in each body.
struct BlockExecutor {
  /// body(i) for i in [0, n).
  template <class Body>
  FEWSTEP_INLINE void for_each(uint32_t n, const Body& body) const {
#if defined(__CUDA_ARCH__)
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) body(i);
#else
    static_cast<void>(n);
    static_cast<void>(body);
#endif
  }

  /// body(i, j) for i in [0, n_i), j in [0, n_j); n_i n_j < 2^32. Neighbouring
  /// threads have neighbouring j.
  template <class Body>
  FEWSTEP_INLINE void for_each(uint32_t n_i,
                               uint32_t n_j,
                               const Body& body) const {
#if defined(__CUDA_ARCH__)
    const uint32_t n = n_i * n_j;
    for (uint32_t k = threadIdx.x; k < n; k += blockDim.x) {
      const uint32_t i = k / n_j;
      body(i, k - i * n_j);
    }
#else
    static_cast<void>(n_i);
    static_cast<void>(n_j);
    static_cast<void>(body);
#endif
  }

  /// Orders what items wrote before it against what items read after it.
  FEWSTEP_INLINE void barrier() const {
#if defined(__CUDA_ARCH__)
    __syncthreads();
#endif
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_EXECUTOR_BLOCK_H_
