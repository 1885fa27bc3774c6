// What a session does: the numbers of the inner loop, whatever the tile, the
// arena, the slicing and the storage.
//
// Oracle: the inner loop's templates called by hand with StaticOps and the
// whole batch at once, from theta_0 decoded by the host. It shares the kernels
// with the session (their own tests judge them) and none of its bookkeeping.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/device/session.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/inner_loop.h"
#include "fewstep/ops.h"
#include "fewstep/sparse_mask.h"
#include "support/device_case.h"

namespace fewstep::testing {
namespace {

struct Expected {
  std::vector<float> losses;
  std::vector<float> theta;
};

// Weight decay and clipping, as step_options.h defines them. Parameter i is
// element order[i] of the norm.
void regularize(const Rule& rule,
                const std::vector<float>& theta,
                const std::vector<size_t>& order,
                std::vector<float>* grad) {
  std::vector<float>& g = *grad;
  for (size_t i = 0; i < g.size() && rule.weight_decay != 0.0F; ++i) {
    g[i] = std::fma(2.0F * rule.weight_decay, theta[i], g[i]);
  }
  if (rule.clip_norm == 0.0F) return;
  float partial[32] = {};
  for (size_t i = 0; i < g.size(); ++i) {
    float& to = partial[order[i] % 32];
    to = std::fma(g[i], g[i], to);
  }
  float sum = 0.0F;
  for (const float p : partial) sum += p;
  const float norm = std::sqrt(sum);
  if (norm <= rule.clip_norm) return;
  for (float& x : g) x *= rule.clip_norm / norm;
}

Expected reference(const Capsule& capsule,
                   const DeviceEpisode& episode,
                   uint32_t steps,
                   std::vector<float> theta) {
  const Network& network = capsule.network;
  const std::vector<float> phi = host::decode_rates(capsule);
  std::vector<float> values(workspace_values(network, episode.n));
  const Workspace<float> workspace = {values.data(), episode.n};
  const Batch<float> batch = {episode.x.data(),
                              episode.labels.data(),
                              episode.targets.data(),
                              episode.n};
  const SerialExecutor executor;
  const fewstep::AllOps ops;
  Expected expected;
  // What adapts, by index in theta.
  std::vector<size_t> at;
  for (uint32_t l = 0; l < network.n_layers; ++l) {
    if (network.adapted != nullptr && network.adapted[l] == kFrozen) continue;
    for (uint32_t i = 0; i < network.layers[l].n_params(); ++i) {
      const uint32_t p = network.layers[l].param_offset + i;
      if (network.masked == 0 || MaskTable(network).adapts(p)) at.push_back(p);
    }
  }
  // Of layers, as they are counted; of a mask, as theta is.
  std::vector<size_t> order = at;
  if (network.masked == 0) std::iota(order.begin(), order.end(), size_t{0});
  std::vector<float> state(at.size() * capsule.rule.n_state_per_param);
  for (uint32_t k = 0; k < steps; ++k) {
    std::vector<float> grad(network.n_params);
    const PlainView<float> view = {theta.data()};
    gradient(executor, ops, network, view, workspace, batch, grad.data());
    expected.losses.push_back(*batch_loss(workspace));
    std::vector<float> from, step;
    for (const size_t i : at) {
      from.push_back(theta[i]);
      step.push_back(grad[i]);
    }
    regularize(capsule.rule, from, order, &step);
    RuleCall<float> call = {};
    call.network = &network;
    call.rule = &capsule.rule;
    call.step = k;
    call.loss = batch_loss(workspace);
    call.grad = step.data();
    call.state = k == 0 ? nullptr : state.data();
    call.next_state = state.data();
    std::vector<float> scratch(capsule.rule.n_scratch);
    call.scratch = scratch.data();
    update(executor,
           ops,
           call,
           PlainView<float>{from.data()},
           PlainView<float>{phi.data()});
    for (size_t j = 0; j < at.size(); ++j) theta[at[j]] = step[j];
  }
  expected.theta = theta;
  return expected;
}

Expected reference(const Capsule& capsule,
                   const DeviceEpisode& episode,
                   uint32_t steps) {
  return reference(capsule, episode, steps, host::decode_init(capsule));
}

std::vector<float> parameters(const Session& session) {
  return Observed(session).parameters;
}

std::vector<float> predict(OpenSession& s, const std::vector<float>& x) {
  const uint32_t n = static_cast<uint32_t>(x.size() / s.network().n_in);
  std::vector<float> outputs(size_t{n} * s.network().n_out);
  EXPECT_EQ(s.session.predict(x.data(), n, outputs.data()), Status::kOk);
  return outputs;
}

// gtest compares floats by ==, which takes -0 for +0; the contract is bits.
void expect_same_bits(const std::vector<float>& a,
                      const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
}

class SessionBits : public ::testing::TestWithParam<NamedCapsule> {
 protected:
  const SmallCapsule small_ = GetParam().make();
};
INSTANTIATE_TEST_SUITE_P(Device, SessionBits, kDeviceCapsules, kCapsuleName);

TEST_P(SessionBits, OpensAtTheInitialization) {
  OpenSession s(small_);
  expect_same_bits(parameters(s.session), host::decode_init(s.loaded.capsule));
  EXPECT_TRUE(s.session.is_open());
  EXPECT_EQ(s.session.high_water_bytes(), 0U);
  EXPECT_EQ(s.session.last_loss(), 0.0F);
  EXPECT_EQ(s.session.capsule().model_hash, s.loaded.capsule.model_hash);
  EXPECT_EQ(s.session.parameter(s.network().n_params), 0.0F);
}

TEST_P(SessionBits, AdaptIsTheInnerLoop) {
  for (uint32_t steps = 1; steps <= 2; ++steps) {
    OpenSession s(small_);
    const DeviceEpisode episode = make_device_episode(s.network(), 5);
    const Expected expected = reference(s.loaded.capsule, episode, steps);
    AdaptReport report = {};
    ASSERT_EQ(s.session.adapt(episode.set(), &report, steps), Status::kOk);
    expect_same_bits(parameters(s.session), expected.theta);
    EXPECT_EQ(report.loss_first, expected.losses.front());
    EXPECT_EQ(report.loss_last, expected.losses.back());
    EXPECT_EQ(report.steps, steps);
    EXPECT_EQ(report.tile, s.session.tile());
    EXPECT_EQ(report.high_water_bytes, s.session.high_water_bytes());
    EXPECT_EQ(s.session.last_loss(), report.loss_last);
    EXPECT_EQ(s.session.hash(),
              fnv1a(expected.theta.data(), expected.theta.size() * 4));
    EXPECT_TRUE(s.arena.margins_intact());
  }
}

TEST_P(SessionBits, ZeroStepsAreTheCapsules) {
  OpenSession s(small_);
  const DeviceEpisode episode = make_device_episode(s.network(), 4);
  AdaptReport report = {};
  ASSERT_EQ(s.session.adapt(episode.set(), &report), Status::kOk);
  EXPECT_EQ(report.steps, s.loaded.capsule.limits.steps);

  SessionOptions options;
  options.max_steps = 1;  // Below the capsule's.
  OpenSession fewer(small_, options);
  ASSERT_EQ(fewer.session.adapt(episode.set(), &report), Status::kOk);
  EXPECT_EQ(report.steps, 1U);
}

TEST_P(SessionBits, TilesAndArenasChangeNoBit) {
  OpenSession first(small_);
  const DeviceEpisode episode = make_device_episode(first.network(), 5);
  const Expected expected = reference(first.loaded.capsule, episode, 2);
  const std::vector<float> queries =
      make_device_episode(first.network(), 3, 77).x;
  ASSERT_EQ(first.session.adapt(episode.set(), nullptr, 2), Status::kOk);
  const std::vector<float> outputs = predict(first, queries);
  const bool transductive = first.network().transductive != 0;

  for (const uint32_t tile : {1U, 2U, 4U, 5U, 8U, 1000U, 0xffffffffU}) {
    SessionOptions options;
    options.tile = tile;
    OpenSession s(small_, options);
    EXPECT_EQ(s.session.tile(), transductive || tile > 5 ? 5U : tile);
    ASSERT_EQ(s.session.adapt(episode.set(), nullptr, 2), Status::kOk);
    expect_same_bits(parameters(s.session), expected.theta);
    expect_same_bits(predict(s, queries), outputs);
  }
  // Tile 0 takes the largest that fits; in one byte less, the one before.
  for (const uint32_t tile : {1U, 2U, 4U, 5U}) {
    SessionOptions options;
    options.tile = tile;
    const size_t exact = bytes_for(first.loaded.capsule, options);
    for (const size_t spare : {size_t{0}, size_t{1}}) {
      if (spare != 0 && (transductive || tile == 1)) continue;  // Too small.
      PaintedArena arena(exact - spare);
      Session session;
      ASSERT_EQ(session.open(first.loaded.view(), EveryOp::list, arena.arena()),
                Status::kOk);
      const uint32_t smaller = tile == 5 ? 4 : tile / 2;
      const uint32_t largest = spare == 0 ? tile : smaller;
      EXPECT_EQ(session.tile(), transductive ? 5U : largest);
      ASSERT_EQ(session.adapt(episode.set(), nullptr, 2), Status::kOk);
      expect_same_bits(parameters(session), expected.theta);
      EXPECT_TRUE(arena.margins_intact());
    }
  }
  // Far more than needed.
  OpenSession large(small_, {}, 100000);
  EXPECT_EQ(large.session.tile(), 5U);
  ASSERT_EQ(large.session.adapt(episode.set(), nullptr, 2), Status::kOk);
  expect_same_bits(parameters(large.session), expected.theta);
}

TEST_P(SessionBits, SlicesAreWholeSteps) {
  for (const uint32_t tile : {1U, 2U, 4U, 5U}) {
    SessionOptions options;
    options.tile = tile;
    OpenSession s(small_, options);
    const DeviceEpisode episode = make_device_episode(s.network(), 5);
    const Expected expected = reference(s.loaded.capsule, episode, 2);
    ASSERT_EQ(s.session.begin(episode.set(), 2), Status::kOk);
    const uint32_t slices = (5 + s.session.tile() - 1) / s.session.tile();
    for (uint32_t k = 0; k < 2; ++k) {
      for (uint32_t slice = 1; slice <= slices; ++slice) {
        bool done = slice != slices;
        ASSERT_EQ(s.session.step_slice(k == 0 ? &done : nullptr), Status::kOk);
        if (k == 0) {
          EXPECT_EQ(done, slice == slices);
        }
        if (slice == slices) continue;
        EXPECT_EQ(s.session.end(), Status::kBadState) << "step in progress";
      }
      EXPECT_EQ(s.session.last_loss(), expected.losses[k]);
    }
    EXPECT_EQ(s.session.step_slice(nullptr), Status::kBadState);
    AdaptReport report = {};
    ASSERT_EQ(s.session.end(&report), Status::kOk);
    EXPECT_EQ(report.loss_first, expected.losses[0]);
    EXPECT_EQ(report.loss_last, expected.losses[1]);
    expect_same_bits(parameters(s.session), expected.theta);
  }
}

TEST_P(SessionBits, AStepMayFinishWhatSlicesBegan) {
  SessionOptions options;
  options.tile = 2;
  OpenSession s(small_, options);
  const DeviceEpisode episode = make_device_episode(s.network(), 5);
  ASSERT_EQ(s.session.begin(episode.set(), 1), Status::kOk);
  if (s.network().transductive == 0) {
    ASSERT_EQ(s.session.step_slice(nullptr), Status::kOk);
  }
  ASSERT_EQ(s.session.step(), Status::kOk);
  ASSERT_EQ(s.session.end(), Status::kOk);
  expect_same_bits(parameters(s.session),
                   reference(s.loaded.capsule, episode, 1).theta);
}

TEST_P(SessionBits, WhileAdaptingTheParametersAreThoseOfTheLastStep) {
  OpenSession s(small_);
  const DeviceEpisode first = make_device_episode(s.network(), 5, 3);
  const DeviceEpisode second = make_device_episode(s.network(), 4, 5);
  ASSERT_EQ(s.session.adapt(first.set(), nullptr, 2), Status::kOk);
  ASSERT_EQ(s.session.begin(second.set(), 2), Status::kOk);
  for (uint32_t k = 0; k <= 2; ++k) {
    expect_same_bits(parameters(s.session),
                     reference(s.loaded.capsule, second, k).theta);
    if (k < 2) {
      ASSERT_EQ(s.session.step(), Status::kOk);
    }
  }
  // Ending early is allowed after any whole step; here after the last.
  ASSERT_EQ(s.session.end(), Status::kOk);
}

TEST_P(SessionBits, EndsEarlyWithTheStepsTaken) {
  OpenSession s(small_);
  const DeviceEpisode episode = make_device_episode(s.network(), 5);
  ASSERT_EQ(s.session.begin(episode.set(), 2), Status::kOk);
  ASSERT_EQ(s.session.step(), Status::kOk);
  AdaptReport report = {};
  ASSERT_EQ(s.session.end(&report), Status::kOk);
  EXPECT_EQ(report.steps, 1U);
  EXPECT_EQ(report.loss_first, report.loss_last);
  expect_same_bits(parameters(s.session),
                   reference(s.loaded.capsule, episode, 1).theta);
}

TEST_P(SessionBits, EachAdaptationStartsAtTheInitialization) {
  OpenSession s(small_);
  const DeviceEpisode a = make_device_episode(s.network(), 5, 3);
  const DeviceEpisode b = make_device_episode(s.network(), 2, 5);
  ASSERT_EQ(s.session.adapt(a.set(), nullptr, 2), Status::kOk);
  ASSERT_EQ(s.session.adapt(b.set(), nullptr, 1), Status::kOk);
  ASSERT_EQ(s.session.adapt(a.set(), nullptr, 2), Status::kOk);
  expect_same_bits(parameters(s.session),
                   reference(s.loaded.capsule, a, 2).theta);
}

TEST_P(SessionBits, ContinuesFromCurrentWhenAsked) {
  for (const OnFailure on_failure : {OnFailure::kFactory, OnFailure::kEntry}) {
    for (uint32_t steps = 1; steps <= 2; ++steps) {
      SessionOptions options;
      options.continue_from_current = true;
      options.on_failure = on_failure;
      options.max_steps = steps;
      OpenSession s(small_, options);
      const Capsule& capsule = s.loaded.capsule;
      std::vector<float> theta = host::decode_init(capsule);
      for (uint32_t round = 0; round < 4; ++round) {
        const DeviceEpisode episode =
            make_device_episode(s.network(), 5, 3 + round);
        theta = reference(capsule, episode, steps, theta).theta;
        ASSERT_EQ(s.session.adapt(episode.set(), nullptr, steps), Status::kOk);
        expect_same_bits(parameters(s.session), theta);
      }
      ASSERT_EQ(s.session.reset(), Status::kOk);
      const DeviceEpisode episode = make_device_episode(s.network(), 5);
      ASSERT_EQ(s.session.adapt(episode.set(), nullptr, steps), Status::kOk);
      expect_same_bits(parameters(s.session),
                       reference(capsule, episode, steps).theta);
    }
  }
}

TEST_P(SessionBits, ResetIsTheInitialization) {
  OpenSession s(small_);
  const uint64_t factory = s.session.hash();
  const DeviceEpisode episode = make_device_episode(s.network(), 5);
  ASSERT_EQ(s.session.adapt(episode.set()), Status::kOk);
  EXPECT_NE(s.session.hash(), factory);
  ASSERT_EQ(s.session.reset(), Status::kOk);
  EXPECT_EQ(s.session.hash(), factory);
  // It also gives up an adaptation in progress.
  ASSERT_EQ(s.session.begin(episode.set(), 2), Status::kOk);
  ASSERT_EQ(s.session.step(), Status::kOk);
  ASSERT_EQ(s.session.reset(), Status::kOk);
  EXPECT_EQ(s.session.hash(), factory);
  EXPECT_EQ(s.session.step(), Status::kBadState);
  EXPECT_EQ(s.session.adapt(episode.set()), Status::kOk);
}

TEST_P(SessionBits, PredictsAndEvaluatesAtTheCurrentParameters) {
  OpenSession s(small_);
  const Capsule& capsule = s.loaded.capsule;
  const Network& network = s.network();
  const uint32_t n = 4;
  const DeviceEpisode episode = make_device_episode(network, n);
  std::vector<float> theta = host::decode_init(capsule);
  for (uint32_t adapted = 0; adapted <= 1; ++adapted) {
    std::vector<float> values(workspace_values(network, n));
    const Workspace<float> workspace = {values.data(), n};
    forward(SerialExecutor(),
            fewstep::AllOps(),
            network,
            PlainView<float>{theta.data()},
            workspace,
            episode.x.data(),
            n);
    const float* const out = outputs(network, workspace);
    expect_same_bits(predict(s, episode.x), {out, out + n * network.n_out});
    float loss = 0.0F;
    ASSERT_EQ(s.session.evaluate(episode.set(), &loss), Status::kOk);
    const Expected next = reference(capsule, episode, 1, theta);
    EXPECT_EQ(loss, next.losses[0]);
    ASSERT_EQ(s.session.adapt(episode.set(), nullptr, 1), Status::kOk);
    theta = next.theta;
  }
}

TEST_P(SessionBits, PredictsAnyNumberOfExamplesTileByTile) {
  OpenSession s(small_);
  const std::vector<float> x = make_device_episode(s.network(), 11).x;
  if (s.network().transductive != 0) return;  // Limited to max_predict.
  const std::vector<float> together = predict(s, x);
  const size_t n_in = s.network().n_in;
  const size_t n_out = s.network().n_out;
  for (size_t i = 0; i < 11; ++i) {
    const auto x_i = x.begin() + static_cast<ptrdiff_t>(i * n_in);
    const auto y_i = together.begin() + static_cast<ptrdiff_t>(i * n_out);
    expect_same_bits(predict(s, {x_i, x_i + static_cast<ptrdiff_t>(n_in)}),
                     {y_i, y_i + static_cast<ptrdiff_t>(n_out)});
  }
}

TEST_P(SessionBits, TwoSessionsOnOneCapsuleDoNotMeet) {
  const LoadedCapsule loaded(small_);
  SessionOptions options;
  const size_t n_bytes = bytes_for(loaded.capsule, options);
  PaintedArena arenas[2] = {PaintedArena(n_bytes), PaintedArena(n_bytes)};
  Session sessions[2];
  const Network& network = loaded.capsule.network;
  const DeviceEpisode episodes[2] = {make_device_episode(network, 5, 3),
                                     make_device_episode(network, 4, 5)};
  for (size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(sessions[i].open(loaded.view(), EveryOp::list, arenas[i].arena()),
              Status::kOk);
    ASSERT_EQ(sessions[i].begin(episodes[i].set(), 2), Status::kOk);
  }
  for (int k = 0; k < 2; ++k) {
    for (Session& session : sessions) ASSERT_EQ(session.step(), Status::kOk);
  }
  for (size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(sessions[i].end(), Status::kOk);
    expect_same_bits(parameters(sessions[i]),
                     reference(loaded.capsule, episodes[i], 2).theta);
  }
}

TEST_P(SessionBits, OpensAgainAsNew) {
  OpenSession s(small_);
  const uint64_t factory = s.session.hash();
  const DeviceEpisode episode = make_device_episode(s.network(), 5);
  ASSERT_EQ(s.session.adapt(episode.set()), Status::kOk);
  ASSERT_EQ(s.session.begin(episode.set()), Status::kOk);
  // On another capsule, from the middle of an adaptation.
  const LoadedCapsule other(smallest_capsule());
  ASSERT_EQ(s.session.open(other.view(), EveryOp::list, s.arena.arena()),
            Status::kOk);
  EXPECT_EQ(s.session.capsule().network.n_params, 2U);
  EXPECT_EQ(s.session.high_water_bytes(), 0U);
  EXPECT_EQ(s.session.last_loss(), 0.0F);
  EXPECT_EQ(s.session.step(), Status::kBadState);
  ASSERT_EQ(s.session.open(s.loaded.view(), EveryOp::list, s.arena.arena()),
            Status::kOk);
  EXPECT_EQ(s.session.hash(), factory);
  ASSERT_EQ(s.session.adapt(episode.set(), nullptr, 2), Status::kOk);
  expect_same_bits(parameters(s.session),
                   reference(s.loaded.capsule, episode, 2).theta);
}

TEST(Session, CapsulesOfTheseTestsMove) {
  // Guards the tests above: their capsules must move under adaptation.
  for (const auto make :
       {small_classifier, small_regressor, small_batch_norm, small_mixed}) {
    OpenSession s(make());
    const DeviceEpisode episode = make_device_episode(s.network(), 5);
    const std::vector<float> before = parameters(s.session);
    ASSERT_EQ(s.session.adapt(episode.set(), nullptr, 1), Status::kOk);
    const std::vector<float> after = parameters(s.session);
    size_t moved = 0;
    for (size_t i = 0; i < before.size(); ++i) moved += before[i] != after[i];
    EXPECT_GT(moved, before.size() / 2);
  }
}

}  // namespace
}  // namespace fewstep::testing
