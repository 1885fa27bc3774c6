// The threads of a GPU's block or cluster, emulated on one core.
//
// Every emulated thread runs the whole program, as on a GPU: for_each gives it
// the items t, t + threads, .., and barrier() suspends it until all others have
// come there. Between two barriers the threads run one after another, in random
// order. With an AccessLog (checking_executor.h), whatever a thread does
// between two barriers is one item of it.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_THREAD_TEAM_H_
#define FEWSTEP_TESTS_SUPPORT_THREAD_TEAM_H_

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "support/checking_executor.h"

#if defined(__SANITIZE_ADDRESS__)
#define FEWSTEP_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FEWSTEP_ASAN 1
#endif
#endif
#if defined(FEWSTEP_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace fewstep::testing {

class ThreadTeam {
 public:
  struct Options {
    uint32_t blocks = 1;
    uint32_t threads = 32;  ///< Of a block.
    uint32_t seed = 1;
    AccessLog* log = nullptr;
    /// False: barrier() does nothing, as if the kernel had none.
    bool barriers = true;
  };

  explicit ThreadTeam(const Options& options)
      : options_(options), random_(options.seed) {}
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  uint32_t n_threads() const { return options_.blocks * options_.threads; }

  /// Runs `program` as each thread; returns when all have ended.
  void run(const std::function<void()>& program) {
    program_ = &program;
    fibers_.clear();
    for (uint32_t t = 0; t < n_threads(); ++t) {
      fibers_.push_back(std::make_unique<Fiber>());
      Fiber& f = *fibers_.back();
      getcontext(&f.context);
      f.context.uc_stack.ss_sp = f.stack.get();
      f.context.uc_stack.ss_size = kStackBytes;
      f.context.uc_link = nullptr;
      makecontext(&f.context, &ThreadTeam::enter, 0);
    }
    for (uint32_t left = n_threads(); left != 0;) {
      std::vector<uint32_t> order;
      for (uint32_t t = 0; t < n_threads(); ++t) {
        if (!fibers_[t]->ended) order.push_back(t);
      }
      std::shuffle(order.begin(), order.end(), random_);
      const uint32_t before = left;
      for (const uint32_t t : order) {
        resume(t);
        if (fibers_[t]->ended) --left;
      }
      // Some have ended while others wait for them.
      if (left != 0 && left != before) ++n_divergences_;
      ++n_barriers_;
      if (options_.log != nullptr) options_.log->barrier();
    }
  }

  /// Barriers that not all threads came to.
  uint64_t n_divergences() const { return n_divergences_; }
  uint64_t n_barriers() const { return n_barriers_; }

  /// The executor each thread runs with.
  class Executor {
   public:
    explicit Executor(ThreadTeam* team) : team_(team) {}
    template <class Body>
    void for_each(uint32_t n, const Body& body) const {
      for (uint32_t i = team_->now_; i < n; i += team_->n_threads()) body(i);
    }
    template <class Body>
    void for_each(uint32_t n_i, uint32_t n_j, const Body& body) const {
      const uint32_t n = n_i * n_j;
      for (uint32_t k = team_->now_; k < n; k += team_->n_threads()) {
        body(k / n_j, k % n_j);
      }
    }
    void barrier() const { team_->barrier(); }
    /// Block of the running thread.
    uint32_t block() const { return team_->now_ / team_->options_.threads; }

   private:
    ThreadTeam* team_;
  };
  Executor executor() { return Executor(this); }

 private:
  static constexpr size_t kStackBytes = 256 * 1024;
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStackBytes);
    void* asan_stack = nullptr;
    bool ended = false;
  };

  static void enter() {
    ThreadTeam& team = *running_;
    team.arrived(nullptr);
    (*team.program_)();
    Fiber& f = *team.fibers_[team.now_];
    f.ended = true;
    team.leave(&f, true);
  }

  void resume(uint32_t t) {
    now_ = t;
    running_ = this;
    Fiber& f = *fibers_[t];
    if (options_.log != nullptr) {
      options_.log->begin_thread(t, t / options_.threads);
    }
#if defined(FEWSTEP_ASAN)
    void* own = nullptr;
    __sanitizer_start_switch_fiber(&own, f.stack.get(), kStackBytes);
#endif
    swapcontext(&scheduler_, &f.context);
#if defined(FEWSTEP_ASAN)
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#endif
    if (options_.log != nullptr) options_.log->end_thread();
  }

  // Back to the scheduler.
  void leave(Fiber* f, bool for_good) {
#if defined(FEWSTEP_ASAN)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &f->asan_stack,
                                   scheduler_stack_,
                                   scheduler_stack_bytes_);
#else
    static_cast<void>(for_good);
#endif
    swapcontext(&f->context, &scheduler_);
    arrived(f);
  }
  void arrived(Fiber* f) {
#if defined(FEWSTEP_ASAN)
    __sanitizer_finish_switch_fiber(f != nullptr ? f->asan_stack : nullptr,
                                    &scheduler_stack_,
                                    &scheduler_stack_bytes_);
#else
    static_cast<void>(f);
#endif
  }

  void barrier() {
    if (options_.barriers) leave(fibers_[now_].get(), false);
  }

  static inline ThreadTeam* running_ = nullptr;
  Options options_;
  std::mt19937 random_;
  const std::function<void()>* program_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  ucontext_t scheduler_;
  [[maybe_unused]] const void* scheduler_stack_ = nullptr;  // For ASan.
  [[maybe_unused]] size_t scheduler_stack_bytes_ = 0;
  uint32_t now_ = 0;  // The thread that runs.
  uint64_t n_divergences_ = 0;
  uint64_t n_barriers_ = 0;
};

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_THREAD_TEAM_H_
