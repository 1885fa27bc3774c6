// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <thread>

#include "fewstep/host/engine.h"
#include "lane_batch.h"
#include "lane_ops.h"
#include "worker_pool.h"

namespace fewstep::host {
namespace {

constexpr uint32_t kWidth = static_cast<uint32_t>(kLanes);

// Examples the kernels take at a time: as many as keep a tile's activations in
// a core's second-level cache, and whole register tiles. Batch norm needs all.
uint32_t choose_tile(const Network& network, uint32_t n) {
  if (network.transductive != 0) return n;
  constexpr uint64_t kCacheBytes = 512 * 1024;
  constexpr uint32_t kCols = TileShape<Lanes>::kCols;
  const uint64_t bytes =
      sizeof(Lanes) * (uint64_t{network.n_act} + network.n_in);
  const uint64_t fit = std::max<uint64_t>(1, kCacheBytes / bytes / kCols);
  return static_cast<uint32_t>(std::min<uint64_t>(n, fit * kCols));
}

// What one thread works with.
struct Worker {
  Worker(const EngineConfig& c)
      : gradient(*c.network,
                 *c.rule,
                 c.objective,
                 choose_tile(*c.network, c.source->shape().n_support),
                 choose_tile(*c.network, c.source->shape().n_query)) {
    support.resize(c.source->shape(), c.source->shape().n_support);
    query.resize(c.source->shape(), c.source->shape().n_query);
  }
  MetaGradient<Lanes> gradient;
  LaneSet support, query;
  Episode episode;
};

// The tasks of one register: their meta-gradients and losses.
struct Group {
  std::vector<Lanes> d_theta, d_phi;
  Lanes query_loss, support_loss;
  Lanes check;  // Not finite in a lane whose gradient is not.
};

class CpuEngine : public Engine {
 public:
  explicit CpuEngine(const EngineConfig& config)
      : config_(config),
        pool_(config.n_threads != 0
                  ? config.n_threads
                  : std::max(1U, std::thread::hardware_concurrency())) {
    workers_.reserve(pool_.size());
    for (uint32_t w = 0; w < pool_.size(); ++w) workers_.emplace_back(config);
  }

  MetaStep meta_gradient(const float* theta,
                         const float* phi,
                         uint64_t iteration,
                         uint32_t n_tasks,
                         float* d_theta,
                         float* d_phi) override {
    const uint32_t n_groups = (n_tasks + kWidth - 1) / kWidth;
    if (groups_.size() < n_groups) groups_.resize(n_groups);
    pool_.run(n_groups, [&](uint32_t g, uint32_t w) {
      Worker& worker = workers_[w];
      load(&worker, Split::kTrain, iteration, g * kWidth, n_tasks);
      worker.gradient.run(SerialExecutor(),
                          LaneOps(),
                          SharedView<Lanes>{theta},
                          SharedView<Lanes>{phi},
                          support(worker),
                          query(worker));
      keep(worker, &groups_[g]);
    });

    MetaStep step = {};
    used_.clear();
    for (uint32_t t = 0; t < n_tasks; ++t) {
      const Group& group = groups_[t / kWidth];
      const int l = static_cast<int>(t % kWidth);
      const float loss = lane(group.query_loss, l);
      if (!is_finite(loss) || !is_finite(lane(group.check, l))) {
        ++step.n_dropped;
        continue;
      }
      used_.push_back(t);
      step.query_loss += static_cast<double>(loss);
      step.support_loss += static_cast<double>(lane(group.support_loss, l));
    }
    const double n_used = static_cast<double>(used_.size());
    if (!used_.empty()) {
      step.query_loss /= n_used;
      step.support_loss /= n_used;
    }
    const uint32_t n_params = config_.network->n_params;
    const uint32_t n_phi = config_.rule->n_phi;
    // Chunks of quantities in parallel; each sum over tasks in task order.
    constexpr uint32_t kChunk = 2048;
    const uint32_t n_theta_chunks = (n_params + kChunk - 1) / kChunk;
    const uint32_t n_phi_chunks = (n_phi + kChunk - 1) / kChunk;
    pool_.run(n_theta_chunks + n_phi_chunks, [&](uint32_t c, uint32_t) {
      const bool is_theta = c < n_theta_chunks;
      const uint32_t begin = (is_theta ? c : c - n_theta_chunks) * kChunk;
      const uint32_t end =
          std::min(begin + kChunk, is_theta ? n_params : n_phi);
      mean_over_tasks(is_theta, begin, end, is_theta ? d_theta : d_phi);
    });
    return step;
  }

  TaskScores evaluate(const float* theta,
                      const float* phi,
                      Split split,
                      uint32_t n_tasks) override {
    const Network& network = *config_.network;
    TaskScores scores;
    scores.loss.resize(n_tasks);
    const bool classes = network.loss == LossOp::kSoftmaxCrossEntropy;
    if (classes) scores.accuracy.resize(n_tasks);
    pool_.run((n_tasks + kWidth - 1) / kWidth, [&](uint32_t g, uint32_t w) {
      Worker& worker = workers_[w];
      load(&worker, split, 0, g * kWidth, n_tasks);
      worker.gradient.adapt(SerialExecutor(),
                            LaneOps(),
                            SharedView<Lanes>{theta},
                            SharedView<Lanes>{phi},
                            support(worker));
      uint32_t n_right[kWidth] = {};
      const Lanes loss = score(worker, n_right);
      for (uint32_t l = 0; l < kWidth; ++l) {
        const uint32_t t = g * kWidth + l;
        if (t >= n_tasks) break;
        scores.loss[t] = lane(loss, static_cast<int>(l));
        if (classes) {
          scores.accuracy[t] = static_cast<float>(n_right[l]) /
                               static_cast<float>(shape().n_query);
        }
      }
    });
    return scores;
  }

 private:
  const EpisodeShape& shape() const { return config_.source->shape(); }
  Batch<Lanes> support(const Worker& w) const {
    return w.support.batch(shape().n_support);
  }
  Batch<Lanes> query(const Worker& w) const {
    return w.query.batch(shape().n_query);
  }

  // Draws tasks first .. first + kLanes - 1; lanes past the last task repeat
  // it and are never looked at.
  void load(Worker* worker,
            Split split,
            uint64_t iteration,
            uint32_t first,
            uint32_t n_tasks) const {
    Episode& e = worker->episode;
    for (uint32_t l = 0; l < kWidth; ++l) {
      if (first + l < n_tasks) {
        config_.source->sample(split, config_.seed, iteration, first + l, &e);
      }
      const int at = static_cast<int>(l);
      worker->support.set(at, e.support_x, e.support_labels, e.support_targets);
      worker->query.set(at, e.query_x, e.query_labels, e.query_targets);
    }
  }

  static void keep(const Worker& worker, Group* group) {
    const MetaGradient<Lanes>& m = worker.gradient;
    group->query_loss = m.query_loss();
    group->support_loss = m.support_loss(0);
    // v * 0 is 0 unless v is infinite or NaN.
    const Lanes zero = broadcast(0.0F);
    Lanes check = zero;
    group->d_theta.resize(m.theta_bar().size());
    for (size_t i = 0; i < m.theta_bar().size(); ++i) {
      group->d_theta[i] = m.theta_bar()[i];
      check = fma(m.theta_bar()[i], zero, check);
    }
    group->d_phi.resize(m.phi_bar().size());
    for (size_t i = 0; i < m.phi_bar().size(); ++i) {
      group->d_phi[i] = m.phi_bar()[i];
      check = fma(m.phi_bar()[i], zero, check);
    }
    group->check = check;
  }

  // mean[i] = sum over used tasks ascending / their number, i in [begin, end).
  void mean_over_tasks(bool is_theta,
                       uint32_t begin,
                       uint32_t end,
                       float* mean) const {
    for (uint32_t i = begin; i < end; ++i) mean[i] = 0.0F;
    if (used_.empty()) return;
    for (const uint32_t t : used_) {
      const Group& group = groups_[t / kWidth];
      const float* const values =
          reinterpret_cast<const float*>(
              (is_theta ? group.d_theta : group.d_phi).data()) +
          t % kWidth;
      for (uint32_t i = begin; i < end; ++i) {
        mean[i] = mean[i] + values[size_t{i} * kWidth];
      }
    }
    const float n = static_cast<float>(used_.size());
    for (uint32_t i = begin; i < end; ++i) mean[i] = mean[i] / n;
  }

  // Mean query loss at the adapted parameters; counts right answers.
  Lanes score(Worker& worker, uint32_t (&n_right)[kWidth]) const {
    const Network& network = *config_.network;
    const bool classes = network.loss == LossOp::kSoftmaxCrossEntropy;
    const Workspace<Lanes> ws = worker.gradient.workspace();
    const Batch<Lanes> batch = query(worker);
    const LaneOps ops;
    const SerialExecutor e;
    for (uint32_t begin = 0; begin < batch.n; begin += ws.tile) {
      const uint32_t n = std::min(ws.tile, batch.n - begin);
      forward(e,
              ops,
              network,
              worker.gradient.adapted(),
              ws,
              batch.x + size_t{begin} * network.n_in,
              n);
      ops.loss(e, network.loss, loss_call(network, ws, batch, begin, n, false));
      if (!classes) continue;
      const Lanes* const z = outputs(network, ws);
      for (uint32_t q = 0; q < n; ++q) {
        for (uint32_t l = 0; l < kWidth; ++l) {
          const int at = static_cast<int>(l);
          uint32_t best = 0;
          for (uint32_t o = 1; o < network.n_out; ++o) {
            if (lane(z[q * network.n_out + o], at) >
                lane(z[q * network.n_out + best], at)) {
              best = o;
            }
          }
          const float label = lane(batch.labels[begin + q], at);
          if (static_cast<float>(best) == label) ++n_right[l];
        }
      }
    }
    return *batch_loss(ws);
  }

  EngineConfig config_;
  WorkerPool pool_;
  std::vector<Worker> workers_;
  std::vector<Group> groups_;
  std::vector<uint32_t> used_;  // Tasks not dropped, ascending.
};

}  // namespace

std::unique_ptr<Engine> make_cpu_engine(const EngineConfig& config) {
  return std::make_unique<CpuEngine>(config);
}

}  // namespace fewstep::host
