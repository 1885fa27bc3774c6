// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <bit>
#include <exception>
#include <thread>

#include "fewstep/host/engine.h"
#include "fewstep/layers/layer.h"
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
      solvers_.push_back(channels_ ? make_channel_solver(config_, *channels_)
                                   : make_task_solver(config_));
    }
    own_groups_.resize(pool_.size());
  }

  const EngineConfig& config() const override { return config_; }

  void set_objective(const Objective& objective) override {
    for (const std::unique_ptr<Solver>& solver : solvers_) {
      solver->set_objective(objective);
    }
  }

  MetaStep meta_gradient(const float* theta,
                         const float* phi,
                         uint64_t iteration,
                         uint32_t n_tasks,
                         float* d_theta,
                         float* d_phi) override {
    const uint32_t n_groups = (n_tasks + width_ - 1) / width_;
    if (groups_.size() < n_groups) groups_.resize(n_groups);
    for (std::vector<uint32_t>& own : own_groups_) {
      own.clear();
      own.reserve(n_groups);
    }
    std::atomic<bool> failed = false;
    std::exception_ptr error;
    Sums sums(progress_, n_groups, d_theta, d_phi);
    // Who finds no more groups to solve adds those it has solved, and waits
    // there for nobody but the workers of the groups before them.
    pool_.run(
        n_groups,
        [&](uint32_t g, uint32_t w) {
          own_groups_[w].push_back(g);
          groups_[g].used = 0;
          if (failed) return;
          try {
            solve(*solvers_[w], theta, phi, iteration, g, n_tasks);
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
      for (std::vector<uint32_t>& own : own_groups_) own.clear();
      for (uint32_t g = 0; g < n_groups; ++g) own_groups_[0].push_back(g);
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
      solvers_[w]->evaluate(
          theta, phi, TaskRange{split, 0, g * width_, n_tasks}, &scores);
    });
    return scores;
  }

 private:
  static const float* values(const Group& group, bool is_theta) {
    return is_theta ? group.d_theta() : group.d_phi();
  }

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
    const std::vector<uint32_t>& own = own_groups_[w];
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
    if (first == 0) std::fill(sum + part.begin, sum + part.end, 0.0F);
    for (uint32_t g = first; g < last; ++g) {
      const Group& group = groups_[g];
      if (group.used == 0) continue;
      const float* const from = values(group, part.is_theta);
      uint32_t i = part.begin;
      if (width_ == kWidth) {
        for (; i + kWidth <= part.end; i += kWidth) {
          add_lanes(group, from + size_t{i} * kWidth, sum + i);
        }
      }
      for (uint32_t l = 0; l < width_; ++l) {
        if (!group.uses(l)) continue;
        for (uint32_t k = i; k < part.end; ++k) {
          sum[k] = sum[k] + from[size_t{k} * width_ + l];
        }
      }
    }
  }

  // The same for kLanes sums, of a group that holds a task a lane.
  static void add_lanes(const Group& group, const float* from, float* sums) {
    Lanes rows[kLanes];
    for (Lanes& row : rows) {
      row = fewstep::load(from);
      from += kWidth;
    }
    transpose(rows);
    Lanes sum = load_unaligned(sums);
    FEWSTEP_UNROLL(16)
    for (uint32_t l = 0; l < kWidth; ++l) {
      if (group.uses(l)) sum = sum + rows[l];
    }
    store_unaligned(sums, sum);
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
  std::vector<std::unique_ptr<Solver>> solvers_;  // One a worker.
  std::vector<Group> groups_;
  std::vector<std::vector<uint32_t>> own_groups_;  // Of a round, by worker.
  Progress progress_[2 * kChunks];
};

}  // namespace

std::unique_ptr<Engine> make_cpu_engine(const EngineConfig& config) {
  return std::make_unique<CpuEngine>(config);
}

}  // namespace fewstep::host
