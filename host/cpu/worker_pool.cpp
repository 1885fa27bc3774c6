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
        seen = round_.load();
        if (stop_) return;
        work(w);
        if (running_.fetch_sub(1) == 1) running_.notify_one();
      }
    });
  }
}

WorkerPool::~WorkerPool() {
  stop_ = true;
  round_.fetch_add(1);
  round_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void WorkerPool::work(uint32_t worker) {
  try {
    if (n_items_ == kEach) {
      body_.call(body_.body, worker, worker);
      return;
    }
    for (;;) {
      const uint32_t item = next_.fetch_add(1);
      if (item >= n_items_) return;
      body_.call(body_.body, item, worker);
    }
  } catch (...) {
    next_ = n_items_;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (error_ == nullptr) error_ = std::current_exception();
  }
}

void WorkerPool::run_erased(uint32_t n_items, Erased body) {
  body_ = body;
  n_items_ = n_items;
  next_ = 0;
  error_ = nullptr;
  running_ = static_cast<uint32_t>(threads_.size());
  round_.fetch_add(1);
  round_.notify_all();
  work(0);
  for (uint32_t left = running_.load(); left != 0; left = running_.load()) {
    wait_for_change(running_, left);
  }
  if (error_ != nullptr) std::rethrow_exception(error_);
}

}  // namespace fewstep::host
