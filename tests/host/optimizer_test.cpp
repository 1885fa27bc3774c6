// Outer optimizers against double-precision references and closed forms.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "fewstep/layers/layer.h"
#include "support/test_network.h"

namespace fewstep::host {
namespace {

using testing::same_bits;
using testing::Uniform;

constexpr size_t kTheta = 40;
constexpr size_t kPhi = 7;

OuterRecipe recipe(OuterOptimizer optimizer) {
  OuterRecipe r;
  r.optimizer = optimizer;
  r.rate = r.rule_rate = 0.01;
  r.iterations = 100;
  return r;
}

OuterState start(uint32_t seed) {
  OuterState s;
  Uniform uniform(seed);
  s.theta = uniform.vector(kTheta);
  s.phi = uniform.vector(kPhi);
  return s;
}

TEST(Optimizer, SgdIsItsFormula) {
  const OuterRecipe r = recipe(OuterOptimizer::kSgd);
  for (const bool learn_phi : {true, false}) {
    OuterState s = start(1);
    const OuterState before = s;
    Uniform uniform(2);
    auto d_theta = uniform.vector(kTheta);
    auto d_phi = uniform.vector(kPhi);
    const auto g = d_theta;
    const auto h = d_phi;
    static_cast<void>(outer_step(r, learn_phi, d_theta, d_phi, &s));
    for (size_t i = 0; i < kTheta; ++i) {
      EXPECT_EQ(s.theta[i], std::fma(-0.01F, g[i], before.theta[i]));
    }
    for (size_t i = 0; i < kPhi; ++i) {
      EXPECT_EQ(
          s.phi[i],
          learn_phi ? std::fma(-0.01F, h[i], before.phi[i]) : before.phi[i]);
    }
    EXPECT_EQ(s.iteration, 1);
    EXPECT_TRUE(s.m.empty());
    EXPECT_TRUE(s.v.empty());
  }
}

TEST(Optimizer, RateOneShowsTheMetaGradient) {
  OuterRecipe r = recipe(OuterOptimizer::kSgd);
  r.rate = r.rule_rate = 1.0;
  OuterState s = start(1);
  s.theta.assign(kTheta, 0.0F);
  Uniform uniform(2);
  auto d_theta = uniform.vector(kTheta);
  auto d_phi = uniform.vector(kPhi);
  const auto g = d_theta;
  static_cast<void>(outer_step(r, false, d_theta, d_phi, &s));
  for (size_t i = 0; i < kTheta; ++i) EXPECT_EQ(s.theta[i], -g[i]);
}

// Kingma & Ba's algorithm 1 in double, bias corrections by pow. A float step is
// some ten roundings of a quantity of size rate, and a rounding of x.
TEST(Optimizer, AdamFollowsKingmaAndBa) {
  OuterRecipe r = recipe(OuterOptimizer::kAdam);
  r.beta1 = 0.8;
  r.beta2 = 0.99;
  r.eps = 1e-6;
  // The recipe's values as the optimizer uses them: rounded to float.
  const double b1 = static_cast<double>(0.8F);
  const double b2 = static_cast<double>(0.99F);
  const double eps = static_cast<double>(1e-6F);
  const double rate = static_cast<double>(0.01F);
  OuterState s = start(3);
  std::vector<double> x(s.theta.begin(), s.theta.end());
  x.insert(x.end(), s.phi.begin(), s.phi.end());
  std::vector<double> m(x.size()), v(x.size());
  Uniform uniform(4);
  for (int t = 1; t <= 60; ++t) {
    auto d_theta = uniform.vector(kTheta);
    auto d_phi = uniform.vector(kPhi);
    d_theta[5] = 0.0F;  // A dead unit: stays where it is.
    std::vector<float> g = d_theta;
    g.insert(g.end(), d_phi.begin(), d_phi.end());
    const float norm = outer_step(r, true, d_theta, d_phi, &s);
    double sum = 0.0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double gi = static_cast<double>(g[i]);
      sum += gi * gi;
      m[i] = b1 * m[i] + (1 - b1) * gi;
      v[i] = b2 * v[i] + (1 - b2) * gi * gi;
      const double m_hat = m[i] / (1 - std::pow(b1, t));
      const double v_hat = v[i] / (1 - std::pow(b2, t));
      x[i] -= rate * m_hat / (std::sqrt(v_hat) + eps);
      const float got = i < kTheta ? s.theta[i] : s.phi[i - kTheta];
      EXPECT_NEAR(static_cast<double>(got), x[i], 1e-7 * (1 + t)) << i;
    }
    EXPECT_NEAR(static_cast<double>(norm), std::sqrt(sum), 1e-6);
    EXPECT_EQ(s.iteration, t);
  }
  EXPECT_EQ(s.theta[5], start(3).theta[5]);
  EXPECT_NEAR(static_cast<double>(s.beta1_power), std::pow(b1, 60), 1e-10);
}

// outer_step() works on several elements at a time, which an engine without
// Lanes must not notice: lengths around a register and a round of the norm.
TEST(Optimizer, AnyLengthGivesTheBitsOfOneElementAfterAnother) {
  OuterRecipe r = recipe(OuterOptimizer::kAdam);
  r.clip_norm = 0.5;
  r.rule_rate = 0.02;
  r.mask_rate = 0.03;
  for (const uint32_t n_theta : {1U, 15U, 16U, 40U, 131U}) {
    for (const uint32_t n_phi : {0U, 1U, 33U, 95U}) {
      SCOPED_TRACE(std::to_string(n_theta) + " and " + std::to_string(n_phi));
      const uint32_t n_logits = n_phi / 3;
      const uint32_t n = n_theta + n_phi;
      Uniform uniform(n);
      OuterState s;
      s.theta = uniform.vector(n_theta);
      s.phi = uniform.vector(n_phi);
      OuterState reference = s;  // For its schedule.
      std::vector<float> x = s.theta;
      x.insert(x.end(), s.phi.begin(), s.phi.end());
      std::vector<float> m(n, 0.0F), v(n, 0.0F);
      for (int k = 0; k < 2; ++k) {
        auto d_theta = uniform.vector(n_theta);
        auto d_phi = uniform.vector(n_phi);
        std::vector<float> g = d_theta;
        g.insert(g.end(), d_phi.begin(), d_phi.end());
        const OuterStep step = next_step(r, &reference);
        const float norm = sqrt(partial_sum<float>(
            n, [&](uint32_t i, float sum) { return fma(g[i], g[i], sum); }));
        const float scale = clip_scale(step, norm);
        for (uint32_t i = 0; i < n; ++i) {
          const float rate = i < n_theta        ? step.rate
                             : i < n - n_logits ? step.rule_rate
                                                : step.mask_rate;
          adam_element(step, rate, scale * g[i], &x[i], &m[i], &v[i]);
        }
        EXPECT_EQ(outer_step(r, true, d_theta, d_phi, &s, n_logits), norm);
      }
      std::vector<float> got = s.theta;
      got.insert(got.end(), s.phi.begin(), s.phi.end());
      EXPECT_TRUE(same_bits(got, x));
      EXPECT_TRUE(same_bits(s.m, m));
      EXPECT_TRUE(same_bits(s.v, v));
    }
  }
}

// A dead unit's moments end at +0, not at the least subnormal number; normal
// ones, infinities and NaN are left as they are.
TEST(Optimizer, AdamsMomentsAreNeverSubnormal) {
  constexpr float kLeast = 0x1p-126F;
  EXPECT_EQ(to_bits(without_subnormals(0x1p-127F)), 0U);
  EXPECT_EQ(to_bits(without_subnormals(-0x1p-149F)), 0U);
  EXPECT_EQ(without_subnormals(kLeast), kLeast);
  EXPECT_EQ(without_subnormals(-kLeast), -kLeast);
  EXPECT_EQ(without_subnormals(-INFINITY), -INFINITY);
  EXPECT_TRUE(std::isnan(without_subnormals(NAN)));

  const OuterRecipe r = recipe(OuterOptimizer::kAdam);
  OuterState s = start(12);
  for (int t = 0; t < 2000; ++t) {
    std::vector<float> d_theta(kTheta, t == 0 ? 1.0F : 0.0F);
    std::vector<float> d_phi(kPhi);
    static_cast<void>(outer_step(r, false, d_theta, d_phi, &s));
  }
  // 0.1 x 0.9^1999 is 3e-93; 0.001 x 0.999^1999 is 1e-4.
  for (const float m : s.m) EXPECT_EQ(to_bits(m), 0U);
  for (const float v : s.v) EXPECT_NEAR(v, 1.35e-4F, 1e-6F);
}

TEST(Optimizer, AdamsFirstStepIsTheRateTimesTheSign) {
  OuterRecipe r = recipe(OuterOptimizer::kAdam);
  OuterState s = start(3);
  const OuterState before = s;
  std::vector<float> d_theta(kTheta);
  std::vector<float> d_phi(kPhi, 3.0F);
  for (size_t i = 0; i < kTheta; ++i) {
    d_theta[i] = std::pow(10.0F, static_cast<float>(i % 8) - 4.0F) *
                 (i % 2 != 0 ? -1.0F : 1.0F);
  }
  static_cast<void>(outer_step(r, false, d_theta, d_phi, &s));
  for (size_t i = 0; i < kTheta; ++i) {
    EXPECT_NEAR(
        s.theta[i] - before.theta[i], i % 2 != 0 ? 0.01F : -0.01F, 2e-6F);
  }
  EXPECT_EQ(s.phi, before.phi);
}

TEST(Optimizer, ClipsTheWholeGradient) {
  OuterRecipe r = recipe(OuterOptimizer::kSgd);
  r.rate = r.rule_rate = 1.0;
  for (const bool learn_phi : {true, false}) {
    OuterState s = start(5);
    s.theta.assign(kTheta, 0.0F);
    s.phi.assign(kPhi, 0.0F);
    // 3-4-5: |theta part| = 3, |phi part| = 4.
    std::vector<float> d_theta(kTheta, 0.0F);
    std::vector<float> d_phi(kPhi, 0.0F);
    d_theta[2] = 3.0F;
    d_phi[1] = -4.0F;
    r.clip_norm = 1.0;
    const float norm = outer_step(r, learn_phi, d_theta, d_phi, &s);
    EXPECT_EQ(norm, learn_phi ? 5.0F : 3.0F);
    EXPECT_FLOAT_EQ(s.theta[2], learn_phi ? -0.6F : -1.0F);
    EXPECT_FLOAT_EQ(s.phi[1], learn_phi ? 0.8F : 0.0F);
  }
  // A norm below, or no limit: nothing changes.
  for (const double clip : {5.5, 0.0}) {
    OuterState s = start(5);
    s.theta.assign(kTheta, 0.0F);
    std::vector<float> d_theta(kTheta, 0.0F);
    std::vector<float> d_phi(kPhi, 0.0F);
    d_theta[2] = 5.0F;
    r.clip_norm = clip;
    EXPECT_EQ(outer_step(r, true, d_theta, d_phi, &s), 5.0F);
    EXPECT_EQ(s.theta[2], -5.0F);
  }
}

TEST(Optimizer, CosineIsItsClosedForm) {
  OuterRecipe r = recipe(OuterOptimizer::kSgd);
  EXPECT_EQ(scheduled_rate(r, 77), 0.01F);
  r.schedule = Schedule::kCosine;
  r.min_rate = 0.002;
  EXPECT_FLOAT_EQ(scheduled_rate(r, 0), 0.01F);
  EXPECT_FLOAT_EQ(scheduled_rate(r, 50), 0.006F);
  EXPECT_FLOAT_EQ(scheduled_rate(r, 100), 0.002F);
  for (int i = 0; i <= 100; ++i) {
    EXPECT_NEAR(static_cast<double>(scheduled_rate(r, i)),
                0.002 + 0.008 * (1 + std::cos(std::numbers::pi * i / 100)) / 2,
                5e-9);
  }
  // The step uses the rate of its iteration.
  OuterState s = start(1);
  s.theta.assign(kTheta, 0.0F);
  s.iteration = 30;
  std::vector<float> d_theta(kTheta, 1.0F);
  std::vector<float> d_phi(kPhi, 1.0F);
  static_cast<void>(outer_step(r, false, d_theta, d_phi, &s));
  EXPECT_EQ(s.theta[0], -scheduled_rate(r, 30));
}

TEST(Optimizer, TheRuleMayHaveARateOfItsOwn) {
  OuterRecipe r = recipe(OuterOptimizer::kSgd);
  r.schedule = Schedule::kCosine;
  r.min_rate = 0.002;
  r.rule_rate = 0.0025;  // A quarter, all the way.
  for (const int64_t i : {0, 30, 77, 100}) {
    EXPECT_FLOAT_EQ(scheduled_rule_rate(r, i), 0.25F * scheduled_rate(r, i));
  }
  for (const OuterOptimizer optimizer :
       {OuterOptimizer::kAdam, OuterOptimizer::kSgd}) {
    r.optimizer = optimizer;
    r.schedule = Schedule::kConstant;
    OuterState s = start(1);
    const OuterState before = s;
    std::vector<float> d_theta(kTheta, 1.0F);
    std::vector<float> d_phi(kPhi, 1.0F);
    static_cast<void>(outer_step(r, true, d_theta, d_phi, &s));
    EXPECT_NEAR(s.theta[3] - before.theta[3], -0.01F, 1e-6F);
    EXPECT_NEAR(s.phi[3] - before.phi[3], -0.0025F, 1e-6F);
  }
}

TEST(Optimizer, AMaskMayHaveARateOfItsOwn) {
  OuterRecipe r = recipe(OuterOptimizer::kSgd);
  r.rule_rate = 0.0025;
  r.mask_rate = 0.5;
  for (const OuterOptimizer optimizer :
       {OuterOptimizer::kAdam, OuterOptimizer::kSgd}) {
    r.optimizer = optimizer;
    OuterState s = start(1);
    for (int step = 0; step < 2; ++step) {
      const OuterState before = s;
      std::vector<float> d_theta(kTheta, 1.0F);
      std::vector<float> d_phi(kPhi, 1.0F);
      static_cast<void>(outer_step(r, true, d_theta, d_phi, &s, 3));
      for (size_t i = 0; i < kPhi; ++i) {
        EXPECT_NEAR(s.phi[i] - before.phi[i], i < 4 ? -0.0025F : -0.5F, 1e-5F);
      }
    }
  }
}

TEST(Optimizer, DecayShrinksThetaApartFromTheGradient) {
  for (const OuterOptimizer optimizer :
       {OuterOptimizer::kAdam, OuterOptimizer::kSgd}) {
    OuterRecipe r = recipe(optimizer);
    OuterState plain = start(1);
    OuterState decayed = plain;
    const OuterState before = plain;
    for (const double decay : {0.0, 0.5}) {
      r.weight_decay = decay;
      Uniform uniform(2);
      auto d_theta = uniform.vector(kTheta);
      auto d_phi = uniform.vector(kPhi);
      static_cast<void>(outer_step(
          r, true, d_theta, d_phi, decay == 0.0 ? &plain : &decayed));
    }
    EXPECT_TRUE(same_bits(plain.phi, decayed.phi));
    EXPECT_TRUE(same_bits(plain.m, decayed.m));
    for (size_t i = 0; i < kTheta; ++i) {
      EXPECT_NEAR(static_cast<double>(decayed.theta[i] - plain.theta[i]),
                  -0.01 * 0.5 * static_cast<double>(before.theta[i]),
                  1e-7);
    }
  }
}

Recipe annealed(int steps, int64_t multi_step, int64_t order) {
  Recipe r;
  r.inner.steps = steps;
  r.outer.iterations = 1000;
  r.outer.multi_step_iterations = multi_step;
  r.outer.order_annealing = order;
  return r;
}

TEST(ScheduledObjective, AnnealsTheStepWeightsTowardsTheLast) {
  const Recipe r = annealed(4, 200, 0);
  Objective o;
  scheduled_objective(r, 0, &o);
  EXPECT_EQ(o.step_weights,
            (std::vector<float>{0.0F, 0.25F, 0.25F, 0.25F, 0.25F}));
  scheduled_objective(r, 100, &o);
  EXPECT_EQ(o.step_weights,
            (std::vector<float>{0.0F, 0.125F, 0.125F, 0.125F, 0.625F}));
  float last = 0.0F;
  for (int64_t i = 0; i < 200; ++i) {
    scheduled_objective(r, i, &o);
    ASSERT_EQ(o.step_weights.size(), 5U);
    EXPECT_EQ(o.steps, 4U);
    float sum = 0.0F;
    for (const float w : o.step_weights) sum += w;
    EXPECT_NEAR(sum, 1.0F, 1e-6F);
    EXPECT_EQ(o.step_weights[0], 0.0F);
    EXPECT_GT(o.step_weights[1], 0.0F);
    EXPECT_GT(o.step_weights[4], last);
    last = o.step_weights[4];
  }
  EXPECT_LT(last, 1.0F);
  // Then the last step alone, which costs no other query gradient.
  for (const int64_t i : {200, 201, 999}) {
    scheduled_objective(r, i, &o);
    EXPECT_TRUE(o.step_weights.empty());
  }
}

TEST(ScheduledObjective, AnnealsTheOrder) {
  Recipe r = annealed(3, 0, 17);
  Objective o;
  for (const int64_t i : {0, 16}) {
    scheduled_objective(r, i, &o);
    EXPECT_FALSE(o.second_order) << i;
    EXPECT_TRUE(o.step_weights.empty());
  }
  for (const int64_t i : {17, 999}) {
    scheduled_objective(r, i, &o);
    EXPECT_TRUE(o.second_order) << i;
  }
  r.outer.order_annealing = 0;
  scheduled_objective(r, 0, &o);
  EXPECT_TRUE(o.second_order);
  r.inner.order = 1;
  scheduled_objective(r, 999, &o);
  EXPECT_FALSE(o.second_order);
  EXPECT_EQ(o.method, OuterMethod::kGradient);
  r.outer.method = OuterMethod::kReptile;
  scheduled_objective(r, 0, &o);
  EXPECT_EQ(o.method, OuterMethod::kReptile);
}

}  // namespace
}  // namespace fewstep::host
