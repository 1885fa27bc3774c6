// A rule's state lives from begin() to end(): what follows never sees it.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "fewstep/device/session.h"
#include "fewstep/executor/serial.h"
#include "fewstep/host/meta_gradient.h"
#include "fewstep/ops.h"
#include "support/device_case.h"

namespace fewstep::testing {
namespace {

class SessionState : public ::testing::TestWithParam<NamedCapsule> {
 protected:
  SmallCapsule make() const {
    SmallCapsule small = GetParam().make();
    small.contents.init_storage = Storage::kF32;
    return small;
  }
};
INSTANTIATE_TEST_SUITE_P(
    Device,
    SessionState,
    ::testing::Values(NamedCapsule{"momentum", small_momentum},
                      NamedCapsule{"adam", small_adam},
                      NamedCapsule{"lstm", small_lstm},
                      NamedCapsule{"online", small_online}),
    kCapsuleName);

std::vector<float> parameters(const Session& s) {
  std::vector<float> theta;
  for (uint32_t i = 0; i < s.capsule().network.n_params; ++i) {
    theta.push_back(s.parameter(i));
  }
  return theta;
}

// The trainer's inner loop keeps every state; the session has one.
TEST_P(SessionState, StepsAreThoseOfTheTrainer) {
  for (uint32_t steps = 1; steps <= make().contents.limits.steps; ++steps) {
    OpenSession s(make());
    const Capsule& c = s.loaded.capsule;
    const DeviceEpisode episode = make_device_episode(c.network, 5);
    ASSERT_EQ(s.session.adapt(episode.set(), nullptr, steps), Status::kOk);

    const std::vector<float> theta = host::decode_init(c);
    const std::vector<float> phi = host::decode_rates(c);
    host::Objective objective;
    objective.steps = steps;
    host::MetaGradient<float> trainer(c.network, c.rule, objective, 5, 5);
    trainer.adapt(SerialExecutor(),
                  AllOps(),
                  PlainView<float>{theta.data()},
                  PlainView<float>{phi.data()},
                  Batch<float>{episode.x.data(),
                               episode.labels.data(),
                               episode.targets.data(),
                               5});
    const PlainView<float> adapted = trainer.adapted();
    for (uint32_t i = 0; i < c.network.n_params; ++i) {
      EXPECT_EQ(to_bits(s.session.parameter(i)), to_bits(adapted(i)))
          << "steps " << steps << ", parameter " << i;
    }
  }
}

TEST_P(SessionState, StartsAnewWithEveryAdaptation) {
  SessionOptions options;
  options.continue_from_current = true;
  OpenSession twice(make(), options);
  const DeviceEpisode first = make_device_episode(twice.network(), 5, 1);
  const DeviceEpisode second = make_device_episode(twice.network(), 4, 2);
  ASSERT_EQ(twice.session.adapt(first.set()), Status::kOk);
  SmallCapsule from_there = make();
  from_there.contents.theta = parameters(twice.session);
  from_there.contents.golden.reset();
  OpenSession once(from_there, options);
  ASSERT_EQ(twice.session.adapt(second.set()), Status::kOk);
  ASSERT_EQ(once.session.adapt(second.set()), Status::kOk);
  EXPECT_EQ(twice.session.hash(), once.session.hash());
}

TEST_P(SessionState, OfAFailedAdaptationIsGone) {
  for (const OnFailure on_failure : {OnFailure::kFactory, OnFailure::kEntry}) {
    for (const bool continues : {false, true}) {
      SessionOptions options;
      options.on_failure = on_failure;
      options.continue_from_current = continues;
      OpenSession s(make(), options);
      OpenSession fresh(make(), options);
      const DeviceEpisode episode = make_device_episode(s.network(), 5);
      if (on_failure == OnFailure::kEntry && continues) {
        ASSERT_EQ(s.session.adapt(episode.set()), Status::kOk);
        ASSERT_EQ(fresh.session.adapt(episode.set()), Status::kOk);
      }
      // One step leaves its state behind; then the loss is none.
      DeviceEpisode wild = episode;
      ASSERT_EQ(s.session.begin(wild.set()), Status::kOk);
      ASSERT_EQ(s.session.step(), Status::kOk);
      for (float& x : wild.x) x = NAN;
      ASSERT_EQ(s.session.step(), Status::kDiverged);
      EXPECT_EQ(s.session.hash(), fresh.session.hash());
      ASSERT_EQ(s.session.adapt(episode.set()), Status::kOk);
      ASSERT_EQ(fresh.session.adapt(episode.set()), Status::kOk);
      EXPECT_EQ(s.session.hash(), fresh.session.hash());
    }
  }
}

// A state that overflows is a parameter that is not finite one step later.
TEST(SessionStateOf, MomentumThatOverflowsDiverges) {
  SmallCapsule small =
      make_small_capsule({1, 1, 1},
                         {{.op = LayerOp::kDense, .out_c = 1}},
                         LossOp::kMeanSquaredError,
                         RuleOp::kMomentum,
                         2,
                         mean_options(RateLayout::kScalar, false));
  small.contents.theta = {0.0F, 0.0F};
  small.contents.phi = {0.0F, 1.0F};  // No rate, all gain.
  OpenSession s(small);
  // dL/dw = -2 y x is infinite where the loss y^2 is not.
  const DeviceEpisode wild = {1, {3e30F}, {}, {1e10F}};
  EXPECT_EQ(s.session.adapt(wild.set()), Status::kDiverged);
}

}  // namespace
}  // namespace fewstep::testing
