// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/optimizer.h"

#include <span>

#include "fewstep/layers/layer.h"

namespace fewstep::host {
namespace {

// Adam on values x[0..n) whose moments start at m and v.
struct Adam {
  float rate, beta1, beta2, eps, correction1, correction2;

  void step(std::span<const float> g, float* x, float* m, float* v) const {
    for (size_t i = 0; i < g.size(); ++i) {
      m[i] = fma(1.0F - beta1, g[i], beta1 * m[i]);
      v[i] = fma((1.0F - beta2) * g[i], g[i], beta2 * v[i]);
      const float m_hat = m[i] / correction1;
      const float v_hat = v[i] / correction2;
      x[i] = x[i] - rate * (m_hat / (sqrt(v_hat) + eps));
    }
  }
};

// The schedule of outer.rate, for another rate.
float scheduled(const OuterRecipe& outer, double rate, int64_t iteration) {
  OuterRecipe other = outer;
  other.rate = rate;
  if (outer.rate > 0.0) other.min_rate *= rate / outer.rate;
  return scheduled_rate(other, iteration);
}

}  // namespace

float scheduled_rule_rate(const OuterRecipe& outer, int64_t iteration) {
  return scheduled(outer, outer.rule_rate, iteration);
}

float scheduled_mask_rate(const OuterRecipe& outer, int64_t iteration) {
  return scheduled(outer, outer.mask_rate, iteration);
}

float scheduled_rate(const OuterRecipe& outer, int64_t iteration) {
  const float rate = static_cast<float>(outer.rate);
  if (outer.schedule == Schedule::kConstant) return rate;
  const float min = static_cast<float>(outer.min_rate);
  const double share =
      static_cast<double>(iteration) / static_cast<double>(outer.iterations);
  const float angle = static_cast<float>(3.14159265358979323846 * share);
  return fma((rate - min) * 0.5F, 1.0F + cos(angle), min);
}

void scheduled_objective(const Recipe& recipe,
                         int64_t iteration,
                         Objective* objective) {
  const OuterRecipe& outer = recipe.outer;
  const uint32_t steps = static_cast<uint32_t>(recipe.inner.steps);
  objective->steps = steps;
  objective->method = outer.method;
  objective->second_order =
      recipe.inner.order == 2 && iteration >= outer.order_annealing;
  objective->step_weights.clear();
  if (iteration >= outer.multi_step_iterations) return;
  const double share = static_cast<double>(iteration) /
                       static_cast<double>(outer.multi_step_iterations);
  const double w = (1.0 - share) / steps;
  objective->step_weights.assign(size_t{steps} + 1, static_cast<float>(w));
  objective->step_weights.front() = 0.0F;
  objective->step_weights.back() = static_cast<float>(1.0 - (steps - 1) * w);
}

float outer_step(const OuterRecipe& outer,
                 bool learn_phi,
                 std::vector<float>& d_theta,
                 std::vector<float>& d_phi,
                 OuterState* state,
                 uint32_t n_logits) {
  const uint32_t n_theta = static_cast<uint32_t>(d_theta.size());
  const uint32_t n_phi = learn_phi ? static_cast<uint32_t>(d_phi.size()) : 0;
  const float norm =
      sqrt(partial_sum<float>(n_theta + n_phi, [&](uint32_t i, float s) {
        const float g = i < n_theta ? d_theta[i] : d_phi[i - n_theta];
        return fma(g, g, s);
      }));
  const float clip = static_cast<float>(outer.clip_norm);
  if (clip > 0.0F && norm > clip) {
    const float scale = clip / norm;
    for (float& g : d_theta) g = g * scale;
    for (float& g : d_phi) g = g * scale;
  }

  const float rate = scheduled_rate(outer, state->iteration);
  const float rule_rate = scheduled_rule_rate(outer, state->iteration);
  const float mask_rate = scheduled_mask_rate(outer, state->iteration);
  // Of phi, before the logits.
  const uint32_t n_rule = n_phi < n_logits ? 0 : n_phi - n_logits;
  const float decay = rate * static_cast<float>(outer.weight_decay);
  if (decay != 0.0F) {
    for (float& x : state->theta) x = fma(-decay, x, x);
  }
  if (outer.optimizer == OuterOptimizer::kSgd) {
    for (uint32_t i = 0; i < n_theta; ++i) {
      state->theta[i] = fma(-rate, d_theta[i], state->theta[i]);
    }
    for (uint32_t i = 0; i < n_phi; ++i) {
      const float r = i < n_rule ? rule_rate : mask_rate;
      state->phi[i] = fma(-r, d_phi[i], state->phi[i]);
    }
  } else {
    const float beta1 = static_cast<float>(outer.beta1);
    const float beta2 = static_cast<float>(outer.beta2);
    state->m.resize(n_theta + n_phi);
    state->v.resize(n_theta + n_phi);
    state->beta1_power = state->beta1_power * beta1;
    state->beta2_power = state->beta2_power * beta2;
    Adam adam = {rate,
                 beta1,
                 beta2,
                 static_cast<float>(outer.eps),
                 1.0F - state->beta1_power,
                 1.0F - state->beta2_power};
    adam.step(d_theta, state->theta.data(), state->m.data(), state->v.data());
    if (learn_phi) {
      const std::span<const float> g = d_phi;
      float* const x = state->phi.data();
      float* const m = state->m.data() + n_theta;
      float* const v = state->v.data() + n_theta;
      adam.rate = rule_rate;
      adam.step(g.first(n_rule), x, m, v);
      adam.rate = mask_rate;
      adam.step(g.subspan(n_rule), x + n_rule, m + n_rule, v + n_rule);
    }
  }
  ++state->iteration;
  return norm;
}

}  // namespace fewstep::host
