// The GPU session of ports/jetson without a GPU: what its block does, run with
// its items in random order, and checked for races, against the firmware
// library's Session, call by call and bit by bit.
//
// Oracle: device/'s Session. It shares lib/'s kernels with the block (their own
// tests judge them) and none of the block's or the host side's bookkeeping but
// the counting of the arena.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "block_session.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "fewstep/executor/gpu_tiles.h"  // The GPU's kernels.
#include "support/checking_executor.h"
#include "support/session_calls.h"
#include "support/shuffled_executor.h"
#include "support/traced.h"

namespace fewstep {

template <>
struct TileShape<Traced> : TileShape<float> {};

}  // namespace fewstep

namespace fewstep::testing {
namespace {

using jetson::BlockAddresses;
using jetson::BlockMemory;
using jetson::BlockSession;

// Memory of its own, painted, and the block as a function call.
template <class T, class E>
class HostBackend {
 public:
  using Number = T;

  HostBackend(const E& executor, AccessLog* log)
      : executor_(executor), log_(log) {}

  Status open(size_t gpu_bytes, size_t staging_bytes, BlockAddresses* at) {
    // NaN wherever the block reads what nobody wrote.
    gpu_.assign(gpu_bytes + kAlignment, 0xff);
    staging_.assign(staging_bytes + kAlignment, 0xff);
    *at = {aligned(gpu_), aligned(staging_), aligned(staging_)};
    ++n_opened;
    return Status::kOk;
  }
  Status upload(uint8_t* gpu, const void* from, size_t bytes) {
    memcpy(gpu, from, bytes);
    return Status::kOk;
  }
  Status download(const uint8_t* gpu, void* to, size_t bytes) {
    memcpy(to, gpu, bytes);
    return Status::kOk;
  }
  Status prepare(const BlockMemory<T>& memory, size_t) {
    memory_ = memory;
    if (log_ != nullptr) watch_all();
    return Status::kOk;
  }
  Status run() {
    ++n_runs;
    if (fails_next) return Status::kDeviceFailed;
    if (log_ != nullptr) log_->barrier();
    jetson::run_block(executor_, AllOps(), memory_, memory_.workspace.values);
    return Status::kOk;
  }

  int n_opened = 0;
  int n_runs = 0;
  bool fails_next = false;

 private:
  static constexpr size_t kAlignment = 256;
  static uint8_t* aligned(std::vector<uint8_t>& bytes) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(bytes.data());
    return bytes.data() + (kAlignment - at % kAlignment) % kAlignment;
  }

  void watch_all() {
    const BlockMemory<T>& m = memory_;
    const Network& n = m.network;
    const auto watch = [&](const char* name, const void* at, size_t count) {
      log_->watch(name, at, count * sizeof(float), true);
    };
    watch(
        "workspace", m.workspace.values, workspace_values(n, m.workspace.tile));
    watch("sums", m.sums, jetson::kSumValues);
    watch("x", m.x, size_t{n.n_in} * 5);
    watch("vectors", m.vectors, size_t{n.n_adapted} * 2);
    if (m.targets != nullptr) watch("targets", m.targets, size_t{n.n_out} * 5);
    watch("losses", m.losses, 3);
    watch("outputs", m.outputs, size_t{n.n_out} * 5);
    if (m.rule.n_state_per_param != 0) {
      watch("state", m.state, size_t{n.n_adapted} * m.rule.n_state_per_param);
    }
  }

  const E& executor_;
  AccessLog* log_;
  std::vector<uint8_t> gpu_, staging_;
  BlockMemory<T> memory_ = {};
};

/// A BlockSession on a HostBackend.
template <class T, class E>
class BlockCalls final : public SessionCalls {
 public:
  BlockCalls(const SmallCapsule& small,
             const SessionOptions& options,
             const E& executor,
             AccessLog* log = nullptr)
      : loaded(small), backend(executor, log), session(&backend) {
    const Status status = session.open(loaded.view(), options);
    if (status != Status::kOk) throw std::logic_error(to_string(status));
  }
  Status adapt(const SupportSet& s, AdaptReport* r, uint32_t steps) override {
    return session.adapt(s, r, steps);
  }
  Status predict(const float* x, uint32_t n, float* outputs) override {
    return session.predict(x, n, outputs);
  }
  Status evaluate(const SupportSet& set, float* loss) override {
    return session.evaluate(set, loss);
  }
  Status reset() override { return session.reset(); }
  uint64_t hash() override { return session.hash(); }

  LoadedCapsule loaded;
  HostBackend<T, E> backend;
  BlockSession<HostBackend<T, E>> session;
};

using FloatBackend = HostBackend<float, ShuffledExecutor>;
using FloatCalls = BlockCalls<float, ShuffledExecutor>;

class BlockSessionBits : public ::testing::TestWithParam<SessionCase> {};
TEST(SessionCases, AreOfAllRulesOfTheFirmwareLibrary) {
  // Rules, storages of theta_0 and rates, networks; rules, networks, choices.
  size_t n_choices = 0;
  for (const SessionCase& c : session_cases()) {
    if (*c.step.name != '\0') ++n_choices;
  }
  EXPECT_GE(n_choices, 9U * 4 * 6);
  EXPECT_GE(session_cases().size() - n_choices, 9U * 2 * 3 * 4);
}

INSTANTIATE_TEST_SUITE_P(Jetson,
                         BlockSessionBits,
                         ::testing::ValuesIn(session_cases()),
                         [](const auto& row) { return row.param.name; });

TEST_P(BlockSessionBits, AreThoseOfSessionInAnyOrderOfItems) {
  for (const SessionOptions& options : session_options()) {
    const SmallCapsule small = make_capsule(GetParam());
    DeviceCalls device(small, options);
    const ShuffledExecutor executor(77);
    FloatCalls block(small, options, executor);
    SamePair both(small.contents.network, &device, &block);
    live_through(small.contents, both);
  }
}

// Adapts, predicts and evaluates with every access watched.
uint64_t conflicts(const SessionCase& c, bool barriers, std::string* report) {
  AccessLog log;
  const CheckingExecutor executor(&log, barriers);
  const SmallCapsule small = make_capsule(c);
  SessionOptions options;
  options.tile = 2;
  BlockCalls<Traced, CheckingExecutor> block(small, options, executor, &log);
  const DeviceEpisode episode = make_device_episode(small.contents.network, 5);
  const Status status = block.adapt(episode.set(), nullptr, 3);
  if (tame(c.rule.op)) {
    EXPECT_EQ(status, Status::kOk);
  }
  std::vector<float> outputs(4 * size_t{small.contents.network.n_out});
  EXPECT_EQ(block.predict(episode.x.data(), 4, outputs.data()), Status::kOk);
  float loss = 0.0F;
  EXPECT_EQ(block.evaluate(episode.set(), &loss), Status::kOk);
  *report = log.report();
  return log.n_conflicts();
}

TEST_P(BlockSessionBits, NeedNoOrderBetweenBarriers) {
  if (GetParam().init != Storage::kF32) return;  // Traced is stored as f32.
  if (GetParam().rates != Storage::kF32) return;
  std::string report;
  EXPECT_EQ(conflicts(GetParam(), true, &report), 0U) << report;
  EXPECT_GT(conflicts(GetParam(), false, &report), 0U)
      << "the checker sees nothing, with or without barriers";
}

const SessionCase kAnyCase = {
    "any", {"", RuleOp::kMetaSgd}, Storage::kF16, Storage::kLog8, 0};

TEST(BlockSession, RunsOneBlockAnAdaptation) {
  const SmallCapsule small = make_capsule(kAnyCase);
  const ShuffledExecutor executor(5);
  FloatCalls block(small, {}, executor);
  const DeviceEpisode episode = make_device_episode(small.contents.network, 5);
  AdaptReport report;
  ASSERT_EQ(block.adapt(episode.set(), &report, 3), Status::kOk);
  EXPECT_EQ(block.backend.n_runs, 1);
  EXPECT_EQ(block.backend.n_opened, 1);
  EXPECT_EQ(report.tile, 5U);
  EXPECT_EQ(report.high_water_bytes, block.session.layout().gpu_bytes);
}

TEST(BlockSession, RefusesWithoutRunning) {
  const SmallCapsule small = make_capsule(kAnyCase);
  const ShuffledExecutor executor(5);
  FloatCalls block(small, {}, executor);
  DeviceEpisode episode = make_device_episode(small.contents.network, 5);
  episode.labels[0] = 77;
  EXPECT_EQ(block.adapt(episode.set(), nullptr, 3), Status::kBadLabel);
  float loss = 0.0F;
  EXPECT_EQ(block.evaluate(episode.set(), &loss), Status::kBadLabel);
  EXPECT_EQ(block.backend.n_runs, 0);
}

TEST(BlockSession, DivergesWhereSessionDoes) {
  SmallCapsule small = make_capsule(
      {"rate", {"", RuleOp::kSgd}, Storage::kF32, Storage::kF32, 3});
  small.contents.phi = {1e30F};
  for (const OnFailure on_failure : {OnFailure::kFactory, OnFailure::kEntry}) {
    SessionOptions options;
    options.on_failure = on_failure;
    DeviceCalls device(small, options);
    const ShuffledExecutor executor(5);
    FloatCalls block(small, options, executor);
    SamePair both(small.contents.network, &device, &block);
    const DeviceEpisode episode =
        make_device_episode(small.contents.network, 5);
    const uint64_t factory = both.hash();
    EXPECT_EQ(both.adapt(episode, 1), Status::kOk);
    const uint64_t entry = both.hash();
    EXPECT_EQ(both.adapt(episode, 3), Status::kDiverged);
    EXPECT_EQ(both.hash(), on_failure == OnFailure::kEntry ? entry : factory);
    EXPECT_EQ(
        both.evaluate(episode.set()),
        on_failure == OnFailure::kEntry ? Status::kDiverged : Status::kOk);
    EXPECT_EQ(both.adapt(episode, 1), Status::kOk);
  }
}

TEST(BlockSession, DivergesWhenOnlyTheParametersOverflow) {
  SmallCapsule small = make_capsule(
      {"rate", {"", RuleOp::kSgd}, Storage::kF32, Storage::kF32, 3});
  small.contents.phi = {3e38F};
  DeviceCalls device(small, {});
  const ShuffledExecutor executor(5);
  FloatCalls block(small, {}, executor);
  SamePair both(small.contents.network, &device, &block);
  DeviceEpisode episode = make_device_episode(small.contents.network, 5);
  for (float& target : episode.targets) target *= 1000.0F;
  EXPECT_EQ(both.evaluate(episode.set()), Status::kOk);
  EXPECT_EQ(both.adapt(episode, 1), Status::kDiverged);
  EXPECT_EQ(both.evaluate(episode.set()), Status::kOk);
}

TEST(BlockSession, OpensWhatSessionOpens) {
  const SmallCapsule small = make_capsule(kAnyCase);
  const ShuffledExecutor executor(5);
  FloatBackend backend(executor, nullptr);
  BlockSession<FloatBackend> session(&backend);
  const LoadedCapsule loaded(small);
  float out[64];
  const DeviceEpisode episode = make_device_episode(small.contents.network, 5);
  EXPECT_EQ(session.predict(episode.x.data(), 1, out), Status::kBadState);
  EXPECT_EQ(session.adapt(episode.set(), nullptr, 1), Status::kBadState);
  EXPECT_EQ(session.reset(), Status::kBadState);
  EXPECT_EQ(session.parameters(out), Status::kBadState);

  CapsuleBytes spoiled = loaded.bytes;
  spoiled.back() ^= 1;
  EXPECT_EQ(session.open({spoiled.data(), spoiled.size()}, {}),
            Status::kBadChecksum);
  EXPECT_EQ(session.open({nullptr, 0}, {}), Status::kBadArgument);
  SessionOptions odd;
  odd.tile = 3;
  EXPECT_EQ(session.open(loaded.view(), odd), Status::kBadArgument);
  EXPECT_EQ(backend.n_opened, 0) << "allocated for a session it refuses";
  EXPECT_EQ(session.open(loaded.view(), {}), Status::kOk);
  EXPECT_EQ(session.open(loaded.view(), {}), Status::kBadState);
}

TEST(BlockSession, RefusesWhatOnlyTheCpuHas) {
  const ShuffledExecutor executor(5);
  FloatBackend backend(executor, nullptr);
  BlockSession<FloatBackend> session(&backend);
  const LoadedCapsule loaded(small_masked());
  EXPECT_EQ(session.open(loaded.view(), {}), Status::kUnsupportedOperation);
  EXPECT_EQ(backend.n_opened, 0);
}

// What is frozen is read in the capsule: vectors hold what adapts.
TEST(BlockSession, TakesMemoryForWhatAdaptsOnly) {
  const ShuffledExecutor executor(5);
  FloatCalls all(small_classifier(), {}, executor);
  FloatCalls head(small_head(), {}, executor);
  const uint32_t n_all = all.loaded.capsule.network.n_params;
  const uint32_t n_head = head.loaded.capsule.network.n_adapted;
  ASSERT_LT(n_head, n_all);
  EXPECT_LT(head.session.layout().x - head.session.layout().vectors,
            all.session.layout().x - all.session.layout().vectors);
  const SmallCapsule small = small_head();
  const DeviceEpisode episode = make_device_episode(small.contents.network, 3);
  std::vector<float> before(n_all);
  ASSERT_EQ(head.session.parameters(before.data()), Status::kOk);
  ASSERT_EQ(head.adapt(episode.set(), nullptr, 2), Status::kOk);
  std::vector<float> after(n_all);
  ASSERT_EQ(head.session.parameters(after.data()), Status::kOk);
  const uint32_t n_frozen = n_all - n_head;
  EXPECT_EQ(memcmp(before.data(), after.data(), n_frozen * sizeof(float)), 0);
  EXPECT_NE(memcmp(before.data() + n_frozen,
                   after.data() + n_frozen,
                   n_head * sizeof(float)),
            0);
}

TEST(BlockSession, SaysThatTheDeviceFailed) {
  const SmallCapsule small = make_capsule(kAnyCase);
  const ShuffledExecutor executor(5);
  FloatCalls block(small, {}, executor);
  const DeviceEpisode episode = make_device_episode(small.contents.network, 5);
  block.backend.fails_next = true;
  AdaptReport report = {-1.0F, -1.0F, 0, 0, 0};
  EXPECT_EQ(block.adapt(episode.set(), &report, 1), Status::kDeviceFailed);
  EXPECT_EQ(report.loss_first, -1.0F);
  std::vector<float> out(small.contents.network.n_out);
  EXPECT_EQ(block.predict(episode.x.data(), 1, out.data()),
            Status::kDeviceFailed);
}

TEST(BlockSelftest, ComparesEveryBit) {
  const ShuffledExecutor executor(5);
  SmallCapsule small = make_capsule(kAnyCase);
  const auto run = [&] {
    const LoadedCapsule loaded(small);
    FloatBackend backend(executor, nullptr);
    return jetson::selftest(&backend, loaded.view());
  };
  EXPECT_EQ(run(), Status::kMissingSection);
  // The episode as the firmware library lives it.
  add_golden(small, 3, 2);
  host::GoldenEpisode& golden = *small.contents.golden;
  {
    OpenSession s(small);
    const SupportSet support = {
        golden.support_x.data(), golden.support_labels.data(), nullptr, 3};
    ASSERT_EQ(s.session.begin(support, golden.steps), Status::kOk);
    for (float& loss : golden.losses) {
      ASSERT_EQ(s.session.step(), Status::kOk);
      loss = s.session.last_loss();
    }
    ASSERT_EQ(s.session.end(), Status::kOk);
    ASSERT_EQ(
        s.session.predict(golden.query_x.data(), 2, golden.outputs.data()),
        Status::kOk);
    golden.parameter_hash = s.session.hash();
  }
  EXPECT_EQ(run(), Status::kOk);
  const auto refused_with = [&](auto& value, auto other) {
    const auto kept = value;
    value = other;
    EXPECT_EQ(run(), Status::kSelfTestFailed);
    value = kept;
  };
  refused_with(golden.losses[1], std::nextafter(golden.losses[1], 9.0F));
  refused_with(golden.outputs[4], std::nextafter(golden.outputs[4], 9.0F));
  refused_with(golden.parameter_hash, golden.parameter_hash ^ 1U);
}

}  // namespace
}  // namespace fewstep::testing
