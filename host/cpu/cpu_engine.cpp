// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <bit>
#include <exception>
#include <thread>

#include "fewstep/host/engine.h"
#include "fewstep/layers/layer.h"
#include "huge_pages.h"
#include "lane_sums.h"
#include "solver.h"
#include "worker_pool.h"

namespace fewstep::host {
namespace {

constexpr uint32_t kWidth = static_cast<uint32_t>(kLanes);

// The channel layout, if it is to be used. Tasks in the lanes multiply the
// working set by kLanes, and past the caches that costs more than padding;
// packing a task's parameters has to pay, which takes some hundred
// multiply-adds on each (dense layers on few examples have too few).
std::optional<ChannelNetwork> choose_channels(const EngineConfig& config) {
  // Masks are laid out by task.
  if (config.layout == LaneLayout::kTasks || config.dropout != 0.0F) {
    return std::nullopt;
  }
  const Network& network = *config.network;
  std::optional<ChannelNetwork> channels = ChannelNetwork::make(network);
  if (config.layout == LaneLayout::kChannels) return channels;
  if (!channels || channels->utilization() < 0.5) return std::nullopt;
  constexpr uint64_t kMinReuse = 256;
  const EpisodeShape& shape = config.source->shape();
  const uint64_t at_once =
      network.transductive != 0 ? std::max(shape.n_support, shape.n_query) : 1;
  const uint64_t bytes = sizeof(Lanes) * (uint64_t{network.n_params} +
                                          at_once * uint64_t{network.n_act});
  const uint64_t multiply_adds = multiply_adds_per_example(network) *
                                 (uint64_t{shape.n_support} + shape.n_query);
  const bool pays = multiply_adds >= kMinReuse * network.n_params;
  return bytes > kCacheBytes && pays ? channels : std::nullopt;
}

class CpuEngine : public Engine {
 public:
  explicit CpuEngine(const EngineConfig& config)
      : config_(config),
        channels_(choose_channels(config)),
        width_(channels_ ? 1 : kWidth),
        pool_(config.n_threads != 0
                  ? config.n_threads
                  : std::max(1U, std::thread::hardware_concurrency())) {
    for (uint32_t w = 0; w < pool_.size(); ++w) {
      workers_.push_back({channels_ ? make_channel_solver(config_, *channels_)
                                    : make_task_solver(config_),
                          {}});
    }
  }

  const EngineConfig& config() const override { return config_; }

  void set_objective(const Objective& objective) override {
    for (const Worker& worker : workers_) {
      worker.solver->set_objective(objective);
    }
  }

  MetaStep meta_gradient(const float* theta,
                         const float* phi,
                         uint64_t iteration,
                         uint32_t n_tasks,
                         float* d_theta,
                         float* d_phi) override {
    const uint32_t n_groups = (n_tasks + width_ - 1) / width_;
    while (groups_.size() < n_groups) {
      groups_.emplace_back(size_t{width_} * config_.network->n_params,
                           size_t{width_} * config_.rule->n_phi,
                           &memory_);
    }
    for (Worker& worker : workers_) {
      worker.groups.clear();
      worker.groups.reserve(n_groups + 64 / sizeof(uint32_t));
    }
    std::atomic<bool> failed = false;
    std::exception_ptr error;
    Sums sums(progress_, n_groups, d_theta, d_phi);
    // Who finds no more groups to solve adds those it has solved, and waits
    // there for nobody but the workers of the groups before them.
    pool_.run(
        n_groups,
        [&](uint32_t g, uint32_t w) {
          workers_[w].groups.push_back(g);
          groups_[g].used = 0;
          if (failed) return;
          try {
            solve(*workers_[w].solver, theta, phi, iteration, g, n_tasks);
          } catch (...) {
            // Others may be waiting for this group: it is added, empty.
            if (!failed.exchange(true)) error = std::current_exception();
          }
        },
        [&](uint32_t w) { add_own_groups(w, &sums); });
    if (error != nullptr) std::rethrow_exception(error);

    if (!sums.finite) {
      // Because of a task, which then is left out, or because it overflowed.
      for (uint32_t t = 0; t < n_tasks; ++t) {
        if (!has_finite_gradient(t)) groups_[t / width_].drop(t % width_);
      }
      for (Worker& worker : workers_) worker.groups.clear();
      for (uint32_t g = 0; g < n_groups; ++g) workers_[0].groups.push_back(g);
      Sums again(progress_, n_groups, d_theta, d_phi);
      add_own_groups(0, &again);
    }
    MetaStep step = {};
    for (uint32_t t = 0; t < n_tasks; ++t) {
      const Group& group = groups_[t / width_];
      const uint32_t l = t % width_;
      if (!group.uses(l)) {
        ++step.n_dropped;
        continue;
      }
      step.query_loss += static_cast<double>(group.query_loss[l]);
      step.support_loss += static_cast<double>(group.support_loss[l]);
    }
    if (step.n_dropped != n_tasks) {
      const double n_used = static_cast<double>(n_tasks - step.n_dropped);
      step.query_loss /= n_used;
      step.support_loss /= n_used;
    }
    return step;
  }

  TaskScores evaluate(const float* theta,
                      const float* phi,
                      Split split,
                      uint32_t n_tasks) override {
    TaskScores scores;
    scores.loss.resize(n_tasks);
    if (config_.network->loss == LossOp::kSoftmaxCrossEntropy) {
      scores.accuracy.resize(n_tasks);
    }
    pool_.run((n_tasks + width_ - 1) / width_, [&](uint32_t g, uint32_t w) {
      workers_[w].solver->evaluate(
          theta, phi, TaskRange{split, 0, g * width_, n_tasks}, &scores);
    });
    return scores;
  }

 private:
  static const float* values(const Group& group, bool is_theta) {
    return is_theta ? group.d_theta() : group.d_phi();
  }

  // On cache lines of its own, and so are the groups: reserve() leaves a line
  // between those of two workers.
  struct alignas(64) Worker {
    std::unique_ptr<Solver> solver;
    std::vector<uint32_t> groups;  // That it has taken in the round at hand.
  };

  // Quantities [begin, end) of d_theta or d_phi.
  struct Chunk {
    bool is_theta;
    uint32_t begin, end;
  };

  // How many groups are in the sums of a chunk so far; a cache line of its own.
  struct alignas(64) Progress {
    std::atomic<uint32_t> n_groups;
  };

  // Chunks of d_theta, and of d_phi: few, since passing one on takes time.
  static constexpr uint32_t kChunks = 4;

  // f(chunk, its progress) for all of d_theta, then all of d_phi.
  template <class F>
  void for_each_chunk(const F& f) {
    Progress* progress = progress_;
    for (const bool is_theta : {true, false}) {
      const uint32_t n =
          is_theta ? config_.network->n_params : config_.rule->n_phi;
      const uint32_t n_blocks = (n + kWidth - 1) / kWidth;
      const uint32_t size = (n_blocks + kChunks - 1) / kChunks * kWidth;
      for (uint32_t i = 0; i < n; i += size) {
        f(Chunk{is_theta, i, std::min(i + size, n)}, progress++);
      }
    }
  }

  // d[i] = sum over used tasks ascending / their number, while it is made.
  struct Sums {
    Sums(Progress (&progress)[2 * kChunks],
         uint32_t groups,
         float* th,
         float* ph)
        : n_groups(groups), d_theta(th), d_phi(ph) {
      for (Progress& p : progress) p.n_groups = 0;
    }
    uint32_t n_groups;
    float* d_theta;
    float* d_phi;
    std::atomic<bool> finite = true;  // Whether each sum is.
  };

  // The tasks of group g, and which of them have a loss.
  void solve(Solver& solver,
             const float* theta,
             const float* phi,
             uint64_t iteration,
             uint32_t g,
             uint32_t n_tasks) {
    const uint32_t first = g * width_;
    Group& group = groups_[g];
    solver.meta_gradient(theta,
                         phi,
                         TaskRange{Split::kTrain, iteration, first, n_tasks},
                         &group);
    for (uint32_t l = 0; l < std::min(width_, n_tasks - first); ++l) {
      if (is_finite(group.query_loss[l])) group.used |= 1U << l;
    }
  }

  // Gradients stay in the caches of the worker that computed them: it adds its
  // groups, chunk by chunk, each as soon as all groups before them are in the
  // chunk's sums. While one worker is at the next chunk, another adds its
  // groups to this one.
  void add_own_groups(uint32_t w, Sums* sums) {
    const std::vector<uint32_t>& own = workers_[w].groups;
    for (size_t i = 0; i < own.size(); ++i) {
      const uint32_t first = own[i];
      while (i + 1 < own.size() && own[i + 1] == own[i] + 1) ++i;
      const uint32_t last = own[i] + 1;
      for_each_chunk([&](const Chunk& part, Progress* progress) {
        std::atomic<uint32_t>& done = progress->n_groups;
        for (uint32_t n = done; n != first; n = done) wait_for_change(done, n);
        float* const sum = part.is_theta ? sums->d_theta : sums->d_phi;
        add_groups(part, first, last, sum);
        if (last == sums->n_groups && !divide(part, n_used(last), sum)) {
          sums->finite = false;
        }
        done = last;
        done.notify_all();
      });
    }
  }

  // Tasks that the first n groups use, or 1 if there are none.
  float n_used(uint32_t n) const {
    uint32_t used = 0;
    for (uint32_t g = 0; g < n; ++g) {
      used += static_cast<uint32_t>(std::popcount(groups_[g].used));
    }
    return std::max(1.0F, static_cast<float>(used));
  }

  // sum[i] /= count; false if a sum is not finite.
  static bool divide(const Chunk& part, float count, float* sum) {
    uint32_t n_bad = 0;
    for (uint32_t i = part.begin; i < part.end; ++i) {
      n_bad += is_finite(sum[i]) ? 0 : 1;
      sum[i] = sum[i] / count;
    }
    return n_bad == 0;
  }

  // sum[i] += used tasks of groups [first, last), ascending; group 0 starts it.
  void add_groups(const Chunk& part,
                  uint32_t first,
                  uint32_t last,
                  float* sum) const {
    float* const to = sum + part.begin;
    const uint32_t n = part.end - part.begin;
    for (uint32_t g = first; g < last; ++g) {
      const Group& group = groups_[g];
      const float* const from =
          values(group, part.is_theta) + size_t{part.begin} * width_;
      if (width_ == kWidth) {
        add_lanes(from, n, group.used, g == 0, to);
        continue;
      }
      if (g == 0) std::fill(to, to + n, 0.0F);
      if (group.used == 0) continue;
      for (uint32_t i = 0; i < n; ++i) to[i] = to[i] + from[i];
    }
  }

  bool has_finite_gradient(uint32_t t) const {
    const Group& group = groups_[t / width_];
    const auto finite = [&](const float* v, uint32_t n) {
      for (uint32_t i = 0; i < n; ++i) {
        if (!is_finite(v[size_t{i} * width_ + t % width_])) return false;
      }
      return true;
    };
    return finite(group.d_theta(), config_.network->n_params) &&
           finite(group.d_phi(), config_.rule->n_phi);
  }

  EngineConfig config_;
  std::optional<ChannelNetwork> channels_;
  uint32_t width_;  // Tasks of a group.
  WorkerPool pool_;
  std::vector<Worker> workers_;
  HugePages memory_;  // Of groups_.
  std::vector<Group> groups_;
  Progress progress_[2 * kChunks];
};

}  // namespace

std::unique_ptr<Engine> make_cpu_engine(const EngineConfig& config) {
  return std::make_unique<CpuEngine>(config);
}

}  // namespace fewstep::host
