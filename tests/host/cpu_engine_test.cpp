// The CPU engine gives, bit for bit, what one task after another at float
// gives, for any number of threads and tasks.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "channel_network.h"
#include "fewstep/executor/serial.h"
#include "fewstep/host/engine.h"
#include "fewstep/host/lanes.h"
#include "fewstep/ops.h"
#include "support/allocation_guard.h"
#include "support/engine_problem.h"
#include "support/one_by_one.h"
#include "support/step_choices.h"

namespace fewstep::testing {
namespace {

using host::Episode;
using host::EpisodeShape;
using host::LaneLayout;
using host::Split;
using Source = RandomEpisodes;

constexpr LaneLayout kLayouts[] = {LaneLayout::kTasks, LaneLayout::kChannels};

NamedSpecs classifier() {
  return {"classifier",
          {1, 6, 6},
          {reference::conv(5, 3, 2, 1),
           reference::group_norm(1),
           reference::relu_layer(),
           reference::max_pool(2),
           reference::dense(4)}};
}

// For both layouts.
NamedSpecs classifier_of_channels() {
  return {"classifier",
          {1, 6, 6},
          {reference::conv(5, 3, 2, 1),
           reference::relu_layer(),
           reference::dense(4)}};
}

TEST(CpuEngine, EqualsOneTaskAfterAnother) {
  uint32_t n_tasks = 1;
  for (const NamedSpecs& specs : zoo()) {
    for (const TestRule& rule : kTestRules) {
      const RuleOp op = rule.op;
      const LossOp loss = op == RuleOp::kLslr ? LossOp::kMeanSquaredError
                                              : LossOp::kSoftmaxCrossEntropy;
      Problem s(specs, loss, rule, op == RuleOp::kSgd ? 1 : 3);
      if (op == RuleOp::kLslr) {
        s.objective.step_weights = {0.0F, 0.25F, 0.5F, 1.5F};
      }
      s.objective.second_order = n_tasks % 3 != 0;
      n_tasks = n_tasks % 19 + 3;  // 4, 7, 10, ...: never of one kind.
      SCOPED_TRACE(specs.name + " " + rule.name + ", tasks " +
                   std::to_string(n_tasks));
      const Result expected = one_by_one(s, 3, n_tasks);
      for (const LaneLayout layout : kLayouts) {
        SCOPED_TRACE(layout == LaneLayout::kTasks ? "tasks" : "channels");
        const auto engine = s.engine(2, layout);
        expect_same(by_engine(s, engine.get(), 3, n_tasks), expected);
      }
    }
  }
}

TEST(CpuEngine, WithStepOptionsEqualsOneTaskAfterAnother) {
  uint32_t n_tasks = 1;
  for (const NamedSpecs& specs : zoo()) {
    for (const StepChoice& choice : kStepChoices) {
      n_tasks = n_tasks % 19 + 3;
      const TestRule& rule = kTestRules[n_tasks % 9];
      SCOPED_TRACE(specs.name + " " + rule.name + " " + choice.name);
      const Problem s(specs, LossOp::kSoftmaxCrossEntropy, rule, choice);
      const Result expected = one_by_one(s, 3, n_tasks);
      for (const LaneLayout layout : kLayouts) {
        const auto engine = s.engine(2, layout);
        expect_same(by_engine(s, engine.get(), 3, n_tasks), expected);
      }
    }
  }
}

// Where nobody learns phi, theta's meta-gradient is the same, and that of a
// single rate is not taken.
TEST(CpuEngine, AFixedPhiChangesNothingElse) {
  const auto check = [](Problem& s) {
    const Result expected = by_engine(s, s.engine(1).get(), 3, 11);
    s.objective.fixed_phi = true;
    for (const LaneLayout layout : kLayouts) {
      Result r = by_engine(s, s.engine(2, layout).get(), 3, 11);
      if (s.rule.op == RuleOp::kSgd) {
        EXPECT_EQ(r.d_phi, std::vector<float>(s.phi.size()));
      }
      r.d_phi = expected.d_phi;
      expect_same(r, expected);
    }
  };
  for (const NamedSpecs& specs : zoo()) {
    for (const TestRule& rule : kTestRules) {
      SCOPED_TRACE(specs.name + " " + rule.name);
      Problem s(specs, LossOp::kSoftmaxCrossEntropy, rule, 3);
      check(s);
    }
    for (const StepChoice& choice : kStepChoices) {
      SCOPED_TRACE(specs.name + " " + choice.name);
      Problem s(specs, LossOp::kSoftmaxCrossEntropy, kTestRules[0], choice);
      if (!s.rule.learned_mask) check(s);
    }
  }
}

// Channels in the lanes: more of them than lanes, counts that leave padding,
// every operation that the layout has.
TEST(CpuEngine, ChannelLayoutEqualsOneTaskAfterAnother) {
  const NamedSpecs networks[] = {
      {"conv",
       {3, 9, 9},
       {reference::conv(37, 3, 2, 1),
        reference::batch_norm(),
        reference::relu_layer(),
        reference::conv(20, 3, 1, 0),
        reference::tanh_layer(),
        reference::flatten(),
        reference::dense(3)}},
      {"pools",
       {1, 12, 12},
       {reference::conv(16, 3, 1, 1),
        reference::max_pool(2),
        reference::relu_layer(),
        reference::conv(18, 2, 2, 0),
        reference::global_avg_pool(),
        reference::dense(40),
        reference::relu_layer(),
        reference::dense(2)}},
      {"dense",
       {7, 1, 1},
       {reference::dense(33),
        reference::batch_norm(),
        reference::relu_layer(),
        reference::dense(17),
        reference::tanh_layer(),
        reference::dense(4)}},
  };
  for (const NamedSpecs& specs : networks) {
    for (const LossOp loss :
         {LossOp::kSoftmaxCrossEntropy, LossOp::kMeanSquaredError}) {
      // Support sets below, at and above a register tile.
      for (const uint32_t n_support : {2U, 5U, 13U}) {
        SCOPED_TRACE(specs.name + ", support " + std::to_string(n_support));
        const Problem s(
            specs, loss, kTestRules[2], 2, n_support, n_support + 4);
        ASSERT_TRUE(host::ChannelNetwork::make(s.net.network).has_value());
        const auto engine = s.engine(2, LaneLayout::kChannels);
        expect_same(by_engine(s, engine.get(), 5, 3), one_by_one(s, 5, 3));
      }
    }
  }
}

TEST(CpuEngine, ChannelLayoutKnowsWhatItCannotHold) {
  const auto fits = [](const reference::Shape& input,
                       const std::vector<reference::Spec>& specs) {
    const TestNetwork net(input, specs, LossOp::kMeanSquaredError);
    return host::ChannelNetwork::make(net.network).has_value();
  };
  EXPECT_TRUE(fits({1, 4, 4}, {reference::dense(2)}));
  EXPECT_FALSE(fits({1, 4, 5}, {reference::dense(2)}));
  EXPECT_FALSE(fits({1, 4, 4}, {reference::relu_layer(), reference::dense(2)}));
  EXPECT_FALSE(fits({1, 4, 4}, {reference::conv(2, 3, 1, 0)}));
  EXPECT_FALSE(fits({1, 4, 4},
                    {reference::conv(2, 3, 1, 0),
                     reference::group_norm(1),
                     reference::dense(2)}));
  EXPECT_FALSE(fits({1, 4, 4},
                    {reference::conv(2, 3, 1, 0),
                     reference::flatten(),
                     reference::batch_norm(),
                     reference::dense(2)}));
}

TEST(CpuEngine, SameBitsForAnyNumberOfThreads) {
  // Sums over tasks are made in chunks, each passed from worker to worker.
  const NamedSpecs wide = {
      "wide",
      {40, 1, 1},
      {reference::dense(55), reference::tanh_layer(), reference::dense(3)}};
  for (const auto& [specs, layout] :
       {std::pair{classifier(), LaneLayout::kTasks},
        std::pair{wide, LaneLayout::kTasks},
        std::pair{wide, LaneLayout::kChannels}}) {
    const Problem s(specs, LossOp::kSoftmaxCrossEntropy, kTestRules[2], 2);
    const auto one = s.engine(1, layout);
    const auto two = s.engine(2, layout);
    const auto three = s.engine(3, layout);
    // Falling counts: what a larger call left must not be seen.
    for (const uint32_t n_tasks : {33U, 16U, 9U, 8U, 7U, 1U}) {
      SCOPED_TRACE(specs.name + ", tasks " + std::to_string(n_tasks));
      const Result expected = one_by_one(s, n_tasks, n_tasks);
      expect_same(by_engine(s, one.get(), n_tasks, n_tasks), expected);
      expect_same(by_engine(s, two.get(), n_tasks, n_tasks), expected);
      expect_same(by_engine(s, three.get(), n_tasks, n_tasks), expected);
    }
  }
}

// A source whose file goes away, say.
class FailingSource : public Source {
 public:
  using Source::Source;
  void sample(Split split,
              uint64_t seed,
              uint64_t iteration,
              uint32_t task,
              Episode* out) const override {
    if (failing.count(task) != 0) throw std::runtime_error("gone");
    Source::sample(split, seed, iteration, task, out);
  }
  std::set<uint32_t> failing;
};

// The exception comes out, whichever task it is of, and nobody waits for the
// worker that had it; the engine stays of use.
TEST(CpuEngine, ASourceThatThrowsEndsTheMetaStep) {
  const uint32_t n_tasks = 3 * kLanes + 2;
  for (const LaneLayout layout : kLayouts) {
    const Problem s(classifier_of_channels(),
                    LossOp::kSoftmaxCrossEntropy,
                    RuleOp::kSgd,
                    1);
    FailingSource source(s.net, 5, 7);
    for (const uint32_t threads : {1U, 2U, 3U}) {
      host::EngineConfig config = s.config(threads, layout);
      config.source = &source;
      const auto engine = host::make_cpu_engine(config);
      for (const uint32_t task : {0U, uint32_t{kLanes}, n_tasks - 1}) {
        source.failing = {task};
        EXPECT_THROW(by_engine(s, engine.get(), 1, n_tasks),
                     std::runtime_error);
      }
      source.failing.clear();
      expect_same(by_engine(s, engine.get(), 1, n_tasks),
                  by_engine(s, s.engine(1, layout).get(), 1, n_tasks));
    }
  }
}

TEST(CpuEngine, DropsAndCountsTasksThatAreNotFinite) {
  Problem s(classifier(), LossOp::kSoftmaxCrossEntropy, kTestRules[2], 2);
  s.source.overflowing = {0, 4, 9};
  for (const uint32_t threads : {1U, 2U}) {
    const auto engine = s.engine(threads);
    const Result r = by_engine(s, engine.get(), 0, 11);
    EXPECT_EQ(r.step.n_dropped, 3U);
    expect_same(r, one_by_one(s, 0, 11));
    for (const float g : r.d_theta) EXPECT_TRUE(is_finite(g));
  }
  const auto engine = s.engine(2);
  const Result none = by_engine(s, engine.get(), 0, 1);
  EXPECT_EQ(none.step.n_dropped, 1U);
  EXPECT_EQ(none.d_theta, std::vector<float>(s.theta.size(), 0.0F));
  EXPECT_EQ(none.d_phi, std::vector<float>(s.phi.size(), 0.0F));
}

// A gradient may overflow where the loss does not.
TEST(CpuEngine, DropsATaskWhoseGradientAloneIsNotFinite) {
  const NamedSpecs linear = {"linear", {1, 1, 1}, {reference::dense(1)}};
  Problem s(linear, LossOp::kMeanSquaredError, kTestRules[0], 1, 1, 1);
  class Steep : public RandomEpisodes {
   public:
    using RandomEpisodes::RandomEpisodes;
    void sample(Split split,
                uint64_t seed,
                uint64_t iteration,
                uint32_t task,
                Episode* out) const override {
      RandomEpisodes::sample(split, seed, iteration, task, out);
      // y = 1e18 makes loss 1e36; its gradient by the weight, 2e18 x, is
      // infinite at x = 1e38, where w = 0 keeps the output at the bias.
      if (task == 1) {
        out->support_x = {0.0F};
        out->query_x = {3e38F};
        out->support_targets = {0.0F};
        out->query_targets = {1e18F};
      }
    }
  };
  const Steep steep(s.net, 1, 1);
  s.theta.assign(2, 0.0F);
  s.phi.assign(1, 0.0F);
  const auto engine = host::make_cpu_engine(
      {&s.net.network, &s.rule, s.objective, &steep, 11, 1});
  const Result r = by_engine(s, engine.get(), 0, 3);
  EXPECT_EQ(r.step.n_dropped, 1U);
  for (const float g : r.d_theta) EXPECT_TRUE(is_finite(g));
}

// Once every worker has run.
TEST(CpuEngine, AMetaStepAllocatesNothing) {
  {
    const AllocationGuard canary;
    const std::vector<float> v(1000, 1.0F);
    ASSERT_EQ(canary.count(), 1U) << "the guard does not count here";
  }
  // Draws without allocating, as the sources of the product do.
  class Repeating : public RandomEpisodes {
   public:
    Repeating(const TestNetwork& net, uint32_t n_support, uint32_t n_query)
        : RandomEpisodes(net, n_support, n_query) {
      RandomEpisodes::sample(Split::kTrain, 1, 0, 0, &episode_);
    }
    void sample(
        Split, uint64_t, uint64_t, uint32_t, Episode* out) const override {
      *out = episode_;
    }

   private:
    Episode episode_;
  };
  const NamedSpecs specs = {"conv",
                            {1, 8, 8},
                            {reference::conv(9, 3, 2, 1),
                             reference::relu_layer(),
                             reference::dense(3)}};
  const Problem s(specs, LossOp::kSoftmaxCrossEntropy, kTestRules[2], 2);
  const Repeating source(s.net, 6, 7);
  for (const LaneLayout layout : kLayouts) {
    for (const uint32_t inner_batch : {0U, 3U}) {
      host::Objective objective = s.objective;
      objective.inner_batch = inner_batch;
      const auto engine = host::make_cpu_engine(
          {&s.net.network, &s.rule, objective, &source, 11, 2, layout});
      // A worker allocates in its first item, and on a busy machine one may not
      // get any for a while.
      for (uint64_t i = 0; i < 100; ++i) by_engine(s, engine.get(), i, 33);
      std::vector<float> d_theta(s.theta.size());
      std::vector<float> d_phi(s.phi.size());
      std::vector<host::Objective> changing = objectives(2);
      for (host::Objective& o : changing) o.inner_batch = inner_batch;
      const AllocationGuard guard;
      engine->meta_gradient(
          s.theta.data(), s.phi.data(), 100, 33, d_theta.data(), d_phi.data());
      for (const host::Objective& o : changing) {
        engine->set_objective(o);
        engine->meta_gradient(s.theta.data(),
                              s.phi.data(),
                              101,
                              33,
                              d_theta.data(),
                              d_phi.data());
      }
      EXPECT_EQ(guard.count(), 0U)
          << static_cast<int>(layout) << ", batch " << inner_batch;
    }
  }
}

TEST(CpuEngine, FollowsAnObjectiveThatChanges) {
  const NamedSpecs specs = {"conv",
                            {1, 8, 8},
                            {reference::conv(9, 3, 2, 1),
                             reference::relu_layer(),
                             reference::dense(3)}};
  Problem s(specs, LossOp::kSoftmaxCrossEntropy, kTestRules[1], 3);
  std::vector<Result> expected;
  for (const host::Objective& objective : objectives(3)) {
    s.objective = objective;
    expected.push_back(one_by_one(s, 4, 11));
  }
  // Each is another one than the one before.
  for (size_t i = 1; i < expected.size(); ++i) {
    EXPECT_FALSE(same_bits(expected[i - 1].d_theta, expected[i].d_theta)) << i;
  }
  for (const LaneLayout layout : kLayouts) {
    for (const uint32_t threads : {1U, 2U}) {
      s.objective = objectives(3).front();
      const auto engine = s.engine(threads, layout);
      for (size_t i = 0; i < expected.size(); ++i) {
        SCOPED_TRACE(i);
        engine->set_objective(objectives(3)[i]);
        expect_same(by_engine(s, engine.get(), 4, 11), expected[i]);
      }
    }
  }
}

TEST(CpuEngine, EvaluateEqualsOneTaskAfterAnother) {
  NamedSpecs plain = classifier();
  plain.specs.erase(plain.specs.begin() + 1);  // No group norm.
  for (const auto& [specs, classes, layout] :
       {std::tuple{classifier(), true, LaneLayout::kTasks},
        std::tuple{classifier(), false, LaneLayout::kTasks},
        std::tuple{plain, true, LaneLayout::kChannels},
        std::tuple{plain, false, LaneLayout::kChannels}}) {
    const Problem s(
        specs,
        classes ? LossOp::kSoftmaxCrossEntropy : LossOp::kMeanSquaredError,
        kTestRules[1],
        3);
    const EpisodeShape& shape = s.source.shape();
    for (const uint32_t n_tasks : {13U, 8U, 1U}) {
      for (const uint32_t threads : {1U, 2U, 3U}) {
        const auto engine = s.engine(threads, layout);
        const host::TaskScores scores = engine->evaluate(
            s.theta.data(), s.phi.data(), Split::kTest, n_tasks);
        ASSERT_EQ(scores.loss.size(), n_tasks);
        ASSERT_EQ(scores.accuracy.size(), classes ? n_tasks : 0);
        for (uint32_t t = 0; t < n_tasks; ++t) {
          Episode e;
          s.source.sample(Split::kTest, 11, 0, t, &e);
          host::MetaGradient<float> m(s.net.network,
                                      s.rule,
                                      s.objective,
                                      shape.n_support,
                                      shape.n_query);
          m.adapt(SerialExecutor(),
                  AllOps(),
                  PlainView<float>{s.theta.data()},
                  PlainView<float>{s.phi.data()},
                  support_of(e, shape.n_support));
          const Batch<float> query = query_of(e, shape.n_query);
          const float loss = m.loss_after(SerialExecutor(), AllOps(), query);
          EXPECT_EQ(to_bits(scores.loss[t]), to_bits(loss)) << t;
          if (!classes) continue;
          forward(SerialExecutor(),
                  AllOps(),
                  s.net.network,
                  m.adapted(),
                  m.workspace(),
                  query.x,
                  query.n);
          const float* y = outputs(s.net.network, m.workspace());
          uint32_t n_right = 0;
          for (uint32_t q = 0; q < query.n; ++q, y += 4) {
            const auto best = std::max_element(y, y + 4) - y;
            n_right += best == query.labels[q] ? 1 : 0;
          }
          EXPECT_EQ(scores.accuracy[t],
                    static_cast<float>(n_right) / static_cast<float>(query.n));
        }
      }
    }
  }
}

}  // namespace
}  // namespace fewstep::testing
