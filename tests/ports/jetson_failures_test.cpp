// Sessions of fewstep/jetson.h on a GPU that is missing, too old, too small, or
// fails: a status, a sentence that names the remedy, and nothing left behind.
// And, the kernel's work being done by the host, all of jetson_test.cpp: what
// remains to a real GPU is the kernel itself.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "block_program.h"
#include "fewstep/executor/gpu_tiles.h"  // The GPU's kernels.
#include "fewstep/jetson.h"
#include "support/device_case.h"
#include "support/fake_cuda.h"
#include "support/shuffled_executor.h"

namespace fewstep::testing {
namespace {

// The session's kernel, as its launch would run it.
std::function<void()> session_kernel(void** arguments) {
  const auto memory = std::make_shared<jetson::BlockMemory<float>>(
      *static_cast<const jetson::BlockMemory<float>*>(arguments[0]));
  const bool shared = *static_cast<const bool*>(arguments[1]);
  return [memory, shared] {
    const ShuffledExecutor executor(3);
    const Workspace<float> ws = memory->workspace;
    std::vector<float> values(workspace_values(memory->network, ws.tile),
                              std::nanf(""));
    jetson::run_block(
        executor, AllOps(), *memory, shared ? values.data() : ws.values);
  };
}

void prepare() {
  fake_cuda().reset();
  fake_cuda().work["session_kernel"] = session_kernel;
}

// jetson_test.cpp finds a GPU.
const bool kPrepared = (prepare(), true);

class JetsonFailures : public ::testing::Test {
 protected:
  JetsonFailures() : loaded_(small_head()) { prepare(); }
  ~JetsonFailures() override {
    EXPECT_TRUE(fake_cuda().all_returned());
    prepare();
  }

  int open(fewstep_gpu_session** session) {
    return fewstep_gpu_open(
        session, loaded_.bytes.data(), loaded_.bytes.size(), nullptr);
  }

  // open() refuses with `status`, the message has all of `parts`, and nothing
  // is kept.
  void refuses(int status, const std::vector<std::string>& parts) {
    fewstep_gpu_session* session = nullptr;
    EXPECT_EQ(open(&session), status);
    EXPECT_EQ(session, nullptr);
    const std::string message = fewstep_gpu_message();
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos)
          << "no \"" << part << "\" in: " << message;
    }
    EXPECT_TRUE(fake_cuda().all_returned());
  }

  LoadedCapsule loaded_;
};

TEST_F(JetsonFailures, WithoutAGpu) {
  ASSERT_TRUE(kPrepared);
  fake_cuda().devices = 0;
  refuses(FEWSTEP_NO_DEVICE, {"no CUDA device: ", "use the CPU's session"});
}

TEST_F(JetsonFailures, WithoutADriver) {
  fake_cuda().driver = 0;
  refuses(FEWSTEP_NO_DEVICE, {"no NVIDIA driver is loaded: install it"});
}

TEST_F(JetsonFailures, WithAnOldDriver) {
  fake_cuda().driver = 11040;
  refuses(FEWSTEP_NO_DEVICE, {"it knows CUDA 11.4", "update it"});
}

TEST_F(JetsonFailures, OnAGpuThatTheProgramIsNotFor) {
  fake_cuda().kernels = false;
  refuses(FEWSTEP_NO_DEVICE,
          {"built for other GPUs", "-DFEWSTEP_JETSON_ARCHITECTURES="});
}

TEST_F(JetsonFailures, WithTooLittleMemory) {
  size_t gpu = 0;
  size_t pinned = 0;
  ASSERT_EQ(
      fewstep_gpu_required_bytes(
          loaded_.bytes.data(), loaded_.bytes.size(), nullptr, &gpu, &pinned),
      FEWSTEP_OK);
  fewstep_gpu_session* session = nullptr;
  fake_cuda().memory = gpu;
  fake_cuda().pinned = pinned;
  EXPECT_EQ(open(&session), FEWSTEP_OK) << "takes more than it says";
  fewstep_gpu_close(session);
  fake_cuda().memory = gpu - 1;
  refuses(FEWSTEP_ARENA_TOO_SMALL,
          {std::to_string(gpu) + " bytes of GPU memory", "lower max_support"});
  fake_cuda().memory = gpu;
  fake_cuda().pinned = pinned - 1;
  refuses(FEWSTEP_ARENA_TOO_SMALL,
          {std::to_string(pinned) + " bytes of pinned memory"});
}

// Every call of the runtime that opening makes, failed once.
TEST_F(JetsonFailures, InAnyCallOfOpen) {
  fewstep_gpu_session* session = nullptr;
  fake_cuda().calls.clear();
  ASSERT_EQ(open(&session), FEWSTEP_OK);
  const std::map<std::string, int> calls = fake_cuda().calls;
  fewstep_gpu_close(session);
  EXPECT_GE(calls.size(), 14U);
  for (const auto& [call, times] : calls) {
    for (int i = 1; i <= times; ++i) {
      SCOPED_TRACE(call + " " + std::to_string(i));
      prepare();
      fake_cuda().failing_call = call;
      fake_cuda().fails_at = i;
      fake_cuda().error = cudaErrorUnknown;
      session = nullptr;
      const int status = open(&session);
      EXPECT_TRUE(status == FEWSTEP_NO_DEVICE ||
                  status == FEWSTEP_DEVICE_FAILED ||
                  status == FEWSTEP_ARENA_TOO_SMALL)
          << status;
      EXPECT_EQ(session, nullptr);
      EXPECT_NE(std::string(fewstep_gpu_message()).find("some other error"),
                std::string::npos);
      EXPECT_TRUE(fake_cuda().all_returned());
      fewstep_gpu_close(session);
    }
  }
}

TEST_F(JetsonFailures, OfAKernelEndTheSession) {
  fewstep_gpu_session* session = nullptr;
  ASSERT_EQ(open(&session), FEWSTEP_OK);
  const DeviceEpisode episode = make_device_episode(loaded_.capsule.network, 3);
  const fewstep_support support = {
      episode.x.data(), episode.labels.data(), nullptr, 3};
  fewstep_report report = {};
  EXPECT_EQ(fewstep_gpu_adapt(session, &support, 0, &report), FEWSTEP_OK);
  const uint64_t adapted = fewstep_gpu_hash(session);
  EXPECT_NE(adapted, 0U);

  fake_cuda().failing_call = "cudaStreamSynchronize";
  fake_cuda().fails_at = fake_cuda().calls["cudaStreamSynchronize"] + 1;
  fake_cuda().error = cudaErrorLaunchFailure;
  report.loss_first = -1.0F;
  EXPECT_EQ(fewstep_gpu_adapt(session, &support, 0, &report),
            FEWSTEP_DEVICE_FAILED);
  EXPECT_EQ(report.loss_first, -1.0F);
  const std::string message = fewstep_gpu_message();
  EXPECT_NE(message.find("unspecified launch failure"), std::string::npos);
  EXPECT_NE(message.find("go on on the CPU"), std::string::npos);
  std::vector<float> out(loaded_.capsule.network.n_out, -1.0F);
  EXPECT_EQ(fewstep_gpu_predict(session, episode.x.data(), 1, out.data()),
            FEWSTEP_DEVICE_FAILED);
  EXPECT_EQ(out[0], -1.0F);
  EXPECT_EQ(fewstep_gpu_hash(session), 0U);
  fewstep_gpu_close(session);
}

TEST_F(JetsonFailures, LaunchesOneGraphACall) {
  fewstep_gpu_session* session = nullptr;
  ASSERT_EQ(open(&session), FEWSTEP_OK);
  const DeviceEpisode episode = make_device_episode(loaded_.capsule.network, 3);
  const fewstep_support support = {
      episode.x.data(), episode.labels.data(), nullptr, 3};
  const size_t before = fake_cuda().n_memory + fake_cuda().n_pinned;
  fake_cuda().calls.clear();
  EXPECT_EQ(fewstep_gpu_adapt(session, &support, 2, nullptr), FEWSTEP_OK);
  EXPECT_EQ(fake_cuda().n_kernels, 1U);
  EXPECT_EQ(fake_cuda().calls["cudaGraphLaunch"], 1);
  EXPECT_EQ(fake_cuda().calls["cudaMalloc"], 0);
  EXPECT_EQ(fake_cuda().n_memory + fake_cuda().n_pinned, before);
  fewstep_gpu_close(session);
}

}  // namespace
}  // namespace fewstep::testing
