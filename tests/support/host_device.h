// A Device (host/cuda/device.h) that computes on the host, for tests of the GPU
// engine: the same program, on an executor of the test's choice.
//
// "Shared" and "global" memory are plain arrays, filled with NaN before each
// launch as a GPU's would hold anything; what it allocates is counted.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_HOST_DEVICE_H_
#define FEWSTEP_TESTS_SUPPORT_HOST_DEVICE_H_

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "device.h"
#include "fewstep/host/error.h"
#include "fewstep/ops.h"

namespace fewstep::testing {

/// What a test looks at, and plans, from outside.
struct HostDeviceLog {
  host::DeviceLimits limits;
  uint64_t allocated = 0;       ///< Bytes of device memory.
  uint64_t host_allocated = 0;  ///< Bytes of host memory.
  uint32_t n_devices = 0;       ///< Made so far.
  uint32_t n_recorded = 0;      ///< Graphs.
  uint32_t n_launches = 0;      ///< Of tasks, replays counted.
  uint32_t fail_after = ~0U;    ///< Launches of tasks until the GPU fails.
};

template <class E>
class HostDevice : public host::Device {
 public:
  /// Both outlive it.
  HostDevice(HostDeviceLog* log, const E& executor)
      : log_(*log), executor_(executor) {
    ++log_.n_devices;
    log_.allocated = 0;
    log_.host_allocated = 0;
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
    queue([=] { std::memcpy(to, from, bytes); });
  }
  void download(void* to, const void* from, uint64_t bytes) override {
    queue([=] { std::memcpy(to, from, bytes); });
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

  class HostGraph : public Graph {
   public:
    explicit HostGraph(std::vector<std::function<void()>> work)
        : work_(std::move(work)) {}
    void run() override {
      for (const auto& f : work_) f();
    }

   private:
    std::vector<std::function<void()>> work_;
  };
  std::unique_ptr<Graph> record(const std::function<void()>& work) override {
    ++log_.n_recorded;
    recording_ = true;
    recorded_.clear();
    work();
    recording_ = false;
    return std::make_unique<HostGraph>(std::move(recorded_));
  }
  void wait() override {}

 private:
  void queue(std::function<void()> work) {
    if (recording_) {
      recorded_.push_back(std::move(work));
    } else {
      work();
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

  HostDeviceLog& log_;
  const E& executor_;
  AllOps ops_;
  std::vector<std::unique_ptr<std::vector<float>>> memory_;
  bool recording_ = false;
  std::vector<std::function<void()>> recorded_;
};

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_HOST_DEVICE_H_
