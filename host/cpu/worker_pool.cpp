// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "worker_pool.h"

namespace fewstep::host {

void wait_for_change(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < 500; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  value.wait(old);
}

WorkerPool::WorkerPool(uint32_t n_workers) {
  for (uint32_t w = 1; w < n_workers; ++w) {
    threads_.emplace_back([this, w] {
      uint32_t seen = 0;
      for (;;) {
        wait_for_change(round_, seen);
        seen = round_;
        if (stop_) return;
        work(w, seen);
      }
    });
  }
}

WorkerPool::~WorkerPool() {
  stop_ = true;
  ++round_;
  round_.notify_all();
  for (std::thread& t : threads_) t.join();
}

// The next item of `round`, if that is the round at hand and has one.
bool WorkerPool::take(uint32_t round, uint32_t* item) {
  uint64_t left = left_;
  do {
    if (left >> 32 != round || static_cast<uint32_t>(left) == 0) return false;
  } while (!left_.compare_exchange_weak(left, left - 1));
  // From here on the round waits for this worker.
  *item = n_items_ - static_cast<uint32_t>(left);
  return true;
}

void WorkerPool::work(uint32_t worker, uint32_t round) {
  const auto guarded = [&](const auto& call) {
    try {
      call();
    } catch (...) {
      failed_ = true;
      const std::lock_guard<std::mutex> lock(mutex_);
      if (error_ == nullptr) error_ = std::current_exception();
    }
  };
  uint32_t n_taken = 0;
  for (uint32_t item; take(round, &item); ++n_taken) {
    if (failed_) continue;
    guarded([&] { functions_.call(functions_.body, item, worker); });
  }
  if (n_taken == 0) return;
  guarded([&] { functions_.call_after(functions_.after, worker); });
  // With the last of them the round is over, and its functions may be gone.
  done_ += n_taken;
  done_.notify_one();
}

void WorkerPool::run_erased(uint32_t n_items, Erased functions) {
  if (n_items == 0) return;
  functions_ = functions;
  n_items_ = n_items;
  done_ = 0;
  failed_ = false;
  error_ = nullptr;
  const uint32_t round = round_ + 1;
  left_ = uint64_t{round} << 32 | n_items;
  round_ = round;
  round_.notify_all();
  work(0, round);
  for (uint32_t done = done_; done != n_items; done = done_) {
    wait_for_change(done_, done);
  }
  if (error_ != nullptr) std::rethrow_exception(error_);
}

}  // namespace fewstep::host
