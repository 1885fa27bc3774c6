// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/outer_loop.h"

#include <memory>
#include <vector>

#include "fewstep/host/learned_mask.h"
#include "fewstep/host/outer_element.h"
#include "fewstep/host/rule_values.h"

namespace fewstep::host {
namespace {

void freeze_contexts(const Network& network, std::vector<float>* d_theta) {
  if (!has_context(network)) return;
  for (uint32_t i = 0; i < network.n_params; ++i) {
    if (is_context(network.layers, network.n_layers, i)) (*d_theta)[i] = 0.0F;
  }
}

// Everything learned in the host's memory, the step by optimizer.h.
class HostOuterLoop final : public OuterLoop {
 public:
  HostOuterLoop(Engine* engine, const Recipe& recipe, const OuterState& state)
      : engine_(*engine),
        recipe_(recipe),
        state_(state),
        d_theta_(state.theta.size()),
        d_phi_(state.phi.size()) {}

  MetaStep iterate() override {
    const EngineConfig& config = engine_.config();
    scheduled_objective(recipe_, state_.iteration, &objective_);
    engine_.set_objective(objective_);
    const MetaStep step =
        engine_.meta_gradient(state_.theta.data(),
                              state_.phi.data(),
                              static_cast<uint64_t>(state_.iteration),
                              static_cast<uint32_t>(recipe_.outer.tasks),
                              d_theta_.data(),
                              d_phi_.data());
    freeze_contexts(*config.network, &d_theta_);
    freeze_phi(recipe_.inner, *config.rule, *config.network, &d_phi_);
    outer_step(recipe_.outer,
               learns_phi(recipe_.inner),
               d_theta_,
               d_phi_,
               &state_,
               n_logits(*config.rule, *config.network));
    project_phi(*config.rule, *config.network, &state_.phi);
    return step;
  }

  TaskScores evaluate(Split split, uint32_t n_tasks) override {
    return engine_.evaluate(
        state_.theta.data(), state_.phi.data(), split, n_tasks);
  }

  OuterState& state() override { return state_; }
  int64_t iteration() const override { return state_.iteration; }

 private:
  Engine& engine_;
  const Recipe& recipe_;
  OuterState state_;
  Objective objective_;
  std::vector<float> d_theta_, d_phi_;
};

}  // namespace

std::unique_ptr<OuterLoop> Engine::start(const Recipe& recipe,
                                         const OuterState& state) {
  return std::make_unique<HostOuterLoop>(this, recipe, state);
}

}  // namespace fewstep::host
