// The CUDA engine on a real GPU: the CPU engine's bits, and the checkpoints of
// the recipes.
//
// Skips, with exit status 77 and the reason, where there is no GPU.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "cuda_plan.h"
#include "fewstep/host/error.h"
#include "fewstep/host/outer_loop.h"
#include "fewstep/host/recipe.h"
#include "support/engine_problem.h"
#if defined(FEWSTEP_RECIPE_DIR)  // Not where the trainer is not built.
#include "fewstep/host/trainer.h"
#include "support/temp_dir.h"
#endif

namespace fewstep::testing {
namespace {

using host::Split;

void expect_same_engines(const Problem& s, uint32_t n_tasks) {
  host::EngineConfig config = s.config(0);
  config.n_tasks = n_tasks;
  const auto gpu = host::make_cuda_engine(config);
  const auto cpu = s.engine(0);
  for (const uint64_t iteration : {0U, 1U, 7U}) {
    expect_same(by_engine(s, gpu.get(), iteration, n_tasks),
                by_engine(s, cpu.get(), iteration, n_tasks));
  }
  const auto scores = [&](host::Engine* engine) {
    return engine->evaluate(
        s.theta.data(), s.phi.data(), Split::kValidation, n_tasks + 3);
  };
  const host::TaskScores a = scores(gpu.get());
  const host::TaskScores b = scores(cpu.get());
  EXPECT_TRUE(same_bits(a.loss, b.loss));
  EXPECT_TRUE(same_bits(a.accuracy, b.accuracy));
}

TEST(OnGpu, EqualsTheCpuEngine) {
  uint32_t n_tasks = 3;
  for (const NamedSpecs& specs : zoo()) {
    for (const TestRule& rule : kTestRules) {
      for (const LossOp loss :
           {LossOp::kSoftmaxCrossEntropy, LossOp::kMeanSquaredError}) {
        n_tasks = n_tasks % 300 + 41;
        Problem s(specs, loss, rule, n_tasks % 3 + 1);
        s.objective.second_order = n_tasks % 4 != 0;
        SCOPED_TRACE(specs.name + " " + rule.name);
        expect_same_engines(s, n_tasks);
      }
    }
  }
}

TEST(OnGpu, LearnedRulesEqualTheCpuEngine) {
  for (const TestRule& rule :
       {TestRule{"rate_net", RuleOp::kRateNet, rate_net_options(4, true)},
        TestRule{"lstm", RuleOp::kLstm, lstm_options(3)}}) {
    const Problem s(zoo()[6], LossOp::kSoftmaxCrossEntropy, rule, 3);
    SCOPED_TRACE(rule.name);
    expect_same_engines(s, 40);
  }
}

// Few tasks of a wide network: a cluster a task.
TEST(OnGpu, AClusterEqualsTheCpuEngine) {
  using namespace reference;
  const Problem s({"conv",
                   {1, 28, 28},
                   {conv(64, 3, 2, 1),
                    batch_norm(),
                    relu_layer(),
                    conv(64, 3, 2, 1),
                    batch_norm(),
                    relu_layer(),
                    dense(5)}},
                  LossOp::kSoftmaxCrossEntropy,
                  RuleOp::kMetaSgd,
                  2,
                  5,
                  25);
  const host::DeviceLimits limits = host::cuda_device_limits();
  for (const uint32_t n_tasks : {1U, 8U, 32U}) {
    const host::CudaPlan plan = host::plan_cuda(
        s.net.network, s.rule, s.objective, s.source.shape(), n_tasks, limits);
    EXPECT_EQ(plan.blocks > 1, limits.has_clusters());
    SCOPED_TRACE(n_tasks);
    expect_same_engines(s, n_tasks);
  }
}

TEST(OnGpu, FollowsAnObjectiveThatChanges) {
  Problem s(zoo()[6], LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 3);
  for (const host::Objective& objective : objectives(3)) {
    s.objective = objective;
    expect_same_engines(s, 70);
  }
}

TEST(OnGpu, LeavesOutWhatTheCpuEngineLeavesOut) {
  Problem s(zoo()[1], LossOp::kMeanSquaredError, RuleOp::kMetaSgd, 1);
  s.source.overflowing = {0, 6, 70};
  expect_same_engines(s, 100);
}

// Frozen layers, learned masks, weight decay and clipping.
TEST(OnGpu, StepOptionsEqualTheCpuEngine) {
  for (const StepChoice& choice : kStepChoices) {
    for (const TestRule& rule : {kTestRules[1], kTestRules[2], kTestRules[8]}) {
      const Problem s(zoo()[6], LossOp::kSoftmaxCrossEntropy, rule, choice);
      SCOPED_TRACE(std::string(rule.name) + " " + choice.name);
      expect_same_engines(s, 40);
    }
  }
}

TEST(OnGpu, MinibatchesEqualTheCpuEngine) {
  for (const TestRule& rule : kTestRules) {
    Problem s(zoo()[6], LossOp::kSoftmaxCrossEntropy, rule, 4, 6);
    s.objective.inner_batch = 2;
    SCOPED_TRACE(rule.name);
    expect_same_engines(s, 40);
  }
}

// Sums from GPU to GPU, where there are two.
TEST(OnGpu, TwoGpusEqualTheCpuEngine) {
  const Problem s(zoo()[6], LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 2);
  host::EngineConfig config = s.config(0);
  config.n_tasks = 70;
  config.n_gpus = 2;
  std::unique_ptr<host::Engine> gpu;
  try {
    gpu = host::make_cuda_engine(config);
  } catch (const host::Error& e) {
    GTEST_SKIP() << e.what();
  }
  const auto cpu = s.engine(0);
  for (const uint32_t n_tasks : {70U, 1U, 33U}) {
    expect_same(by_engine(s, gpu.get(), n_tasks, n_tasks),
                by_engine(s, cpu.get(), n_tasks, n_tasks));
  }
  host::Recipe recipe;
  recipe.inner.steps = 2;
  recipe.inner.learn_rate = true;
  recipe.outer.tasks = 70;
  recipe.outer.iterations = 5;
  recipe.outer.clip_norm = 0.01;
  host::OuterState start;
  start.theta = s.theta;
  start.phi = s.phi;
  const auto a = gpu->start(recipe, start);
  const auto b = cpu->start(recipe, start);
  for (int i = 0; i < 5; ++i) {
    static_cast<void>(a->iterate());
    static_cast<void>(b->iterate());
  }
  EXPECT_TRUE(same_bits(a->state().theta, b->state().theta));
  EXPECT_TRUE(same_bits(a->state().phi, b->state().phi));
  EXPECT_TRUE(same_bits(a->state().m, b->state().m));
  EXPECT_TRUE(same_bits(a->state().v, b->state().v));
}

TEST(OnGpu, RefusesMoreGpusThanThereAre) {
  const Problem s(zoo()[0], LossOp::kMeanSquaredError, RuleOp::kSgd, 1);
  host::EngineConfig config = s.config(1);
  config.n_gpus = 1000;
  try {
    static_cast<void>(host::make_cuda_engine(config));
    FAIL() << "not refused";
  } catch (const host::Error& e) {
    EXPECT_EQ(e.exit(), host::Exit::kResource);
    EXPECT_NE(std::string(e.what()).find("lower --gpus"), std::string::npos)
        << e.what();
  }
}

TEST(OnGpu, RefusesWhatDoesNotFit) {
  const Problem s(zoo()[0], LossOp::kMeanSquaredError, RuleOp::kSgd, 1);
  host::EngineConfig config = s.config(1);
  config.n_tasks = ~0U;
  try {
    static_cast<void>(host::make_cuda_engine(config));
    FAIL() << "not refused";
  } catch (const host::Error& e) {
    EXPECT_EQ(e.exit(), host::Exit::kResource);
    EXPECT_NE(std::string(e.what()).find("are missing"), std::string::npos)
        << e.what();
  }
}

#if defined(FEWSTEP_RECIPE_DIR)
std::string read(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Twenty iterations of each recipe whose data is here, validation included.
TEST(OnGpu, CheckpointsOfTheRecipesEqualTheCpuEngines) {
  uint32_t n_run = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(FEWSTEP_RECIPE_DIR)) {
    if (entry.path().extension() != ".toml") continue;
    SCOPED_TRACE(entry.path().filename().string());
    TempDir dir;
    const host::Recipe recipe = host::load_recipe(entry.path(),
                                                  {"outer.iterations=20",
                                                   "run.validate_every=10",
                                                   "run.validate_tasks=50",
                                                   "run.checkpoint_every=0"});
    std::string checkpoints[2];
    try {
      for (const auto kind :
           {host::EngineKind::kCpu, host::EngineKind::kCuda}) {
        const size_t i = static_cast<size_t>(kind);
        host::TrainOptions options;
        options.quiet = true;
        options.engine = kind;
        const std::filesystem::path run = dir / std::to_string(i);
        static_cast<void>(host::train(recipe, run, options));
        checkpoints[i] = read(run / "checkpoint.npz");
      }
    } catch (const host::Error& e) {
      if (e.exit() != host::Exit::kBadData) throw;
      std::printf("not run: %s\n", e.what());
      continue;
    }
    ++n_run;
    EXPECT_FALSE(checkpoints[0].empty());
    EXPECT_TRUE(checkpoints[0] == checkpoints[1]);
    std::printf("same checkpoint: %s\n",
                entry.path().filename().string().c_str());
  }
  EXPECT_GT(n_run, 0U);
}
#endif

}  // namespace
}  // namespace fewstep::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  try {
    std::printf("GPU: %s\n", fewstep::host::cuda_device_limits().name.c_str());
  } catch (const fewstep::host::Error& e) {
    std::printf("skipped: %s\n", e.what());
    return 77;
  }
  return RUN_ALL_TESTS();
}
