// What a block or a cluster of the GPU does, with its threads emulated and
// every load and store checked: no race, no barrier missing or missed, no block
// in another's shared memory, and the CPU engine's bits.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "task_program.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda_plan.h"
#include "fewstep/executor/gpu_tiles.h"  // The GPU's kernels, not the CPU's.
#include "fewstep/ops.h"
#include "support/checking_executor.h"
#include "support/engine_problem.h"
#include "support/host_device.h"
#include "support/shuffled_executor.h"
#include "support/thread_team.h"
#include "support/traced.h"

namespace fewstep {
template <>
struct TileShape<Traced> : TileShape<float> {};
template <>
struct TileShape<Dual<Traced>> : TileShape<Dual<float>> {};
}  // namespace fewstep

namespace fewstep::testing {
namespace {

using host::Wave;

constexpr uint32_t kTasks = 3;
constexpr uint64_t kIteration = 3;

float value_of(float v) { return v; }
float value_of(const Traced& v) { return v.peek(); }

template <class T>
std::vector<T> as(const std::vector<float>& v) {
  std::vector<T> t;
  t.reserve(v.size());
  for (const float x : v) t.push_back(constant<T>(x));
  return t;
}

/// The global and shared memory of a launch.
template <class T>
class Launch {
 public:
  /// `tile` 0: all examples at once. Up to `shared_budget` bytes in shared
  /// memory, of `n_blocks` blocks a team.
  Launch(const Problem& s,
         uint32_t tile,
         uint64_t shared_budget,
         uint32_t n_teams,
         uint32_t n_blocks)
      : n_teams_(n_teams) {
    const host::EpisodeShape& shape = s.source.shape();
    p_.network = s.net.network;
    p_.rule = s.rule;
    p_.steps = s.objective.steps;
    p_.second_order = s.objective.second_order;
    p_.n_support = shape.n_support;
    p_.n_query = shape.n_query;
    p_.support_tile = tile != 0 ? tile : shape.n_support;
    p_.tile = tile != 0 ? tile : std::max(shape.n_support, shape.n_query);
    p_.layout = host::lay_out(p_, shared_budget);
    theta_ = as<T>(s.theta);
    phi_ = as<T>(s.phi);
    for (uint32_t t = 0; t < kTasks; ++t) {
      host::Episode e;
      s.source.sample(host::Split::kTrain, 11, kIteration, t, &e);
      add(&support_x_, e.support_x);
      add(&query_x_, e.query_x);
      add(&support_targets_, e.support_targets);
      add(&query_targets_, e.query_targets);
      add(&support_labels_, e.support_labels);
      add(&query_labels_, e.query_labels);
    }
    scratch_.resize(n_teams * p_.layout.slot_values);
    theta_bar_.resize(kTasks * p_.network.n_params);
    phi_bar_.resize(kTasks * p_.rule.n_phi);
    results_.resize(host::kTaskResults * kTasks + p_.network.n_params +
                    p_.rule.n_phi + 1);
    shared_.resize(n_blocks, std::vector<T>(p_.layout.shared_values));
    a_ = {};
    a_.theta = theta_.data();
    a_.phi = phi_.data();
    a_.support_x = support_x_.data();
    a_.query_x = query_x_.data();
    const bool classes = shape.classification;
    a_.support_labels = classes ? support_labels_.data() : nullptr;
    a_.query_labels = classes ? query_labels_.data() : nullptr;
    a_.support_targets = classes ? nullptr : support_targets_.data();
    a_.query_targets = classes ? nullptr : query_targets_.data();
    a_.scratch = scratch_.data();
    a_.theta_bar = theta_bar_.data();
    a_.phi_bar = phi_bar_.data();
    a_.query_loss = results_.data();
    a_.support_loss = a_.query_loss + kTasks;
    a_.finite = a_.support_loss + kTasks;
    a_.n_right = a_.finite + kTasks;
    a_.n_right_before = a_.n_right + kTasks;
    a_.sum = a_.n_right_before + kTasks;
  }

  /// Tells `log` of every array.
  void watch(AccessLog* log) const {
    const auto add = [&](const char* name,
                         const std::vector<T>& v,
                         bool fresh,
                         uint32_t block = ~0U) {
      log->watch(name, v.data(), v.size() * sizeof(T), fresh, block);
    };
    add("theta", theta_, false);
    add("phi", phi_, false);
    add("support_x", support_x_, false);
    add("query_x", query_x_, false);
    add("scratch", scratch_, true);
    add("theta_bar", theta_bar_, true);
    add("phi_bar", phi_bar_, true);
    add("results", results_, true);
    for (uint32_t b = 0; b < shared_.size(); ++b) {
      add("shared", shared_[b], true, b);
    }
  }
  /// Tasks of team `team` as one thread of block `block`.
  template <class E>
  void meta_gradients(const E& e, uint32_t team, uint32_t block) {
    T* const shared = shared_[block].data();
    if constexpr (std::is_same_v<E, ShuffledExecutor>) {
      run_shuffled_meta_gradients(
          e, p_, a_, {0, kTasks}, shared, team, n_teams_);
    } else {
      const AllOps ops;
      host::run_meta_gradients(
          e, ops, p_, a_, {0, kTasks}, shared, team, n_teams_);
    }
  }
  template <class E>
  void evaluations(const E& e, uint32_t team, uint32_t block) {
    T* const shared = shared_[block].data();
    if constexpr (std::is_same_v<E, ShuffledExecutor>) {
      run_shuffled_evaluations(e, p_, a_, {0, kTasks}, shared, team, n_teams_);
    } else {
      const AllOps ops;
      host::run_evaluations(
          e, ops, p_, a_, {0, kTasks}, shared, team, n_teams_);
    }
  }
  template <class E>
  void reduce(const E& e, const Wave& wave) {
    host::reduce_tasks(e, p_, a_, wave);
  }
  /// Meta-gradients of all teams, one after another, and their sum.
  template <class E>
  void run(const E& e) {
    for (uint32_t team = 0; team < n_teams_; ++team) {
      meta_gradients(e, team, 0);
    }
    e.barrier();
    reduce(e, {0, kTasks});
  }
  /// The same by emulated threads.
  void run(ThreadTeam* threads) {
    const auto e = threads->executor();
    for (uint32_t team = 0; team < n_teams_; ++team) {
      threads->run([&] { meta_gradients(e, team, e.block()); });
    }
    threads->run([&] { reduce(e, {0, kTasks}); });
  }

  void score_before() { p_.scores_before = true; }
  uint32_t n_teams() const { return n_teams_; }
  std::vector<float> sums() const { return values(a_.sum, n_learned()); }
  std::vector<float> losses() const { return values(a_.query_loss, kTasks); }
  std::vector<float> n_right() const { return values(a_.n_right, kTasks); }
  std::vector<float> bars() const {
    std::vector<float> v = values(theta_bar_.data(), theta_bar_.size());
    const auto more = values(phi_bar_.data(), phi_bar_.size());
    v.insert(v.end(), more.begin(), more.end());
    return v;
  }
  std::vector<T>& theta_bar() { return theta_bar_; }

 private:
  size_t n_learned() const { return p_.network.n_params + p_.rule.n_phi; }
  static void add(std::vector<T>* to, const std::vector<float>& from) {
    for (const float x : from) to->push_back(constant<T>(x));
  }
  static void add(std::vector<uint16_t>* to,
                  const std::vector<uint16_t>& from) {
    to->insert(to->end(), from.begin(), from.end());
  }
  static std::vector<float> values(const T* v, size_t n) {
    std::vector<float> f;
    for (size_t i = 0; i < n; ++i) f.push_back(value_of(v[i]));
    return f;
  }

  host::TaskProgram p_ = {};
  host::TaskArrays<T> a_ = {};
  uint32_t n_teams_;
  std::vector<T> theta_, phi_, support_x_, query_x_;
  std::vector<T> support_targets_, query_targets_;
  std::vector<uint16_t> support_labels_, query_labels_;
  std::vector<T> scratch_, theta_bar_, phi_bar_, results_;
  std::vector<std::vector<T>> shared_;
};

constexpr uint64_t kAllShared = 1 << 24;

/// What the CPU engine makes of the same tasks.
std::vector<float> expected_means(const Problem& s) {
  const Result r = by_engine(s, s.engine(1).get(), kIteration, kTasks);
  EXPECT_EQ(r.step.n_dropped, 0U);
  std::vector<float> means = r.d_theta;
  means.insert(means.end(), r.d_phi.begin(), r.d_phi.end());
  return means;
}
std::vector<float> means(std::vector<float> sums) {
  for (float& v : sums) v = v / static_cast<float>(kTasks);
  return sums;
}

struct Case {
  size_t specs;
  RuleOp op;
  uint32_t steps;
  bool second_order;
  uint32_t tile;
  RuleOptions options = {};
};

class TaskProgram : public ::testing::TestWithParam<Case> {
 protected:
  TaskProgram() { s.objective.second_order = c.second_order; }

  const Case c = GetParam();
  Problem s{
      zoo()[c.specs],
      c.steps == 3 ? LossOp::kMeanSquaredError : LossOp::kSoftmaxCrossEntropy,
      TestRule{to_string(c.op), c.op, c.options},
      c.steps};
};

TEST_P(TaskProgram, ShuffledItemsGiveTheSameBits) {
  for (uint32_t seed = 1; seed <= 2; ++seed) {
    Launch<float> launch(s, c.tile, seed == 1 ? 0 : kAllShared, 2, 1);
    launch.run(ShuffledExecutor(seed));
    EXPECT_TRUE(same_bits(means(launch.sums()), expected_means(s)));
  }
}

TEST_P(TaskProgram, NoItemRacesWithAnother) {
  Launch<Traced> launch(s, c.tile, 0, 2, 1);
  AccessLog log;
  launch.watch(&log);
  const CheckingExecutor e(&log);
  launch.run(e);
  EXPECT_EQ(log.n_conflicts(), 0U) << log.report();
  EXPECT_TRUE(same_bits(means(launch.sums()), expected_means(s)));
}

TEST_P(TaskProgram, ThreadsOfABlock) {
  const std::vector<float> expected = expected_means(s);
  for (const uint32_t n_threads : {32U, 96U}) {
    ThreadTeam::Options options;
    options.threads = n_threads;
    ThreadTeam threads(options);
    Launch<float> launch(s, c.tile, kAllShared, 2, 1);
    launch.run(&threads);
    EXPECT_TRUE(same_bits(means(launch.sums()), expected));
    EXPECT_EQ(threads.n_divergences(), 0U);
  }
  Launch<Traced> launch(s, c.tile, kAllShared, 1, 1);
  AccessLog log;
  launch.watch(&log);
  ThreadTeam::Options options;
  options.threads = 64;
  options.log = &log;
  ThreadTeam threads(options);
  launch.run(&threads);
  EXPECT_TRUE(same_bits(means(launch.sums()), expected));
  EXPECT_EQ(log.n_conflicts(), 0U) << log.report();
  EXPECT_EQ(threads.n_divergences(), 0U);
}

TEST_P(TaskProgram, BlocksOfACluster) {
  Launch<Traced> launch(s, c.tile, 0, 1, 4);
  AccessLog log;
  launch.watch(&log);
  ThreadTeam::Options options;
  options.blocks = 4;
  options.threads = 32;
  options.log = &log;
  ThreadTeam threads(options);
  launch.run(&threads);
  EXPECT_TRUE(same_bits(means(launch.sums()), expected_means(s)));
  EXPECT_EQ(log.n_conflicts(), 0U) << log.report();
  EXPECT_EQ(threads.n_divergences(), 0U);
}

TEST_P(TaskProgram, EvaluatesAsTheCpuEngine) {
  Launch<Traced> launch(s, c.tile, kAllShared, 1, 1);
  launch.score_before();  // gpu_episodes_test has the numbers.
  AccessLog log;
  launch.watch(&log);
  ThreadTeam::Options options;
  options.threads = 32;
  options.log = &log;
  ThreadTeam threads(options);
  const auto e = threads.executor();
  threads.run([&] { launch.evaluations(e, 0, 0); });
  EXPECT_EQ(log.n_conflicts(), 0U) << log.report();
  EXPECT_EQ(threads.n_divergences(), 0U);
  // The same tasks: the loss after adaptation is the meta-gradient's.
  Launch<float> other(s, c.tile, 0, 1, 1);
  other.run(ShuffledExecutor(1));
  EXPECT_TRUE(same_bits(launch.losses(), other.losses()));
  if (s.net.network.loss != LossOp::kSoftmaxCrossEntropy) return;
  for (const float n : launch.n_right()) {
    EXPECT_GE(n, 0.0F);
    EXPECT_LE(n, static_cast<float>(s.source.shape().n_query));
  }
}

// Canary: without barriers the threads' order shows, and is reported.
TEST_P(TaskProgram, MissingBarriersAreReported) {
  Launch<Traced> launch(s, c.tile, kAllShared, 1, 1);
  AccessLog log;
  launch.watch(&log);
  ThreadTeam::Options options;
  options.threads = 64;
  options.log = &log;
  options.barriers = false;
  ThreadTeam threads(options);
  threads.run([&] { launch.meta_gradients(threads.executor(), 0, 0); });
  EXPECT_GT(log.n_conflicts(), 0U);
  Launch<float> right(s, c.tile, 0, 1, 1);
  right.run(ShuffledExecutor(1));
  EXPECT_FALSE(same_bits(launch.bars(), right.bars()));
}

// Canary: a cluster whose task lay in shared memory.
TEST_P(TaskProgram, SharedMemoryOfAnotherBlockIsReported) {
  Launch<Traced> launch(s, c.tile, kAllShared, 1, 2);
  AccessLog log;
  launch.watch(&log);
  ThreadTeam::Options options;
  options.blocks = 2;
  options.threads = 32;
  options.log = &log;
  ThreadTeam threads(options);
  // Each block with the first one's memory, as if it could.
  threads.run([&] { launch.meta_gradients(threads.executor(), 0, 0); });
  EXPECT_GT(log.n_conflicts(), 0U);
  EXPECT_NE(log.report().find("shared memory of another block"),
            std::string::npos);
  // And each with its own: what the other wrote is missing.
  Launch<Traced> own(s, c.tile, kAllShared, 1, 2);
  AccessLog own_log;
  own.watch(&own_log);
  options.log = &own_log;
  ThreadTeam own_threads(options);
  const auto e = own_threads.executor();
  own_threads.run([&] { own.meta_gradients(e, 0, e.block()); });
  EXPECT_GT(own_log.n_conflicts(), 0U);
}

INSTANTIATE_TEST_SUITE_P(
    Zoo,
    TaskProgram,
    ::testing::Values(
        Case{1, RuleOp::kMetaSgd, 1, true, 0},
        Case{0, RuleOp::kSgd, 3, true, 2},
        Case{3, RuleOp::kLslr, 1, false, 3},
        Case{6, RuleOp::kMetaSgd, 3, true, 0},
        Case{6, RuleOp::kLslr, 1, true, 4},
        Case{7, RuleOp::kMetaSgd, 1, true, 0},
        Case{7, RuleOp::kSgd, 3, false, 0},
        Case{1, RuleOp::kRateNet, 3, true, 0, rate_net_options(4, true)},
        Case{1, RuleOp::kLstm, 3, true, 0, lstm_options(3)}),
    [](const auto& i) {
      return zoo()[i.param.specs].name + "_" + to_string(i.param.op) + "_" +
             std::to_string(i.param.steps) +
             (i.param.second_order ? "_second" : "_first");
    });

// ------------------------------------------------------------- canaries

struct SinusoidLike : Problem {
  SinusoidLike()
      : Problem(zoo()[1], LossOp::kMeanSquaredError, RuleOp::kMetaSgd, 1) {}
};

// Tasks summed in another order have other bits.
TEST(Reduction, OrderOfTasksMatters) {
  const SinusoidLike s;
  Launch<float> launch(s, 0, 0, 1, 1);
  launch.run(ShuffledExecutor(1));
  const std::vector<float> right = launch.sums();
  std::vector<float>& bars = launch.theta_bar();
  const size_t n = bars.size() / kTasks;
  std::rotate(
      bars.begin(), bars.begin() + static_cast<ptrdiff_t>(n), bars.end());
  launch.reduce(ShuffledExecutor(1), {0, kTasks});
  EXPECT_FALSE(same_bits(launch.sums(), right));
}

// A sum goes on from one wave to the next.
TEST(Reduction, WavesGoOn) {
  const SinusoidLike s;
  Launch<float> launch(s, 0, 0, 1, 1);
  launch.run(ShuffledExecutor(1));
  const std::vector<float> right = launch.sums();
  launch.reduce(ShuffledExecutor(2), {0, 1});
  EXPECT_FALSE(same_bits(launch.sums(), right));
}

TEST(ThreadTeam, ReportsABarrierThatNotAllComeTo) {
  ThreadTeam::Options options;
  options.threads = 4;
  ThreadTeam threads(options);
  const auto e = threads.executor();
  threads.run([&] {
    bool first = false;
    e.for_each(4, [&](uint32_t i) { first = i == 0; });
    if (first) e.barrier();
  });
  EXPECT_EQ(threads.n_divergences(), 1U);
}

TEST(ThreadTeam, RunsEveryItemOnceWithinBarriers) {
  ThreadTeam::Options options;
  options.blocks = 2;
  options.threads = 3;
  ThreadTeam threads(options);
  const auto e = threads.executor();
  std::vector<uint32_t> count(20);
  std::vector<uint32_t> blocks(20);
  uint32_t sum = 0;
  threads.run([&] {
    e.for_each(4, 5, [&](uint32_t i, uint32_t j) {
      ++count[5 * i + j];
      blocks[5 * i + j] = e.block();
    });
    e.barrier();
    e.for_each(1, [&](uint32_t) {
      for (const uint32_t c : count) sum += c;
    });
  });
  EXPECT_EQ(count, std::vector<uint32_t>(20, 1));
  EXPECT_EQ(sum, 20U);
  EXPECT_EQ(blocks[2], 0U);
  EXPECT_EQ(blocks[3], 1U);
  EXPECT_EQ(threads.n_barriers(), 2U);
}

}  // namespace
}  // namespace fewstep::testing
