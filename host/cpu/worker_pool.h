// A fixed set of threads that run numbered items.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_WORKER_POOL_H_
#define FEWSTEP_HOST_CPU_WORKER_POOL_H_

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace fewstep::host {

/// Waits until `value`, whose writers notify, is not `old`: a few microseconds
/// awake, since rounds of small networks are that short, then asleep.
void wait_for_change(const std::atomic<uint32_t>& value, uint32_t old);

class WorkerPool {
 public:
  /// `n_workers` >= 1 workers; the calling thread is worker 0.
  explicit WorkerPool(uint32_t n_workers);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  uint32_t size() const { return static_cast<uint32_t>(threads_.size()) + 1; }

  /// body(item, worker) for item in [0, n_items), each once, in any order and
  /// on any worker; returns when all are done. The first exception an item
  /// throws is thrown again here, after the others have ended.
  /// Allocates nothing.
  template <class Body>
  void run(uint32_t n_items, const Body& body) {
    run_erased(n_items,
               {&body, [](const void* b, uint32_t item, uint32_t worker) {
                  (*static_cast<const Body*>(b))(item, worker);
                }});
  }

  /// body(worker) once on every worker, at the same time: they may wait for
  /// each other (wait_for_change), and then must not throw.
  template <class Body>
  void run_on_each(const Body& body) {
    run_erased(kEach, {&body, [](const void* b, uint32_t, uint32_t worker) {
                         (*static_cast<const Body*>(b))(worker);
                       }});
  }

 private:
  // A reference to a Body.
  struct Erased {
    const void* body;
    void (*call)(const void* body, uint32_t item, uint32_t worker);
  };
  // In place of a number of items: one each, for the worker of its number.
  static constexpr uint32_t kEach = 0xffffffff;
  void run_erased(uint32_t n_items, Erased body);
  void work(uint32_t worker);

  std::vector<std::thread> threads_;
  Erased body_ = {};
  uint32_t n_items_ = 0;
  std::atomic<uint32_t> next_{0};
  std::atomic<uint32_t> round_{0};    // Grows with each run().
  std::atomic<uint32_t> running_{0};  // Workers still in the round.
  std::atomic<bool> stop_{false};
  std::mutex mutex_;  // Guards error_.
  std::exception_ptr error_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CPU_WORKER_POOL_H_
