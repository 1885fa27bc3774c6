// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "channel_ops.h"
#include "solver.h"

namespace fewstep::host {
namespace {

class ChannelSolver : public Solver {
 public:
  ChannelSolver(const EngineConfig& config, const ChannelNetwork& network)
      : config_(config),
        gradient_(*config.network, *config.rule, config.objective, 0, 0),
        tile_(tile_of(network,
                      std::max(shape().n_support, shape().n_query),
                      sizeof(Channels))),
        order_(shape(), config.objective.inner_batch),
        tape_(network.network(),
              examples_of_step(config),
              config.objective.steps,
              config.tape_bytes),
        ops_(network,
             tile_,
             tile_of(network, examples_of_step(config), sizeof(Dual<Channels>)),
             &tape_),
        out_(size_t{tile_} * shape().n_out) {}

  void set_objective(const Objective& objective) override {
    gradient_.set_objective(objective);
    config_.objective.second_order = objective.second_order;
    config_.objective.method = objective.method;
  }

  void meta_gradient(const float* theta,
                     const float* phi,
                     const TaskRange& tasks,
                     Group* group) override {
    sample(tasks);
    tape_.use(config_.objective.has_hessian());
    gradient_.write_to(group->d_theta(), group->d_phi());
    gradient_.run(SerialExecutor(),
                  ops_,
                  PlainView<float>{theta},
                  PlainView<float>{phi},
                  support(),
                  query());
    group->query_loss[0] = gradient_.query_loss();
    group->support_loss[0] = gradient_.support_loss(0);
  }

  void evaluate(const float* theta,
                const float* phi,
                const TaskRange& tasks,
                TaskScores* scores) override {
    sample(tasks);
    tape_.use(false);
    gradient_.adapt(SerialExecutor(),
                    ops_,
                    PlainView<float>{theta},
                    PlainView<float>{phi},
                    support());
    const Batch<float> batch = query();
    ops_.mean_loss(gradient_.adapted(), gradient_.workspace(), batch);
    scores->loss[tasks.first] = *batch_loss(gradient_.workspace());
    if (scores->accuracy.empty()) return;
    const uint32_t n_out = shape().n_out;
    uint32_t n_right = 0;
    for (uint32_t begin = 0; begin < batch.n; begin += tile_) {
      const uint32_t n = std::min(tile_, batch.n - begin);
      ops_.forward(gradient_.adapted(),
                   batch.x + size_t{begin} * shape().n_in,
                   n,
                   out_.data());
      for (uint32_t q = 0; q < n; ++q) {
        const float* const z = out_.data() + size_t{q} * n_out;
        uint32_t best = 0;
        for (uint32_t o = 1; o < n_out; ++o) {
          if (z[o] > z[best]) best = o;
        }
        if (best == batch.labels[begin + q]) ++n_right;
      }
    }
    scores->accuracy[tasks.first] =
        static_cast<float>(n_right) / static_cast<float>(batch.n);
  }

 private:
  const EpisodeShape& shape() const { return config_.source->shape(); }
  static uint32_t tile_of(const ChannelNetwork& channels,
                          uint32_t n,
                          uint64_t run_bytes) {
    const Network packed = channels.network();
    return choose_tile(
        packed, n, run_bytes * packed.n_act, TileShape<Channels>::kCols);
  }
  void sample(const TaskRange& tasks) {
    config_.source->sample(
        tasks.split, config_.seed, tasks.iteration, tasks.first, &episode_);
    order_.apply(tasks.split, &episode_);
  }
  Batch<float> support() const {
    return batch(episode_.support_x,
                 episode_.support_labels,
                 episode_.support_targets,
                 shape().n_support);
  }
  Batch<float> query() const {
    return batch(episode_.query_x,
                 episode_.query_labels,
                 episode_.query_targets,
                 shape().n_query);
  }
  static Batch<float> batch(const std::vector<float>& x,
                            const std::vector<uint16_t>& labels,
                            const std::vector<float>& targets,
                            uint32_t n) {
    return {x.data(),
            labels.empty() ? nullptr : labels.data(),
            targets.empty() ? nullptr : targets.data(),
            n};
  }

  EngineConfig config_;
  MetaGradient<float> gradient_;
  uint32_t tile_;
  MinibatchOrder order_;
  Tape<Channels> tape_;
  ChannelOps ops_;
  std::vector<float> out_;
  Episode episode_;
};

}  // namespace

std::unique_ptr<Solver> make_channel_solver(const EngineConfig& config,
                                            const ChannelNetwork& network) {
  return std::make_unique<ChannelSolver>(config, network);
}

}  // namespace fewstep::host
