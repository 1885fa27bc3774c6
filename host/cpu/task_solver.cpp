// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "fewstep/host/dropout.h"
#include "huge_pages.h"
#include "lane_batch.h"
#include "lane_ops.h"
#include "solver.h"
#include "tape.h"

namespace fewstep::host {

template <>
struct MaskLanes<Lanes> {
  static constexpr uint32_t kCount = kLanes;
  static void set(Lanes* at, uint32_t l, float value) {
    set_lane(at, static_cast<int>(l), value);
  }
};

namespace {

constexpr uint32_t kWidth = static_cast<uint32_t>(kLanes);

class TaskSolver : public Solver {
 public:
  explicit TaskSolver(const EngineConfig& config)
      : config_(config),
        gradient_(*config.network,
                  *config.rule,
                  config.objective,
                  tile_of(shape().n_support),
                  tile_of(shape().n_query),
                  &memory_),
        order_(shape(), config.objective.inner_batch),
        tape_(*config.network,
              examples_of_step(config),
              config.objective.steps,
              config.tape_bytes,
              Tape<Lanes>::kMinTerms,
              &memory_),
        ops_(TapeOps<LaneOps, Lanes>(LaneOps(), &tape_),
             *config.network,
             config.dropout,
             std::max(shape().n_support, shape().n_query)) {
    support_.resize(shape(), shape().n_support);
    query_.resize(shape(), shape().n_query);
  }

  void set_objective(const Objective& objective) override {
    gradient_.set_objective(objective);
    config_.objective.second_order = objective.second_order;
    config_.objective.method = objective.method;
  }

  void meta_gradient(const float* theta,
                     const float* phi,
                     const TaskRange& tasks,
                     Group* group) override {
    load(tasks);
    drop(tasks);
    tape_.use(config_.objective.has_hessian());
    gradient_.write_to(group->d_theta_lanes.data(), group->d_phi_lanes.data());
    gradient_.run(SerialExecutor(),
                  ops_,
                  SharedView<Lanes>{theta},
                  SharedView<Lanes>{phi},
                  support_.batch(shape().n_support),
                  query_.batch(shape().n_query));
    for (int l = 0; l < kLanes; ++l) {
      group->query_loss[l] = lane(gradient_.query_loss(), l);
      group->support_loss[l] = lane(gradient_.support_loss(0), l);
    }
  }

  void evaluate(const float* theta,
                const float* phi,
                const TaskRange& tasks,
                TaskScores* scores) override {
    load(tasks);
    ops_.draw_nothing();
    tape_.use(false);
    gradient_.adapt(SerialExecutor(),
                    ops_,
                    SharedView<Lanes>{theta},
                    SharedView<Lanes>{phi},
                    support_.batch(shape().n_support));
    uint32_t n_right[kWidth] = {};
    const Lanes loss = score(n_right);
    for (uint32_t l = 0; l < kWidth; ++l) {
      const uint32_t t = tasks.first + l;
      if (t >= tasks.n_tasks) break;
      scores->loss[t] = lane(loss, static_cast<int>(l));
      if (!scores->accuracy.empty()) {
        scores->accuracy[t] = static_cast<float>(n_right[l]) /
                              static_cast<float>(shape().n_query);
      }
    }
  }

 private:
  const EpisodeShape& shape() const { return config_.source->shape(); }
  uint32_t tile_of(uint32_t n) const {
    const Network& network = *config_.network;
    return choose_tile(network,
                       n,
                       sizeof(Lanes) * (uint64_t{network.n_act} + network.n_in),
                       TileShape<Lanes>::kCols);
  }

  // Draws the tasks; lanes past the last one repeat it and are never looked at.
  void load(const TaskRange& tasks) {
    Episode& e = episode_;
    for (uint32_t l = 0; l < kWidth; ++l) {
      const uint32_t t = tasks.first + l;
      if (t < tasks.n_tasks) {
        config_.source->sample(
            tasks.split, config_.seed, tasks.iteration, t, &e);
        order_.apply(tasks.split, &e);
      }
      const int at = static_cast<int>(l);
      support_.set(at, e.support_x, e.support_labels, e.support_targets);
      query_.set(at, e.query_x, e.query_labels, e.query_targets);
    }
  }

  // Dropout of the tasks; lanes past the last one repeat it.
  void drop(const TaskRange& tasks) {
    if (config_.dropout == 0.0F) return;
    streams_.clear();
    for (uint32_t l = 0; l < kWidth; ++l) {
      const uint32_t t = std::min(tasks.first + l, tasks.n_tasks - 1);
      streams_.push_back({config_.seed, tasks.iteration, t});
    }
    ops_.draw_for(streams_);
  }

  // Query loss at theta_K; adds the queries each lane has right, if classes.
  Lanes score(uint32_t (&n_right)[kWidth]) {
    const Network& network = *config_.network;
    const SerialExecutor e;
    const LaneOps ops;
    const Workspace<Lanes> ws = gradient_.workspace();
    const Batch<Lanes> batch = query_.batch(shape().n_query);
    const bool classes = network.loss == LossOp::kSoftmaxCrossEntropy;
    for (uint32_t begin = 0; begin < batch.n; begin += ws.tile) {
      const uint32_t n = std::min(ws.tile, batch.n - begin);
      forward(e,
              ops,
              network,
              gradient_.adapted(),
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
  HugePages memory_;  // Of what follows.
  MetaGradient<Lanes> gradient_;
  MinibatchOrder order_;
  Tape<Lanes> tape_;
  DropoutOps<TapeOps<LaneOps, Lanes>, Lanes> ops_;
  std::vector<DropoutStream> streams_;
  LaneSet support_, query_;
  Episode episode_;
};

}  // namespace

std::unique_ptr<Solver> make_task_solver(const EngineConfig& config) {
  return std::make_unique<TaskSolver>(config);
}

}  // namespace fewstep::host
