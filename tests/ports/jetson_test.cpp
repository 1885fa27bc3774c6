// fewstep/jetson.h: on a GPU, against the firmware library's Session; without
// one, the refusal.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/jetson.h"

#include <gtest/gtest.h>

#include <string>

#include "support/session_calls.h"

namespace fewstep::testing {
namespace {

Status status(int code) { return static_cast<Status>(code); }

/// Why there is no GPU to test on, or nothing.
std::string no_gpu() {
  const LoadedCapsule loaded(smallest_capsule());
  fewstep_gpu_session* session = nullptr;
  const int code = fewstep_gpu_open(
      &session, loaded.bytes.data(), loaded.bytes.size(), nullptr);
  fewstep_gpu_close(session);
  return code == FEWSTEP_NO_DEVICE ? fewstep_gpu_message() : "";
}

class GpuCalls final : public SessionCalls {
 public:
  GpuCalls(const SmallCapsule& small, const SessionOptions& o)
      : loaded_(small) {
    const fewstep_options options = {
        o.max_support,
        o.max_predict,
        o.max_steps,
        o.tile,
        static_cast<uint8_t>(o.on_failure),
        static_cast<uint8_t>(o.continue_from_current)};
    const int code = fewstep_gpu_open(
        &session_, loaded_.bytes.data(), loaded_.bytes.size(), &options);
    if (code != FEWSTEP_OK) throw std::logic_error(fewstep_gpu_message());
  }
  GpuCalls(const GpuCalls&) = delete;
  GpuCalls& operator=(const GpuCalls&) = delete;
  ~GpuCalls() override { fewstep_gpu_close(session_); }

  Status adapt(const SupportSet& s, AdaptReport* r, uint32_t steps) override {
    const fewstep_support support = {s.x, s.labels, s.targets, s.n};
    fewstep_report report;
    const Status answer =
        status(fewstep_gpu_adapt(session_, &support, steps, &report));
    if (answer == Status::kOk && r != nullptr) {
      *r = {report.loss_first,
            report.loss_last,
            report.steps,
            report.tile,
            report.high_water_bytes};
    }
    return answer;
  }
  Status predict(const float* x, uint32_t n, float* outputs) override {
    return status(fewstep_gpu_predict(session_, x, n, outputs));
  }
  Status evaluate(const SupportSet& s, float* loss) override {
    const fewstep_support set = {s.x, s.labels, s.targets, s.n};
    return status(fewstep_gpu_evaluate(session_, &set, loss));
  }
  Status reset() override { return status(fewstep_gpu_reset(session_)); }
  uint64_t hash() override { return fewstep_gpu_hash(session_); }

 private:
  LoadedCapsule loaded_;
  fewstep_gpu_session* session_ = nullptr;
};

// A test for each network, so that few are skipped where there is no GPU.
class GpuSession : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    const std::string why = no_gpu();
    if (!why.empty()) GTEST_SKIP() << why;
  }
};
INSTANTIATE_TEST_SUITE_P(Jetson, GpuSession, ::testing::Range(0, 4));

TEST_P(GpuSession, HasTheBitsOfSession) {
  for (const SessionCase& c : session_cases()) {
    if (c.network != GetParam()) continue;
    SCOPED_TRACE(c.name);
    for (const SessionOptions& options : session_options()) {
      const SmallCapsule small = make_capsule(c);
      DeviceCalls device(small, options);
      GpuCalls gpu(small, options);
      SamePair both(small.contents.network, &device, &gpu);
      live_through(small.contents, both);
    }
  }
}

// What compute-sanitizer runs: every kind of call, on little.
TEST(GpuSessionOf, SmallCaseHasTheBitsOfSession) {
  const std::string why = no_gpu();
  if (!why.empty()) GTEST_SKIP() << why;
  const StepChoice all = {"", StepChoice::kAll, 0.0F, 0.0F};
  const StepChoice ends = {"", StepChoice::kEnds, 0.0625F, 0.375F};
  for (const int network : {0, 1}) {
    const SessionCase c = {"",
                           {"", RuleOp::kMetaSgd},
                           Storage::kF16,
                           Storage::kLog8,
                           network,
                           network == 0 ? all : ends};
    const SmallCapsule small = make_capsule(c);
    DeviceCalls device(small, {});
    GpuCalls gpu(small, {});
    SamePair both(small.contents.network, &device, &gpu);
    live_through(small.contents, both);
  }
}

TEST(GpuSessionOf, NoGpuIsAStatusAndASentence) {
  const std::string why = no_gpu();
  if (why.empty()) GTEST_SKIP() << "there is a GPU";
  EXPECT_NE(why.find("no CUDA device: "), std::string::npos) << why;
  EXPECT_GT(why.size(), sizeof "no CUDA device: ");

  const LoadedCapsule loaded(small_classifier());
  fewstep_gpu_session* const untouched =
      reinterpret_cast<fewstep_gpu_session*>(&status);
  fewstep_gpu_session* session = untouched;
  EXPECT_EQ(fewstep_gpu_open(
                &session, loaded.bytes.data(), loaded.bytes.size(), nullptr),
            FEWSTEP_NO_DEVICE);
  EXPECT_EQ(session, untouched);
  EXPECT_EQ(fewstep_gpu_selftest(loaded.bytes.data(), loaded.bytes.size()),
            FEWSTEP_NO_DEVICE);
}

TEST(GpuSessionOf, AnyMachineKnowsItsBytesAndRefusesWrongArguments) {
  const LoadedCapsule loaded(small_classifier());
  const void* const data = loaded.bytes.data();
  const size_t n = loaded.bytes.size();
  size_t gpu = 0;
  size_t pinned = 0;
  EXPECT_EQ(fewstep_gpu_required_bytes(data, n, nullptr, &gpu, &pinned), 0);
  EXPECT_GE(gpu, n + 4 * size_t{loaded.capsule.network.n_params});
  EXPECT_GE(pinned, 4 * 5 * size_t{loaded.capsule.network.n_in});
  fewstep_options more = {};
  more.max_support = 500;
  size_t more_gpu = 0;
  size_t more_pinned = 0;
  EXPECT_EQ(fewstep_gpu_required_bytes(data, n, &more, &more_gpu, &more_pinned),
            0);
  EXPECT_GT(more_gpu, gpu);
  EXPECT_GT(more_pinned, pinned);
  EXPECT_EQ(fewstep_gpu_required_bytes(data, n, nullptr, nullptr, &pinned),
            FEWSTEP_BAD_ARGUMENT);

  fewstep_options odd = {};
  odd.tile = 3;
  fewstep_gpu_session* session = nullptr;
  EXPECT_EQ(fewstep_gpu_open(&session, data, n, &odd), FEWSTEP_BAD_ARGUMENT);
  EXPECT_EQ(fewstep_gpu_open(&session, data, n - 16, nullptr),
            FEWSTEP_BAD_CHECKSUM);
  EXPECT_EQ(fewstep_gpu_open(nullptr, data, n, nullptr), FEWSTEP_BAD_ARGUMENT);
  EXPECT_EQ(session, nullptr);
  const fewstep_support support = {};
  float value = 0.0F;
  EXPECT_EQ(fewstep_gpu_adapt(nullptr, &support, 0, nullptr),
            FEWSTEP_BAD_ARGUMENT);
  EXPECT_EQ(fewstep_gpu_predict(nullptr, &value, 1, &value),
            FEWSTEP_BAD_ARGUMENT);
  EXPECT_EQ(fewstep_gpu_evaluate(nullptr, &support, &value),
            FEWSTEP_BAD_ARGUMENT);
  EXPECT_EQ(fewstep_gpu_reset(nullptr), FEWSTEP_BAD_ARGUMENT);
  EXPECT_EQ(fewstep_gpu_copy_parameters(nullptr, &value), FEWSTEP_BAD_ARGUMENT);
  EXPECT_EQ(fewstep_gpu_hash(nullptr), 0U);
  EXPECT_EQ(fewstep_gpu_inputs(nullptr), 0U);
  fewstep_gpu_close(nullptr);
}

}  // namespace
}  // namespace fewstep::testing
