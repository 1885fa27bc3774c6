// What the GPU engine asks of a GPU, so that everything else of it runs and is
// tested without one: memory, copies and five kinds of work, all in one queue a
// GPU.
//
// cuda_device.cpp is the CUDA runtime; tests have one that computes on the host
// (tests/support/host_device.h).
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_DEVICE_H_
#define FEWSTEP_HOST_CUDA_DEVICE_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "cuda_plan.h"
#include "episode_program.h"
#include "outer_program.h"
#include "task_program.h"

namespace fewstep::host {

/// A launch of tasks: `teams` teams share those of the wave.
struct TaskLaunch {
  TaskProgram program;
  TaskArrays<float> arrays;
  Wave wave;
  uint32_t teams;
  uint32_t blocks;   ///< Blocks of a team; above 1 a cluster.
  uint32_t threads;  ///< Threads of a block.
};

/// Every member may throw Error kResource, and the device is of no more use
/// then.
class Device {
 public:
  virtual ~Device() = default;

  virtual const DeviceLimits& limits() const = 0;

  /// Memory on the GPU, until the device ends. 256-byte aligned.
  virtual void* allocate(uint64_t bytes) = 0;
  /// Memory on the host that copies are fast from and to, likewise.
  virtual void* allocate_host(uint64_t bytes) = 0;

  // The queue: each of these starts when the one before has ended, and returns
  // at once. Queues of different GPUs go on side by side.
  virtual void upload(void* to, const void* from, uint64_t bytes) = 0;
  virtual void download(void* to, const void* from, uint64_t bytes) = 0;
  virtual void run_meta_gradients(const TaskLaunch& launch) = 0;
  virtual void run_evaluations(const TaskLaunch& launch) = 0;
  virtual void run_reduction(const TaskLaunch& launch) = 0;
  /// draw_episodes() and, for images, fetch_images().
  virtual void run_drawing(const DrawingLaunch& launch) = 0;
  /// prepare_outer_step(), then take_outer_step().
  virtual void run_outer_step(const OuterArrays<float>& arrays) = 0;
  /// Copies from the memory of another GPU, of the same kind of Device, after
  /// what is in its queue now. Not to be recorded.
  virtual void copy_from(Device& other,
                         void* to,
                         const void* from,
                         uint64_t bytes) = 0;

  /// Records the work that `queue` puts in the queue, instead of doing it; the
  /// caller replays it with run().
  class Graph {
   public:
    virtual ~Graph() = default;
    virtual void run() = 0;
  };
  virtual std::unique_ptr<Graph> record(const std::function<void()>& queue) = 0;

  /// Returns when the queue is empty.
  virtual void wait() = 0;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_DEVICE_H_
