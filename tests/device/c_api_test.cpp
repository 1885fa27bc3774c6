// The C API gives the results of the C++ one, bit for bit and status for
// status.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "fewstep/fewstep.h"
#include "support/device_case.h"

// c_api_test.c
extern "C" int c_program(const void* capsule,
                         size_t capsule_bytes,
                         void* arena,
                         size_t arena_bytes,
                         const float* x,
                         const float* targets,
                         uint32_t n,
                         float* outputs,
                         fewstep_report* report,
                         uint64_t* hash);

namespace fewstep::testing {
namespace {

int code(Status status) { return static_cast<int>(status); }

fewstep_support c_support(const DeviceEpisode& e) {
  const SupportSet s = e.set();
  return {s.x, s.labels, s.targets, s.n};
}

TEST(CApi, StatusesAreThoseOfCpp) {
  const std::pair<int, Status> both[] = {
      {FEWSTEP_OK, Status::kOk},
      {FEWSTEP_BAD_ARGUMENT, Status::kBadArgument},
      {FEWSTEP_BAD_STATE, Status::kBadState},
      {FEWSTEP_BAD_LABEL, Status::kBadLabel},
      {FEWSTEP_BAD_INPUT, Status::kBadInput},
      {FEWSTEP_TOO_MANY_EXAMPLES, Status::kTooManyExamples},
      {FEWSTEP_BAD_MAGIC, Status::kBadMagic},
      {FEWSTEP_BAD_VERSION, Status::kBadVersion},
      {FEWSTEP_BAD_CHECKSUM, Status::kBadChecksum},
      {FEWSTEP_BAD_CAPSULE, Status::kBadCapsule},
      {FEWSTEP_MISALIGNED, Status::kMisaligned},
      {FEWSTEP_MISSING_SECTION, Status::kMissingSection},
      {FEWSTEP_ARENA_TOO_SMALL, Status::kArenaTooSmall},
      {FEWSTEP_UNSUPPORTED_OPERATION, Status::kUnsupportedOperation},
      {FEWSTEP_BAD_FLOAT_ENVIRONMENT, Status::kBadFloatEnvironment},
      {FEWSTEP_NO_DEVICE, Status::kNoDevice},
      {FEWSTEP_DEVICE_FAILED, Status::kDeviceFailed},
      {FEWSTEP_DIVERGED, Status::kDiverged},
      {FEWSTEP_SELF_TEST_FAILED, Status::kSelfTestFailed}};
  size_t n_named = 0;
  for (int value = -128; value <= 127; ++value) {
    n_named += fewstep_status_name(value) != std::string("unknown status");
  }
  EXPECT_EQ(n_named, std::size(both)) << "a status is missing in C";
  for (const auto& [c, cpp] : both) {
    EXPECT_EQ(c, code(cpp));
    EXPECT_STREQ(fewstep_status_name(c), to_string(cpp));
  }
  EXPECT_EQ(FEWSTEP_ON_FAILURE_FACTORY, static_cast<int>(OnFailure::kFactory));
  EXPECT_EQ(FEWSTEP_ON_FAILURE_ENTRY, static_cast<int>(OnFailure::kEntry));
}

TEST(CApi, StatusNamesOfForeignValuesAreUnknown) {
  for (const int value : {256, -256, 246, 1 << 20, -(1 << 20)}) {
    EXPECT_STREQ(fewstep_status_name(value), "unknown status") << value;
  }
}

TEST(CApi, WorksFromC) {
  OpenSession s(smallest_capsule());
  const DeviceEpisode episode = make_device_episode(s.network(), 4);
  SessionOptions options;
  options.max_support = 4;
  PaintedArena arena(bytes_for(s.loaded.capsule, options));
  std::vector<float> outputs(4);
  fewstep_report report = {};
  uint64_t hash = 0;
  ASSERT_EQ(c_program(s.loaded.bytes.data(),
                      s.loaded.bytes.size(),
                      arena.arena().data,
                      arena.size(),
                      episode.x.data(),
                      episode.targets.data(),
                      4,
                      outputs.data(),
                      &report,
                      &hash),
            FEWSTEP_OK);
  std::vector<float> expected(4);
  ASSERT_EQ(s.session.adapt(episode.set()), Status::kOk);
  ASSERT_EQ(s.session.predict(episode.x.data(), 4, expected.data()),
            Status::kOk);
  EXPECT_EQ(outputs, expected);
  EXPECT_EQ(hash, s.session.hash());
  EXPECT_EQ(report.loss_last, s.session.last_loss());
}

class CApiBits : public ::testing::TestWithParam<NamedCapsule> {
 protected:
  int open(const fewstep_options* options, Arena arena) {
    return fewstep_open(&c_,
                        s_.loaded.bytes.data(),
                        s_.loaded.bytes.size(),
                        EveryOp::list,
                        arena.data,
                        arena.size,
                        options);
  }

  OpenSession s_ = OpenSession(GetParam().make());  // The C++ side.
  const DeviceEpisode episode_ = make_device_episode(s_.network(), 5);
  const fewstep_support support_ = c_support(episode_);
  fewstep_session c_ = {};
};
INSTANTIATE_TEST_SUITE_P(Device, CApiBits, kDeviceCapsules, kCapsuleName);

TEST_P(CApiBits, EveryCallGivesTheResultsOfCpp) {
  const CapsuleBytes& bytes = s_.loaded.bytes;
  const Network& network = s_.network();
  EXPECT_EQ(fewstep_inputs(&c_), 0U);
  EXPECT_EQ(fewstep_outputs(&c_), 0U);
  EXPECT_EQ(fewstep_parameters(&c_), 0U);
  EXPECT_EQ(fewstep_hash(&c_), 0U);

  size_t n_bytes = 0;
  ASSERT_EQ(
      fewstep_required_bytes(bytes.data(), bytes.size(), nullptr, &n_bytes),
      FEWSTEP_OK);
  EXPECT_EQ(n_bytes, s_.arena.size());
  PaintedArena arena(n_bytes);
  ASSERT_EQ(open(nullptr, arena.arena()), FEWSTEP_OK);
  EXPECT_EQ(fewstep_inputs(&c_), network.n_in);
  EXPECT_EQ(fewstep_outputs(&c_), network.n_out);
  EXPECT_EQ(fewstep_parameters(&c_), network.n_params);
  EXPECT_EQ(fewstep_hash(&c_), s_.session.hash());

  fewstep_report c_report = {};
  AdaptReport report = {};
  const auto expect_same_report = [&] {
    EXPECT_EQ(c_report.loss_first, report.loss_first);
    EXPECT_EQ(c_report.loss_last, report.loss_last);
    EXPECT_EQ(c_report.steps, report.steps);
    EXPECT_EQ(c_report.tile, report.tile);
    EXPECT_EQ(c_report.high_water_bytes, report.high_water_bytes);
    EXPECT_EQ(fewstep_hash(&c_), s_.session.hash());
  };
  ASSERT_EQ(fewstep_adapt(&c_, &support_, 2, &c_report), FEWSTEP_OK);
  ASSERT_EQ(s_.session.adapt(episode_.set(), &report, 2), Status::kOk);
  expect_same_report();

  std::vector<float> c_outputs(size_t{4} * network.n_out);
  std::vector<float> outputs(c_outputs.size());
  ASSERT_EQ(fewstep_predict(&c_, episode_.x.data(), 4, c_outputs.data()),
            FEWSTEP_OK);
  ASSERT_EQ(s_.session.predict(episode_.x.data(), 4, outputs.data()),
            Status::kOk);
  EXPECT_EQ(std::memcmp(c_outputs.data(), outputs.data(), outputs.size() * 4),
            0);
  float c_loss = 0.0F;
  float loss = 0.0F;
  ASSERT_EQ(fewstep_evaluate(&c_, &support_, &c_loss), FEWSTEP_OK);
  ASSERT_EQ(s_.session.evaluate(episode_.set(), &loss), Status::kOk);
  EXPECT_EQ(c_loss, loss);

  ASSERT_EQ(fewstep_begin(&c_, &support_, 2), FEWSTEP_OK);
  ASSERT_EQ(s_.session.begin(episode_.set(), 2), Status::kOk);
  int done = 0;
  while (done == 0) {
    bool cpp_done = false;
    done = 7;
    ASSERT_EQ(fewstep_step_slice(&c_, &done), FEWSTEP_OK);
    ASSERT_EQ(s_.session.step_slice(&cpp_done), Status::kOk);
    ASSERT_EQ(done, cpp_done ? 1 : 0);
  }
  ASSERT_EQ(fewstep_step(&c_), FEWSTEP_OK);
  ASSERT_EQ(s_.session.step(), Status::kOk);
  EXPECT_EQ(fewstep_step_slice(&c_, nullptr), FEWSTEP_BAD_STATE);
  ASSERT_EQ(fewstep_end(&c_, &c_report), FEWSTEP_OK);
  ASSERT_EQ(s_.session.end(&report), Status::kOk);
  expect_same_report();

  ASSERT_EQ(fewstep_begin(&c_, &support_, 1), FEWSTEP_OK);
  ASSERT_EQ(fewstep_step_slice(&c_, nullptr), FEWSTEP_OK);
  ASSERT_EQ(fewstep_abort(&c_), FEWSTEP_OK);
  ASSERT_EQ(fewstep_adapt(&c_, &support_, 0, nullptr), FEWSTEP_OK);
  ASSERT_EQ(fewstep_reset(&c_), FEWSTEP_OK);
  ASSERT_EQ(s_.session.reset(), Status::kOk);
  EXPECT_EQ(fewstep_hash(&c_), s_.session.hash());
}

TEST_P(CApiBits, OptionsArriveInTheirPlaces) {
  const CapsuleBytes& bytes = s_.loaded.bytes;
  for (uint32_t i = 0; i < 64; ++i) {
    fewstep_options c = {};
    SessionOptions options;
    if ((i & 1U) != 0) options.max_support = c.max_support = 4;
    if ((i & 2U) != 0) options.max_predict = c.max_predict = 6;
    if ((i & 4U) != 0) options.max_steps = c.max_steps = 1;
    if ((i & 8U) != 0) options.tile = c.tile = 2;
    if ((i & 16U) != 0) {
      options.on_failure = OnFailure::kEntry;
      c.on_failure = FEWSTEP_ON_FAILURE_ENTRY;
    }
    if ((i & 32U) != 0) {
      options.continue_from_current = true;
      c.continue_from_current = 1;
    }
    size_t n_bytes = 0;
    ASSERT_EQ(fewstep_required_bytes(bytes.data(), bytes.size(), &c, &n_bytes),
              FEWSTEP_OK);
    ASSERT_EQ(n_bytes, bytes_for(s_.loaded.capsule, options));
    PaintedArena arena(n_bytes);
    ASSERT_EQ(open(&c, {arena.arena().data, n_bytes - 1}),
              FEWSTEP_ARENA_TOO_SMALL);
    ASSERT_EQ(open(&c, arena.arena()), FEWSTEP_OK);
    fewstep_support four = support_;
    four.n = 4;
    ASSERT_EQ(fewstep_adapt(&c_, &four, 1, nullptr), FEWSTEP_OK);
    EXPECT_EQ(fewstep_adapt(&c_, &support_, 1, nullptr),
              (i & 1U) != 0 ? FEWSTEP_TOO_MANY_EXAMPLES : FEWSTEP_OK);
    EXPECT_EQ(fewstep_adapt(&c_, &four, 2, nullptr),
              (i & 4U) != 0 ? FEWSTEP_BAD_ARGUMENT : FEWSTEP_OK);
  }
  fewstep_options wrong = {};
  wrong.on_failure = 2;
  size_t n_bytes = 0;
  EXPECT_EQ(
      fewstep_required_bytes(bytes.data(), bytes.size(), &wrong, &n_bytes),
      FEWSTEP_BAD_ARGUMENT);
}

TEST_P(CApiBits, SelftestIsThatOfCpp) {
  SmallCapsule small = GetParam().make();
  if (!small.contents.golden) add_golden(small, 3, 2);
  const LoadedCapsule loaded(small);  // With made-up results.
  const CapsuleBytes& bytes = loaded.bytes;
  size_t c_bytes = 0;
  size_t n_bytes = 0;
  ASSERT_EQ(fewstep_selftest_bytes(bytes.data(), bytes.size(), &c_bytes),
            FEWSTEP_OK);
  ASSERT_EQ(selftest_bytes(loaded.capsule, &n_bytes), Status::kOk);
  EXPECT_EQ(c_bytes, n_bytes);
  PaintedArena arena(n_bytes);
  const auto run = [&](size_t n) {
    return fewstep_selftest(
        bytes.data(), bytes.size(), EveryOp::list, arena.arena().data, n);
  };
  EXPECT_EQ(run(n_bytes - 1), FEWSTEP_ARENA_TOO_SMALL);
  EXPECT_EQ(run(n_bytes), FEWSTEP_SELF_TEST_FAILED);
  EXPECT_TRUE(arena.margins_intact());
}

TEST_P(CApiBits, RefusesNullPointersAndWrongOrder) {
  const CapsuleBytes& bytes = s_.loaded.bytes;
  size_t n_bytes = 7;
  float value = 7.0F;
  EXPECT_EQ(fewstep_required_bytes(nullptr, 100, nullptr, &n_bytes),
            FEWSTEP_BAD_ARGUMENT);
  EXPECT_EQ(
      fewstep_required_bytes(bytes.data(), bytes.size(), nullptr, nullptr),
      FEWSTEP_BAD_ARGUMENT);
  EXPECT_EQ(fewstep_required_bytes(bytes.data(), 10, nullptr, &n_bytes),
            FEWSTEP_BAD_MAGIC);
  EXPECT_EQ(fewstep_open(nullptr,
                         bytes.data(),
                         bytes.size(),
                         EveryOp::list,
                         s_.arena.arena().data,
                         s_.arena.size(),
                         nullptr),
            FEWSTEP_BAD_ARGUMENT);
  EXPECT_EQ(fewstep_selftest_bytes(nullptr, 100, &n_bytes),
            FEWSTEP_BAD_ARGUMENT);
  EXPECT_EQ(n_bytes, 7U);

  for (fewstep_session* const session :
       {static_cast<fewstep_session*>(nullptr), &c_}) {
    const int expected =
        session == nullptr ? FEWSTEP_BAD_ARGUMENT : FEWSTEP_BAD_STATE;
    fewstep_report report = {1.0F, 2.0F, 3, 4, 5};
    int done = 7;
    EXPECT_EQ(fewstep_adapt(session, &support_, 0, &report), expected);
    EXPECT_EQ(fewstep_begin(session, &support_, 0), expected);
    EXPECT_EQ(fewstep_step(session), expected);
    EXPECT_EQ(fewstep_step_slice(session, &done), expected);
    EXPECT_EQ(fewstep_end(session, &report), expected);
    EXPECT_EQ(fewstep_abort(session), expected);
    EXPECT_EQ(fewstep_predict(session, &value, 1, &value), expected);
    EXPECT_EQ(fewstep_evaluate(session, &support_, &value), expected);
    EXPECT_EQ(fewstep_reset(session), expected);
    EXPECT_EQ(fewstep_hash(session), 0U);
    EXPECT_EQ(fewstep_inputs(session), 0U);
    EXPECT_EQ(fewstep_outputs(session), 0U);
    EXPECT_EQ(fewstep_parameters(session), 0U);
    EXPECT_EQ(fewstep_adapt(session, nullptr, 0, &report),
              FEWSTEP_BAD_ARGUMENT);
    EXPECT_EQ(fewstep_begin(session, nullptr, 0), FEWSTEP_BAD_ARGUMENT);
    EXPECT_EQ(fewstep_evaluate(session, nullptr, &value), FEWSTEP_BAD_ARGUMENT);
    EXPECT_EQ(report.steps, 3U);
    EXPECT_EQ(done, 7);
    EXPECT_EQ(value, 7.0F);
  }
}

}  // namespace
}  // namespace fewstep::testing
