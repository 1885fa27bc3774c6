// How meta-training fits a GPU, before anything runs: which buffers, where, how
// many threads a task, how many tasks at once, how much memory.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_CUDA_PLAN_H_
#define FEWSTEP_HOST_CUDA_CUDA_PLAN_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda_plan_limits.h"
#include "episode_program.h"
#include "fewstep/host/drawing.h"
#include "fewstep/host/episode.h"
#include "fewstep/host/objective.h"
#include "outer_program.h"
#include "task_program.h"

namespace fewstep::host {

/// What a plan depends on, of a GPU. Bytes are bytes.
struct DeviceLimits {
  std::string name;
  uint32_t compute;            ///< Capability: 90 is 9.0.
  uint32_t n_multiprocessors;  ///< SMs.
  uint64_t shared_per_block;   ///< Opt-in maximum.
  uint64_t shared_per_multiprocessor;
  uint64_t total_memory;
  uint64_t free_memory;

  bool has_clusters() const { return compute >= 90; }
};

/// Published limits of some GPUs, all of their memory free: "h200", "h100",
/// "a100", "rtx5090", "orin".
const std::vector<DeviceLimits>& known_devices();

/// @throws Error kUsage, naming those known.
DeviceLimits known_device(const std::string& name);

/// Limits of the GPU at hand, with the memory free now.
///
/// @throws Error kResource when there is none, or no CUDA in this build.
DeviceLimits cuda_device_limits();

/// Bytes by what they are for. Global memory, once; each is exactly what the
/// engine allocates.
struct PlanBytes {
  uint64_t episodes;  ///< All tasks of an iteration.
  uint64_t scratch;   ///< All teams.
  uint64_t bars;      ///< theta_bar and phi_bar of a wave's tasks.
  uint64_t data;      ///< Images to draw from, and what was drawn of them.
  uint64_t other;     ///< Parameters, moments, sums, losses, the layer table.

  uint64_t total() const { return episodes + scratch + bars + data + other; }
};

struct CudaPlan {
  TaskProgram program;  ///< The network's pointers are the host's.
  uint32_t n_tasks;     ///< Of an iteration.
  uint32_t threads;     ///< Of a block.
  uint32_t blocks;      ///< Of a task; above 1 a cluster.
  uint32_t teams;       ///< Tasks in flight.
  uint32_t wave;        ///< Tasks whose meta-gradients are kept until summed.
  PlanBytes bytes;
  uint64_t task_bytes;  ///< Scratch memory of a task, shared and global.
  bool draws;           ///< The GPU draws its episodes; else they are uploaded.

  uint64_t shared_bytes() const {
    return program.layout.shared_values * sizeof(float);
  }
};

/// Plans iterations of `n_tasks` >= 1 tasks.
///
/// Threads follow the widest layer's register tiles, as far as the tasks leave
/// room; a task gets a cluster of blocks when there are fewer tasks than
/// multiprocessors. Parts of the scratch memory go to shared memory in the
/// order of Part while they fit beside the other tasks of the multiprocessor; a
/// cluster's are all global. When memory is short, examples are taken in
/// smaller tiles, then fewer tasks at once. The GPU draws the episodes if
/// `drawing` says how and its images take no more than half of the memory. None
/// of it changes a bit.
///
/// @throws Error kResource when one task at a time does not fit, with how much
///     is missing and what to lower.
CudaPlan plan_cuda(const Network& network,
                   const Rule& rule,
                   const Objective& objective,
                   const EpisodeShape& shape,
                   uint32_t n_tasks,
                   const DeviceLimits& limits,
                   const DrawingProgram& drawing = {});

/// Bytes of an image set's arrays, in the order of ImageSet: pixels,
/// first_image, classes of the three splits.
std::array<uint64_t, 5> image_bytes(const ImageSet& set);

/// What changes from one iteration to the next without changing the work; in
/// device memory, the weights of the steps after it.
struct IterationInputs {
  EpisodeKey key;
  OuterStep outer;
};
/// Bytes of it and of the weights of `steps` steps.
uint64_t input_bytes(uint32_t steps);

/// Sizes and, up to `shared_budget` bytes, places of the parts.
TaskLayout lay_out(const TaskProgram& program, uint64_t shared_budget);

/// Name of a part, for people; never null.
const char* to_string(Part part);

/// The plan in words, several lines.
std::string describe(const CudaPlan& plan, const DeviceLimits& limits);

/// "1.5 GB" (decimal), for messages.
std::string in_words(uint64_t bytes);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_CUDA_PLAN_H_
