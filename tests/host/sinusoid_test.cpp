// The two published families, each checked by recovering the curve from its
// points with the C library's sine in double.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/sinusoid.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include "support/expect_error.h"

namespace fewstep::host {
namespace {

constexpr double kPi = 3.14159265358979323846;

Episode draw(const Sinusoid& source,
             Split split,
             uint64_t seed,
             uint64_t iteration,
             uint32_t task) {
  Episode e;
  source.sample(split, seed, iteration, task, &e);
  return e;
}

bool same(const Episode& a, const Episode& b) {
  return a.support_x == b.support_x && a.query_x == b.query_x &&
         a.support_targets == b.support_targets &&
         a.query_targets == b.query_targets;
}

// The curve's parameters, drawn again in the documented order.
struct Curve {
  double amplitude, omega, b;
};
Curve curve_of(SinusoidFamily family, uint64_t seed, uint32_t task) {
  Random random(seed, 0, task, Purpose::kTestEpisode);
  const auto amplitude = static_cast<double>(random.uniform(0.1F, 5.0F));
  const auto phase =
      static_cast<double>(random.uniform(0.0F, static_cast<float>(kPi)));
  if (family == SinusoidFamily::kMaml) return {amplitude, 1.0, -phase};
  return {amplitude, static_cast<double>(random.uniform(0.8F, 1.2F)), phase};
}

class SinusoidFamilies : public ::testing::TestWithParam<SinusoidFamily> {};

TEST_P(SinusoidFamilies, PointsLieOnTheCurveItDescribes) {
  const Sinusoid source({GetParam(), 5, 20});
  for (uint32_t task = 0; task < 200; ++task) {
    const Episode e = draw(source, Split::kTest, 1, 0, task);
    const Curve c = curve_of(GetParam(), 1, task);
    for (size_t i = 0; i < e.query_x.size(); ++i) {
      const double y =
          c.amplitude *
          std::sin(c.omega * static_cast<double>(e.query_x[i]) + c.b);
      // Angles are below 10 (rounded to half an ulp of 8..16, 2^-21) and the
      // amplitude is at most 5; the rest is below an ulp of 4.
      EXPECT_NEAR(static_cast<double>(e.query_targets[i]), y, 5 * 0x1p-21);
    }
  }
}

TEST_P(SinusoidFamilies, FillsThePublishedRanges) {
  double lo[3] = {9, 9, 9}, hi[3] = {-9, -9, -9};
  float x_lo = 9.0F, x_hi = -9.0F, y_hi = 0.0F;
  const Sinusoid source({GetParam(), 5, 20});
  for (uint32_t task = 0; task < 4000; ++task) {
    const Curve c = curve_of(GetParam(), 2, task);
    const double p[3] = {c.amplitude, c.omega, c.b};
    for (int i = 0; i < 3; ++i) {
      lo[i] = std::min(lo[i], p[i]);
      hi[i] = std::max(hi[i], p[i]);
    }
    const Episode e = draw(source, Split::kTest, 2, 0, task);
    for (const float x : e.support_x) {
      x_lo = std::min(x_lo, x);
      x_hi = std::max(x_hi, x);
    }
    for (const float y : e.support_targets) y_hi = std::max(y_hi, y);
  }
  EXPECT_NEAR(lo[0], 0.1, 0.01);
  EXPECT_NEAR(hi[0], 5.0, 0.01);
  EXPECT_NEAR(x_lo, -5.0, 0.01);
  EXPECT_NEAR(x_hi, 5.0, 0.01);
  EXPECT_GT(y_hi, 4.9F);
  if (GetParam() == SinusoidFamily::kMaml) {
    EXPECT_EQ(lo[1], 1.0);
    EXPECT_EQ(hi[1], 1.0);
    EXPECT_NEAR(lo[2], -kPi, 0.01);
    EXPECT_NEAR(hi[2], 0.0, 0.01);
  } else {
    EXPECT_NEAR(lo[1], 0.8, 0.001);
    EXPECT_NEAR(hi[1], 1.2, 0.001);
    EXPECT_NEAR(lo[2], 0.0, 0.01);
    EXPECT_NEAR(hi[2], kPi, 0.01);
  }
}

TEST_P(SinusoidFamilies, DependsOnItsArgumentsOnly) {
  const Sinusoid source({GetParam(), 5, 10});
  const Episode e = draw(source, Split::kTrain, 1, 2, 3);
  EXPECT_TRUE(same(e, draw(source, Split::kTrain, 1, 2, 3)));
  EXPECT_FALSE(same(e, draw(source, Split::kValidation, 1, 2, 3)));
  EXPECT_FALSE(same(e, draw(source, Split::kTrain, 2, 2, 3)));
  EXPECT_FALSE(same(e, draw(source, Split::kTrain, 1, 3, 3)));
  EXPECT_FALSE(same(e, draw(source, Split::kTrain, 1, 2, 4)));

  Episode from_thread;
  std::thread([&] {
    source.sample(Split::kTrain, 1, 2, 3, &from_thread);
  }).join();
  EXPECT_TRUE(same(e, from_thread));
}

INSTANTIATE_TEST_SUITE_P(
    ,
    SinusoidFamilies,
    ::testing::Values(SinusoidFamily::kMaml, SinusoidFamily::kMetaSgd),
    [](const auto& p) {
      return std::string(p.param == SinusoidFamily::kMaml ? "Maml" : "MetaSgd");
    });

TEST(Sinusoid, ReusesTheEpisodesMemory) {
  const Sinusoid source({SinusoidFamily::kMaml, 5, 10});
  Episode e = draw(source, Split::kTrain, 1, 0, 0);
  const float* const x = e.support_x.data();
  source.sample(Split::kTrain, 1, 0, 1, &e);
  EXPECT_EQ(e.support_x.data(), x);
  EXPECT_EQ(e.support_x.size(), 5U);
  EXPECT_EQ(e.query_targets.size(), 10U);
  EXPECT_TRUE(e.support_labels.empty());
}

TEST(Sinusoid, RefusesEmptySets) {
  testing::expect_error(
      [] {
        Sinusoid({SinusoidFamily::kMaml, 0, 10});
      },
      Exit::kUsage,
      {"task.shots"});
  testing::expect_error(
      [] {
        Sinusoid({SinusoidFamily::kMaml, 5, 0});
      },
      Exit::kUsage,
      {"task.queries"});
}

}  // namespace
}  // namespace fewstep::host
