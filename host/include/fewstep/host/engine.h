// An engine computes meta-gradients: on the CPU (host/cpu) or on a GPU
// (host/cuda). Both give the same bits.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_ENGINE_H_
#define FEWSTEP_HOST_ENGINE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "fewstep/host/meta_gradient.h"
#include "fewstep/host/task_source.h"
#include "fewstep/network.h"
#include "fewstep/rules/rule.h"

namespace fewstep::host {

/// What the lanes of the CPU engine's registers hold.
enum class LaneLayout : uint8_t {
  kAuto,      ///< By working set.
  kTasks,     ///< Different tasks.
  kChannels,  ///< Channels of one task, where the network allows it.
};

/// What an engine is built for. Everything pointed to outlives it.
struct EngineConfig {
  const Network* network;
  const Rule* rule;
  /// Of the first iteration; see set_objective(). Where it has minibatches, the
  /// engine puts the support sets of the training split in their order.
  Objective objective;
  const TaskSource* source;
  uint64_t seed;
  uint32_t n_threads;  ///< 0: one a core.
  /// Never changes a bit. CPU engine.
  LaneLayout layout = LaneLayout::kAuto;
  /// Most bytes a worker may take for a tape of the support passes' values,
  /// which Hessian-vector products then need not compute again; without room
  /// for a whole one they do. Never changes a bit. CPU engine.
  uint64_t tape_bytes = 64 << 20;
  /// Tasks of an iteration, as far as known: what a GPU's memory is planned
  /// for. CUDA engine.
  uint32_t n_tasks = 1;
  /// p of dropout.h, in meta_gradient() only. CPU engine.
  float dropout = 0.0F;
  /// GPUs that share the tasks; never changes a bit. CUDA engine.
  uint32_t n_gpus = 1;
  /// evaluate() also scores theta_0, and says which tasks diverged. CUDA
  /// engine.
  bool scores_before = false;
};

/// Outcome of one meta-gradient.
struct MetaStep {
  double query_loss;    ///< Mean over tasks, after adaptation.
  double support_loss;  ///< Mean over tasks, before it: of step 0.
  uint32_t n_dropped;   ///< Tasks left out: a loss or gradient not finite.
};

/// Outcome of an evaluation, one entry a task, in task order.
struct TaskScores {
  std::vector<float> loss;      ///< Query loss after adaptation.
  std::vector<float> accuracy;  ///< Share of queries right; classification.

  // With EngineConfig::scores_before, else empty.
  std::vector<float> loss_before, accuracy_before;  ///< At theta_0.
  /// A loss or a parameter of the adaptation was not finite.
  std::vector<bool> diverged;
};

class OuterLoop;
struct OuterState;
struct Recipe;

class Engine {
 public:
  virtual ~Engine() = default;

  virtual const EngineConfig& config() const = 0;

  /// The objective of the next meta-gradients: what a schedule changes during
  /// training. `steps` and `inner_batch` must be those of the configuration.
  /// Allocates nothing; the first meta-gradient of second order after others of
  /// first order does.
  virtual void set_objective(const Objective& objective) = 0;

  /// d_theta [P] and d_phi [n_phi] = the mean over the tasks of `iteration` of
  /// the objective's meta-gradient at (theta, phi). Tasks are summed in task
  /// order, so the result does not depend on threads or lanes; the mean is over
  /// tasks not dropped. All zero when every task was.
  virtual MetaStep meta_gradient(const float* theta,
                                 const float* phi,
                                 uint64_t iteration,
                                 uint32_t n_tasks,
                                 float* d_theta,
                                 float* d_phi) = 0;

  /// Adapts to tasks 0 .. n_tasks - 1 of `split`, to whole support sets, and
  /// scores their queries, together (with batch_norm: transductively).
  virtual TaskScores evaluate(const float* theta,
                              const float* phi,
                              Split split,
                              uint32_t n_tasks) = 0;

  /// The outer loop of `recipe` from `state` on, on this engine; both it and
  /// the recipe have to outlive the loop (outer_loop.h). Of several loops on
  /// one engine, the last alone may be used.
  virtual std::unique_ptr<OuterLoop> start(const Recipe& recipe,
                                           const OuterState& state);
};

/// The CPU engine: one worker a thread, with tasks or channels in the lanes.
///
/// @throws Error kResource when the processor lacks what it is compiled for.
std::unique_ptr<Engine> make_cpu_engine(const EngineConfig& config);

/// The CUDA engine on the first config.n_gpus GPUs: a block or a cluster of
/// blocks a task. config.n_threads is for drawing episodes that the GPU cannot
/// draw.
///
/// @throws Error kResource when there are fewer GPUs, no driver, no CUDA in
/// this
///     build, or too little memory; and from every member when a GPU fails.
std::unique_ptr<Engine> make_cuda_engine(const EngineConfig& config);

/// What computes.
enum class EngineKind : uint8_t { kCpu, kCuda };

/// make_cpu_engine() or make_cuda_engine().
std::unique_ptr<Engine> make_engine(EngineKind kind,
                                    const EngineConfig& config);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_ENGINE_H_
