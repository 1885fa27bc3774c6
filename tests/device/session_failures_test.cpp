// What a session refuses, and where it is afterwards.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "fewstep/device/session.h"
#include "support/device_case.h"

namespace fewstep::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Runs `call`, which must answer `expected` and change nothing: not what the
// session shows, and not one byte of its arena.
void expect_refused(OpenSession& s,
                    Status expected,
                    const std::function<Status()>& call) {
  const Observed before(s.session);
  const CapsuleBytes memory = s.arena.memory();
  EXPECT_EQ(call(), expected) << to_string(expected);
  EXPECT_TRUE(Observed(s.session) == before);
  EXPECT_TRUE(s.arena.memory() == memory);
}

TEST(ClosedSession, RefusesEverything) {
  Session session;
  const OpenSession other(small_regressor());
  const DeviceEpisode episode = make_device_episode(other.network(), 2);
  AdaptReport report = {1.0F, 2.0F, 3, 4, 5};
  bool done = true;
  float value = 7.0F;
  EXPECT_EQ(session.adapt(episode.set(), &report), Status::kBadState);
  EXPECT_EQ(session.begin(episode.set()), Status::kBadState);
  EXPECT_EQ(session.step(), Status::kBadState);
  EXPECT_EQ(session.step_slice(&done), Status::kBadState);
  EXPECT_EQ(session.end(&report), Status::kBadState);
  EXPECT_EQ(session.abort(), Status::kBadState);
  EXPECT_EQ(session.predict(&value, 1, &value), Status::kBadState);
  EXPECT_EQ(session.evaluate(episode.set(), &value), Status::kBadState);
  EXPECT_EQ(session.reset(), Status::kBadState);
  EXPECT_EQ(session.hash(), 0U);
  EXPECT_EQ(session.parameter(0), 0.0F);
  EXPECT_FALSE(session.is_open());
  EXPECT_EQ(report.steps, 3U);
  EXPECT_EQ(value, 7.0F);
  EXPECT_TRUE(done);
}

TEST(ClosedSession, IsAllZeroBytes) {
  // What puts a static session in .bss, and makes a zeroed C struct one.
  alignas(Session) uint8_t bytes[sizeof(Session)] = {};
  new (bytes) Session;
  for (const uint8_t byte : bytes) EXPECT_EQ(byte, 0);
}

class Refusals : public ::testing::TestWithParam<NamedCapsule> {
 protected:
  // An adapted session whose state a refused call could spoil.
  void SetUp() override {
    ASSERT_EQ(s_.session.adapt(episode_.set(), nullptr, 2), Status::kOk);
  }

  // The episode after `change`, to begin, adapt and evaluate on.
  void expect_set_refused(Status expected,
                          const std::function<void(DeviceEpisode&)>& change) {
    DeviceEpisode e = episode_;
    change(e);
    expect_call_refused(expected, e.set());
  }
  void expect_call_refused(Status expected, const SupportSet& set) {
    AdaptReport report = {1.0F, 2.0F, 3, 4, 5};
    float loss = 7.0F;
    const auto refused = [&](const std::function<Status()>& call) {
      expect_refused(s_, expected, call);
    };
    refused([&] { return s_.session.adapt(set, &report); });
    refused([&] { return s_.session.begin(set); });
    refused([&] { return s_.session.evaluate(set, &loss); });
    EXPECT_EQ(report.steps, 3U);
    EXPECT_EQ(loss, 7.0F);
  }

  bool classes() const {
    return s_.network().loss == LossOp::kSoftmaxCrossEntropy;
  }

  OpenSession s_ = OpenSession(GetParam().make());
  const DeviceEpisode episode_ = make_device_episode(s_.network(), 5);
};
INSTANTIATE_TEST_SUITE_P(Device, Refusals, kDeviceCapsules, kCapsuleName);

TEST_P(Refusals, SupportSets) {
  SupportSet set = episode_.set();
  set.x = nullptr;
  expect_call_refused(Status::kBadArgument, set);
  set = episode_.set();
  if (classes()) {
    set.labels = nullptr;
  } else {
    set.targets = nullptr;
  }
  expect_call_refused(Status::kBadArgument, set);
  set = episode_.set();
  set.n = 0;
  expect_call_refused(Status::kBadArgument, set);
  const DeviceEpisode more = make_device_episode(s_.network(), 6);
  expect_call_refused(Status::kTooManyExamples, more.set());
  set.n = 0xffffffffU;
  expect_call_refused(Status::kTooManyExamples, set);
}

TEST_P(Refusals, Values) {
  const size_t n_x = episode_.x.size();
  for (const float bad : {kNan, -kNan, kInfinity, -kInfinity}) {
    for (const size_t at : {size_t{0}, n_x / 2, n_x - 1}) {
      expect_set_refused(Status::kBadInput,
                         [&](DeviceEpisode& e) { e.x[at] = bad; });
    }
    const size_t n_targets = episode_.targets.size();
    for (size_t at = 0; at < n_targets; ++at) {
      expect_set_refused(Status::kBadInput,
                         [&](DeviceEpisode& e) { e.targets[at] = bad; });
    }
  }
  for (size_t at = 0; at < episode_.labels.size(); ++at) {
    for (const uint32_t label : {s_.network().n_out, 0xffffU}) {
      expect_set_refused(Status::kBadLabel, [&](DeviceEpisode& e) {
        e.labels[at] = static_cast<uint16_t>(label);
      });
    }
  }
}

TEST_P(Refusals, IgnoresWhatTheLossDoesNotNeed) {
  SupportSet set = episode_.set();
  const float nan = kNan;
  const uint16_t label = 0xffff;
  if (classes()) {
    set.targets = &nan;
  } else {
    set.labels = &label;
  }
  EXPECT_EQ(s_.session.adapt(set), Status::kOk);
}

TEST_P(Refusals, LargeAndSubnormalValuesAreInputsLikeAnyOther) {
  // The check of a set may not take a large finite value for an infinite one.
  DeviceEpisode e = episode_;
  e.x.assign(e.x.size(), std::numeric_limits<float>::max());
  float loss = 0.0F;
  EXPECT_NE(s_.session.evaluate(e.set(), &loss), Status::kBadInput);
  e.x.assign(e.x.size(), std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(s_.session.evaluate(e.set(), &loss), Status::kOk);
}

TEST_P(Refusals, Steps) {
  const uint32_t limit = s_.loaded.capsule.limits.steps;
  for (const uint32_t steps : {limit + 1, 0xffffffffU}) {
    expect_refused(s_, Status::kBadArgument, [&] {
      return s_.session.adapt(episode_.set(), nullptr, steps);
    });
    expect_refused(s_, Status::kBadArgument, [&] {
      return s_.session.begin(episode_.set(), steps);
    });
  }
  EXPECT_EQ(s_.session.adapt(episode_.set(), nullptr, limit), Status::kOk);
}

TEST_P(Refusals, Predict) {
  const Network& network = s_.network();
  const uint32_t n = 5;
  std::vector<float> outputs(size_t{n} * network.n_out, 7.0F);
  const auto predict = [&](const float* x, uint32_t count, float* to) {
    return s_.session.predict(x, count, to);
  };
  const auto refused = [&](Status expected, const std::function<Status()>& f) {
    expect_refused(s_, expected, f);
  };
  const float* const x = episode_.x.data();
  float* const out = outputs.data();
  refused(Status::kBadArgument, [&] { return predict(nullptr, n, out); });
  refused(Status::kBadArgument, [&] { return predict(x, n, nullptr); });
  refused(Status::kBadArgument, [&] { return predict(x, 0, out); });
  if (network.transductive != 0) {
    // predict_max is 4.
    refused(Status::kTooManyExamples, [&] { return predict(x, 5, out); });
  }
  const uint32_t most = network.transductive != 0 ? 4 : 5;
  for (const float bad : {kNan, kInfinity, -kInfinity}) {
    std::vector<float> spoiled = episode_.x;
    spoiled[size_t{most} * network.n_in - 1] = bad;
    refused(Status::kBadInput,
            [&] { return predict(spoiled.data(), most, out); });
  }
  EXPECT_EQ(outputs, std::vector<float>(outputs.size(), 7.0F));
  EXPECT_EQ(predict(x, most, out), Status::kOk);
}

TEST_P(Refusals, EvaluateNeedsSomewhereToWrite) {
  expect_refused(s_, Status::kBadArgument, [&] {
    return s_.session.evaluate(episode_.set(), nullptr);
  });
}

TEST_P(Refusals, PredictAndEvaluateChangeNoParameter) {
  const uint64_t hash = s_.session.hash();
  std::vector<float> outputs(size_t{4} * s_.network().n_out);
  float loss = 0.0F;
  EXPECT_EQ(s_.session.predict(episode_.x.data(), 4, outputs.data()),
            Status::kOk);
  EXPECT_EQ(s_.session.evaluate(episode_.set(), &loss), Status::kOk);
  EXPECT_EQ(s_.session.hash(), hash);
}

TEST_P(Refusals, CallsOutOfOrder) {
  Session& session = s_.session;
  std::vector<float> outputs(size_t{4} * s_.network().n_out, 7.0F);
  float loss = 7.0F;
  AdaptReport report = {1.0F, 2.0F, 3, 4, 5};
  const auto refused = [&](const std::function<Status()>& call) {
    expect_refused(s_, Status::kBadState, call);
  };
  const auto refused_while_adapting = [&] {
    refused([&] { return session.begin(episode_.set()); });
    refused([&] { return session.adapt(episode_.set(), &report); });
    refused(
        [&] { return session.predict(episode_.x.data(), 4, outputs.data()); });
    refused([&] { return session.evaluate(episode_.set(), &loss); });
  };
  const auto refused_while_idle = [&] {
    refused([&] { return session.step(); });
    refused([&] { return session.step_slice(nullptr); });
    refused([&] { return session.end(&report); });
    refused([&] { return session.abort(); });
  };
  refused_while_idle();
  ASSERT_EQ(session.begin(episode_.set(), 2), Status::kOk);
  refused_while_adapting();
  refused([&] { return session.end(&report); });  // No step taken.
  ASSERT_EQ(session.step(), Status::kOk);
  refused_while_adapting();
  ASSERT_EQ(session.step(), Status::kOk);
  refused([&] { return session.step(); });  // All are done.
  refused([&] { return session.step_slice(nullptr); });
  refused_while_adapting();
  EXPECT_EQ(report.steps, 3U);
  ASSERT_EQ(session.end(&report), Status::kOk);
  EXPECT_EQ(report.steps, 2U);
  refused_while_idle();
  EXPECT_EQ(loss, 7.0F);

  // None of it disturbed the adaptation.
  const uint64_t hash = session.hash();
  ASSERT_EQ(session.adapt(episode_.set(), nullptr, 2), Status::kOk);
  EXPECT_EQ(session.hash(), hash);
}

TEST_P(Refusals, OpenLeavesAnOpenSessionAsItWas) {
  const LoadedCapsule other(GetParam().make());
  const Op* const* const ops = EveryOp::list;
  const size_t exact = bytes_for(other.capsule, {});
  PaintedArena spare(exact + 16);
  const Arena arena = {spare.arena().data, exact};
  const auto refused = [&](Status expected,
                           const Bytes& capsule,
                           const Op* const* list,
                           const Arena& where,
                           const SessionOptions& options = {}) {
    expect_refused(s_, expected, [&] {
      return s_.session.open(capsule, list, where, options);
    });
  };
  const Bytes good = other.view();
  refused(Status::kBadArgument, {nullptr, good.size}, ops, arena);
  refused(Status::kBadArgument, good, nullptr, arena);
  refused(Status::kBadArgument, good, ops, {nullptr, exact});
  refused(Status::kBadMagic, {good.data, 0}, ops, arena);
  refused(Status::kBadChecksum, {good.data, good.size - 1}, ops, arena);
  CapsuleBytes moved(other.bytes.size() + 16);
  std::copy(other.bytes.begin(), other.bytes.end(), moved.begin() + 4);
  refused(Status::kMisaligned, {moved.data() + 4, good.size}, ops, arena);
  refused(Status::kArenaTooSmall, good, ops, {arena.data, exact - 1});
  refused(Status::kArenaTooSmall, good, ops, {arena.data, 0});
  for (size_t shift = 1; shift < 16; ++shift) {
    uint8_t* const data = static_cast<uint8_t*>(arena.data) + shift;
    refused(Status::kMisaligned, good, ops, {data, exact});
  }
  const auto refused_option = [&](auto set) {
    SessionOptions options;
    set(options);
    refused(Status::kBadArgument, good, ops, arena, options);
    size_t n_bytes = 7;
    EXPECT_EQ(required_bytes(other.capsule, options, &n_bytes),
              Status::kBadArgument);
    EXPECT_EQ(n_bytes, 7U);
  };
  refused_option([](SessionOptions& o) { o.max_support = 0x10000; });
  refused_option([](SessionOptions& o) { o.max_predict = 0x10000; });
  refused_option([](SessionOptions& o) { o.max_steps = 0x10000; });
  refused_option(
      [](SessionOptions& o) { o.on_failure = static_cast<OnFailure>(2); });
  if (other.capsule.network.transductive == 0) {
    refused_option([](SessionOptions& o) { o.tile = 3; });
  }
  if (other.capsule.rule.op == RuleOp::kLslr) {
    refused_option([](SessionOptions& o) { o.max_steps = 4; });
  }
  EXPECT_EQ(required_bytes(other.capsule, {}, nullptr), Status::kBadArgument);

  // The session still works, and the refused arena was never written.
  EXPECT_EQ(spare.touched_bytes(), 0U);
  EXPECT_EQ(s_.session.adapt(episode_.set()), Status::kOk);
}

TEST_P(Refusals, OpenWithAnOperationMissing) {
  const Op* const* all = EveryOp::list;
  size_t n_needed = 0;
  for (size_t skip = 0; all[skip] != nullptr; ++skip) {
    std::vector<const Op*> list;
    for (size_t i = 0; all[i] != nullptr; ++i) {
      if (i != skip) list.push_back(all[i]);
    }
    list.push_back(nullptr);
    const LoadedCapsule other(GetParam().make());
    PaintedArena arena(bytes_for(other.capsule, {}));
    Session session;
    const Status status =
        session.open(other.view(), list.data(), arena.arena());
    if (status == Status::kOk) continue;
    EXPECT_EQ(status, Status::kUnsupportedOperation);
    EXPECT_FALSE(session.is_open());
    ++n_needed;
  }
  // The distinct layer operations, the loss and the rule.
  std::vector<bool> seen(256);
  size_t n_used = 2;
  for (uint32_t i = 0; i < s_.network().n_layers; ++i) {
    const auto code = static_cast<uint8_t>(s_.network().layers[i].op);
    n_used += seen[code] ? 0 : 1;
    seen[code] = true;
  }
  EXPECT_EQ(n_needed, n_used);
}

TEST(Refusal, F16CapsuleNeedsF16Operations) {
  SmallCapsule small = small_regressor();
  using F32 = Ops<Dense, Tanh, MeanSquaredError, Lslr>;
  using F16 = OpsF16<Dense, Tanh, MeanSquaredError, Lslr>;
  for (const Storage storage : {Storage::kF32, Storage::kF16}) {
    small.contents.init_storage = storage;
    const LoadedCapsule loaded(small);
    PaintedArena arena(bytes_for(loaded.capsule, {}));
    Session session;
    EXPECT_EQ(
        session.open(loaded.view(), F32::list, arena.arena()),
        storage == Storage::kF32 ? Status::kOk : Status::kUnsupportedOperation);
    EXPECT_EQ(session.open(loaded.view(), F16::list, arena.arena()),
              Status::kOk);
  }
}

TEST(Refusal, BatchNormHoldsTheBatchesItWasOpenedFor) {
  SessionOptions options;
  options.max_support = 3;
  options.max_predict = 7;
  options.tile = 1;  // Ignored.
  OpenSession s(small_batch_norm(), options);
  EXPECT_EQ(s.session.tile(), 7U);
  const DeviceEpisode episode = make_device_episode(s.network(), 8);
  std::vector<float> outputs(size_t{8} * s.network().n_out);
  EXPECT_EQ(s.session.predict(episode.x.data(), 7, outputs.data()),
            Status::kOk);
  EXPECT_EQ(s.session.predict(episode.x.data(), 8, outputs.data()),
            Status::kTooManyExamples);
  SupportSet set = episode.set();
  set.n = 4;
  EXPECT_EQ(s.session.adapt(set), Status::kTooManyExamples);
  set.n = 3;
  EXPECT_EQ(s.session.adapt(set), Status::kOk);
  EXPECT_TRUE(s.arena.margins_intact());
}

}  // namespace
}  // namespace fewstep::testing
