// The GPU engine on a device that computes on the host: the same bits as the
// CPU engine, in any number of waves and slots; exact memory; and its failures.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "gpu_engine.h"

#include <gtest/gtest.h>

#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fewstep/host/error.h"
#include "fewstep/host/optimizer.h"
#include "support/engine_problem.h"
#include "support/expect_error.h"
#include "support/host_device.h"
#include "support/shuffled_executor.h"
#include "support/step_choices.h"

namespace fewstep::testing {
namespace {

using host::DeviceLimits;
using host::Split;

/// A GPU with this much memory beyond the reserve, and this much shared memory.
DeviceLimits small_gpu(uint64_t bytes, uint64_t shared = 16 * 1024) {
  constexpr uint64_t kReserve = 256 << 20;
  return {"small",
          90,
          4,
          shared,
          shared + 1024,
          kReserve + bytes,
          kReserve + bytes};
}
constexpr uint64_t kPlenty = uint64_t{1} << 30;

template <class E>
std::unique_ptr<host::Engine> gpu_engine(const Problem& s,
                                         HostDeviceLog* log,
                                         const E& executor,
                                         uint32_t n_tasks = 1) {
  host::EngineConfig config = s.config(2);
  config.n_tasks = n_tasks;
  return host::make_gpu_engine(config, [log, &executor](uint32_t) {
    return host_device(log, executor);
  });
}

host::CudaPlan plan_of(const Problem& s,
                       uint32_t n_tasks,
                       const DeviceLimits& limits) {
  return host::plan_cuda(
      s.net.network, s.rule, s.objective, s.source.shape(), n_tasks, limits);
}

// Memory for about `tasks` tasks at a time.
DeviceLimits gpu_for(const Problem& s, uint32_t n_tasks, uint32_t tasks) {
  const host::CudaPlan all = plan_of(s, n_tasks, small_gpu(kPlenty));
  const uint64_t bars =
      sizeof(float) * (uint64_t{s.net.network.n_params} + s.rule.n_phi);
  const uint64_t slot = all.bytes.scratch / all.teams;
  return small_gpu(all.bytes.episodes + all.bytes.other +
                   tasks * (slot + bars));
}

void expect_same_scores(const host::TaskScores& a, const host::TaskScores& b) {
  EXPECT_TRUE(same_bits(a.loss, b.loss));
  EXPECT_TRUE(same_bits(a.accuracy, b.accuracy));
}

const std::vector<TestRule> kGpuRules = [] {
  std::vector<TestRule> rules(std::begin(kTestRules), std::end(kTestRules));
  rules.push_back({"rate_net", RuleOp::kRateNet, rate_net_options(4, true)});
  rules.push_back({"lstm", RuleOp::kLstm, lstm_options(3)});
  return rules;
}();

TEST(GpuEngine, EqualsTheCpuEngine) {
  const OneThread executor;
  uint32_t n_tasks = 3;
  for (const NamedSpecs& specs : zoo()) {
    for (const TestRule& rule : kGpuRules) {
      for (const uint32_t steps : {1U, 3U}) {
        const LossOp loss = steps == 3 ? LossOp::kMeanSquaredError
                                       : LossOp::kSoftmaxCrossEntropy;
        Problem s(specs, loss, rule, steps);
        s.objective.second_order = n_tasks % 3 != 0;
        s.objective.fixed_phi = rule.op == RuleOp::kSgd && n_tasks % 2 != 0;
        if (rule.op == RuleOp::kLslr && steps == 3) {
          s.objective.step_weights = {0.0F, 0.25F, 0.5F, 1.5F};
        }
        n_tasks = n_tasks % 11 + 2;
        SCOPED_TRACE(specs.name + " " + rule.name + ", steps " +
                     std::to_string(steps) + ", tasks " +
                     std::to_string(n_tasks));
        HostDeviceLog log;
        log.limits = small_gpu(kPlenty);
        const auto cpu = s.engine(1);
        const auto gpu = gpu_engine(s, &log, executor, n_tasks);
        for (const uint64_t iteration : {3U, 4U, 9U}) {
          expect_same(by_engine(s, gpu.get(), iteration, n_tasks),
                      by_engine(s, cpu.get(), iteration, n_tasks));
        }
        expect_same_scores(gpu->evaluate(s.theta.data(),
                                         s.phi.data(),
                                         Split::kValidation,
                                         2 * n_tasks + 1),
                           cpu->evaluate(s.theta.data(),
                                         s.phi.data(),
                                         Split::kValidation,
                                         2 * n_tasks + 1));
      }
    }
  }
}

// Frozen layers, weight decay and clipping.
TEST(GpuEngine, WithStepOptionsEqualsTheCpuEngine) {
  const OneThread executor;
  uint32_t n_tasks = 3;
  for (const NamedSpecs& specs : zoo()) {
    for (const StepChoice& choice : kStepChoices) {
      n_tasks = n_tasks % 7 + 2;
      const TestRule& rule = kTestRules[n_tasks % 9];
      SCOPED_TRACE(specs.name + " " + rule.name + " " + choice.name);
      const Problem s(specs, LossOp::kSoftmaxCrossEntropy, rule, choice);
      HostDeviceLog log;
      log.limits = small_gpu(kPlenty);
      const auto gpu = gpu_engine(s, &log, executor, n_tasks);
      expect_same(by_engine(s, gpu.get(), 3, n_tasks),
                  by_engine(s, s.engine(1).get(), 3, n_tasks));
      EXPECT_EQ(log.allocated, plan_of(s, n_tasks, log.limits).bytes.total());
    }
  }
}

// Little memory makes small tiles, few slots and several waves; the sums go on
// from wave to wave. Neither they nor the order of items changes a bit.
TEST(GpuEngine, TheSameInWavesAndShuffled) {
  for (const size_t specs : {size_t{1}, size_t{6}, size_t{7}}) {
    const Problem s(
        zoo()[specs], LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 2);
    constexpr uint32_t kTasks = 11;
    const Result expected = by_engine(s, s.engine(1).get(), 5, kTasks);
    for (const uint32_t tasks : {1U, 2U, 4U}) {
      SCOPED_TRACE(zoo()[specs].name + ", memory for " + std::to_string(tasks));
      HostDeviceLog log;
      log.limits = gpu_for(s, kTasks, tasks);
      const host::CudaPlan plan = plan_of(s, kTasks, log.limits);
      EXPECT_LT(plan.wave, kTasks);
      const ShuffledExecutor executor(tasks);
      const auto gpu = gpu_engine(s, &log, executor, kTasks);
      expect_same(by_engine(s, gpu.get(), 5, kTasks), expected);
      EXPECT_GT(log.n_launches, 1U);
    }
  }
}

TEST(GpuEngine, TheSameWhateverIsInSharedMemory) {
  const OneThread executor;
  const Problem s(zoo()[6], LossOp::kMeanSquaredError, RuleOp::kLslr, 2);
  const Result expected = by_engine(s, s.engine(1).get(), 1, 4);
  uint64_t last = ~uint64_t{0};
  for (const uint64_t shared : {64000U, 6000U, 3000U, 1500U, 100U}) {
    HostDeviceLog log;
    log.limits = small_gpu(kPlenty, shared);
    const uint64_t used = plan_of(s, 4, log.limits).shared_bytes();
    EXPECT_LE(used, shared);
    EXPECT_LE(used, last);
    last = used;
    const auto gpu = gpu_engine(s, &log, executor, 4);
    expect_same(by_engine(s, gpu.get(), 1, 4), expected);
  }
  EXPECT_EQ(last, 16U);  // The losses (K + 2 values) and nothing else.
}

// A task that overflows is left out, and where all do the sums are zero.
TEST(GpuEngine, LeavesOutWhatTheCpuEngineLeavesOut) {
  const OneThread executor;
  for (const std::set<uint32_t>& overflowing :
       {std::set<uint32_t>{2}, {0, 6}, {0, 1, 2, 3, 4, 5, 6}}) {
    Problem s(zoo()[1], LossOp::kMeanSquaredError, RuleOp::kMetaSgd, 1);
    s.source.overflowing = overflowing;
    HostDeviceLog log;
    log.limits = small_gpu(kPlenty);
    const auto gpu = gpu_engine(s, &log, executor, 7);
    const Result r = by_engine(s, gpu.get(), 3, 7);
    EXPECT_EQ(r.step.n_dropped, overflowing.size());
    expect_same(r, by_engine(s, s.engine(1).get(), 3, 7));
  }
}

// Twenty iterations of training end at the same parameters and moments.
TEST(GpuEngine, TrainsToTheSameState) {
  const OneThread executor;
  const Problem s(zoo()[7], LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 2);
  HostDeviceLog log;
  log.limits = small_gpu(kPlenty);
  const std::unique_ptr<host::Engine> engines[] = {
      s.engine(2), gpu_engine(s, &log, executor, 4)};
  host::OuterState states[2];
  for (int i = 0; i < 2; ++i) {
    host::OuterState& state = states[i];
    state.theta = s.theta;
    state.phi = s.phi;
    host::OuterRecipe outer;
    outer.iterations = 20;
    std::vector<float> d_theta(state.theta.size()), d_phi(state.phi.size());
    for (uint64_t k = 0; k < 20; ++k) {
      engines[i]->meta_gradient(state.theta.data(),
                                state.phi.data(),
                                k,
                                4,
                                d_theta.data(),
                                d_phi.data());
      host::outer_step(outer, true, d_theta, d_phi, &state);
    }
  }
  EXPECT_TRUE(same_bits(states[0].theta, states[1].theta));
  EXPECT_TRUE(same_bits(states[0].phi, states[1].phi));
  EXPECT_TRUE(same_bits(states[0].m, states[1].m));
  EXPECT_TRUE(same_bits(states[0].v, states[1].v));
  EXPECT_FALSE(same_bits(states[0].theta, s.theta));
  EXPECT_EQ(log.n_recorded, 2U);  // One graph a buffer of episodes.
}

// Schedules: weights and order from iteration to iteration, Reptile. Memory for
// second order is taken when it is first asked for.
TEST(GpuEngine, FollowsAnObjectiveThatChanges) {
  const OneThread executor;
  Problem s(zoo()[6], LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 3);
  s.objective = objectives(3).front();
  HostDeviceLog log;
  log.limits = small_gpu(kPlenty);
  const auto gpu = gpu_engine(s, &log, executor, 5);
  const auto cpu = s.engine(1);
  uint64_t iteration = 0;
  for (const host::Objective& objective : objectives(3)) {
    gpu->set_objective(objective);
    cpu->set_objective(objective);
    SCOPED_TRACE(iteration);
    expect_same(by_engine(s, gpu.get(), iteration, 5),
                by_engine(s, cpu.get(), iteration, 5));
    ++iteration;
  }
  EXPECT_EQ(log.n_devices, 2U);
}

TEST(GpuEngine, TakesTheMemoryThatWasPlanned) {
  const OneThread executor;
  for (const NamedSpecs& specs : zoo()) {
    for (const LossOp loss :
         {LossOp::kSoftmaxCrossEntropy, LossOp::kMeanSquaredError}) {
      Problem s(specs, loss, RuleOp::kMetaSgd, 3);
      s.objective.step_weights = {0.0F, 0.25F, 0.5F, 1.5F};
      HostDeviceLog log;
      log.limits = small_gpu(kPlenty, 2000);
      const auto gpu = gpu_engine(s, &log, executor, 9);
      EXPECT_EQ(log.allocated, plan_of(s, 9, log.limits).bytes.total())
          << specs.name;
    }
  }
}

TEST(GpuEngine, PlansAnewForMoreTasks) {
  const OneThread executor;
  const Problem s(zoo()[0], LossOp::kMeanSquaredError, RuleOp::kSgd, 1);
  HostDeviceLog log;
  log.limits = small_gpu(kPlenty);
  const auto gpu = gpu_engine(s, &log, executor, 2);
  const auto cpu = s.engine(1);
  for (const uint32_t n_tasks : {2U, 1U, 5U, 3U}) {
    expect_same(by_engine(s, gpu.get(), n_tasks, n_tasks),
                by_engine(s, cpu.get(), n_tasks, n_tasks));
  }
  EXPECT_EQ(log.n_devices, 2U);
}

TEST(GpuEngine, RefusesWhatDoesNotFit) {
  const OneThread executor;
  const Problem s(zoo()[6], LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 3);
  HostDeviceLog log;
  log.limits = small_gpu(4000);
  try {
    static_cast<void>(gpu_engine(s, &log, executor, 8));
    FAIL() << "not refused";
  } catch (const host::Error& e) {
    EXPECT_EQ(e.exit(), host::Exit::kResource);
    const std::string what = e.what();
    for (const char* part : {"small",
                             "are missing",
                             "outer.tasks",
                             "filters",
                             "task.shots",
                             "--engine cpu"}) {
      EXPECT_NE(what.find(part), std::string::npos) << part << ": " << what;
    }
  }
  // With what is missing, it fits.
  uint64_t bytes = 4000;
  for (; bytes < kPlenty; bytes += 1000) {
    try {
      static_cast<void>(plan_of(s, 8, small_gpu(bytes)));
      break;
    } catch (const host::Error&) {
    }
  }
  log.limits = small_gpu(bytes);
  expect_same(by_engine(s, gpu_engine(s, &log, executor, 8).get(), 2, 8),
              by_engine(s, s.engine(1).get(), 2, 8));
}

TEST(GpuEngine, HandsOnTheFailureOfTheGpu) {
  const OneThread executor;
  const Problem s(zoo()[0], LossOp::kMeanSquaredError, RuleOp::kSgd, 1);
  HostDeviceLog log;
  log.limits = small_gpu(kPlenty);
  log.fail_after = 1;
  const auto gpu = gpu_engine(s, &log, executor, 2);
  static_cast<void>(by_engine(s, gpu.get(), 0, 2));
  EXPECT_THROW(by_engine(s, gpu.get(), 1, 2), host::Error);
}

// -------------------------------------------------------------- the plan

TEST(CudaPlan, GivesFewTasksManyThreads) {
  const Problem s({"conv",
                   {1, 28, 28},
                   {reference::conv(64, 3, 2, 1),
                    reference::relu_layer(),
                    reference::conv(64, 3, 2, 1),
                    reference::relu_layer(),
                    reference::dense(5)}},
                  LossOp::kSoftmaxCrossEntropy,
                  RuleOp::kMetaSgd,
                  1,
                  5,
                  75);
  const DeviceLimits h200 = host::known_device("h200");
  const host::CudaPlan few = plan_of(s, 32, h200);
  EXPECT_EQ(few.blocks, 4U);
  EXPECT_EQ(few.shared_bytes(), 0U);  // A cluster shares global memory only.
  EXPECT_EQ(few.teams, 32U);
  const host::CudaPlan many = plan_of(s, 10000, h200);
  EXPECT_EQ(many.blocks, 1U);
  EXPECT_LT(many.threads, 256U);
  // No clusters before 9.0.
  EXPECT_EQ(plan_of(s, 32, host::known_device("a100")).blocks, 1U);
}

TEST(CudaPlan, StaysWithinTheDevice) {
  for (const DeviceLimits& limits : host::known_devices()) {
    for (const NamedSpecs& specs : zoo()) {
      const Problem s(specs, LossOp::kMeanSquaredError, RuleOp::kMetaSgd, 2);
      for (const uint32_t n_tasks : {1U, 31U, 4096U, 65536U}) {
        const host::CudaPlan plan = plan_of(s, n_tasks, limits);
        EXPECT_LE(plan.shared_bytes(), limits.shared_per_block);
        EXPECT_LE(plan.bytes.total(), limits.free_memory);
        EXPECT_EQ(plan.threads % 32, 0U);
        EXPECT_LE(plan.threads, host::kMaxBlockThreads);
        EXPECT_LE(plan.blocks, limits.has_clusters() ? 8U : 1U);
        EXPECT_GE(plan.wave, plan.teams);
        EXPECT_LE(plan.wave, n_tasks);
      }
    }
  }
}

TEST(CudaPlan, PlacesPartsApart) {
  const Problem s(zoo()[6], LossOp::kMeanSquaredError, RuleOp::kMetaSgd, 3);
  for (const uint64_t shared : {0U, 900U, 4000U, 1000000U}) {
    const host::TaskLayout layout =
        host::lay_out(plan_of(s, 2, small_gpu(kPlenty)).program, shared);
    uint64_t end[2] = {0, 0};
    for (const host::Place& place : layout.parts) {
      EXPECT_GE(place.offset, end[place.shared]);
      EXPECT_EQ(place.offset % 4, 0U);
      if (place.values != 0) end[place.shared] = place.offset + place.values;
    }
    EXPECT_LE(end[0], layout.slot_values);
    EXPECT_LE(end[1], layout.shared_values);
    EXPECT_LE(layout.shared_values * 4, shared);
  }
}

TEST(CudaPlan, KnowsDevicesByName) {
  EXPECT_EQ(host::known_device("h200").compute, 90U);
  EXPECT_THROW(host::known_device("h2000"), host::Error);
}

TEST(GpuEngine, RefusesDropout) {
  const Problem s(zoo()[1], LossOp::kMeanSquaredError, kTestRules[0], 1);
  host::EngineConfig config = s.config(1);
  config.dropout = 0.25F;
  expect_error([&] { host::make_gpu_engine(config, nullptr); },
               host::Exit::kUsage,
               {"--engine cuda: has no dropout", "--engine cpu"});
}

}  // namespace
}  // namespace fewstep::testing
