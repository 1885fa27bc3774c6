// selftest() accepts exactly the recorded bits.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "fewstep/capsule_format.h"
#include "fewstep/device/session.h"
#include "support/device_case.h"

namespace fewstep::testing {
namespace {

/// Replaces the made-up results of `small`'s golden episode by what a session
/// gives: losses step by step, outputs of each query alone (all together with
/// batch norm).
void record(SmallCapsule& small) {
  host::GoldenEpisode golden;
  if (small.contents.golden) {
    golden = *small.contents.golden;
  } else {
    add_golden(small, 3, 2);
    golden = *small.contents.golden;
  }
  small.contents.golden.reset();
  OpenSession s(small);
  const Network& network = s.network();
  const bool classes = !golden.support_labels.empty();
  const SupportSet support = {
      golden.support_x.data(),
      classes ? golden.support_labels.data() : nullptr,
      classes ? nullptr : golden.support_targets.data(),
      static_cast<uint32_t>(golden.support_x.size() / network.n_in)};
  ASSERT_EQ(s.session.begin(support, golden.steps), Status::kOk);
  golden.losses.clear();
  for (uint32_t k = 0; k < golden.steps; ++k) {
    ASSERT_EQ(s.session.step(), Status::kOk);
    golden.losses.push_back(s.session.last_loss());
  }
  ASSERT_EQ(s.session.end(), Status::kOk);
  golden.parameter_hash = s.session.hash();
  const uint32_t n_query =
      static_cast<uint32_t>(golden.query_x.size() / network.n_in);
  const uint32_t together = network.transductive != 0 ? n_query : 1;
  for (uint32_t q = 0; q < n_query; q += together) {
    ASSERT_EQ(
        s.session.predict(golden.query_x.data() + size_t{q} * network.n_in,
                          together,
                          golden.outputs.data() + size_t{q} * network.n_out),
        Status::kOk);
  }
  small.contents.golden = golden;
}

Status run(const LoadedCapsule& loaded) {
  size_t n_bytes = 0;
  const Status status = selftest_bytes(loaded.capsule, &n_bytes);
  if (status != Status::kOk) return status;
  PaintedArena arena(n_bytes);
  const Status result = selftest(loaded.view(), EveryOp::list, arena.arena());
  EXPECT_TRUE(arena.margins_intact());
  return result;
}

class Selftest : public ::testing::TestWithParam<NamedCapsule> {
 protected:
  void SetUp() override {
    record(small_);
    loaded_.emplace(small_);
  }

  SmallCapsule small_ = GetParam().make();
  std::optional<LoadedCapsule> loaded_;
};
INSTANTIATE_TEST_SUITE_P(Device, Selftest, kDeviceCapsules, kCapsuleName);

TEST_P(Selftest, AcceptsItsOwnBits) {
  EXPECT_EQ(run(*loaded_), Status::kOk);
  // Again, and in a larger arena: nothing depends on what the arena held.
  PaintedArena large(100000);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(selftest(loaded_->view(), EveryOp::list, large.arena()),
              Status::kOk);
  }
}

TEST_P(Selftest, RefusesAnyOtherBit) {
  // Every bit of every expected value, with checksums and model hash mended;
  // bits that make a value infinite or NaN are refused by the reader already.
  const auto expect_failed = [this](const void* value, size_t n_bytes) {
    const size_t at = static_cast<size_t>(static_cast<const uint8_t*>(value) -
                                          loaded_->bytes.data());
    for (size_t bit = 0; bit < 8 * n_bytes; ++bit) {
      LoadedCapsule spoiled(small_);
      spoiled.bytes[at + bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
      reseal(spoiled.bytes);
      if (read(spoiled.bytes, &spoiled.capsule) != Status::kOk) {
        EXPECT_EQ(bit % 32 / 23, 1U) << "an exponent's bit";
        continue;
      }
      ASSERT_EQ(run(spoiled), Status::kSelfTestFailed)
          << "byte " << at << ", bit " << bit;
    }
  };
  const Golden golden = golden_episode(loaded_->capsule);
  expect_failed(golden.losses, golden.steps * sizeof(float));
  expect_failed(
      golden.outputs,
      size_t{golden.n_query} * loaded_->capsule.network.n_out * sizeof(float));
  const auto* const floats = reinterpret_cast<const uint8_t*>(golden.support_x);
  expect_failed(
      floats - sizeof(GoldenRecord) + offsetof(GoldenRecord, parameter_hash),
      sizeof(uint64_t));
}

TEST_P(Selftest, NeedsExactlyItsBytes) {
  size_t n_bytes = 0;
  ASSERT_EQ(selftest_bytes(loaded_->capsule, &n_bytes), Status::kOk);
  PaintedArena arena(n_bytes);
  const Op* const* const ops = EveryOp::list;
  const Bytes bytes = loaded_->view();
  void* const data = arena.arena().data;
  EXPECT_EQ(selftest(bytes, ops, {data, n_bytes - 1}), Status::kArenaTooSmall);
  EXPECT_EQ(selftest(bytes, ops, {data, 0}), Status::kArenaTooSmall);
  EXPECT_EQ(arena.touched_bytes(), 0U);
  EXPECT_EQ(selftest(bytes, ops, {data, n_bytes}), Status::kOk);
  EXPECT_EQ(arena.touched_bytes(), n_bytes);
  EXPECT_TRUE(arena.margins_intact());
}

TEST_P(Selftest, RefusesWhatOpenRefuses) {
  PaintedArena arena(100000);
  const Arena whole = arena.arena();
  const Op* const* const ops = EveryOp::list;
  const Bytes bytes = loaded_->view();
  EXPECT_EQ(selftest(bytes, ops, {nullptr, 1000}), Status::kBadArgument);
  EXPECT_EQ(selftest({nullptr, 1000}, ops, whole), Status::kBadArgument);
  EXPECT_EQ(selftest(bytes, nullptr, whole), Status::kBadArgument);
  EXPECT_EQ(selftest({bytes.data, bytes.size - 1}, ops, whole),
            Status::kBadChecksum);
  EXPECT_EQ(selftest(bytes, Ops<Dense>::list, whole),
            Status::kUnsupportedOperation);
  uint8_t* const shifted = static_cast<uint8_t*>(whole.data) + 4;
  EXPECT_EQ(selftest(bytes, ops, {shifted, whole.size - 4}),
            Status::kMisaligned);
  EXPECT_EQ(arena.touched_bytes(), 0U);
}

TEST_P(Selftest, NeedsAnEpisode) {
  small_.contents.golden.reset();
  const LoadedCapsule without(small_);
  size_t n_bytes = 7;
  EXPECT_EQ(selftest_bytes(without.capsule, &n_bytes), Status::kMissingSection);
  EXPECT_EQ(n_bytes, 7U);
  EXPECT_EQ(selftest_bytes(loaded_->capsule, nullptr), Status::kBadArgument);
  PaintedArena arena(100000);
  EXPECT_EQ(selftest(without.view(), EveryOp::list, arena.arena()),
            Status::kMissingSection);
}

TEST(Selftest, ADivergingEpisodeSaysSo) {
  // A file can claim anything: here an episode that overflows.
  SmallCapsule small = smallest_capsule();
  add_golden(small, 1, 1);
  small.contents.golden->support_x = {1e30F};
  EXPECT_EQ(run(LoadedCapsule(small)), Status::kDiverged);
}

}  // namespace
}  // namespace fewstep::testing
