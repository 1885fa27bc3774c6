// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "support/host_device.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "fewstep/executor/gpu_tiles.h"  // The GPU's kernels, not the CPU's.
#include "fewstep/host/error.h"
#include "fewstep/ops.h"

namespace fewstep::testing {
namespace {

template <class E>
class HostDevice : public host::Device {
 public:
  /// Both outlive it.
  HostDevice(HostDeviceLog* log, const E& executor)
      : log_(*log), executor_(executor), queue_(log_.queues.add()) {
    ++log_.n_devices;
    if (log_.n_alive++ != 0) return;
    log_.allocated = 0;
    log_.host_allocated = 0;
  }
  ~HostDevice() override {
    --log_.n_alive;
    log_.queues.drop(queue_);
  }

  const host::DeviceLimits& limits() const override { return log_.limits; }
  void* allocate(uint64_t bytes) override {
    log_.allocated += bytes;
    return take(bytes);
  }
  void* allocate_host(uint64_t bytes) override {
    log_.host_allocated += bytes;
    return take(bytes);
  }
  void upload(void* to, const void* from, uint64_t bytes) override {
    queue([=, this] {
      log_.uploaded += bytes;
      std::memcpy(to, from, bytes);
    });
  }
  void download(void* to, const void* from, uint64_t bytes) override {
    queue([=, this] {
      log_.downloaded += bytes;
      std::memcpy(to, from, bytes);
    });
  }
  void run_meta_gradients(const host::TaskLaunch& launch) override {
    queue([=, this] {
      for_each_team(launch, [&](float* shared, uint32_t team) {
        host::run_meta_gradients(executor_,
                                 ops_,
                                 launch.program,
                                 launch.arrays,
                                 launch.wave,
                                 shared,
                                 team,
                                 launch.teams);
      });
    });
  }
  void run_evaluations(const host::TaskLaunch& launch) override {
    queue([=, this] {
      for_each_team(launch, [&](float* shared, uint32_t team) {
        host::run_evaluations(executor_,
                              ops_,
                              launch.program,
                              launch.arrays,
                              launch.wave,
                              shared,
                              team,
                              launch.teams);
      });
    });
  }
  void run_reduction(const host::TaskLaunch& launch) override {
    queue([=, this] {
      host::reduce_tasks(executor_, launch.program, launch.arrays, launch.wave);
    });
  }
  void run_drawing(const host::DrawingLaunch& launch) override {
    queue([=, this] {
      host::draw_episodes(executor_, launch);
      if (launch.program.kind == host::DrawingProgram::Kind::kImages) {
        host::fetch_images(executor_, launch);
      }
    });
  }
  void run_outer_step(const host::OuterArrays<float>& arrays) override {
    queue([=, this] {
      host::prepare_outer_step(executor_, arrays);
      host::take_outer_step(executor_, arrays);
    });
  }
  void copy_from(host::Device& other,
                 void* to,
                 const void* from,
                 uint64_t bytes) override {
    auto& source = dynamic_cast<HostDevice&>(other);
    if (recording_ || !holds(to, bytes) || !source.holds(from, bytes)) {
      throw std::logic_error("copy_from: recorded, or not the devices' memory");
    }
    const auto copy = [=, this] {
      log_.copied += bytes;
      std::memcpy(to, from, bytes);
    };
    if (log_.copies_wait) {
      log_.queues.push(
          queue_, copy, source.queue_, log_.queues.n_pushed(source.queue_));
    } else {
      log_.queues.push(queue_, copy);
    }
  }

  class HostGraph : public Graph {
   public:
    HostGraph(HostDevice* device, std::vector<HostQueues::Work> work)
        : device_(*device), work_(std::move(work)) {}
    void run() override {
      for (const auto& f : work_) device_.queue(f);
    }

   private:
    HostDevice& device_;
    std::vector<HostQueues::Work> work_;
  };
  std::unique_ptr<Graph> record(const std::function<void()>& work) override {
    ++log_.n_recorded;
    recording_ = true;
    recorded_.clear();
    work();
    recording_ = false;
    return std::make_unique<HostGraph>(this, std::move(recorded_));
  }
  void wait() override { log_.queues.wait(queue_); }

 private:
  void queue(HostQueues::Work work) {
    if (recording_) {
      recorded_.push_back(std::move(work));
    } else {
      log_.queues.push(queue_, std::move(work));
    }
  }
  template <class F>
  void for_each_team(const host::TaskLaunch& launch, const F& run) {
    if (log_.n_launches++ == log_.fail_after) {
      throw host::Error(host::Exit::kResource, "the GPU failed");
    }
    std::vector<float> shared(launch.program.layout.shared_values + 1);
    for (uint32_t team = 0; team < launch.teams; ++team) {
      std::fill(shared.begin(),
                shared.end(),
                std::numeric_limits<float>::quiet_NaN());
      run(shared.data(), team);
    }
  }
  void* take(uint64_t bytes) {
    memory_.push_back(std::make_unique<std::vector<float>>(
        (bytes + 3) / 4, std::numeric_limits<float>::quiet_NaN()));
    return memory_.back()->data();
  }
  bool holds(const void* at, uint64_t bytes) const {
    const auto begin = reinterpret_cast<uintptr_t>(at);
    return std::any_of(memory_.begin(), memory_.end(), [&](const auto& block) {
      const auto first = reinterpret_cast<uintptr_t>(block->data());
      return begin >= first &&
             begin + bytes <= first + block->size() * sizeof(float);
    });
  }

  HostDeviceLog& log_;
  const E& executor_;
  size_t queue_;
  AllOps ops_;
  std::vector<std::unique_ptr<std::vector<float>>> memory_;
  bool recording_ = false;
  std::vector<HostQueues::Work> recorded_;
};

}  // namespace

std::unique_ptr<host::Device> host_device(HostDeviceLog* log,
                                          const OneThread& executor) {
  return std::make_unique<HostDevice<OneThread>>(log, executor);
}
std::unique_ptr<host::Device> host_device(HostDeviceLog* log,
                                          const ShuffledExecutor& executor) {
  return std::make_unique<HostDevice<ShuffledExecutor>>(log, executor);
}

void run_shuffled_meta_gradients(const ShuffledExecutor& executor,
                                 const host::TaskProgram& program,
                                 const host::TaskArrays<float>& arrays,
                                 const host::Wave& wave,
                                 float* shared,
                                 uint32_t team,
                                 uint32_t teams) {
  AllOps ops;
  host::run_meta_gradients(
      executor, ops, program, arrays, wave, shared, team, teams);
}
void run_shuffled_evaluations(const ShuffledExecutor& executor,
                              const host::TaskProgram& program,
                              const host::TaskArrays<float>& arrays,
                              const host::Wave& wave,
                              float* shared,
                              uint32_t team,
                              uint32_t teams) {
  AllOps ops;
  host::run_evaluations(
      executor, ops, program, arrays, wave, shared, team, teams);
}

}  // namespace fewstep::testing
