// A step that goes wrong: its status, and where `on_failure` leaves the
// session.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <ostream>
#include <string>
#include <tuple>

#include "fewstep/device/session.h"
#include "support/device_case.h"

namespace fewstep::testing {
namespace {

// y = w x + b from w = 1, b = 0; one example (s, 0); rate 0.1. Then
// e_0 = s, loss_0 = s^2, dL/dw = 2 s^2, and |e_{k+1}| is about 0.2 s^2 |e_k|:
// s says at which step which number overflows.
struct Blow {
  const char* name;
  float s;
  uint32_t at;  // Step that fails.
};
void PrintTo(const Blow& b, std::ostream* os) { *os << b.name; }

SmallCapsule line() {
  SmallCapsule small = smallest_capsule();
  small.contents.theta = {1.0F, 0.0F};
  small.contents.phi = {0.1F};
  small.contents.limits.steps = 3;
  return small;
}

class Divergence : public ::testing::TestWithParam<
                       std::tuple<Blow, OnFailure, bool, uint32_t, bool>> {};

TEST_P(Divergence, LeavesTheSessionWhereAsked) {
  const auto& [blow, on_failure, continues, steps, adapted] = GetParam();
  if (blow.at >= steps) return;  // Not that many steps.
  SessionOptions options;
  options.on_failure = on_failure;
  options.continue_from_current = continues;
  options.max_steps = steps;
  OpenSession s(line(), options);
  const uint64_t factory = s.session.hash();
  const DeviceEpisode tame = make_device_episode(s.network(), 3);
  if (adapted) {
    // Twice, so that the parameters of entry may lie in any buffer.
    ASSERT_EQ(s.session.adapt(tame.set(), nullptr, 1), Status::kOk);
    ASSERT_EQ(s.session.adapt(tame.set()), Status::kOk);
  }
  const uint64_t entry = s.session.hash();
  EXPECT_EQ(entry == factory, !adapted);
  const DeviceEpisode wild = {1, {blow.s}, {}, {0.0F}};
  const uint64_t expected = on_failure == OnFailure::kEntry ? entry : factory;

  // By itself.
  AdaptReport report = {1.0F, 2.0F, 33, 4, 5};
  ASSERT_EQ(s.session.adapt(wild.set(), &report), Status::kDiverged);
  EXPECT_EQ(report.steps, 33U);
  EXPECT_EQ(s.session.hash(), expected);
  EXPECT_EQ(s.session.end(), Status::kBadState);

  // Driven by the caller, from the same entry.
  if (on_failure == OnFailure::kFactory && adapted) {
    ASSERT_EQ(s.session.adapt(tame.set()), Status::kOk);
  }
  ASSERT_EQ(s.session.begin(wild.set()), Status::kOk);
  if (continues && adapted) {
    // The tame episode moved w and b, so the step may differ; it still fails.
    Status status = Status::kOk;
    for (uint32_t k = 0; k < steps && status == Status::kOk; ++k) {
      status = s.session.step();
    }
    ASSERT_EQ(status, Status::kDiverged);
  } else {
    for (uint32_t k = 0; k < blow.at; ++k) {
      ASSERT_EQ(s.session.step(), Status::kOk) << k;
    }
    bool done = false;
    ASSERT_EQ(s.session.step_slice(&done), Status::kDiverged);
    EXPECT_FALSE(done);
  }
  EXPECT_EQ(s.session.step(), Status::kBadState);
  EXPECT_EQ(s.session.hash(), expected);

  // And the session goes on as if nothing had been.
  OpenSession fresh(line(), options);
  if (continues && expected != factory) {
    ASSERT_EQ(fresh.session.adapt(tame.set(), nullptr, 1), Status::kOk);
    ASSERT_EQ(fresh.session.adapt(tame.set()), Status::kOk);
  }
  ASSERT_EQ(s.session.adapt(tame.set()), Status::kOk);
  ASSERT_EQ(fresh.session.adapt(tame.set()), Status::kOk);
  EXPECT_EQ(s.session.hash(), fresh.session.hash());
  EXPECT_TRUE(s.arena.margins_intact());
}

std::string divergence_name(
    const ::testing::TestParamInfo<Divergence::ParamType>& row) {
  const auto& [blow, on_failure, continues, steps, adapted] = row.param;
  return std::string(blow.name) +
         (on_failure == OnFailure::kEntry ? "_Entry" : "_Factory") +
         (continues ? "_Continue" : "") + (adapted ? "_Adapted" : "") + "_Of" +
         std::to_string(steps);
}

INSTANTIATE_TEST_SUITE_P(
    Device,
    Divergence,
    ::testing::Combine(::testing::Values(Blow{"LossAtStep0", 1e20F, 0},
                                         Blow{"ParametersAtStep0", 1.8e19F, 0},
                                         Blow{"LossAtStep1", 1e8F, 1},
                                         Blow{"LossAtStep2", 1e5F, 2}),
                       ::testing::Values(OnFailure::kFactory,
                                         OnFailure::kEntry),
                       ::testing::Bool(),
                       ::testing::Values(1U, 2U, 3U),
                       ::testing::Bool()),
    divergence_name);

TEST(DivergenceIs, OfTheLossOrOfTheParameters) {
  // The second kind has a finite loss: last_loss() would show it.
  OpenSession s(line());
  const DeviceEpisode wild = {1, {1.8e19F}, {}, {0.0F}};
  float loss = 0.0F;
  ASSERT_EQ(s.session.evaluate(wild.set(), &loss), Status::kOk);
  EXPECT_TRUE(std::isfinite(loss));
  EXPECT_EQ(s.session.adapt(wild.set()), Status::kDiverged);
}

TEST(DivergenceIs, SaidByEvaluateWhichChangesNothing) {
  OpenSession s(line());
  const DeviceEpisode tame = make_device_episode(s.network(), 3);
  ASSERT_EQ(s.session.adapt(tame.set()), Status::kOk);
  const uint64_t hash = s.session.hash();
  const DeviceEpisode wild = {1, {1e20F}, {}, {0.0F}};
  float loss = 7.0F;
  EXPECT_EQ(s.session.evaluate(wild.set(), &loss), Status::kDiverged);
  EXPECT_EQ(loss, 7.0F);
  EXPECT_EQ(s.session.hash(), hash);
}

TEST(DivergenceIs, NotAskedOfPredictions) {
  SmallCapsule small = line();
  small.contents.theta = {4.0F, 0.0F};
  OpenSession s(small);
  const float x = 3e38F;
  float y = 0.0F;
  EXPECT_EQ(s.session.predict(&x, 1, &y), Status::kOk);
  EXPECT_EQ(y, std::numeric_limits<float>::infinity());
}

TEST(Abort, IsAFailedStep) {
  for (const OnFailure on_failure : {OnFailure::kFactory, OnFailure::kEntry}) {
    for (const bool continues : {false, true}) {
      for (uint32_t n_slices = 0; n_slices <= 6; ++n_slices) {
        SessionOptions options;
        options.on_failure = on_failure;
        options.continue_from_current = continues;
        options.tile = 2;  // Two slices a step.
        OpenSession s(line(), options);
        const uint64_t factory = s.session.hash();
        const DeviceEpisode a = make_device_episode(s.network(), 4, 3);
        const DeviceEpisode b = make_device_episode(s.network(), 4, 5);
        ASSERT_EQ(s.session.adapt(a.set()), Status::kOk);
        const uint64_t entry = s.session.hash();
        ASSERT_EQ(s.session.begin(b.set()), Status::kOk);
        for (uint32_t i = 0; i < n_slices; ++i) {
          ASSERT_EQ(s.session.step_slice(nullptr), Status::kOk);
        }
        ASSERT_EQ(s.session.abort(), Status::kOk);
        EXPECT_EQ(s.session.hash(),
                  on_failure == OnFailure::kEntry ? entry : factory);
        EXPECT_EQ(s.session.abort(), Status::kBadState);
      }
    }
  }
}

}  // namespace
}  // namespace fewstep::testing
