// A session's bytes: the arena is used to its last byte and not beyond, and
// the heap not at all.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "fewstep/device/session.h"
#include "fewstep/sparse_mask.h"
#include "support/allocation_guard.h"
#include "support/device_case.h"

namespace fewstep::testing {
namespace {

constexpr uint32_t kWhole = 1000;  // More than any support set: all at once.

class SessionMemory
    : public ::testing::TestWithParam<
          std::tuple<NamedCapsule, OnFailure, bool, uint32_t, uint32_t>> {
 protected:
  SessionMemory() {
    std::tie(std::ignore,
             options_.on_failure,
             options_.continue_from_current,
             options_.max_steps,
             options_.tile) = GetParam();
  }
  SmallCapsule make() const { return std::get<0>(GetParam()).make(); }

  SessionOptions options_;
};

std::string memory_name(
    const ::testing::TestParamInfo<SessionMemory::ParamType>& row) {
  const auto& [capsule, on_failure, continues, steps, tile] = row.param;
  return std::string(capsule.name) +
         (on_failure == OnFailure::kEntry ? "_entry" : "_factory") +
         (continues ? "_continue" : "") + "_steps" + std::to_string(steps) +
         "_tile" + std::to_string(tile);
}

INSTANTIATE_TEST_SUITE_P(
    Device,
    SessionMemory,
    ::testing::Combine(kDeviceCapsules,
                       ::testing::Values(OnFailure::kFactory,
                                         OnFailure::kEntry),
                       ::testing::Bool(),
                       ::testing::Values(1U, 2U, 3U),
                       ::testing::Values(1U, 2U, 4U, kWhole)),
    memory_name);

// The memory plan of device/DESIGN.md, from the network's own numbers.
TEST_P(SessionMemory, FollowsTheFormula) {
  const LoadedCapsule loaded(make());
  const Network& n = loaded.capsule.network;
  // What is frozen is read in the capsule.
  size_t n_adapted = 0;
  for (uint32_t i = 0; i < n.n_layers; ++i) {
    if (n.adapted != nullptr && n.adapted[i] == kFrozen) continue;
    for (uint32_t k = 0; k < n.layers[i].n_params(); ++k) {
      const uint32_t at = n.layers[i].param_offset + k;
      n_adapted += n.masked == 0 || MaskTable(n).adapts(at) ? 1 : 0;
    }
  }
  EXPECT_EQ(n.n_adapted, n_adapted);
  const size_t tile = n.transductive != 0  ? 5
                      : options_.tile >= 5 ? 5
                                           : options_.tile;
  size_t vectors = options_.max_steps == 1 ? 1 : 2;
  if (options_.on_failure == OnFailure::kEntry) {
    vectors += 1;
  } else if (options_.continue_from_current) {
    vectors = 2;
  }
  if (options_.max_steps > 1) {
    vectors += loaded.capsule.rule.n_state_per_param;
  }
  const size_t floats = 1 + tile * (1 + n.n_act + n.n_aux_example) +
                        n.n_aux_batch + vectors * n.n_adapted +
                        loaded.capsule.rule.n_scratch;
  EXPECT_EQ(bytes_for(loaded.capsule, options_), floats * sizeof(float));
}

TEST_P(SessionMemory, UsesTheArenaToItsLastByteAndNotBeyond) {
  OpenSession s(make(), options_);
  const size_t exact = s.arena.size();
  EXPECT_EQ(s.arena.touched_bytes(), 0U) << "open() writes nothing";
  const Network& network = s.network();
  // Not the tests' own heap: episode and outputs in buffers of their size.
  const DeviceEpisode episode = make_device_episode(network, 5);
  const uint32_t n_query = network.transductive != 0 ? 4 : 7;
  const DeviceEpisode query = make_device_episode(network, n_query, 9);
  std::vector<float> outputs(size_t{n_query} * network.n_out);

  ASSERT_EQ(s.session.predict(query.x.data(), n_query, outputs.data()),
            Status::kOk);
  const size_t workspace = s.session.high_water_bytes();
  EXPECT_GE(workspace, s.arena.touched_bytes());
  EXPECT_LE(workspace + network.n_adapted * sizeof(float), exact);

  size_t high_water = workspace;
  for (int round = 0; round < 3; ++round) {
    AdaptReport report = {};
    ASSERT_EQ(s.session.adapt(episode.set(), &report, options_.max_steps),
              Status::kOk);
    ASSERT_EQ(s.session.predict(query.x.data(), n_query, outputs.data()),
              Status::kOk);
    EXPECT_EQ(report.high_water_bytes, s.session.high_water_bytes());
    EXPECT_EQ(report.high_water_bytes, s.arena.touched_bytes());
    EXPECT_GE(report.high_water_bytes, high_water);
    high_water = report.high_water_bytes;
  }
  // What is kept besides is needed from the second adaptation on.
  EXPECT_EQ(high_water, exact);
  EXPECT_EQ(s.arena.touched_bytes(), exact);
  EXPECT_TRUE(s.arena.margins_intact());
}

TEST_P(SessionMemory, OneByteLessIsRefused) {
  const LoadedCapsule loaded(make());
  const size_t exact = bytes_for(loaded.capsule, options_);
  PaintedArena arena(exact);
  Session session;
  EXPECT_EQ(session.open(loaded.view(),
                         EveryOp::list,
                         {arena.arena().data, exact - 1},
                         options_),
            Status::kArenaTooSmall);
  EXPECT_FALSE(session.is_open());
  EXPECT_EQ(arena.touched_bytes(), 0U);
  EXPECT_EQ(session.open(loaded.view(), EveryOp::list, arena.arena(), options_),
            Status::kOk);
}

// A network of up to seven layers of any kind over a small input, with
// parameters and a loss that suit it.
SmallCapsule random_network(uint32_t seed) {
  uint64_t state = seed;  // splitmix64: the same networks in every run.
  const auto random = [&state](uint32_t from, uint32_t to) {
    state += 0x9e3779b97f4a7c15ULL;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return static_cast<uint16_t>(from + (z ^ (z >> 31)) % (to - from + 1));
  };
  const uint16_t shape[3] = {random(1, 4), random(1, 7), random(1, 7)};
  SmallCapsule small;
  CapsuleContents& c = small.contents;
  NetworkPlanner planner(shape[0], shape[1], shape[2], &c.network);
  const uint32_t n_layers = random(1, 7);
  while (small.layers.size() < n_layers) {
    Layer layer = {};
    layer.op = static_cast<LayerOp>(random(1, 9));
    layer.kernel = static_cast<uint8_t>(random(1, 4));
    layer.stride = static_cast<uint8_t>(
        layer.op == LayerOp::kMaxPool ? layer.kernel : random(1, 3));
    layer.pad = static_cast<uint8_t>(random(0, layer.kernel - 1U));
    layer.groups = random(1, 3);
    layer.out_c = random(1, 9);
    // A choice that does not fit the shape at hand is made again.
    if (planner.add(&layer) == Status::kOk) small.layers.push_back(layer);
  }
  const LossOp loss = random(0, 1) == 0 ? LossOp::kMeanSquaredError
                                        : LossOp::kSoftmaxCrossEntropy;
  for (;;) {
    const Status status = planner.finish(small.layers.data(), loss);
    if (status == Status::kOk) break;
    // No parameter yet, or one class: a dense layer settles both.
    Layer layer = {};
    layer.op = LayerOp::kDense;
    layer.out_c = random(2, 5);
    EXPECT_EQ(planner.add(&layer), Status::kOk);
    small.layers.push_back(layer);
  }
  c.theta = small_values(c.network.n_params, seed);
  const RuleOp op = static_cast<RuleOp>(random(1, 5));
  RuleOptions rule_options;
  if (n_means(op) != 0) {
    const uint32_t digit = op == RuleOp::kAdam ? random(0, 15) : 0U;
    rule_options = mean_options(static_cast<RateLayout>(random(0, 2)),
                                random(0, 1) != 0,
                                static_cast<uint8_t>(digit));
  }
  c.rule = make_rule(op, 2, c.network, rule_options);
  c.phi = small_values(c.rule.n_phi, seed + 1);
  for (float& rate : c.phi) rate = (rate + 1.125F) / 16.0F;
  c.init_storage = random(0, 1) == 0 ? Storage::kF32 : Storage::kF16;
  c.rate_storage = static_cast<Storage>(random(1, 3));
  c.limits = {random(1, 6), random(1, 6), 2};
  // Of every third about half of the parameters, the first one among them.
  if (seed % 3 == 0) {
    adapt_parameters(small, [&](uint32_t i) {
      return i == 0 || (i + seed) * 0x9e3779b9U >> 31 != 0;
    });
  }
  return small;
}

TEST(SessionMemoryOf, RandomNetworksIsExactAndTilesChangeNoBit) {
  size_t n_layers_of[10] = {};
  size_t n_masked = 0;
  for (uint32_t seed = 1; seed <= 500; ++seed) {
    SCOPED_TRACE(::testing::Message() << "network " << seed);
    uint64_t hash = 0;
    for (const uint32_t tile : {1U, 2U, 4U, kWhole}) {
      SessionOptions options;
      options.tile = tile;
      OpenSession s(random_network(seed), options);
      const Limits& limits = s.loaded.capsule.limits;
      n_masked += s.network().masked;
      for (uint32_t i = 0; i < s.network().n_layers; ++i) {
        ++n_layers_of[static_cast<size_t>(s.network().layers[i].op)];
      }
      const DeviceEpisode episode =
          make_device_episode(s.network(), limits.support_max, seed);
      // Divergence is fine here: it must come in every tile alike.
      const Status status = s.session.adapt(episode.set());
      const DeviceEpisode query =
          make_device_episode(s.network(), limits.predict_max, seed);
      std::vector<float> outputs(size_t{query.n} * s.network().n_out);
      ASSERT_EQ(s.session.predict(query.x.data(), query.n, outputs.data()),
                Status::kOk);
      if (status == Status::kOk) {
        ASSERT_EQ(s.arena.touched_bytes(), s.arena.size());
        ASSERT_EQ(s.session.high_water_bytes(), s.arena.size());
      }
      ASSERT_TRUE(s.arena.margins_intact());
      if (tile == 1) hash = s.session.hash();
      ASSERT_EQ(s.session.hash(), hash) << "tile " << tile;
    }
  }
  EXPECT_GT(n_masked, 4 * 150U);
  for (size_t op = 1; op <= 9; ++op) {
    EXPECT_GT(n_layers_of[op], 100U) << to_string(static_cast<LayerOp>(op));
  }
}

// One step of a head costs the head's floats, however large the rest is.
TEST(SessionHighWater, OfAHeadIsTheHeads) {
  SessionOptions options;
  options.max_steps = 1;
  options.tile = 1;
  OpenSession all(small_classifier(), options);
  OpenSession head(small_head(), options);
  const Network& n = head.network();
  const Layer& last = n.layers[n.n_layers - 1];
  EXPECT_LT(last.n_params(), n.n_params);
  const DeviceEpisode episode = make_device_episode(n, 5);
  ASSERT_EQ(all.session.adapt(episode.set()), Status::kOk);
  ASSERT_EQ(head.session.adapt(episode.set()), Status::kOk);
  EXPECT_EQ(all.session.high_water_bytes() - head.session.high_water_bytes(),
            4 * (n.n_params - last.n_params()));
  EXPECT_EQ(head.session.high_water_bytes(),
            4 * (1 + 1 + n.n_act + n.n_aux_example + last.n_params()));
}

// A mask costs what adapts, and a few rows: less than all.
TEST(SessionHighWater, OfAMaskIsWhatAdaptsAndAFewRows) {
  SessionOptions options;
  options.tile = 1;
  OpenSession all(small_classifier(), options);
  OpenSession masked(small_masked(), options);
  const Network& n = masked.network();
  ASSERT_EQ(n.masked, 1);
  ASSERT_EQ(n.n_params, 51U);
  // The last layer has the most rows: 3 of 8 weights and a bias each.
  ASSERT_EQ(n.layers[5].op, LayerOp::kDense);
  EXPECT_EQ(n.n_aux_batch, 3U * (8 + 1));
  const DeviceEpisode episode = make_device_episode(n, 5);
  ASSERT_EQ(all.session.adapt(episode.set()), Status::kOk);
  ASSERT_EQ(masked.session.adapt(episode.set()), Status::kOk);
  EXPECT_EQ(masked.session.high_water_bytes(), masked.arena.size());
  EXPECT_EQ(all.session.high_water_bytes() - masked.session.high_water_bytes(),
            4 * (2 * (n.n_params - n.n_adapted) - n.n_aux_batch));
  EXPECT_LT(masked.session.high_water_bytes(), all.session.high_water_bytes());
}

// A frozen batch norm above a layer that adapts takes its sums and no more.
TEST(SessionHighWater, OfAFrozenBatchNormIsItsSums) {
  const LoadedCapsule pieces(small_pieces());
  const Network& n = pieces.capsule.network;
  ASSERT_EQ(n.layers[2].op, LayerOp::kBatchNorm);
  EXPECT_EQ(n.n_aux_batch, n.layers[2].n_aux + n.layers[2].n_params());
}

TEST(SessionHighWater, IsOfWhatWasCalled) {
  OpenSession s(small_regressor());
  const DeviceEpisode episode = make_device_episode(s.network(), 5);
  EXPECT_EQ(s.session.high_water_bytes(), 0U);
  float loss = 0.0F;
  ASSERT_EQ(s.session.evaluate(episode.set(), &loss), Status::kOk);
  const size_t workspace = s.session.high_water_bytes();
  EXPECT_EQ(workspace, s.arena.size() - 2 * s.network().n_params * 4);
  ASSERT_EQ(s.session.adapt(episode.set(), nullptr, 1), Status::kOk);
  EXPECT_EQ(s.session.high_water_bytes(), workspace + s.network().n_params * 4);
  ASSERT_EQ(s.session.adapt(episode.set(), nullptr, 2), Status::kOk);
  EXPECT_EQ(s.session.high_water_bytes(), s.arena.size());
}

TEST(AllocationGuard, Counts) {
  // The canary of the tests below: a guard that sees nothing must fail here.
  const AllocationGuard guard;
  std::unique_ptr<int> from_new = std::make_unique<int>(1);
  EXPECT_EQ(guard.count(), 1U);
  void* volatile from_malloc = std::malloc(16);
  EXPECT_EQ(guard.count(), 2U);
  std::free(from_malloc);
  void* volatile from_calloc = std::calloc(4, 4);
  EXPECT_EQ(guard.count(), 3U);
  std::free(from_calloc);
  EXPECT_EQ(guard.count(), 3U);
}

class NeverAllocates : public ::testing::TestWithParam<NamedCapsule> {};
INSTANTIATE_TEST_SUITE_P(Device, NeverAllocates, kDeviceCapsules, kCapsuleName);

TEST_P(NeverAllocates, InAnyCall) {
  const LoadedCapsule loaded(GetParam().make());
  const Network& network = loaded.capsule.network;
  SessionOptions options;
  options.on_failure = OnFailure::kEntry;
  PaintedArena arena(bytes_for(loaded.capsule, options));
  const DeviceEpisode episode = make_device_episode(network, 5);
  DeviceEpisode spoiled = episode;
  spoiled.x.back() = HUGE_VALF;
  std::vector<float> outputs(size_t{4} * network.n_out);
  std::vector<Status> answers;
  answers.reserve(64);
  Session session;
  AdaptReport report = {};
  float loss = 0.0F;
  size_t n_bytes = 0;
  Capsule capsule;
  volatile uint64_t sink = 0;

  const AllocationGuard guard;
  answers.push_back(
      read_capsule(loaded.bytes.data(), loaded.bytes.size(), &capsule));
  answers.push_back(required_bytes(loaded.capsule, options, &n_bytes));
  answers.push_back(
      session.open(loaded.view(), EveryOp::list, arena.arena(), options));
  answers.push_back(session.adapt(episode.set(), &report));
  answers.push_back(session.predict(episode.x.data(), 4, outputs.data()));
  answers.push_back(session.evaluate(episode.set(), &loss));
  answers.push_back(session.begin(episode.set()));
  answers.push_back(session.step());
  answers.push_back(session.end(&report));
  answers.push_back(session.begin(episode.set()));
  answers.push_back(session.step_slice(nullptr));
  answers.push_back(session.abort());
  answers.push_back(session.reset());
  const size_t n_ok = answers.size();
  answers.push_back(session.adapt(spoiled.set()));
  answers.push_back(session.step());
  answers.push_back(
      session.open(loaded.view(), EveryOp::list, {arena.arena().data, 0}));
  sink = session.hash();
  sink = sink + static_cast<uint64_t>(session.parameter(0) != 0.0F);
  const size_t n_allocations = guard.count();

  EXPECT_EQ(n_allocations, 0U);
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i] == Status::kOk, i < n_ok)
        << i << ": " << to_string(answers[i]);
  }
}

TEST_P(NeverAllocates, InSelftest) {
  SmallCapsule small = GetParam().make();
  if (!small.contents.golden) add_golden(small, 3, 2);
  const LoadedCapsule loaded(small);
  size_t n_bytes = 0;
  ASSERT_EQ(selftest_bytes(loaded.capsule, &n_bytes), Status::kOk);
  PaintedArena arena(n_bytes);
  const AllocationGuard guard;
  const Status status = selftest(loaded.view(), EveryOp::list, arena.arena());
  const size_t n_allocations = guard.count();
  EXPECT_EQ(n_allocations, 0U);
  // Its recorded results are made up: small_capsule.h.
  EXPECT_EQ(status, Status::kSelfTestFailed);
}

}  // namespace
}  // namespace fewstep::testing
