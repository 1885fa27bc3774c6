// The body of the task kernels; included by one .cu file a kernel family.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_KERNEL_OF_TASKS_H_
#define FEWSTEP_HOST_CUDA_KERNEL_OF_TASKS_H_

#include "cuda_plan_limits.h"
#include "fewstep/executor/block.h"
#include "fewstep/executor/called_ops.h"
#include "fewstep/executor/cluster.h"
#include "fewstep/executor/gpu_tiles.h"
#include "kernels.h"

namespace fewstep::host {

/// A team a block.
struct BlockTeam {
  using Executor = BlockExecutor;
  static __device__ uint32_t index() { return blockIdx.x; }
  static __device__ uint32_t count() { return gridDim.x; }
};

/// A team a cluster. Compiled for, and launched on, 9.0 and above only.
struct ClusterTeam {
  using Executor = ClusterExecutor;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  static __device__ uint32_t index() {
    return blockIdx.x / __clusterSizeInBlocks();
  }
  static __device__ uint32_t count() {
    return gridDim.x / __clusterSizeInBlocks();
  }
#else
  static __device__ uint32_t index() { return 0; }
  static __device__ uint32_t count() { return 1; }
#endif
};

template <class Team>
__global__ void __launch_bounds__(kMaxBlockThreads)
    meta_gradients(const __grid_constant__ TaskKernelArguments a) {
  extern __shared__ float4 shared[];
  const CalledOps ops;
  run_meta_gradients(typename Team::Executor(),
                     ops,
                     a.program,
                     a.arrays,
                     a.wave,
                     reinterpret_cast<float*>(shared),
                     Team::index(),
                     Team::count());
}

template <class Team>
__global__ void __launch_bounds__(kMaxBlockThreads)
    evaluations(const __grid_constant__ TaskKernelArguments a) {
  extern __shared__ float4 shared[];
  const CalledOps ops;
  run_evaluations(typename Team::Executor(),
                  ops,
                  a.program,
                  a.arrays,
                  a.wave,
                  reinterpret_cast<float*>(shared),
                  Team::index(),
                  Team::count());
}

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_KERNEL_OF_TASKS_H_
