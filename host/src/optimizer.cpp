// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/optimizer.h"

#include <span>

#include "fewstep/host/lanes.h"
#include "fewstep/host/rule_values.h"
#include "fewstep/layers/layer.h"

namespace fewstep::host {
namespace {

// The schedule of outer.rate, for another rate.
float scheduled(const OuterRecipe& outer, double rate, int64_t iteration) {
  OuterRecipe other = outer;
  other.rate = rate;
  if (outer.rate > 0.0) other.min_rate *= rate / outer.rate;
  return scheduled_rate(other, iteration);
}

// Adds v[i]^2 to the partial sums as elements `first` + i.
void add_squares(std::span<const float> v,
                 uint32_t first,
                 float (&partial)[kPartials]) {
  const auto add = [&](size_t i, uint32_t j) {
    partial[j] = fma(v[i], v[i], partial[j]);
  };
  size_t i = 0;
  uint32_t j = first % kPartials;
  // A whole round of the partial sums is a loop the compiler vectorizes.
  for (; i < v.size() && j != 0; ++i, j = (j + 1) % kPartials) add(i, j);
  for (; i + kPartials <= v.size(); i += kPartials) {
    for (uint32_t k = 0; k < kPartials; ++k) add(i + k, k);
  }
  for (; i < v.size(); ++i, ++j) add(i, j);
}

// The norm of both together, its sum in the order of partial_sum (layer.h).
float norm_of(std::span<const float> a, std::span<const float> b) {
  float partial[kPartials] = {};
  add_squares(a, 0, partial);
  add_squares(b, static_cast<uint32_t>(a.size() % kPartials), partial);
  float sum = partial[0];
  for (uint32_t j = 1; j < kPartials; ++j) sum = sum + partial[j];
  return sqrt(sum);
}

// Writes a value of each cache line as it is. What is learned has been read by
// other cores, and their copies of a line are called back before it is written:
// those of one write after another at the same time, but not those of a loop
// that writes three arrays in turn.
void claim_lines(float* values, uint32_t n) {
  constexpr uint32_t kLine = 64 / sizeof(float);
  for (uint32_t i = 0; i < n; i += kLine) {
    volatile float* const first = values + i;
    *first = *first;
  }
}

// adam_element() of `n` elements, kLanes at a time.
void move_by_adam(const OuterStep& step,
                  float rate,
                  uint32_t n,
                  const float* g,
                  float* x,
                  float* m,
                  float* v) {
  constexpr uint32_t kWidth = static_cast<uint32_t>(kLanes);
  for (float* const values : {x, m, v}) claim_lines(values, n);
  uint32_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    Lanes xs = load_unaligned(x + i);
    Lanes ms = load_unaligned(m + i);
    Lanes vs = load_unaligned(v + i);
    adam_element(step, rate, load_unaligned(g + i), &xs, &ms, &vs);
    store_unaligned(x + i, xs);
    store_unaligned(m + i, ms);
    store_unaligned(v + i, vs);
  }
  for (; i < n; ++i) adam_element(step, rate, g[i], x + i, m + i, v + i);
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
  objective->fixed_phi = !learns_phi(recipe.inner);
  objective->inner_batch = static_cast<uint32_t>(recipe.inner.batch);
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

OuterStep next_step(const OuterRecipe& outer, OuterState* state) {
  OuterStep s = {};
  s.adam = outer.optimizer == OuterOptimizer::kAdam;
  s.clip = static_cast<float>(outer.clip_norm);
  s.rate = scheduled_rate(outer, state->iteration);
  s.rule_rate = scheduled_rule_rate(outer, state->iteration);
  s.mask_rate = scheduled_mask_rate(outer, state->iteration);
  s.decay = s.rate * static_cast<float>(outer.weight_decay);
  if (s.adam) {
    s.beta1 = static_cast<float>(outer.beta1);
    s.beta2 = static_cast<float>(outer.beta2);
    s.eps = static_cast<float>(outer.eps);
    state->beta1_power = state->beta1_power * s.beta1;
    state->beta2_power = state->beta2_power * s.beta2;
    s.correction1 = 1.0F - state->beta1_power;
    s.correction2 = 1.0F - state->beta2_power;
  }
  ++state->iteration;
  return s;
}

float outer_step(const OuterRecipe& outer,
                 bool learn_phi,
                 std::vector<float>& d_theta,
                 std::vector<float>& d_phi,
                 OuterState* state,
                 uint32_t n_logits) {
  const uint32_t n_theta = static_cast<uint32_t>(d_theta.size());
  const uint32_t n_phi = learn_phi ? static_cast<uint32_t>(d_phi.size()) : 0;
  const float norm = norm_of({d_theta.data(), n_theta}, {d_phi.data(), n_phi});
  const OuterStep step = next_step(outer, state);
  const float scale = clip_scale(step, norm);
  if (scale != 1.0F) {
    for (float& g : d_theta) g = g * scale;
    for (float& g : d_phi) g = g * scale;
  }
  if (step.decay != 0.0F) {
    for (float& x : state->theta) x = decayed(step, x);
  }
  if (step.adam) {
    state->m.resize(n_theta + n_phi);
    state->v.resize(n_theta + n_phi);
  }
  const auto move = [&](float rate,
                        const std::vector<float>& gradient,
                        uint32_t moments,
                        uint32_t begin,
                        uint32_t end,
                        std::vector<float>* values) {
    const float* const g = gradient.data() + begin;
    float* const x = values->data() + begin;
    const uint32_t n = end - begin;
    if (step.adam) {
      float* const m = state->m.data() + moments + begin;
      float* const v = state->v.data() + moments + begin;
      move_by_adam(step, rate, n, g, x, m, v);
    } else {
      for (uint32_t i = 0; i < n; ++i) sgd_element(rate, g[i], x + i);
    }
  };
  move(step.rate, d_theta, 0, 0, n_theta, &state->theta);
  const uint32_t n_rule = n_phi < n_logits ? 0 : n_phi - n_logits;
  move(step.rule_rate, d_phi, n_theta, 0, n_rule, &state->phi);
  move(step.mask_rate, d_phi, n_theta, n_rule, n_phi, &state->phi);
  return norm;
}

}  // namespace fewstep::host
