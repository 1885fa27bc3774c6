// Errors of exp, log, tanh, sigmoid, sin and cos against the C library in
// double, and equality of the scalar and the lane-wise bits.
//
// The oracle shares nothing with the code under test; its own error is about
// 2^-29 ulp of binary32. Every 251st bit pattern is taken, or all 2^32 when the
// environment has FEWSTEP_EXHAUSTIVE (minutes a function).
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/numerics/elementary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>

#include "fewstep/host/lanes.h"

namespace fewstep {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNanValue = std::numeric_limits<float>::quiet_NaN();
constexpr float kTiny = std::numeric_limits<float>::denorm_min();

bool same(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || to_bits(a) == to_bits(b);
}

/// |y - exact| in units in the last place of a binary32 near `exact`; infinite
/// when one of them is NaN or infinite and the other is not.
double ulp_error(float y, double exact) {
  if (std::isnan(exact)) return std::isnan(y) ? 0.0 : HUGE_VAL;
  if (std::fabs(exact) >= 0x1p128) {
    return static_cast<double>(y) == std::copysign(HUGE_VAL, exact) ? 0.0
                                                                    : HUGE_VAL;
  }
  // An early overflow is judged as if binary32 had another binade.
  double got = static_cast<double>(y);
  if (std::isinf(got)) got = std::copysign(0x1p128, got);
  if (got == exact) return 0.0;
  int exponent = exact == 0.0 ? -126 : std::ilogb(exact);
  exponent = std::min(std::max(exponent, -126), 127);
  const double error = std::ldexp(std::fabs(got - exact), 23 - exponent);
  return std::isnan(error) ? HUGE_VAL : error;
}

TEST(UlpError, SeesWhatItMeasures) {
  EXPECT_EQ(ulp_error(1.0F, 1.0), 0.0);
  EXPECT_EQ(ulp_error(1.0F + 0x1p-23F, 1.0), 1.0);
  EXPECT_EQ(ulp_error(kTiny, 0.0), 1.0);
  EXPECT_EQ(ulp_error(2 * kTiny, 0x1p-149), 1.0);
  EXPECT_EQ(ulp_error(kInf, 0x1.fffffep127), 1.0);
  EXPECT_EQ(ulp_error(1.0F, std::nan("")), HUGE_VAL);
  EXPECT_EQ(ulp_error(kNanValue, 1.0), HUGE_VAL);
  EXPECT_EQ(ulp_error(1.0F, HUGE_VAL), HUGE_VAL);
  EXPECT_EQ(ulp_error(0x1.fffffep127F, 0x1p128), HUGE_VAL);
  EXPECT_EQ(ulp_error(kInf, 0x1p300), 0.0);
}

/// Compares `f` with `oracle` over the bit patterns first, first + stride, ...
/// and fails where the error exceeds `bound` ulp or the lanes differ.
template <class F, class Oracle>
void measure(const char* name, F f, Oracle oracle, double bound) {
  const bool all = std::getenv("FEWSTEP_EXHAUSTIVE") != nullptr;
  const uint64_t stride = all ? 1 : 251;
  double worst = 0.0;
  float worst_x = 0.0F;
  uint64_t n_different = 0;
  float different_x = 0.0F;
  alignas(Lanes) float x[kLanes];
  alignas(Lanes) float y[kLanes];
  for (uint64_t first = 0; first < (uint64_t{1} << 32);
       first += stride * kLanes) {
    for (int i = 0; i < kLanes; ++i) {
      x[i] = from_bits(static_cast<uint32_t>(first + stride * i));
    }
    store(y, f(load(x)));
    for (int i = 0; i < kLanes; ++i) {
      const float scalar = f(x[i]);
      if (!same(scalar, y[i])) {
        ++n_different;
        different_x = x[i];
      }
      const double error = ulp_error(scalar, oracle(x[i]));
      if (error > worst) {
        worst = error;
        worst_x = x[i];
      }
    }
  }
  std::printf("%-8s max error %.4f ulp at %a (%s)\n",
              name,
              worst,
              static_cast<double>(worst_x),
              all ? "all arguments" : "sampled");
  ::testing::Test::RecordProperty("max_error_ulp", std::to_string(worst));
  EXPECT_LE(worst, bound) << name << " at " << worst_x;
  EXPECT_GT(worst, 0.4) << "the sweep measures nothing";
  EXPECT_EQ(n_different, 0U) << "lanes differ, e.g. at " << different_x;
}

double domain(float x, double y) {
  return std::fabs(x) <= kMaxAngle ? y : std::nan("");
}

TEST(Elementary, ExpErrorIsWithinItsBound) {
  measure(
      "exp",
      [](auto x) { return exp(x); },
      [](float x) { return std::exp(static_cast<double>(x)); },
      1.1);
}

TEST(Elementary, LogErrorIsWithinItsBound) {
  measure(
      "log",
      [](auto x) { return log(x); },
      [](float x) { return std::log(static_cast<double>(x)); },
      0.85);
}

TEST(Elementary, TanhErrorIsWithinItsBound) {
  measure(
      "tanh",
      [](auto x) { return tanh(x); },
      [](float x) { return std::tanh(static_cast<double>(x)); },
      1.5);
}

TEST(Elementary, SigmoidErrorIsWithinItsBound) {
  measure(
      "sigmoid",
      [](auto x) { return sigmoid(x); },
      [](float x) {
        const double e = std::exp(-std::fabs(static_cast<double>(x)));
        return (x < 0.0F ? e : 1.0) / (1.0 + e);
      },
      1.55);
}

TEST(Elementary, SinErrorIsWithinItsBound) {
  measure(
      "sin",
      [](auto x) { return sin(x); },
      [](float x) { return domain(x, std::sin(static_cast<double>(x))); },
      1.55);
}

TEST(Elementary, CosErrorIsWithinItsBound) {
  measure(
      "cos",
      [](auto x) { return cos(x); },
      [](float x) { return domain(x, std::cos(static_cast<double>(x))); },
      1.55);
}

/// f(x) at float and in a lane, compared with the bits of `expected`.
#define EXPECT_VALUE(f, x, expected)                                  \
  do {                                                                \
    const float x_ = (x);                                             \
    const float expected_ = (expected);                               \
    EXPECT_PRED2(same, f(x_), expected_) << #f " at " << x_;          \
    EXPECT_PRED2(same, lane(f(broadcast(x_)), kLanes - 1), expected_) \
        << #f " in a lane at " << x_;                                 \
  } while (false)

TEST(Elementary, SpecialValues) {
  EXPECT_VALUE(exp, 0.0F, 1.0F);
  EXPECT_VALUE(exp, -0.0F, 1.0F);
  EXPECT_VALUE(exp, kInf, kInf);
  EXPECT_VALUE(exp, -kInf, 0.0F);
  EXPECT_VALUE(exp, kNanValue, kNanValue);
  // The last finite result, the first infinity, the last subnormal, 0.
  EXPECT_LT(exp(0x1.62e42ep6F), kInf);
  EXPECT_VALUE(exp, 0x1.62e430p6F, kInf);
  EXPECT_VALUE(exp, -0x1.9fe368p6F, kTiny);
  EXPECT_VALUE(exp, -0x1.9fe36ap6F, 0.0F);

  EXPECT_VALUE(log, 1.0F, 0.0F);
  EXPECT_VALUE(log, 0.0F, -kInf);
  EXPECT_VALUE(log, -0.0F, -kInf);
  EXPECT_VALUE(log, kInf, kInf);
  EXPECT_VALUE(log, -kTiny, kNanValue);
  EXPECT_VALUE(log, -1.0F, kNanValue);
  EXPECT_VALUE(log, -kInf, kNanValue);
  EXPECT_VALUE(log, kNanValue, kNanValue);
  EXPECT_VALUE(log, kTiny, static_cast<float>(std::log(0x1p-149)));

  EXPECT_VALUE(tanh, 0.0F, 0.0F);
  EXPECT_VALUE(tanh, -0.0F, -0.0F);
  EXPECT_VALUE(tanh, kTiny, kTiny);
  EXPECT_VALUE(tanh, -kTiny, -kTiny);
  EXPECT_VALUE(tanh, 10.0F, 1.0F);
  EXPECT_VALUE(tanh, kInf, 1.0F);
  EXPECT_VALUE(tanh, -kInf, -1.0F);
  EXPECT_VALUE(tanh, kNanValue, kNanValue);

  EXPECT_VALUE(sigmoid, 0.0F, 0.5F);
  EXPECT_VALUE(sigmoid, -0.0F, 0.5F);
  EXPECT_VALUE(sigmoid, kInf, 1.0F);
  EXPECT_VALUE(sigmoid, -kInf, 0.0F);
  EXPECT_VALUE(sigmoid, kNanValue, kNanValue);

  const float beyond = std::nextafter(kMaxAngle, kInf);
  EXPECT_VALUE(sin, 0.0F, 0.0F);
  EXPECT_VALUE(sin, -0.0F, -0.0F);
  EXPECT_VALUE(sin, -kTiny, -kTiny);
  EXPECT_VALUE(cos, 0.0F, 1.0F);
  EXPECT_TRUE(std::isfinite(sin(kMaxAngle)));
  EXPECT_TRUE(std::isfinite(cos(-kMaxAngle)));
  EXPECT_VALUE(sin, beyond, kNanValue);
  EXPECT_VALUE(cos, -beyond, kNanValue);
  EXPECT_VALUE(sin, kInf, kNanValue);
  EXPECT_VALUE(cos, -kInf, kNanValue);
  EXPECT_VALUE(sin, kNanValue, kNanValue);
  EXPECT_VALUE(cos, kNanValue, kNanValue);
}

TEST(Elementary, SymmetriesHoldToTheBit) {
  for (uint64_t b = 0; b < 0x7f800000U; b += 10007) {
    const float x = from_bits(static_cast<uint32_t>(b));
    ASSERT_PRED2(same, tanh(-x), -tanh(x)) << x;
    ASSERT_PRED2(same, sin(-x), x <= kMaxAngle ? -sin(x) : kNanValue) << x;
    ASSERT_PRED2(same, cos(-x), cos(x)) << x;
  }
}

/// Largest drop of f from one argument to the next over [low, high], in ulp:
/// a function with this much error may step back a little, never far.
template <class F>
double worst_step_back(F f, float low, float high, int n_runs, int run) {
  double worst = 0.0;
  for (int i = 0; i < n_runs; ++i) {
    float x =
        low + (high - low) * static_cast<float>(i) / static_cast<float>(n_runs);
    float y = f(x);
    for (int j = 0; j < run; ++j) {
      x = std::nextafter(x, kInf);
      const float next = f(x);
      if (next < y) {
        worst = std::max(worst, ulp_error(next, static_cast<double>(y)));
      }
      y = next;
    }
  }
  return worst;
}

TEST(Elementary, StepsBackByAtMostOneUlp) {
  EXPECT_LE(worst_step_back(
                [](float x) { return exp(x); }, -104.0F, 89.0F, 2000, 1000),
            1.0);
  EXPECT_LE(worst_step_back(
                [](float x) { return log(x); }, 0.001F, 10.0F, 2000, 1000),
            1.0);
  EXPECT_LE(worst_step_back(
                [](float x) { return tanh(x); }, -10.0F, 10.0F, 2000, 1000),
            2.0);
  EXPECT_LE(worst_step_back(
                [](float x) { return sigmoid(x); }, -104.0F, 20.0F, 2000, 1000),
            2.0);
}

TEST(Elementary, DoubleIsTheCLibrary) {
  for (double x = -20.0; x <= 20.0; x += 0.37) {
    EXPECT_EQ(exp(x), std::exp(x));
    EXPECT_EQ(tanh(x), std::tanh(x));
    EXPECT_EQ(sin(x), std::sin(x));
    EXPECT_EQ(cos(x), std::cos(x));
    EXPECT_EQ(log(x * x + 0.1), std::log(x * x + 0.1));
    EXPECT_NEAR(sigmoid(x), 1.0 / (1.0 + std::exp(-x)), 1e-15);
  }
}

}  // namespace
}  // namespace fewstep
