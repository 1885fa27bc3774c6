// The CUDA kernels, as cuda_device.cpp launches them.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_KERNELS_H_
#define FEWSTEP_HOST_CUDA_KERNELS_H_

#include "task_program.h"

namespace fewstep::host {

/// What a kernel of tasks takes: one team a block, or a cluster.
struct TaskKernelArguments {
  TaskProgram program;
  TaskArrays<float> arrays;
  Wave wave;
};

// The address of each kernel for cudaLaunchKernelExC; its one argument is
// TaskKernelArguments.
const void* meta_gradients_of_blocks();
const void* meta_gradients_of_clusters();
const void* evaluations_of_blocks();
const void* evaluations_of_clusters();
/// Any number of blocks; threads share the quantities.
const void* reduction();

/// Threads of a block of reduction().
constexpr uint32_t kReductionThreads = 128;

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_KERNELS_H_
