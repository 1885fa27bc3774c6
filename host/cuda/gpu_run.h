// One GPU's memory and recorded work, for iterations of up to so many tasks: a
// layer below the engine (gpu_engine.cpp), which shares tasks out to several of
// these.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_GPU_RUN_H_
#define FEWSTEP_HOST_CUDA_GPU_RUN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "device.h"
#include "episode_arrays.h"
#include "fewstep/host/engine.h"
#include "fewstep/host/optimizer.h"

namespace fewstep::host {

/// Which tasks a launch is of.
struct TaskRangeOf {
  Split split;
  uint64_t iteration;
  uint32_t first;
  uint32_t n_tasks;
  bool operator==(const TaskRangeOf&) const = default;
};

/// What follows the meta-gradients of an iteration.
enum class Work : uint8_t {
  kMetaGradient,  ///< The sums go to the host.
  kOuterStep,     ///< They move what is learned, on the GPU.
};
constexpr uint32_t kWorks = 2;

/// What an outer step on the GPU does, but for its numbers.
struct OuterElements {
  PhiElements phi;
  uint32_t n_learned;  ///< Elements that it moves, theta first.
};

/// Members that start work return at once; wait() before what they wrote is
/// read, or what they read is written.
class GpuRun {
 public:
  /// @throws Error kResource when the device lacks memory.
  GpuRun(const EngineConfig& config,
         std::unique_ptr<Device> device,
         uint32_t n_tasks);

  uint32_t capacity() const { return plan_.n_tasks; }
  /// The GPU draws its episodes; else they are to be in buffer().
  bool draws() const { return plan_.draws; }

  /// Whether `objective` fits the memory that was planned.
  bool has_room_for(const Objective& objective) const {
    return second_order_ || !objective.second_order;
  }
  void set_objective(const Objective& objective);
  void set_outer(const OuterElements& elements);
  void set_step(const OuterStep& step) { inputs()->outer = step; }

  // What is learned: theta, then phi, [P + n_phi] in all; and its moments.
  void start_upload(std::span<const float> theta, std::span<const float> phi);
  /// Moments that are missing are 0.
  void start_upload_of_moments(std::span<const float> m,
                               std::span<const float> v);
  /// All of it to the host: theta, phi, m and v after wait() at downloaded().
  void start_download();
  const float* downloaded() const { return host_state_; }

  // Episodes drawn on the host.
  /// Whether `tasks` are in one of the buffers; work will be on it.
  bool turn_to(const TaskRangeOf& tasks);
  /// A buffer to draw into: the next one, or else the one to be worked on.
  void* buffer(const TaskRangeOf& tasks, bool next);
  const EpisodeArrays& episodes() const { return episodes_; }
  /// What is in a buffer is not what it was meant to be.
  void forget();

  /// What the next work is on.
  void set_tasks(const TaskRangeOf& tasks, uint64_t seed);

  /// Everything of an iteration, where this GPU has all of its tasks.
  void start(Work work);

  // The same in parts, where several GPUs share the tasks.
  /// Meta-gradients of the first wave.
  void start_tasks();
  /// The sums, going on from those of the GPU that has the tasks before; and
  /// the other waves.
  void start_sums(GpuRun* before);
  /// After the last task's GPU has its sums: the outer step there.
  void start_outer_step();
  /// theta and phi of the GPU that took the outer step.
  void start_copy_of_learned(GpuRun* other);
  void start_download_of(Work work);

  /// Scores of the tasks.
  void start_evaluations();

  void wait() { device_->wait(); }

  // Results, after wait().
  const float* query_loss() const { return host_results_; }
  const float* support_loss() const { return query_loss() + capacity(); }
  const float* finite() const { return support_loss() + capacity(); }
  const float* n_right() const { return finite() + capacity(); }
  const float* n_right_before() const { return n_right() + capacity(); }
  const float* sums() const { return n_right_before() + capacity(); }

 private:
  struct Side {
    void* episodes = nullptr;
    std::optional<TaskRangeOf> drawn;
    std::unique_ptr<Device::Graph> graphs[kWorks];
    uint32_t graph_tasks[kWorks] = {};  // That the graph is good for.
  };

  float* allocate(uint64_t n) {
    return static_cast<float*>(device_->allocate(n * sizeof(float)));
  }
  float* allocate_host(uint64_t n) {
    return static_cast<float*>(device_->allocate_host(n * sizeof(float)));
  }
  // A copy on the GPU of what never changes; wait() before `from` ends.
  template <class T>
  T* copy_of(const T* from, uint64_t bytes);
  void place_arrays(const EngineConfig& config);
  void upload_images();

  IterationInputs* inputs() {
    return static_cast<IterationInputs*>(host_inputs_);
  }
  float* host_step_weights() { return reinterpret_cast<float*>(inputs() + 1); }
  uint64_t n_results() const { return n_task_results() + n_learned_ + 1; }
  uint64_t n_task_results() const {
    return kTaskResults * uint64_t{capacity()};
  }
  TaskLaunch of(const Wave& wave) const;
  Wave wave_at(uint32_t begin) const;

  void forget_graphs();
  void run_recorded(Work work, const std::function<void()>& queue);
  void queue_episodes();
  void queue_tasks();
  void queue_sums(bool goes_on);
  void queue_download(Work work);

  std::unique_ptr<Device> device_;
  DrawingLaunch drawing_ = {};
  CudaPlan plan_;
  bool second_order_;  // Memory is planned for.
  EpisodeArrays episodes_;
  uint64_t n_learned_;  // theta and phi.
  TaskArrays<float> arrays_ = {};
  OuterArrays<float> outer_ = {};
  void* device_inputs_ = nullptr;  // IterationInputs and the step weights.
  void* host_inputs_ = nullptr;
  float* state_ = nullptr;  // theta, phi, m, v.
  float* host_state_ = nullptr;
  float* results_ = nullptr;  // Losses, flags, sums: one download.
  float* host_results_ = nullptr;
  void* device_episodes_ = nullptr;
  Side sides_[2];  // After device_: graphs end before it.
  uint32_t now_ = 0;
  uint32_t n_tasks_ = 0;  // Of the work to come.
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_GPU_RUN_H_
