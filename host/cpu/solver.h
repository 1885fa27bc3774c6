// A solver adapts tasks and takes their meta-gradients: one worker's part.
//
// Two kinds, chosen by the engine: kLanes tasks at a time, one a lane, for
// networks whose working set then stays in the caches; or one task at a time
// with its channels in the lanes (channels.h), for large ones. They give the
// same bits.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_SOLVER_H_
#define FEWSTEP_HOST_CPU_SOLVER_H_

#include <memory>
#include <memory_resource>
#include <vector>

#include "channel_network.h"
#include "fewstep/host/engine.h"
#include "fewstep/host/lanes.h"
#include "fewstep/host/minibatch_order.h"

namespace fewstep::host {

/// Meta-gradients of a group of tasks: value i of task t of the group is
/// d_theta[i * width + t].
struct alignas(64) Group {
  /// Room for n_theta and n_phi floats.
  Group(size_t n_theta, size_t n_phi, std::pmr::memory_resource* memory)
      : d_theta_lanes((n_theta + kLanes - 1) / kLanes, memory),
        d_phi_lanes((n_phi + kLanes - 1) / kLanes, memory) {}

  std::pmr::vector<Lanes> d_theta_lanes, d_phi_lanes;  // Aligned storage.
  float* d_theta() { return reinterpret_cast<float*>(d_theta_lanes.data()); }
  float* d_phi() { return reinterpret_cast<float*>(d_phi_lanes.data()); }
  const float* d_theta() const {
    return reinterpret_cast<const float*>(d_theta_lanes.data());
  }
  const float* d_phi() const {
    return reinterpret_cast<const float*>(d_phi_lanes.data());
  }
  float query_loss[kLanes];
  float support_loss[kLanes];
  uint32_t used;  ///< Bit t: task t is not dropped.

  bool uses(uint32_t t) const { return (used >> t & 1U) != 0; }
  void drop(uint32_t t) { used &= ~(1U << t); }
};

/// Tasks [first, first + width()) of an iteration, as far as there are n_tasks.
struct TaskRange {
  Split split;
  uint64_t iteration;
  uint32_t first;
  uint32_t n_tasks;
};

class Solver {
 public:
  virtual ~Solver() = default;

  /// The objective of the next meta-gradients (Engine::set_objective).
  virtual void set_objective(const Objective& objective) = 0;

  /// Meta-gradients at (theta, phi). Allocates nothing after its first call
  /// with a group (and the first of second order).
  virtual void meta_gradient(const float* theta,
                             const float* phi,
                             const TaskRange& tasks,
                             Group* group) = 0;

  /// Scores of the tasks, written at their indices.
  virtual void evaluate(const float* theta,
                        const float* phi,
                        const TaskRange& tasks,
                        TaskScores* scores) = 0;
};

/// What is taken for a core's second-level cache, bytes: half of 1 MiB, the
/// other half is the parameters'.
constexpr uint64_t kCacheBytes = 512 * 1024;

/// Examples of n that the kernels take at a time: as many as keep a tile's
/// activations, `example_bytes` each, in the cache, in whole register tiles of
/// `cols` examples. Batch norm needs all.
constexpr uint32_t choose_tile(const Network& network,
                               uint32_t n,
                               uint64_t example_bytes,
                               uint32_t cols) {
  if (network.transductive != 0) return n;
  const uint64_t fit = kCacheBytes / example_bytes / cols;
  const uint64_t tile = (fit > 1 ? fit : 1) * cols;
  return tile < n ? static_cast<uint32_t>(tile) : n;
}

/// Examples of a step's support pass, and of its Hessian-vector product.
inline uint32_t examples_of_step(const EngineConfig& config) {
  return Minibatches(config.source->shape().n_support,
                     config.objective.inner_batch)
      .n;
}

/// Tasks in the lanes. Its width is kLanes.
std::unique_ptr<Solver> make_task_solver(const EngineConfig& config);
/// Channels in the lanes. Its width is 1. `network` outlives it.
std::unique_ptr<Solver> make_channel_solver(const EngineConfig& config,
                                            const ChannelNetwork& network);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CPU_SOLVER_H_
