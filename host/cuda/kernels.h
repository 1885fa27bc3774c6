// The CUDA kernels, as cuda_device.cpp launches them.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_KERNELS_H_
#define FEWSTEP_HOST_CUDA_KERNELS_H_

#include "episode_program.h"
#include "outer_program.h"
#include "task_program.h"

namespace fewstep::host {

/// What a kernel of tasks takes: one team a block, or a cluster.
struct TaskKernelArguments {
  TaskProgram program;
  TaskArrays<float> arrays;
  Wave wave;
};

// The address of each kernel for cudaLaunchKernelExC.

// Their one argument is TaskKernelArguments.
const void* meta_gradients_of_blocks();
const void* meta_gradients_of_clusters();
const void* evaluations_of_blocks();
const void* evaluations_of_clusters();
/// Any number of blocks; threads share the quantities.
const void* reduction();

// Their one argument is OuterArrays<float>.
/// One block of kPartials threads.
const void* outer_preparation();
/// Any number of blocks; threads share the elements.
const void* outer_step_of_elements();

// Their one argument is DrawingLaunch.
/// Any number of blocks; threads share the tasks.
const void* episode_drawing();
/// Any number of blocks, which share the examples; threads share the pixels.
const void* image_fetching();

/// Threads of a block of episode_drawing(): few, for a draw is long.
constexpr uint32_t kDrawingThreads = 32;
/// Threads of a block of the other kernels of any number of blocks.
constexpr uint32_t kGridThreads = 128;

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_KERNELS_H_
