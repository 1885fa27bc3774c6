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

/// Rounds are of those workers that come to take an item: one that another
/// program keeps from its processor is not waited for, and finds the round over
/// when it comes. So on a busy machine small rounds are as fast as on fewer
/// threads, not as slow as the scheduler.
class WorkerPool {
 public:
  /// `n_workers` >= 1 workers; the calling thread is worker 0.
  explicit WorkerPool(uint32_t n_workers);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  uint32_t size() const { return static_cast<uint32_t>(threads_.size()) + 1; }

  /// body(item, worker) for item in [0, n_items), each once, taken in ascending
  /// order by any worker; returns when all are done. The first exception an
  /// item throws is thrown again here, after the others have ended, and those
  /// not begun yet are left out. Allocates nothing.
  template <class Body>
  void run(uint32_t n_items, const Body& body) {
    run(n_items, body, [](uint32_t) {});
  }

  /// The same; and after(worker) once on every worker that had items, when
  /// there are none left to take. Workers may wait there for what others do
  /// with items they have (wait_for_change), if neither function throws.
  template <class Body, class After>
  void run(uint32_t n_items, const Body& body, const After& after) {
    run_erased(n_items,
               {&body,
                [](const void* b, uint32_t item, uint32_t worker) {
                  (*static_cast<const Body*>(b))(item, worker);
                },
                &after,
                [](const void* a, uint32_t worker) {
                  (*static_cast<const After*>(a))(worker);
                }});
  }

 private:
  // References to a Body and an After.
  struct Erased {
    const void* body;
    void (*call)(const void* body, uint32_t item, uint32_t worker);
    const void* after;
    void (*call_after)(const void* after, uint32_t worker);
  };
  void run_erased(uint32_t n_items, Erased functions);
  bool take(uint32_t round, uint32_t* item);
  void work(uint32_t worker, uint32_t round);

  std::vector<std::thread> threads_;

  // Of the round at hand; who has taken an item of it may read them.
  Erased functions_ = {};
  uint32_t n_items_ = 0;

  // round * 2^32 + items left to take: an item is taken only of the round that
  // a worker came for. On a cache line apart from what workers wait for.
  alignas(64) std::atomic<uint64_t> left_{0};
  alignas(64) std::atomic<uint32_t> round_{0};  // Grows with each run().
  alignas(64) std::atomic<uint32_t> done_{0};   // Items of who is through.
  std::atomic<bool> failed_{false};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;  // Guards error_.
  std::exception_ptr error_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CPU_WORKER_POOL_H_
