// A Device (host/cuda/device.h) that computes on the host, for tests of the GPU
// engine: the same program, on an executor of the test's choice.
//
// "Shared" and "global" memory are plain arrays, filled with NaN before each
// launch as a GPU's would hold anything; what it allocates and copies is
// counted. Queues are real ones: nothing is done before somebody waits, and
// then the queues of all devices go on in random order, held back only by what
// their Device says that it waits for.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_HOST_DEVICE_H_
#define FEWSTEP_TESTS_SUPPORT_HOST_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <utility>

#include "device.h"
#include "fewstep/executor/serial.h"
#include "support/shuffled_executor.h"

namespace fewstep::testing {

/// The queues of several devices.
class HostQueues {
 public:
  using Work = std::function<void()>;

  /// A new queue.
  size_t add() {
    queues_.emplace_back();
    return queues_.size() - 1;
  }
  /// Work of queue `q`, not before `count` things of queue `other` are done.
  void push(size_t q, Work work, size_t other, uint64_t count) {
    queues_[q].waiting.push_back({std::move(work), other, count});
    ++queues_[q].n_pushed;
  }
  void push(size_t q, Work work) { push(q, std::move(work), q, 0); }
  uint64_t n_pushed(size_t q) const { return queues_[q].n_pushed; }

  /// Returns when queue `q` is empty; others have gone on, too.
  void wait(size_t q) {
    while (!queues_[q].waiting.empty()) {
      Queue& next = queues_[random_() % queues_.size()];
      if (next.waiting.empty()) continue;
      const Item& item = next.waiting.front();
      if (queues_[item.other].n_done < item.count) continue;
      const Work work = item.work;
      next.waiting.pop_front();
      work();
      ++next.n_done;
    }
  }
  /// Ends queue `q`; nobody can see what it would have done.
  void drop(size_t q) {
    queues_[q].waiting.clear();
    queues_[q].n_done = queues_[q].n_pushed;
  }

 private:
  struct Item {
    Work work;
    size_t other;
    uint64_t count;
  };
  struct Queue {
    std::deque<Item> waiting;
    uint64_t n_pushed = 0, n_done = 0;
  };
  std::deque<Queue> queues_;
  std::mt19937 random_{1};
};

/// What a test looks at, and plans, from outside. Of all devices together.
struct HostDeviceLog {
  host::DeviceLimits limits;
  uint64_t allocated = 0;       ///< Bytes of device memory of those alive.
  uint64_t host_allocated = 0;  ///< Bytes of host memory.
  uint64_t uploaded = 0;        ///< Bytes, of all copies so far.
  uint64_t downloaded = 0;
  uint64_t copied = 0;     ///< From device to device.
  uint32_t n_devices = 0;  ///< Made so far.
  uint32_t n_alive = 0;
  uint32_t n_recorded = 0;    ///< Graphs.
  uint32_t n_launches = 0;    ///< Of tasks, replays counted.
  uint32_t fail_after = ~0U;  ///< Launches of tasks until the GPU fails.
  /// False: copies between devices do not wait for the other one.
  bool copies_wait = true;
  HostQueues queues;
};

/// A type of its own: the library holds SerialExecutor's kernels with the CPU's
/// tiles.
struct OneThread : SerialExecutor {};
inline constexpr OneThread kOneThread;

/// A device whose teams are this executor. Both outlive it. The whole inner
/// loop is compiled for each executor: in host_device.cpp, once.
std::unique_ptr<host::Device> host_device(HostDeviceLog* log,
                                          const OneThread& executor);
std::unique_ptr<host::Device> host_device(HostDeviceLog* log,
                                          const ShuffledExecutor& executor);

/// host::run_meta_gradients and run_evaluations of AllOps, from there.
void run_shuffled_meta_gradients(const ShuffledExecutor& executor,
                                 const host::TaskProgram& program,
                                 const host::TaskArrays<float>& arrays,
                                 const host::Wave& wave,
                                 float* shared,
                                 uint32_t team,
                                 uint32_t teams);
void run_shuffled_evaluations(const ShuffledExecutor& executor,
                              const host::TaskProgram& program,
                              const host::TaskArrays<float>& arrays,
                              const host::Wave& wave,
                              float* shared,
                              uint32_t team,
                              uint32_t teams);

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_HOST_DEVICE_H_
