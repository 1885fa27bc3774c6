// Known answers, and the statistics that each distribution promises. All seeds
// are fixed: a statistical test either passes for good or fails for good.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/philox.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <vector>

namespace fewstep::host {
namespace {

using Counter = std::array<uint32_t, 4>;
using Key = std::array<uint32_t, 2>;

// The three vectors of Random123's kat_vectors file for philox4x32 with 10
// rounds.
TEST(Philox, GivesTheKnownAnswers) {
  constexpr uint32_t kOnes = 0xffffffffU;
  EXPECT_EQ(philox4x32(Counter{0, 0, 0, 0}, Key{0, 0}),
            (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32(Counter{kOnes, kOnes, kOnes, kOnes}, Key{kOnes, kOnes}),
            (Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32(Counter{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                       Key{0xa4093822, 0x299f31d0}),
            (Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, IsPhiloxOfTheDocumentedCounterAndKey) {
  const uint64_t seed = 0x0123456789abcdefU;
  const uint64_t iteration = 0x00aabbcc11223344U;
  Random random(seed, iteration, 7, Purpose::kClassSplit);
  for (uint32_t block = 0; block < 3; ++block) {
    const Counter expected = philox4x32(
        Counter{block, 7, 0x11223344, 0xaabbcc03}, Key{0x89abcdef, 0x01234567});
    for (const uint32_t e : expected) EXPECT_EQ(random.bits(), e);
  }
}

TEST(Random, SharesNoNumberBetweenStreams) {
  std::set<uint32_t> seen;
  size_t n = 0;
  const auto add = [&](Random random) {
    for (int i = 0; i < 8; ++i, ++n) seen.insert(random.bits());
  };
  add(Random(1, 0, 0, Purpose::kTrainEpisode));
  add(Random(2, 0, 0, Purpose::kTrainEpisode));
  add(Random(1ULL << 32, 0, 0, Purpose::kTrainEpisode));
  add(Random(1, 1, 0, Purpose::kTrainEpisode));
  add(Random(1, 1ULL << 32, 0, Purpose::kTrainEpisode));
  add(Random(1, 0, 1, Purpose::kTrainEpisode));
  add(Random(1, 0, 0, Purpose::kTestEpisode));
  EXPECT_EQ(seen.size(), n);  // A chance collision has probability 4e-7.
}

TEST(Random, UniformIsAMultipleOfTwoToTheMinus24BelowOne) {
  Random random(3, 0, 0, Purpose::kCheck);
  Random same(3, 0, 0, Purpose::kCheck);
  double sum = 0.0;
  constexpr int kN = 100000;
  for (int i = 0; i < kN; ++i) {
    const float u = random.uniform();
    ASSERT_EQ(u * 0x1p24F, static_cast<float>(same.bits() >> 8));
    ASSERT_LT(u, 1.0F);
    sum += static_cast<double>(u);
  }
  // 5 standard deviations of the mean of kN uniforms.
  EXPECT_NEAR(sum / kN, 0.5, 5 * std::sqrt(1.0 / 12 / kN));
}

TEST(Random, UniformOfARangeStaysInIt) {
  Random random(4, 0, 0, Purpose::kCheck);
  float lo = 9.0F, hi = -9.0F;
  for (int i = 0; i < 100000; ++i) {
    const float x = random.uniform(-5.0F, 5.0F);
    lo = std::min(lo, x);
    hi = std::max(hi, x);
  }
  EXPECT_GE(lo, -5.0F);
  EXPECT_LE(hi, 5.0F);
  EXPECT_LT(lo, -4.99F);
  EXPECT_GT(hi, 4.99F);
}

TEST(Random, BelowIsEvenForEveryRemainder) {
  Random random(5, 0, 0, Purpose::kCheck);
  for (const uint32_t n : {1U, 2U, 3U, 7U, 10U}) {
    std::vector<int> count(n, 0);
    const int each = 10000;
    for (uint32_t i = 0; i < n * each; ++i) {
      const uint32_t x = random.below(n);
      ASSERT_LT(x, n);
      ++count[x];
    }
    for (const int c : count) EXPECT_NEAR(c, each, 5 * std::sqrt(each)) << n;
  }
}

// With n = 3 * 2^30 a plain multiply-shift gives every third integer twice as
// often as the others: a mean remainder of 0.75 and not 1.
TEST(Random, BelowHasNoMultiplyShiftBias) {
  Random random(6, 0, 0, Purpose::kCheck);
  constexpr uint32_t kN = 3U << 30;
  double sum = 0.0;
  constexpr int kSamples = 30000;
  for (int i = 0; i < kSamples; ++i) sum += random.below(kN) % 3;
  EXPECT_NEAR(sum / kSamples, 1.0, 5 * std::sqrt(2.0 / 3 / kSamples));
}

TEST(Random, NormalHasTheMomentsOfTheStandardNormal) {
  Random random(7, 0, 0, Purpose::kCheck);
  constexpr int kN = 200000;
  double m[5] = {};
  int n_inside = 0;
  for (int i = 0; i < kN; ++i) {
    const double z = static_cast<double>(random.normal());
    ASSERT_LT(std::fabs(z), 5.8);
    for (int k = 1; k < 5; ++k) m[k] += std::pow(z, k) / kN;
    n_inside += std::fabs(z) < 1.0;
  }
  // 5 standard deviations: the variances of z^k are 1, 2, 15, 96.
  const double s = 5 / std::sqrt(kN);
  EXPECT_NEAR(m[1], 0.0, s);
  EXPECT_NEAR(m[2], 1.0, s * std::sqrt(2.0));
  EXPECT_NEAR(m[3], 0.0, s * std::sqrt(15.0));
  EXPECT_NEAR(m[4], 3.0, s * std::sqrt(96.0));
  EXPECT_NEAR(n_inside / double{kN}, 0.682689, s * 0.4655);
}

// A golden value: bits of normal() are part of what a seed means.
TEST(Random, NormalKeepsItsBits) {
  Random random(1, 2, 3, Purpose::kInitialization);
  uint32_t hash = 2166136261U;  // FNV-1a over the bits.
  for (int i = 0; i < 1000; ++i) {
    const float z = random.normal();
    uint32_t b;
    static_assert(sizeof b == sizeof z);
    std::memcpy(&b, &z, sizeof b);
    hash = (hash ^ b) * 16777619U;
  }
  EXPECT_EQ(hash, 0xe88a051bU);
}

TEST(Random, TruncatedNormalStaysInsideItsBound) {
  Random random(8, 0, 0, Purpose::kCheck);
  constexpr int kN = 100000;
  double sum_squares = 0.0;
  float widest = 0.0F;
  for (int i = 0; i < kN; ++i) {
    const float z = random.truncated_normal();
    widest = std::max(widest, std::fabs(z));
    sum_squares += static_cast<double>(z) * static_cast<double>(z);
  }
  EXPECT_LE(widest, 2.0F);
  EXPECT_GT(widest, 1.99F);
  // Variance 1 - 2 * 2 phi(2) / (2 Phi(2) - 1).
  EXPECT_NEAR(sum_squares / kN, 0.774, 5 * 1.0 / std::sqrt(kN));
}

TEST(Random, DistinctGivesEveryOrderedChoiceEquallyOften) {
  Random random(9, 0, 0, Purpose::kCheck);
  std::map<std::array<uint32_t, 3>, int> count;
  constexpr int kEach = 2000;
  for (int i = 0; i < 60 * kEach; ++i) {  // 5 * 4 * 3 ordered choices.
    std::array<uint32_t, 3> drawn;
    random.distinct(5, drawn);
    ++count[drawn];
  }
  EXPECT_EQ(count.size(), 60U);
  for (const auto& [drawn, n] : count) {
    EXPECT_NE(drawn[0], drawn[1]);
    EXPECT_NE(drawn[0], drawn[2]);
    EXPECT_NE(drawn[1], drawn[2]);
    EXPECT_LT(*std::max_element(drawn.begin(), drawn.end()), 5U);
    EXPECT_NEAR(n, kEach, 5 * std::sqrt(kEach));
  }
}

TEST(Random, DistinctOfAllIsAPermutation) {
  Random random(10, 0, 0, Purpose::kCheck);
  std::vector<uint32_t> drawn(100);
  random.distinct(100, drawn);
  EXPECT_FALSE(std::is_sorted(drawn.begin(), drawn.end()));
  std::sort(drawn.begin(), drawn.end());
  for (uint32_t i = 0; i < 100; ++i) EXPECT_EQ(drawn[i], i);
}

TEST(Random, ShuffleGivesEveryOrderEquallyOften) {
  Random random(11, 0, 0, Purpose::kCheck);
  std::map<std::array<uint32_t, 4>, int> count;
  constexpr int kEach = 2000;
  for (int i = 0; i < 24 * kEach; ++i) {
    std::array<uint32_t, 4> values = {0, 1, 2, 3};
    random.shuffle(values);
    ++count[values];
  }
  EXPECT_EQ(count.size(), 24U);
  for (const auto& entry : count)
    EXPECT_NEAR(entry.second, kEach, 5 * std::sqrt(kEach));
}

}  // namespace
}  // namespace fewstep::host
