// Minibatches of the inner loop: which examples a step adapts to, in every
// engine, and what recipes say of it. (Their meta-gradients: gradcheck_test.)
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/minibatch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "fewstep/host/dropout.h"
#include "fewstep/host/minibatch_order.h"
#include "fewstep/host/task_factory.h"
#include "fewstep/host/trainer.h"
#include "support/device_case.h"
#include "support/expect_error.h"
#include "support/gpu_engine_on_host.h"
#include "support/gradcheck_case.h"
#include "support/one_by_one.h"
#include "support/shuffled_executor.h"
#include "support/temp_dir.h"

namespace fewstep::testing {
namespace {

using host::Episode;
using host::LaneLayout;
using host::Minibatches;
using host::Split;
using ::testing::HasSubstr;

constexpr uint32_t kExamples = 6;
constexpr uint32_t kBatch = 2;
constexpr uint32_t kQueries = 7;
constexpr LaneLayout kLayouts[] = {LaneLayout::kTasks, LaneLayout::kChannels};

std::string name_of(LaneLayout layout) {
  return layout == LaneLayout::kTasks ? "tasks" : "channels";
}

// ------------------------------------------------------------------ the order

TEST(Minibatches, HoldEveryMthExample) {
  const Minibatches m(12, 4);
  EXPECT_EQ(m.n, 4U);
  EXPECT_EQ(m.count, 3U);
  std::vector<uint32_t> in_order(12);
  for (uint32_t i = 0; i < 12; ++i) in_order[m.place_of(i)] = i;
  EXPECT_EQ(in_order,
            (std::vector<uint32_t>{0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11}));
  for (uint32_t k = 0; k < 7; ++k) EXPECT_EQ(m.first_of_step(k), k % 3 * 4);
  const Minibatches whole(5, 0);
  EXPECT_EQ(whole.n, 5U);
  for (uint32_t i = 0; i < 5; ++i) EXPECT_EQ(whole.place_of(i), i);
  EXPECT_EQ(whole.first_of_step(3), 0U);
}

// Examples that come class by class, as images do.
TEST(Minibatches, HaveTheSameNumberOfEachClassWhereWaysDivideThem) {
  for (const uint32_t ways : {2U, 5U}) {
    for (const uint32_t shots : {4U, 10U, 12U}) {
      const uint32_t n_support = ways * shots;
      for (uint32_t n = 1; n <= n_support; ++n) {
        if (n_support % n != 0) continue;
        const Minibatches m(n_support, n);
        std::vector<uint32_t> count(size_t{m.count} * ways);
        for (uint32_t i = 0; i < n_support; ++i) {
          ++count[m.place_of(i) / n * ways + i / shots];
        }
        for (const uint32_t c : count) {
          EXPECT_GE(c, n / ways);
          EXPECT_LE(c, (n + ways - 1) / ways);
        }
      }
    }
  }
}

TEST(Minibatches, ReorderTheSupportSetsOfTrainingAlone) {
  for (const LossOp loss :
       {LossOp::kSoftmaxCrossEntropy, LossOp::kMeanSquaredError}) {
    const TestNetwork net({2, 1, 2}, {reference::dense(3)}, loss);
    const host::EpisodeShape shape = net.episode_shape(kExamples, 3);
    const Episode drawn = net.random_episode(1, kExamples, 3);
    host::MinibatchOrder order(shape, kBatch);
    for (int again = 0; again < 2; ++again) {
      Episode e = drawn;
      order.apply(Split::kTrain, &e);
      const uint32_t m = kExamples / kBatch;
      for (uint32_t i = 0; i < kExamples; ++i) {
        const uint32_t at = i / kBatch + i % kBatch * m;
        for (uint32_t j = 0; j < shape.n_in; ++j) {
          EXPECT_EQ(e.support_x[i * shape.n_in + j],
                    drawn.support_x[at * shape.n_in + j]);
        }
        if (shape.classification) {
          EXPECT_EQ(e.support_labels[i], drawn.support_labels[at]);
        } else {
          for (uint32_t o = 0; o < shape.n_out; ++o) {
            EXPECT_EQ(e.support_targets[i * shape.n_out + o],
                      drawn.support_targets[at * shape.n_out + o]);
          }
        }
      }
      EXPECT_EQ(e.query_x, drawn.query_x);
      EXPECT_EQ(e.query_labels, drawn.query_labels);
      EXPECT_EQ(e.query_targets, drawn.query_targets);
    }
    for (const Split split : {Split::kValidation, Split::kTest}) {
      Episode e = drawn;
      order.apply(split, &e);
      EXPECT_EQ(e.support_x, drawn.support_x);
      EXPECT_EQ(e.support_labels, drawn.support_labels);
    }
  }
}

// ---------------------------------------------------------------- the engines

struct MinibatchProblem : Problem {
  MinibatchProblem(const NamedSpecs& specs,
                   LossOp loss,
                   const TestRule& test_rule,
                   uint32_t steps)
      : Problem(specs, loss, test_rule, steps, kExamples, kQueries) {
    objective.inner_batch = kBatch;
  }
};

/// theta_K of the firmware library on a task of `s`: step k on the minibatch
/// that the definition gives it, example by example.
std::vector<float> by_session(const Problem& s,
                              const Episode& episode,
                              uint32_t steps) {
  SmallCapsule small;
  small.contents.network = s.net.network;
  small.contents.theta = s.theta;
  small.contents.rule = s.rule;
  small.contents.phi = s.phi;
  small.contents.limits = {kExamples, kQueries, static_cast<uint16_t>(steps)};
  OpenSession open(small);
  const Network& network = s.net.network;
  const bool classes = network.loss == LossOp::kSoftmaxCrossEntropy;
  DeviceEpisode now;
  now.n = kBatch;
  now.x.resize(size_t{kBatch} * network.n_in);
  if (classes) now.labels.resize(kBatch);
  if (!classes) now.targets.resize(size_t{kBatch} * network.n_out);
  constexpr uint32_t m = kExamples / kBatch;
  for (uint32_t k = 0; k < steps; ++k) {
    for (uint32_t i = 0; i < kBatch; ++i) {
      const uint32_t from = k % m + i * m;
      std::copy_n(episode.support_x.data() + size_t{from} * network.n_in,
                  network.n_in,
                  now.x.data() + size_t{i} * network.n_in);
      if (classes) {
        now.labels[i] = episode.support_labels[from];
      } else {
        std::copy_n(
            episode.support_targets.data() + size_t{from} * network.n_out,
            network.n_out,
            now.targets.data() + size_t{i} * network.n_out);
      }
    }
    // The session reads the examples anew in each step.
    if (k == 0) {
      EXPECT_EQ(open.session.begin(now.set(), steps), Status::kOk);
    }
    EXPECT_EQ(open.session.step(), Status::kOk);
  }
  EXPECT_EQ(open.session.end(), Status::kOk);
  std::vector<float> theta;
  for (uint32_t i = 0; i < network.n_params; ++i) {
    theta.push_back(open.session.parameter(i));
  }
  return theta;
}

// Reptile's difference of one task shows where its adaptation ended. Four
// steps: the first of three minibatches comes back.
TEST(MinibatchEngines, AdaptAsTheFirmwareLibraryDoesOnOneAfterAnother) {
  constexpr uint32_t kSteps = 4;
  uint32_t n_compared = 0;
  for (const NamedSpecs& specs : zoo()) {
    for (const TestRule& rule : kTestRules) {
      const LossOp loss = ++n_compared % 2 == 0 ? LossOp::kMeanSquaredError
                                                : LossOp::kSoftmaxCrossEntropy;
      SCOPED_TRACE(specs.name + " " + rule.name + " " + to_string(loss));
      MinibatchProblem s(specs, loss, rule, kSteps);
      s.objective.method = host::OuterMethod::kReptile;
      Episode episode;
      s.source.sample(Split::kTrain, 11, 3, 0, &episode);
      std::vector<float> moved = by_session(s, episode, kSteps);
      for (size_t i = 0; i < moved.size(); ++i) {
        moved[i] = s.theta[i] - moved[i];
      }
      const auto expect_moved = [&](host::Engine* engine) {
        EXPECT_TRUE(same_bits(by_engine(s, engine, 3, 1).d_theta, moved));
      };
      for (const LaneLayout layout : kLayouts) {
        SCOPED_TRACE(name_of(layout));
        expect_moved(s.engine(1, layout).get());
      }
      HostDeviceLog log;
      expect_moved(engine_on(&log, kOneThread, s.config(1), 1, 1).get());
      // And nowhere else than on the whole support set.
      s.objective.inner_batch = 0;
      EXPECT_FALSE(
          same_bits(by_engine(s, s.engine(1).get(), 3, 1).d_theta, moved));
    }
  }
}

TEST(MinibatchEngines, EqualOneTaskAfterAnother) {
  uint32_t n_tasks = 1;
  for (const NamedSpecs& specs : zoo()) {
    for (const TestRule& rule : kTestRules) {
      n_tasks = n_tasks % 19 + 3;
      const LossOp loss = n_tasks % 2 == 0 ? LossOp::kMeanSquaredError
                                           : LossOp::kSoftmaxCrossEntropy;
      SCOPED_TRACE(specs.name + " " + rule.name + ", tasks " +
                   std::to_string(n_tasks));
      MinibatchProblem s(specs, loss, rule, 4);
      if (n_tasks % 3 == 0) {
        s.objective.step_weights = {0.0F, 0.25F, 0.5F, 1.5F, 1.0F};
      }
      s.objective.second_order = n_tasks % 4 != 0;
      const Result expected = one_by_one(s, 3, n_tasks);
      for (const LaneLayout layout : kLayouts) {
        SCOPED_TRACE(name_of(layout));
        expect_same(by_engine(s, s.engine(2, layout).get(), 3, n_tasks),
                    expected);
      }
      for (const uint32_t n_gpus : {1U, 2U}) {
        HostDeviceLog log;
        const ShuffledExecutor executor(n_tasks);
        const auto gpu =
            engine_on(&log, executor, s.config(1), n_tasks, n_gpus);
        expect_same(by_engine(s, gpu.get(), 3, n_tasks), expected);
      }
    }
  }
}

// What the channel layout packs: more channels than lanes, every operation.
TEST(MinibatchEngines, WithAndWithoutATapeAreTheSame) {
  const NamedSpecs networks[] = {
      {"mlp",
       {3, 1, 1},
       {reference::dense(20),
        reference::tanh_layer(),
        reference::dense(18),
        reference::relu_layer(),
        reference::dense(3)}},
      {"conv",
       {1, 12, 12},
       {reference::conv(17, 3, 1, 1),
        reference::batch_norm(),
        reference::relu_layer(),
        reference::max_pool(2),
        reference::conv(19, 3, 2, 1),
        reference::tanh_layer(),
        reference::flatten(),
        reference::dense(3)}},
  };
  for (const NamedSpecs& specs : networks) {
    for (const LossOp loss :
         {LossOp::kSoftmaxCrossEntropy, LossOp::kMeanSquaredError}) {
      for (const uint32_t batch : {1U, 4U, 12U}) {
        SCOPED_TRACE(specs.name + " " + to_string(loss) + ", batch " +
                     std::to_string(batch));
        Problem s(specs, loss, kTestRules[2], 3, 12, 5);
        s.objective.inner_batch = batch;
        const Result expected = one_by_one(s, 3, 3);
        for (const LaneLayout layout : kLayouts) {
          host::EngineConfig config = s.config(1, layout);
          for (const uint64_t tape : {config.tape_bytes, uint64_t{0}}) {
            config.tape_bytes = tape;
            const auto engine = host::make_cpu_engine(config);
            expect_same(by_engine(s, engine.get(), 3, 3), expected);
          }
        }
      }
    }
  }
}

TEST(MinibatchEngines, OfTheWholeSetChangeNoBit) {
  for (const NamedSpecs& specs : zoo()) {
    MinibatchProblem s(specs, LossOp::kSoftmaxCrossEntropy, kTestRules[2], 2);
    s.objective.inner_batch = 0;
    const Result expected = by_engine(s, s.engine(1).get(), 3, 4);
    s.objective.inner_batch = kExamples;
    for (const LaneLayout layout : kLayouts) {
      expect_same(by_engine(s, s.engine(1, layout).get(), 3, 4), expected);
    }
  }
}

TEST(MinibatchEngines, EvaluateOnWholeSupportSets) {
  for (const NamedSpecs& specs : zoo()) {
    SCOPED_TRACE(specs.name);
    MinibatchProblem s(specs, LossOp::kSoftmaxCrossEntropy, kTestRules[1], 3);
    const auto scores = [&](host::Engine* engine) {
      by_engine(s, engine, 3, 5);
      return engine->evaluate(
          s.theta.data(), s.phi.data(), Split::kValidation, 9);
    };
    HostDeviceLog log;
    const auto gpu = engine_on(&log, kOneThread, s.config(1), 5, 1);
    const host::TaskScores on_gpu = scores(gpu.get());
    const host::TaskScores on_lanes = scores(s.engine(1).get());
    const host::TaskScores on_channels =
        scores(s.engine(1, LaneLayout::kChannels).get());
    s.objective.inner_batch = 0;
    const host::TaskScores whole = scores(s.engine(1).get());
    expect_same_scores(on_gpu, whole);
    expect_same_scores(on_lanes, whole);
    expect_same_scores(on_channels, whole);
  }
}

// Masks belong to the examples of a step, in its gradient and its
// Hessian-vector product alike.
TEST(MinibatchEngines, DropOutTheSameInAGradientAndItsProduct) {
  for (const char* name : {"relu", "conv2d", "activations"}) {
    const NamedSpecs specs = zoo_network(name);
    for (const TestRule& rule : {kTestRules[2], kTestRules[3]}) {
      SCOPED_TRACE(std::string(name) + " " + rule.name);
      const TestNetwork net(
          specs.input, specs.specs, LossOp::kMeanSquaredError);
      const Rule made = rule.make(3, net.network);
      const auto theta = net.random_theta(2);
      const auto phi = random_phi(made, net.network, rule.phi_seed);
      host::GradcheckOptions options;
      options.steps = 3;
      options.n_coordinates = 20;
      options.inner_batch = kSupport / 2;
      options.dropout = 0.25F;
      for (const GradcheckResult& r :
           host::gradcheck(net.network,
                           made,
                           net.random_episode(6, kSupport, kQuery),
                           net.episode_shape(kSupport, kQuery),
                           {theta.begin(), theta.end()},
                           {phi.begin(), phi.end()},
                           options)) {
        EXPECT_TRUE(r.passed) << describe(r);
        EXPECT_GT(r.n_values, 0U);
      }
    }
    // And with a tape, which the checks have not.
    MinibatchProblem s(specs, LossOp::kMeanSquaredError, kTestRules[2], 4);
    host::EngineConfig config = s.config(1);
    config.dropout = 0.25F;
    const auto with = host::make_cpu_engine(config);
    config.tape_bytes = 0;
    const auto without = host::make_cpu_engine(config);
    expect_same(by_engine(s, with.get(), 3, 5),
                by_engine(s, without.get(), 3, 5));
  }
}

// ----------------------------------------------------------------- recipes

std::string recipe_text(const std::string& inner) {
  return R"(name = "minibatches"
[task]
source = "sinusoid"
family = "maml"
shots = 10
queries = 4
[network]
input = [1, 1, 1]
layers = [{op = "dense", units = 4}, {op = "tanh"}, {op = "dense", units = 1}]
loss = "mean_squared_error"
[inner]
rule = "sgd"
rate = 0.01
)" + inner +
         R"([outer]
tasks = 4
iterations = 3
[run]
validate_every = 0
)";
}

TEST(MinibatchRecipes, SurviveWritingAndReading) {
  for (const int batch : {0, 5}) {
    const host::Recipe r = host::parse_recipe(
        recipe_text("steps = 2\nbatch = " + std::to_string(batch) + "\n"),
        "r.toml");
    EXPECT_EQ(r.inner.batch, batch);
    const std::string once = to_toml(r);
    EXPECT_THAT(once, HasSubstr("batch = " + std::to_string(batch) + "\n"));
    EXPECT_EQ(to_toml(host::parse_recipe(once, "x.toml")), once);
    host::Objective objective;
    host::scheduled_objective(r, 0, &objective);
    EXPECT_EQ(objective.inner_batch, static_cast<uint32_t>(batch));
  }
  EXPECT_EQ(host::parse_recipe(recipe_text(""), "r.toml").inner.batch, 0);
}

/// theta after training in `dir`.
std::vector<float> train(const std::string& inner,
                         const std::filesystem::path& dir) {
  host::TrainOptions options;
  options.quiet = true;
  const host::Recipe recipe = host::parse_recipe(recipe_text(inner), "r.toml");
  host::train(recipe, dir, options);
  return host::load_state(dir / "checkpoint.npz", recipe).theta;
}

TEST(MinibatchRecipes, AreTrained) {
  TempDir dir;
  const auto whole = train("steps = 2\n", dir / "whole");
  EXPECT_TRUE(same_bits(train("steps = 2\nbatch = 10\n", dir / "all"), whole));
  EXPECT_FALSE(same_bits(train("steps = 2\nbatch = 5\n", dir / "five"), whole));
}

TEST(MinibatchRecipes, ThatMakeNoSenseAreRefused) {
  TempDir dir;
  const auto refused = [&](const std::string& inner,
                           std::initializer_list<const char*> words) {
    SCOPED_TRACE(inner);
    expect_error([&] { train(inner, dir / "run"); }, host::Exit::kUsage, words);
    EXPECT_FALSE(std::filesystem::exists(dir / "run"));
  };
  refused("batch = -1\n", {"r.toml:", "inner.batch: must be"});
  refused("batch = 2.5\n", {"inner.batch: must be"});
  refused("steps = 9\nbatch = 4\n",
          {"r.toml:15", "inner.batch:", "4 does not divide the 10", "use 2"});
  refused("steps = 9\nbatch = 20\n",
          {"inner.batch:", "20 does not divide the 10", "use 10"});
  refused("batch = 5\n",
          {"inner.batch: makes 2 minibatches",
           "with inner.steps = 1",
           "last 1 would never be looked at",
           "use 2 steps or more"});
  refused("steps = 4\nbatch = 2\n",
          {"inner.batch: makes 5 minibatches", "use 5 steps or more"});
  // What was trained on ten shots is evaluated on one.
  EXPECT_EQ(
      host::parse_recipe(
          recipe_text("steps = 5\nbatch = 2\n"), "r.toml", {"task.shots=1"})
          .task.shots,
      1);
}

}  // namespace
}  // namespace fewstep::testing
