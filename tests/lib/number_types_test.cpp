// The number types: Lanes against float, Dual against differences, and the
// storage formats half and log8 against independent arithmetic.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "fewstep/host/lanes.h"
#include "fewstep/numerics/dual.h"
#include "fewstep/numerics/elementary.h"
#include "fewstep/numerics/half.h"
#include "fewstep/numerics/log8.h"
#include "fewstep/numerics/real.h"

namespace fewstep {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNanValue = std::numeric_limits<float>::quiet_NaN();

/// Equal bits, all NaNs being equal.
bool same(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || to_bits(a) == to_bits(b);
}

/// Every kind of float, and 200 random bit patterns.
std::vector<float> samples() {
  std::vector<float> x = {0.0F,
                          1.0F,
                          1.5F,
                          2.0F,
                          3.0F,
                          1.0F / 3,
                          0x1p-126F,
                          0x1p-149F,
                          1e-40F,
                          0x1p-63F,
                          0x1p64F,
                          16777215.0F,
                          1e30F,
                          0x1.fffffep127F,
                          kInf,
                          kNanValue};
  for (size_t i = 0, n = x.size(); i < n; ++i) x.push_back(-x[i]);
  std::mt19937 random(1);
  for (int i = 0; i < 100; ++i) {
    x.push_back(from_bits(static_cast<uint32_t>(random())));
  }
  for (int i = 0; i < 100; ++i) {
    x.push_back(static_cast<float>(random()) * 0x1p-31F - 1.0F);
  }
  return x;
}

/// x[i] in lane 0, x[i + 1] in lane 1, ..., wrapping around.
Lanes gather(const std::vector<float>& x, size_t i) {
  Lanes v = broadcast(0.0F);
  for (int j = 0; j < kLanes; ++j) set_lane(&v, j, x[(i + j) % x.size()]);
  return v;
}

TEST(Lanes, MovesValuesUnchanged) {
  alignas(Lanes) float in[kLanes];
  alignas(Lanes) float out[kLanes + 1] = {};
  for (int i = 0; i < kLanes; ++i) in[i] = static_cast<float>(i) - 2.5F;
  const Lanes x = load(in);
  store(out, x);
  for (int i = 0; i < kLanes; ++i) {
    EXPECT_EQ(lane(x, i), in[i]);
    EXPECT_EQ(out[i], in[i]);
    EXPECT_EQ(lane(broadcast(7.0F), i), 7.0F);
    EXPECT_EQ(lane(bits<Lanes>(0x80000001U), i), 0x80000001U);
  }
  store_unaligned(out + 1, x);
  const Lanes y = load_unaligned(out + 1);
  for (int i = 0; i < kLanes; ++i) {
    EXPECT_EQ(out[i + 1], in[i]);
    EXPECT_EQ(lane(y, i), in[i]);
  }
}

TEST(Lanes, UnaryPrimitivesEqualFloat) {
  const std::vector<float> x = samples();
  for (size_t i = 0; i < x.size(); ++i) {
    const Lanes v = gather(x, i);
    for (int j = 0; j < kLanes; ++j) {
      const float s = x[(i + j) % x.size()];
      // Sign operations are exact for NaN too.
      EXPECT_EQ(lane(to_bits(-v), j), to_bits(s) ^ 0x80000000U);
      EXPECT_EQ(lane(to_bits(abs(v)), j), to_bits(abs(s)));
      EXPECT_PRED2(same, lane(sqrt(v), j), sqrt(s)) << s;
      EXPECT_EQ(lane(to_bits(from_bits(to_bits(v))), j), to_bits(s));
    }
  }
}

TEST(Lanes, SquareRootIsCorrectlyRounded) {
  for (uint64_t b = 0; b < 0x7f800000U; b += 101 * kLanes) {
    Lanes v = broadcast(0.0F);
    for (int j = 0; j < kLanes; ++j) {
      set_lane(&v, j, from_bits(static_cast<uint32_t>(b) + 101U * j));
    }
    const Lanes root = sqrt(v);
    for (int j = 0; j < kLanes; ++j) {
      // binary64's square root rounds to the same binary32 (Figueroa).
      const double exact = std::sqrt(static_cast<double>(lane(v, j)));
      ASSERT_PRED2(same, lane(root, j), static_cast<float>(exact));
    }
  }
}

TEST(Lanes, BinaryPrimitivesEqualFloat) {
  const std::vector<float> x = samples();
  for (size_t i = 0; i < x.size(); ++i) {
    const float s = x[i];
    const Lanes a = broadcast(s);
    for (size_t k = 0; k < x.size(); k += kLanes) {
      const Lanes b = gather(x, k);
      for (int j = 0; j < kLanes; ++j) {
        const float t = x[(k + j) % x.size()];
        ASSERT_PRED2(same, lane(a + b, j), s + t);
        ASSERT_PRED2(same, lane(a - b, j), s - t);
        ASSERT_PRED2(same, lane(a * b, j), s * t);
        ASSERT_PRED2(same, lane(a / b, j), s / t);
        ASSERT_EQ(lane(less_equal(a, b), j), less_equal(s, t));
        ASSERT_EQ(lane(exceeds(a, b), j), exceeds(s, t));
        const LaneBits m = less_equal(a, b);
        ASSERT_EQ(lane(to_bits(select(m, a, b)), j),
                  to_bits(select(less_equal(s, t), s, t)));
      }
    }
  }
}

TEST(Lanes, FmaEqualsFloatAndRoundsOnce) {
  const std::vector<float> x = samples();
  std::mt19937 random(2);
  for (int n = 0; n < 100000; ++n) {
    const float s = x[random() % x.size()];
    const float t = x[random() % x.size()];
    const size_t k = random() % x.size();
    const Lanes v = fma(broadcast(s), broadcast(t), gather(x, k));
    for (int j = 0; j < kLanes; ++j) {
      const float u = x[(k + j) % x.size()];
      ASSERT_PRED2(same, lane(v, j), fma(s, t, u)) << s << " " << t << " " << u;
    }
  }
  // (1 + e)(1 - e) - 1 = -e^2, which a rounded product loses.
  const float e = 0x1p-12F;
  const Lanes one = broadcast(1.0F);
  const Lanes f = fma(broadcast(1.0F + e), broadcast(1.0F - e), -one);
  EXPECT_EQ(lane(f, 0), -e * e);
  EXPECT_EQ(fma(1.0F + e, 1.0F - e, -1.0F), -e * e);
}

TEST(Lanes, BitOperationsEqualUnsigned) {
  std::mt19937 random(3);
  for (int n = 0; n < 1000; ++n) {
    const uint32_t s = static_cast<uint32_t>(random());
    const uint32_t t = static_cast<uint32_t>(random());
    const LaneBits a = bits<Lanes>(s);
    const LaneBits b = bits<Lanes>(t);
    const int j = n % kLanes;
    ASSERT_EQ(lane(a + b, j), s + t);
    ASSERT_EQ(lane(a - b, j), s - t);
    ASSERT_EQ(lane(a & b, j), s & t);
    ASSERT_EQ(lane(a | b, j), s | t);
    ASSERT_EQ(lane(a ^ b, j), s ^ t);
    ASSERT_EQ(lane(~a, j), ~s);
    ASSERT_EQ(lane(shift_left<23>(a), j), shift_left<23>(s));
    ASSERT_EQ(lane(shift_right<1>(a), j), shift_right<1>(s));
    ASSERT_EQ(lane(mask_and(a, b), j), mask_and(s, t));
    ASSERT_EQ(lane(mask_not(a), j), mask_not(s));
  }
}

TEST(Lanes, LabelsAreComparedLaneByLane) {
  Lanes label = broadcast(0.0F);
  for (int j = 0; j < kLanes; ++j) set_lane(&label, j, static_cast<float>(j));
  for (uint32_t o = 0; o < 20; ++o) {
    const LaneBits m = label_is<Lanes>(label, o);
    const LaneBits n = label_is<Dual<Lanes>>(label, o);
    for (int j = 0; j < kLanes; ++j) {
      const uint32_t expected = label_is<float>(static_cast<uint16_t>(j), o);
      EXPECT_EQ(lane(m, j), expected);
      EXPECT_EQ(lane(n, j), expected);
    }
  }
  EXPECT_EQ(label_is<Dual<float>>(3, 3), 0xffffffffU);
  EXPECT_EQ(label_is<Dual<float>>(3, 4), 0U);
}

TEST(Lanes, AllFiniteSeesEachLane) {
  EXPECT_TRUE(all_finite(broadcast(0x1.fffffep127F)));
  for (const float bad : {kInf, -kInf, kNanValue}) {
    for (int j = 0; j < kLanes; ++j) {
      Lanes x = broadcast(1.0F);
      set_lane(&x, j, bad);
      EXPECT_FALSE(all_finite(x));
    }
  }
}

// Dual.

/// Compares the tangent of `f` at x with a central difference in double; with
/// h = 1e-5 both its errors, h^2 f'''/6 and 2^-53 f / h, are below 1e-8 here.
/// Then the same at Dual<float> and Dual<Lanes>, whose values must be f's.
template <class F>
void expect_derivative(const char* name, F f, double x) {
  const double h = 1e-5;
  const double tolerance = 1e-8;
  const Dual<double> y = f(Dual<double>{x, 1.0});
  const double difference = (f(x + h) - f(x - h)) / (2 * h);
  EXPECT_EQ(y.value, f(x)) << name << " at " << x;
  EXPECT_NEAR(
      y.tangent, difference, tolerance * std::max(1.0, std::abs(y.tangent)))
      << name << " at " << x;
  EXPECT_DOUBLE_EQ(f(Dual<double>{x, -3.0}).tangent, -3.0 * y.tangent) << name;

  const float s = static_cast<float>(x);
  const Dual<float> z = f(Dual<float>{s, 1.0F});
  EXPECT_PRED2(same, z.value, f(s)) << name << " at " << x;
  EXPECT_NEAR(static_cast<double>(z.tangent),
              y.tangent,
              2e-5 * std::max(1.0, std::abs(y.tangent)))
      << name << " at " << x;
  const Dual<Lanes> v = f(Dual<Lanes>{broadcast(s), broadcast(1.0F)});
  EXPECT_PRED2(same, lane(v.value, 1), z.value) << name << " at " << x;
  EXPECT_PRED2(same, lane(v.tangent, 1), z.tangent) << name << " at " << x;
}

/// A constant of x's type.
template <class T>
T like(T, float c) {
  return constant<T>(c);
}

/// A constant of x's type without tangent.
template <class T>
Primal<T> input(T, float c) {
  return constant<Primal<T>>(c);
}

TEST(Dual, DerivativesEqualCentralDifferences) {
  for (const double x : {-3.3, -1.1, -0.4, -0.01, 0.02, 0.3, 0.9, 2.7, 5.1}) {
#define EXPECT_DERIVATIVE(expression) \
  expect_derivative(                  \
      #expression, [](auto a) { return expression; }, x)
    EXPECT_DERIVATIVE(-a);
    EXPECT_DERIVATIVE(a + a);
    EXPECT_DERIVATIVE(a + input(a, 2.5F));
    EXPECT_DERIVATIVE(input(a, 2.5F) + a);
    EXPECT_DERIVATIVE(a * a - a);
    EXPECT_DERIVATIVE(a - input(a, 2.5F));
    EXPECT_DERIVATIVE(input(a, 2.5F) - a);
    EXPECT_DERIVATIVE((a + like(a, 1.0F)) * a);
    EXPECT_DERIVATIVE(a * input(a, 2.5F));
    EXPECT_DERIVATIVE(input(a, 2.5F) * a);
    EXPECT_DERIVATIVE(a / (a * a + like(a, 1.0F)));
    EXPECT_DERIVATIVE(a / input(a, 2.5F));
    EXPECT_DERIVATIVE(input(a, 2.5F) / (a * a + like(a, 1.0F)));
    EXPECT_DERIVATIVE(fma(a, a + a, a));
    EXPECT_DERIVATIVE(fma(a, input(a, 2.5F), a * a));
    EXPECT_DERIVATIVE(fma(input(a, 2.5F), a, a * a));
    EXPECT_DERIVATIVE(fma(input(a, 2.5F), input(a, -0.75F), a * a));
    EXPECT_DERIVATIVE(abs(a));
    EXPECT_DERIVATIVE(sqrt(a * a + like(a, 0.5F)));
    EXPECT_DERIVATIVE(exp(a));
    EXPECT_DERIVATIVE(log(a * a + like(a, 0.5F)));
    EXPECT_DERIVATIVE(tanh(a));
    EXPECT_DERIVATIVE(sigmoid(a));
    EXPECT_DERIVATIVE(sin(a));
    EXPECT_DERIVATIVE(cos(a));
    EXPECT_DERIVATIVE(select(less_equal(a, like(a, 0.5F)), a * a, -a));
    EXPECT_DERIVATIVE(select(less_equal(a, input(a, 0.5F)), a * a, -a));
    EXPECT_DERIVATIVE(select(less_equal(input(a, 0.5F), a), a * a, -a));
    EXPECT_DERIVATIVE(select(exceeds(a, like(a, 0.5F)), a * a, -a));
    EXPECT_DERIVATIVE(select(exceeds(a, input(a, 0.5F)), a * a, -a));
    EXPECT_DERIVATIVE(select(exceeds(input(a, 0.5F), a), a * a, -a));
#undef EXPECT_DERIVATIVE
  }
}

TEST(Dual, EdgesAreAsDefined) {
  const Dual<float> zero{0.0F, 1.0F};
  EXPECT_EQ(sqrt(zero).value, 0.0F);
  EXPECT_EQ(sqrt(zero).tangent, 0.0F);
  EXPECT_EQ(sqrt(Dual<float>{4.0F, 1.0F}).tangent, 0.25F);
  EXPECT_TRUE(std::isnan(sqrt(Dual<float>{-1.0F, 1.0F}).tangent));
  EXPECT_EQ(abs(zero).tangent, 1.0F);
  EXPECT_EQ(abs(Dual<float>{-0.0F, 1.0F}).tangent, 1.0F);
  const Dual<float> c = constant<Dual<float>>(3.0F);
  EXPECT_EQ(c.value, 3.0F);
  EXPECT_EQ(c.tangent, 0.0F);
  EXPECT_EQ(primal(Dual<float>{2.0F, 5.0F}), 2.0F);
  EXPECT_EQ(tangent(Dual<float>{2.0F, 5.0F}), 5.0F);
  EXPECT_EQ(primal(2.0F), 2.0F);
  EXPECT_EQ(lane(primal(broadcast(2.0F)), 0), 2.0F);
  static_assert(std::is_same_v<Primal<Dual<Lanes>>, Lanes>);
  static_assert(std::is_same_v<Label<Dual<float>>, uint16_t>);
}

// half.

TEST(Half, DecodesEveryPatternExactly) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const uint32_t exponent = (h >> 10) & 31U;
    const uint32_t m = h & 0x3ffU;
    float expected;
    if (exponent == 31) {
      expected = m == 0 ? kInf : kNanValue;
    } else if (exponent == 0) {
      expected = std::ldexp(static_cast<float>(m), -24);
    } else {
      expected = std::ldexp(static_cast<float>(1024 + m),
                            static_cast<int>(exponent) - 25);
    }
    if (h & 0x8000U) expected = -expected;
    const float x = float_from_half(static_cast<uint16_t>(h));
    ASSERT_PRED2(same, x, expected) << std::hex << h;
    if (!std::isnan(x)) {
      ASSERT_EQ(half_from_float(x), h);
    }
  }
}

TEST(Half, EncodesToNearestEven) {
  // Halfway cases between every pair of neighbours, and beside them.
  for (uint32_t h = 0; h < 0x7bff; ++h) {
    const float a = float_from_half(static_cast<uint16_t>(h));
    const float b = float_from_half(static_cast<uint16_t>(h + 1));
    const float half = a + (b - a) * 0.5F;
    const uint32_t even = h + (h & 1U);
    ASSERT_EQ(half_from_float(half), even);
    ASSERT_EQ(half_from_float(std::nextafter(half, 0.0F)), h);
    ASSERT_EQ(half_from_float(std::nextafter(half, kInf)), h + 1);
    ASSERT_EQ(half_from_float(-half), even | 0x8000U);
  }
  EXPECT_EQ(half_from_float(0x1.ffdffep15F), 0x7bff);  // Below 65,520.
  EXPECT_EQ(half_from_float(65520.0F), kHalfInfinity);
  EXPECT_EQ(half_from_float(1e30F), kHalfInfinity);
  EXPECT_EQ(half_from_float(-kInf), kHalfInfinity | 0x8000);
  EXPECT_EQ(half_from_float(0x1p-149F), 0);
  EXPECT_EQ(half_from_float(-0.0F), 0x8000);
  EXPECT_EQ(half_from_float(kNanValue), 0x7e00);
}

TEST(Half, EqualsTheProcessor) {
#if defined(__F16C__)
  for (uint32_t h = 0; h < 0x10000; ++h) {
    ASSERT_PRED2(same,
                 float_from_half(static_cast<uint16_t>(h)),
                 _cvtsh_ss(static_cast<uint16_t>(h)));
  }
  for (uint64_t b = 0; b < (uint64_t{1} << 32); b += 97) {
    const float x = from_bits(static_cast<uint32_t>(b));
    if (std::isnan(x)) continue;
    const __m128i halves =
        _mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT);
    ASSERT_EQ(half_from_float(x), _mm_cvtsi128_si32(halves)) << x;
  }
#else
  GTEST_SKIP() << "this build has no F16C instructions";
#endif
}

// log8.

TEST(Log8, DecodesAsDefinedWithoutSubnormals) {
  for (int e = kLog8MinExponent; e <= kLog8MaxExponent; ++e) {
    const int16_t exponent = static_cast<int16_t>(e);
    EXPECT_EQ(to_bits(log8_decode(0, exponent)), 0U);
    EXPECT_EQ(to_bits(log8_decode(0x80, exponent)), 0U);
    EXPECT_EQ(log8_decode(127, exponent), std::ldexp(1.0F, e));
    float previous = 0.0F;
    for (int m = 1; m < 128; ++m) {
      const float x = log8_decode(static_cast<uint8_t>(m), exponent);
      const double exact = std::exp2(e - (127 - m) / 8.0);
      ASSERT_TRUE(std::isnormal(x)) << m << " " << e;
      ASSERT_GT(x, previous);
      ASSERT_NEAR(static_cast<double>(x) / exact, 1.0, 0x1p-24) << m;
      ASSERT_EQ(log8_decode(static_cast<uint8_t>(m | 128), exponent), -x);
      ASSERT_EQ(log8_encode(x, exponent), m);
      ASSERT_EQ(log8_encode(-x, exponent), m | 128);
      previous = x;
    }
  }
}

TEST(Log8, EncodesToTheNearestCode) {
  const double stated = (std::exp2(0.125) - 1) / (std::exp2(0.125) + 1);
  EXPECT_NEAR(stated, 0.043295, 5e-7);
  std::mt19937 random(4);
  double worst = 0.0;
  for (int n = 0; n < 20000; ++n) {
    const int16_t e = static_cast<int16_t>(kLog8MinExponent +
                                           static_cast<int>(random() % 238));
    const float u = static_cast<float>(random() >> 8) * 0x1p-24F;
    const float x = std::ldexp(std::exp2(-17.0F * u), e);
    const uint8_t code = log8_encode(x, e);
    const double error = std::abs(static_cast<double>(log8_decode(code, e)) -
                                  static_cast<double>(x));
    for (int c = 0; c < 128; ++c) {
      const double other =
          static_cast<double>(log8_decode(static_cast<uint8_t>(c), e));
      ASSERT_LE(error, std::abs(other - static_cast<double>(x)));
    }
    if (x >= log8_decode(1, e)) {
      worst = std::max(worst, error / static_cast<double>(x));
    }
    ASSERT_EQ(log8_encode(-x, e), code == 0 ? 0 : code | 128);
  }
  EXPECT_LE(worst, stated * (1 + 0x1p-22));
  EXPECT_GT(worst, stated * 0.99);
  for (int m = 1; m < 127; ++m) {  // Ties and their neighbours.
    const float a = log8_decode(static_cast<uint8_t>(m), 3);
    const float b = log8_decode(static_cast<uint8_t>(m + 1), 3);
    const double middle = (static_cast<double>(a) + static_cast<double>(b)) / 2;
    const float x = static_cast<float>(middle);
    const bool up = static_cast<double>(x) >= middle;
    ASSERT_EQ(log8_encode(x, 3), up ? m + 1 : m);
  }
}

TEST(Log8, EdgesAreAsDefined) {
  const float smallest = log8_decode(1, -5);
  EXPECT_EQ(log8_encode(0.0F, -5), 0);
  EXPECT_EQ(log8_encode(-0.0F, -5), 0);
  EXPECT_EQ(log8_encode(smallest / 2, -5), 1);
  EXPECT_EQ(log8_encode(std::nextafter(smallest / 2, 0.0F), -5), 0);
  EXPECT_EQ(log8_encode(-0x1p-149F, kLog8MinExponent), 0);
  EXPECT_EQ(log8_encode(1e30F, -5), 127);
  EXPECT_EQ(log8_encode(-kInf, -5), 255);
  EXPECT_EQ(log8_encode(kNanValue, -5), 0);
}

TEST(Log8, ChoosesTheSmallestExponentThatReaches) {
  std::mt19937 random(5);
  for (int n = 0; n < 100000; ++n) {
    const float x = abs(from_bits(static_cast<uint32_t>(random())));
    if (!std::isfinite(x)) continue;
    const int16_t e = log8_choose_exponent(x);
    ASSERT_GE(e, kLog8MinExponent);
    ASSERT_LE(e, kLog8MaxExponent);
    const double top = std::exp2(e);
    const double reach = (1 + static_cast<double>(from_bits(0x3f8b95c2U))) / 2;
    if (static_cast<double>(x) <= 0x1p127 * reach) {
      ASSERT_LE(static_cast<double>(x), top * reach);
    }
    if (e > kLog8MinExponent) {
      ASSERT_GT(static_cast<double>(x), top / 2 * reach);
    }
  }
  EXPECT_EQ(log8_choose_exponent(0.0F), kLog8MinExponent);
  EXPECT_EQ(log8_choose_exponent(1.0F), 0);
  EXPECT_EQ(log8_choose_exponent(1.04F), 0);
  EXPECT_EQ(log8_choose_exponent(1.05F), 1);
  EXPECT_EQ(log8_choose_exponent(0x1.fffffep127F), kLog8MaxExponent);
}

}  // namespace
}  // namespace fewstep
