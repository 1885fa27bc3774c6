// The executor of a CUDA thread block cluster: up to 8 blocks, which the GPU
// runs at once and which share one task.
//
// As block.h, with the threads of all blocks numbered through: thread t of
// block b is t + b * threads of a block. Blocks and grids of one dimension.
// What the task's threads share lies in global memory, since a block's shared
// memory is its own; the barrier makes writes to it visible to all of them.
// Clusters exist from compute capability 9.0 on: below, launch nothing with it.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_EXECUTOR_CLUSTER_H_
#define FEWSTEP_EXECUTOR_CLUSTER_H_

#include "fewstep/config.h"

#if !defined(__CUDACC__)
#error "cluster.h is for CUDA: compile with nvcc"
#endif

namespace fewstep {

/// Blocks of a cluster that every GPU with clusters can run.
constexpr uint32_t kMaxClusterBlocks = 8;

struct ClusterExecutor {
  /// body(i) for i in [0, n).
  template <class Body>
  FEWSTEP_INLINE void for_each(uint32_t n, const Body& body) const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    const uint32_t step = n_threads();
    for (uint32_t i = thread(); i < n; i += step) body(i);
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
    for_each(n_i * n_j, [&](uint32_t k) {
      const uint32_t i = k / n_j;
      body(i, k - i * n_j);
    });
  }

  /// Orders what items wrote before it against what items read after it.
  FEWSTEP_INLINE void barrier() const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    __cluster_barrier_arrive();  // Releases, and wait acquires.
    __cluster_barrier_wait();
#endif
  }

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
 private:
  static __device__ __forceinline__ uint32_t thread() {
    return __clusterRelativeBlockRank() * blockDim.x + threadIdx.x;
  }
  static __device__ __forceinline__ uint32_t n_threads() {
    return __clusterSizeInBlocks() * blockDim.x;
  }
#endif
};

}  // namespace fewstep

#endif  // FEWSTEP_EXECUTOR_CLUSTER_H_
