// What the GPU engine draws and scores, on devices that compute on the host:
// episodes of the built-in sources are those of the host, and `eval` gives the
// firmware library's numbers.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/evaluate.h"
#include "fewstep/host/images.h"
#include "fewstep/host/sinusoid.h"
#include "support/expect_error.h"
#include "support/gpu_engine_on_host.h"
#include "support/png_writer.h"
#include "support/shuffled_executor.h"
#include "support/temp_dir.h"

namespace fewstep::testing {
namespace {

using host::Split;

// ------------------------------------------------------------ drawn episodes

// The engines on `source`, compared; what the device did.
void expect_same_on(const Problem& s,
                    const host::TaskSource& source,
                    HostDeviceLog* log,
                    uint32_t n_gpus) {
  constexpr int n = 4;
  host::EngineConfig config = s.config(1);
  config.source = &source;
  const auto cpu = host::make_cpu_engine(config);
  const ShuffledExecutor executor(n_gpus);
  const auto gpu = engine_on(log, executor, config, n, n_gpus);
  // Iterations beyond 2^32 have bits of their own in the streams.
  for (const uint64_t iteration :
       {uint64_t{0}, uint64_t{1}, uint64_t{1} << 40}) {
    expect_same(by_engine(s, gpu.get(), iteration, n),
                by_engine(s, cpu.get(), iteration, n));
  }
  for (const Split split : {Split::kValidation, Split::kTest}) {
    expect_same_scores(
        gpu->evaluate(s.theta.data(), s.phi.data(), split, 2 * n + 3),
        cpu->evaluate(s.theta.data(), s.phi.data(), split, 2 * n + 3));
  }
  host::Recipe recipe;
  recipe.inner.rule = s.rule.op;
  recipe.inner.steps = static_cast<int>(s.objective.steps);
  recipe.inner.batch = static_cast<int>(s.objective.inner_batch);
  recipe.inner.learn_rate = true;
  recipe.outer.tasks = n;
  recipe.outer.iterations = 3;
  const auto a = cpu->start(recipe, first_state(s));
  const auto b = gpu->start(recipe, first_state(s));
  for (int i = 0; i < 3; ++i) {
    static_cast<void>(a->iterate());
    const uint64_t before = log->uploaded;
    static_cast<void>(b->iterate());
    if (i == 0 ||
        source.drawing().kind == host::DrawingProgram::Kind::kOnHost) {
      continue;
    }
    EXPECT_EQ(log->uploaded - before,
              n_gpus * host::input_bytes(s.objective.steps));
  }
  expect_same_state(b->state(), a->state());
}

NamedSpecs sinusoid_network() {
  return {"mlp",
          {1, 1, 1},
          {reference::dense(8), reference::relu_layer(), reference::dense(1)}};
}
Problem sinusoid_problem() {
  return {sinusoid_network(), LossOp::kMeanSquaredError, RuleOp::kMetaSgd, 2};
}

TEST(DrawnOnGpu, SinusoidsAreThoseOfTheHost) {
  const Problem s = sinusoid_problem();
  for (const auto family :
       {host::SinusoidFamily::kMaml, host::SinusoidFamily::kMetaSgd}) {
    const host::Sinusoid source({family, 5, 10});
    for (const uint32_t n_gpus : {1U, 2U}) {
      HostDeviceLog log;
      expect_same_on(s, source, &log, n_gpus);
    }
  }
}

TEST(DrawnOnGpu, SinusoidsAreInTheOrderOfMinibatches) {
  Problem s(sinusoid_network(), LossOp::kMeanSquaredError, RuleOp::kMetaSgd, 3);
  s.objective.inner_batch = 2;
  const host::Sinusoid source({host::SinusoidFamily::kMaml, 6, 10});
  for (const uint32_t n_gpus : {1U, 2U}) {
    HostDeviceLog log;
    expect_same_on(s, source, &log, n_gpus);
  }
}

class ImagesOnGpu : public ::testing::Test {
 protected:
  static constexpr uint32_t kSize = 6;

  // 3 ways of `shots` + 2 images, classes of `n` or more images of noise.
  host::Images images(bool rotations, uint32_t n, uint32_t shots = 1) {
    std::mt19937 random(7);
    std::vector<std::pair<std::string, Bytes>> files;
    for (uint32_t c = 0; c < 9; ++c) {
      for (uint32_t i = 0; i < n + c; ++i) {
        Bytes pixels(kSize * kSize);
        for (uint8_t& p : pixels) p = static_cast<uint8_t>(random());
        files.emplace_back(
            "c" + std::to_string(c) + "/" + std::to_string(i) + ".png",
            encode_png({.w = kSize, .h = kSize, .rows = pixels}));
      }
    }
    write_zip(dir_ / "images.zip", files);
    host::ImagesOptions options;
    options.paths = {dir_ / "images.zip"};
    options.size = kSize;
    options.rotations = rotations;
    options.split = {.n_train = 3, .n_validation = 3, .n_test = 3, .seed = 1};
    options.ways = 3;
    options.shots = shots;
    options.queries = 2;
    return host::Images(options);
  }

  TempDir dir_;
  static NamedSpecs conv() {
    return {"conv",
            {1, kSize, kSize},
            {reference::conv(4, 3, 2, 1),
             reference::relu_layer(),
             reference::dense(3)}};
  }
  const Problem s{conv(), LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 2};
};

TEST_F(ImagesOnGpu, EpisodesAreThoseOfTheHost) {
  for (const bool rotations : {false, true}) {
    const host::Images source = images(rotations, 4);
    for (const uint32_t n_gpus : {1U, 3U}) {
      HostDeviceLog log;
      expect_same_on(s, source, &log, n_gpus);
    }
  }
}

// With `ways` dividing the minibatches and not.
TEST_F(ImagesOnGpu, AreInTheOrderOfMinibatches) {
  const host::Images source = images(true, 6, 4);
  for (const uint32_t inner_batch : {6U, 2U}) {
    Problem m(conv(), LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 6);
    m.objective.inner_batch = inner_batch;
    HostDeviceLog log;
    expect_same_on(m, source, &log, 1);
  }
}

TEST_F(ImagesOnGpu, TakeTheMemoryThatWasPlanned) {
  const host::Images source = images(true, 4);
  host::EngineConfig config = s.config(1);
  config.source = &source;
  HostDeviceLog log;
  const auto gpu = engine_on(&log, kOneThread, config, 4, 1);
  const auto plan = host::plan_cuda(s.net.network,
                                    s.rule,
                                    s.objective,
                                    source.shape(),
                                    4,
                                    log.limits,
                                    source.drawing());
  EXPECT_TRUE(plan.draws);
  EXPECT_EQ(log.allocated, plan.bytes.total());
  EXPECT_GT(plan.bytes.data, source.n_images() * kSize * kSize);
}

// More images than half of the memory: they stay on the host, and so does the
// drawing.
TEST_F(ImagesOnGpu, MayBeTooMany) {
  const host::Images source = images(true, 80);
  HostDeviceLog log;
  bool draws = true;
  for (uint64_t bytes = 1000; bytes < kPlenty; bytes += 1000) {
    log.limits = gpu_with(bytes);
    try {
      draws = host::plan_cuda(s.net.network,
                              s.rule,
                              s.objective,
                              source.shape(),
                              4,
                              log.limits,
                              source.drawing())
                  .draws;
      break;
    } catch (const host::Error&) {
    }
  }
  ASSERT_FALSE(draws);
  host::EngineConfig config = s.config(1);
  config.source = &source;
  const auto cpu = host::make_cpu_engine(config);
  const auto gpu = engine_on(&log, kOneThread, config, 4, 1);
  expect_same(by_engine(s, gpu.get(), 7, 4), by_engine(s, cpu.get(), 7, 4));
}

// A split without classes is refused as on the host.
TEST_F(ImagesOnGpu, RefuseASplitThatIsEmpty) {
  const host::Images all = images(false, 4);
  host::ImagesOptions options;
  options.paths = {dir_ / "images.zip"};
  options.size = kSize;
  options.split = {.n_train = 9};
  options.ways = 3;
  options.shots = 1;
  options.queries = 2;
  const host::Images source(options);
  host::EngineConfig config = s.config(1);
  config.source = &source;
  HostDeviceLog log;
  const auto gpu = engine_on(&log, kOneThread, config, 4, 1);
  EXPECT_THROW(static_cast<void>(gpu->evaluate(
                   s.theta.data(), s.phi.data(), Split::kTest, 4)),
               host::Error);
}

// --------------------------------------------------------------- evaluation

host::CapsuleFile capsule_of(const Problem& s) {
  host::CapsuleContents c;
  c.network = s.net.network;
  c.theta = s.theta;
  c.init_storage = Storage::kF16;
  c.rule = s.rule;
  c.phi = s.phi;
  c.limits.support_max = c.limits.predict_max = s.source.shape().n_query;
  c.limits.steps = s.objective.steps;
  host::CapsuleFile file;
  file.bytes = host::encode_capsule(c);
  EXPECT_EQ(read_capsule(file.bytes.data(), file.bytes.size(), &file.capsule),
            Status::kOk);
  return file;
}

void expect_same_interval(const host::Interval& a, const host::Interval& b) {
  EXPECT_EQ(a.mean, b.mean);
  EXPECT_EQ(a.ci95, b.ci95);
}

host::EngineFactory factory_of(HostDeviceLog* log, uint32_t n_gpus) {
  return [=](const host::EngineConfig& config) {
    return engine_on(log, kOneThread, config, config.n_tasks, n_gpus);
  };
}

TEST(EvaluationOnGpu, IsThatOfTheFirmwareLibrary) {
  uint32_t n_gpus = 1;
  uint32_t n_diverged = 0;
  for (const NamedSpecs& specs : zoo()) {
    for (const TestRule& rule : kTestRules) {
      for (const LossOp loss :
           {LossOp::kSoftmaxCrossEntropy, LossOp::kMeanSquaredError}) {
        SCOPED_TRACE(specs.name + " " + rule.name);
        Problem s(specs, loss, rule, 2);
        s.source.overflowing = {1, 4};
        const host::CapsuleFile file = capsule_of(s);
        host::EvaluateOptions options;
        options.n_tasks = 6;
        options.seed = 5;
        options.steps = n_gpus % 3;  // 0: the capsule's.
        options.n_threads = 1;
        HostDeviceLog log;
        const host::Evaluation a = host::evaluate_by(
            factory_of(&log, n_gpus), file, s.source, options);
        const host::Evaluation b = host::evaluate(file, s.source, options);
        expect_same_interval(a.loss, b.loss);
        expect_same_interval(a.loss_before, b.loss_before);
        expect_same_interval(a.accuracy, b.accuracy);
        expect_same_interval(a.accuracy_before, b.accuracy_before);
        EXPECT_EQ(a.n_diverged, b.n_diverged);
        EXPECT_EQ(a.n_tasks, b.n_tasks);
        EXPECT_EQ(a.transductive, b.transductive);
        EXPECT_EQ(a.classification, b.classification);
        n_diverged += b.n_diverged;
        n_gpus = n_gpus % 3 + 1;
      }
    }
  }
  EXPECT_GT(n_diverged, 0U);
}

TEST(EvaluationOnGpu, RefusesWhatTheFirmwareLibraryRefuses) {
  const Problem s(zoo()[0], LossOp::kMeanSquaredError, RuleOp::kLslr, 2);
  const host::CapsuleFile file = capsule_of(s);
  HostDeviceLog log;
  host::EvaluateOptions options;
  options.steps = 3;
  expect_error(
      [&] {
        static_cast<void>(
            host::evaluate_by(factory_of(&log, 1), file, s.source, options));
      },
      host::Exit::kUsage,
      {"rates for 2 steps"});
  options.steps = 0;
  options.one_at_a_time = true;
  expect_error(
      [&] {
        static_cast<void>(
            host::evaluate_by(factory_of(&log, 1), file, s.source, options));
      },
      host::Exit::kUsage,
      {"--one-at-a-time", "leave out --engine cuda"});
  options.one_at_a_time = false;
  const host::Sinusoid other({host::SinusoidFamily::kMaml, 5, 10});
  expect_error(
      [&] {
        static_cast<void>(
            host::evaluate_by(factory_of(&log, 1), file, other, options));
      },
      host::Exit::kBadData,
      {"the episodes have"});
}

}  // namespace
}  // namespace fewstep::testing
