// A fixed set of threads that run numbered items.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_WORKER_POOL_H_
#define FEWSTEP_HOST_CPU_WORKER_POOL_H_

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace fewstep::host {

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
  void run(uint32_t n_items,
           const std::function<void(uint32_t item, uint32_t worker)>& body);

 private:
  void work(uint32_t worker);

  std::vector<std::thread> threads_;
  const std::function<void(uint32_t, uint32_t)>* body_ = nullptr;
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
