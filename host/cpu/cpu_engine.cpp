// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
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
    pool_.run(n_groups, [&](uint32_t g, uint32_t w) {
      solvers_[w]->meta_gradient(
          theta,
          phi,
          TaskRange{Split::kTrain, iteration, g * width_, n_tasks},
          &groups_[g]);
    });

    used_.clear();
    for (uint32_t t = 0; t < n_tasks; ++t) {
      if (is_finite(groups_[t / width_].query_loss[t % width_])) {
        used_.push_back(t);
      }
    }
    if (!mean_over_tasks(d_theta, d_phi)) {
      // A sum is not finite: because of a task, which then is left out, or
      // because it overflowed.
      const auto spoilt = [&](uint32_t t) { return !has_finite_gradient(t); };
      used_.erase(std::remove_if(used_.begin(), used_.end(), spoilt),
                  used_.end());
      mean_over_tasks(d_theta, d_phi);
    }
    MetaStep step = {};
    step.n_dropped = n_tasks - static_cast<uint32_t>(used_.size());
    for (const uint32_t t : used_) {
      const Group& group = groups_[t / width_];
      step.query_loss += static_cast<double>(group.query_loss[t % width_]);
      step.support_loss += static_cast<double>(group.support_loss[t % width_]);
    }
    if (!used_.empty()) {
      const double n_used = static_cast<double>(used_.size());
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

  // d[i] = sum over used tasks ascending / their number. False if one of them
  // is not finite, and then some task's value is not, or a sum overflowed.
  bool mean_over_tasks(float* d_theta, float* d_phi) {
    const uint32_t n_params = config_.network->n_params;
    const uint32_t n_phi = config_.rule->n_phi;
    // Chunks of quantities in parallel.
    constexpr uint32_t kChunk = 2048;
    const uint32_t n_theta_chunks = (n_params + kChunk - 1) / kChunk;
    const uint32_t n_phi_chunks = (n_phi + kChunk - 1) / kChunk;
    std::atomic<bool> finite = true;
    pool_.run(n_theta_chunks + n_phi_chunks, [&](uint32_t c, uint32_t) {
      const bool is_theta = c < n_theta_chunks;
      const uint32_t begin = (is_theta ? c : c - n_theta_chunks) * kChunk;
      const uint32_t end =
          std::min(begin + kChunk, is_theta ? n_params : n_phi);
      float* const mean = is_theta ? d_theta : d_phi;
      sum_chunk(is_theta, begin, end, mean);
      uint32_t n_bad = 0;
      for (uint32_t i = begin; i < end; ++i)
        n_bad += is_finite(mean[i]) ? 0 : 1;
      if (n_bad != 0) finite = false;
      const float n = std::max(1.0F, static_cast<float>(used_.size()));
      for (uint32_t i = begin; i < end; ++i) mean[i] = mean[i] / n;
    });
    return finite;
  }

  // sum[i] = sum over used tasks ascending, i in [begin, end).
  void sum_chunk(bool is_theta,
                 uint32_t begin,
                 uint32_t end,
                 float* sum) const {
    uint32_t i = begin;
    if (width_ == kWidth) {
      for (; i + kWidth <= end; i += kWidth) {
        store_unaligned(sum + i, sum_of_lanes(is_theta, i));
      }
    }
    for (uint32_t k = i; k < end; ++k) sum[k] = 0.0F;
    for (const uint32_t t : used_) {
      const float* const from =
          values(groups_[t / width_], is_theta) + t % width_;
      for (uint32_t k = i; k < end; ++k) {
        sum[k] = sum[k] + from[size_t{k} * width_];
      }
    }
  }

  // The sums of quantities i .. i + kLanes - 1, one a lane, where groups hold a
  // task a lane.
  Lanes sum_of_lanes(bool is_theta, uint32_t i) const {
    Lanes sum = broadcast(0.0F);
    Lanes rows[kLanes];
    uint32_t loaded = ~0U;
    for (const uint32_t t : used_) {
      if (t / kWidth != loaded) {
        loaded = t / kWidth;
        const float* const from =
            values(groups_[loaded], is_theta) + size_t{i} * kWidth;
        for (uint32_t k = 0; k < kWidth; ++k) {
          rows[k] = fewstep::load(from + size_t{k} * kWidth);
        }
        transpose(rows);
      }
      sum = sum + rows[t % kWidth];
    }
    return sum;
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
  std::vector<uint32_t> used_;  // Tasks not dropped, ascending.
};

}  // namespace

std::unique_ptr<Engine> make_cpu_engine(const EngineConfig& config) {
  return std::make_unique<CpuEngine>(config);
}

}  // namespace fewstep::host
