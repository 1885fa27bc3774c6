// Training on the GPU engine, on devices that compute on the host: the outer
// step on one and on several GPUs gives the CPU engine's bits, and nothing goes
// between host and device that need not.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "fewstep/host/error.h"
#include "fewstep/host/rule_values.h"
#include "support/checking_executor.h"
#include "support/gpu_engine_on_host.h"
#include "support/shuffled_executor.h"
#include "support/thread_team.h"
#include "support/traced.h"

namespace fewstep::testing {
namespace {

using host::OuterOptimizer;
using host::OuterState;
using host::Recipe;
using host::Split;

// ---------------------------------------------------------- the outer step

struct OuterCase {
  const char* name;
  TestRule rule;
  OuterOptimizer optimizer;
  double clip = 0.0;
  double decay = 0.0;
  double rule_rate = 0.01;
  bool learn_rate = true;
  bool learn_beta = false;
  host::Schedule schedule = host::Schedule::kConstant;
  int64_t annealing = 0;  // Of the order and of the steps' weights.
  size_t network = 6;     // Of zoo().
  bool masked = false;    // By logits with an outer rate of their own.
};
constexpr size_t kContextNetwork = 8;
void PrintTo(const OuterCase& c, std::ostream* os) { *os << c.name; }

const OuterCase kOuterCases[] = {
    {"adam", {"meta_sgd", RuleOp::kMetaSgd}, OuterOptimizer::kAdam},
    {"sgd_clip", {"lslr", RuleOp::kLslr}, OuterOptimizer::kSgd, 0.01},
    {"all",
     {"meta_sgd", RuleOp::kMetaSgd},
     OuterOptimizer::kAdam,
     0.02,
     0.3,
     0.003,
     true,
     false,
     host::Schedule::kCosine},
    {"phi_fixed",
     {"sgd", RuleOp::kSgd},
     OuterOptimizer::kAdam,
     0.02,
     0.0,
     0.01,
     false},
    // A rate so high that gains come to both ends of their range.
    {"gains", kStateRules[4], OuterOptimizer::kAdam, 0.0, 0.0, 0.7, true, true},
    {"gains_fixed",
     kStateRules[1],
     OuterOptimizer::kSgd,
     0.0,
     0.1,
     0.01,
     true,
     false},
    {"gains_alone",
     kStateRules[0],
     OuterOptimizer::kAdam,
     0.05,
     0.0,
     0.01,
     false,
     true},
    {"schedules",
     {"lslr", RuleOp::kLslr},
     OuterOptimizer::kAdam,
     0.0,
     0.0,
     0.01,
     true,
     false,
     host::Schedule::kCosine,
     3},
    {"contexts",
     {"meta_sgd", RuleOp::kMetaSgd},
     OuterOptimizer::kAdam,
     0.02,
     0.0,
     0.01,
     true,
     false,
     host::Schedule::kConstant,
     0,
     kContextNetwork},
    {"mask",
     {"sgd", RuleOp::kSgd},
     OuterOptimizer::kAdam,
     0.02,
     0.0,
     0.01,
     false,
     false,
     host::Schedule::kConstant,
     0,
     6,
     true},
    {"online",
     {"online_meta_sgd", RuleOp::kOnlineMetaSgd, online_options()},
     OuterOptimizer::kSgd,
     0.0,
     0.0,
     0.01,
     true,
     true},
};

constexpr int kTasks = 5;
constexpr int kIterations = 6;

Recipe recipe_of(const OuterCase& c, const Problem& s) {
  Recipe r;
  r.inner.rule = s.rule.op;
  r.inner.steps = static_cast<int>(s.objective.steps);
  r.inner.learn_rate = c.learn_rate;
  r.inner.learn_beta = c.learn_beta;
  if (c.masked) r.inner.adapt = host::Adapt::kSparse;
  r.outer.optimizer = c.optimizer;
  r.outer.rate = 0.01;
  r.outer.rule_rate = c.rule_rate;
  r.outer.mask_rate = 0.05;
  r.outer.min_rate = 0.001;
  r.outer.schedule = c.schedule;
  r.outer.clip_norm = c.clip;
  r.outer.weight_decay = c.decay;
  r.outer.order_annealing = c.annealing;
  r.outer.multi_step_iterations = c.annealing;
  r.outer.tasks = kTasks;
  r.outer.iterations = kIterations;
  return r;
}
Problem problem_of(const OuterCase& c) {
  const StepChoice choice = {
      c.name, c.masked ? StepChoice::kSparse : StepChoice::kAll, 0.0F, 0.0F};
  return {zoo()[c.network], LossOp::kSoftmaxCrossEntropy, c.rule, choice};
}

class OuterStepOnGpu : public ::testing::TestWithParam<OuterCase> {
 protected:
  const OuterCase c = GetParam();
  Problem s = problem_of(c);
  const Recipe recipe = recipe_of(c, s);
};

TEST_P(OuterStepOnGpu, LearnsWhatTheCpuEngineLearns) {
  scheduled_objective(recipe, 0, &s.objective);
  for (const uint32_t n_gpus : {1U, 2U, 3U, 9U}) {
    SCOPED_TRACE(n_gpus);
    const auto cpu = s.engine(1);
    HostDeviceLog log;
    const ShuffledExecutor executor(n_gpus);
    const auto gpu = engine_on(&log, executor, s.config(1), kTasks, n_gpus);
    const auto a = cpu->start(recipe, first_state(s));
    const auto b = gpu->start(recipe, first_state(s));
    for (int i = 0; i < kIterations; ++i) {
      const host::MetaStep x = a->iterate();
      const host::MetaStep y = b->iterate();
      EXPECT_EQ(x.query_loss, y.query_loss);
      EXPECT_EQ(x.support_loss, y.support_loss);
      EXPECT_EQ(x.n_dropped, y.n_dropped);
      EXPECT_EQ(a->iteration(), b->iteration());
      if (i == 1) {  // Validation.
        expect_same_scores(a->evaluate(Split::kValidation, 2 * kTasks + 1),
                           b->evaluate(Split::kValidation, 2 * kTasks + 1));
      }
      if (i == 2) expect_same_state(b->state(), a->state());  // Checkpoint.
      if (i == 3) {  // Somebody else's parameters come and go.
        static_cast<void>(by_engine(s, gpu.get(), 0, kTasks));
      }
    }
    expect_same_state(b->state(), a->state());
    EXPECT_FALSE(same_bits(b->state().theta, s.theta));
    EXPECT_EQ(same_bits(b->state().phi, s.phi),
              !host::learns_phi(recipe.inner));
  }
}

// From a checkpoint, moments and all.
TEST_P(OuterStepOnGpu, GoesOnWhereAnotherLoopStopped) {
  scheduled_objective(recipe, 0, &s.objective);
  const auto cpu = s.engine(1);
  const auto a = cpu->start(recipe, first_state(s));
  for (int i = 0; i < 3; ++i) static_cast<void>(a->iterate());
  HostDeviceLog log;
  const auto gpu = engine_on(&log, kOneThread, s.config(1), kTasks, 2);
  const auto b = gpu->start(recipe, a->state());
  for (int i = 3; i < kIterations; ++i) {
    static_cast<void>(a->iterate());
    static_cast<void>(b->iterate());
  }
  expect_same_state(b->state(), a->state());
}

INSTANTIATE_TEST_SUITE_P(Cases,
                         OuterStepOnGpu,
                         ::testing::ValuesIn(kOuterCases),
                         [](const auto& i) {
                           return std::string(i.param.name);
                         });

// What the cases are for does happen in them: clipping changes the result,
// gains stand at both ends of their range, contexts stay, and logits have a
// rate of their own.
TEST(OuterStepOnGpu, CasesAreNotIdle) {
  const auto learned = [](const OuterCase& c) {
    const Problem s = problem_of(c);
    const Recipe recipe = recipe_of(c, s);
    const auto cpu = s.engine(1);
    const auto loop = cpu->start(recipe, first_state(s));
    for (int i = 0; i < kIterations; ++i) static_cast<void>(loop->iterate());
    return loop->state();
  };
  for (const OuterCase& c : kOuterCases) {
    if (c.clip == 0.0) continue;
    OuterCase loose = c;
    loose.clip = 0.0;
    EXPECT_FALSE(same_bits(learned(c).theta, learned(loose).theta)) << c.name;
  }
  const OuterState state = learned(kOuterCases[4]);
  const std::multiset<float> values(state.phi.begin(), state.phi.end());
  EXPECT_GT(values.count(host::kMinGain) + values.count(1.0F), 0U);

  for (const OuterCase& c : kOuterCases) {
    const Problem s = problem_of(c);
    const OuterState end = learned(c);
    for (const Layer& l : s.net.layers) {
      if (l.op != LayerOp::kContext) continue;
      EXPECT_TRUE(std::equal(&end.theta[l.param_offset],
                             &end.theta[l.param_offset + l.n_weights],
                             &s.theta[l.param_offset]));
    }
    if (!c.masked) continue;
    EXPECT_EQ(end.phi[0], s.phi[0]) << "the rate is not learned";
    EXPECT_FALSE(same_bits(end.phi, s.phi));
  }
}

// The tasks that are left out are not in the mean; and where all are, the mean
// is 0 and Adam's step that of its moments.
TEST(OuterStepOnDevice, LeavesOutWhatTheCpuEngineLeavesOut) {
  for (const std::set<uint32_t>& overflowing :
       {std::set<uint32_t>{2}, {0, 4}, {0, 1, 2, 3, 4}}) {
    for (const uint32_t n_gpus : {1U, 3U}) {
      Problem s(zoo()[1], LossOp::kMeanSquaredError, RuleOp::kMetaSgd, 2);
      s.source.overflowing = overflowing;
      const Recipe recipe = recipe_of(kOuterCases[2], s);
      HostDeviceLog log;
      const auto cpu = s.engine(1);
      const auto gpu = engine_on(&log, kOneThread, s.config(1), kTasks, n_gpus);
      const auto a = cpu->start(recipe, first_state(s));
      const auto b = gpu->start(recipe, first_state(s));
      for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(a->iterate().n_dropped, overflowing.size());
        EXPECT_EQ(b->iterate().n_dropped, overflowing.size());
      }
      expect_same_state(b->state(), a->state());
    }
  }
}

// Of an iteration, losses and flags come to the host and nothing else; one
// graph is all that is started.
TEST(OuterStepOnDevice, KeepsWhatIsLearnedThere) {
  const Problem s(zoo()[6], LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 2);
  const Recipe recipe = recipe_of(kOuterCases[0], s);
  HostDeviceLog log;
  const auto gpu = engine_on(&log, kOneThread, s.config(1), kTasks, 1);
  const auto loop = gpu->start(recipe, first_state(s));
  static_cast<void>(loop->iterate());
  static_cast<void>(loop->iterate());
  EXPECT_EQ(log.n_recorded, 2U);  // One a buffer of episodes.
  const uint64_t uploaded = log.uploaded;
  const uint64_t downloaded = log.downloaded;
  static_cast<void>(loop->iterate());
  EXPECT_EQ(log.n_recorded, 2U);
  EXPECT_EQ(log.downloaded - downloaded, 3 * kTasks * sizeof(float));
  const host::EpisodeShape& shape = s.source.shape();
  const uint64_t episodes = kTasks *
                            (uint64_t{shape.n_support} + shape.n_query) *
                            (shape.n_in * sizeof(float) + sizeof(uint16_t));
  EXPECT_EQ(log.uploaded - uploaded, episodes + host::input_bytes(2));
  // Asked for twice, it comes once.
  static_cast<void>(loop->state());
  const uint64_t then = log.downloaded;
  static_cast<void>(loop->state());
  EXPECT_EQ(log.downloaded, then);
}

// ------------------------------------------------- threads of the outer step

/// The arrays of an outer step on random sums.
template <class T>
struct StepArrays {
  static constexpr uint32_t kTheta = 77;
  static constexpr uint32_t kPhi = 20;
  static constexpr uint32_t kAll = kTheta + kPhi;

  host::OuterStep step = {};
  std::vector<T> sum, learned, moments, norm;
  host::OuterArrays<T> a = {};

  StepArrays() {
    std::mt19937 random(3);
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    const auto fill = [&](std::vector<T>* v, uint32_t n, float lo) {
      v->reserve(n);
      for (uint32_t i = 0; i < n; ++i) {
        v->push_back(constant<T>(std::max(lo, uniform(random))));
      }
    };
    fill(&sum, kAll, -1.0F);
    sum.push_back(constant<T>(3.0F));
    fill(&learned, kAll, -1.0F);
    fill(&moments, 2 * kAll, 0.0F);
    norm.resize(host::kNormValues);
    step = {true,
            0.1F,
            0.01F,
            0.3F,
            0.7F,
            0.002F,
            0.9F,
            0.99F,
            1e-8F,
            0.271F,
            0.0297F};
    a = {&step,
         {12, 15, 18, true, true, true, 0.1F},
         nullptr,
         0,
         kTheta,
         kAll,
         sum.data(),
         sum.data() + kAll,
         learned.data(),
         moments.data(),
         moments.data() + kAll,
         norm.data()};
  }
  void watch(AccessLog* log) const {
    log->watch("sum", sum.data(), sum.size() * sizeof(T), false);
    log->watch("learned", learned.data(), learned.size() * sizeof(T), false);
    log->watch("moments", moments.data(), moments.size() * sizeof(T), false);
    log->watch("norm", norm.data(), norm.size() * sizeof(T), true);
  }
  std::vector<float> result() const {
    std::vector<float> values;
    for (const std::vector<T>* v : {&learned, &moments}) {
      for (const T& x : *v) values.push_back(value_of(x));
    }
    return values;
  }
  static float value_of(float x) { return x; }
  static float value_of(const Traced& x) { return x.peek(); }
};

TEST(OuterProgram, NoThreadRacesWithAnother) {
  StepArrays<float> expected;
  host::prepare_outer_step(kOneThread, expected.a);
  host::take_outer_step(kOneThread, expected.a);
  for (const uint32_t n_threads : {32U, 64U, 5U}) {
    StepArrays<Traced> arrays;
    AccessLog log;
    arrays.watch(&log);
    ThreadTeam::Options options;
    options.threads = n_threads;
    options.log = &log;
    ThreadTeam threads(options);
    const auto e = threads.executor();
    threads.run([&] { host::prepare_outer_step(e, arrays.a); });
    threads.run([&] { host::take_outer_step(e, arrays.a); });
    EXPECT_TRUE(same_bits(arrays.result(), expected.result()));
    EXPECT_EQ(log.n_conflicts(), 0U) << log.report();
    EXPECT_EQ(threads.n_divergences(), 0U);
  }
}

// Canary: the partial sums are read before they are there.
TEST(OuterProgram, MissingBarriersAreReported) {
  StepArrays<Traced> arrays;
  AccessLog log;
  arrays.watch(&log);
  ThreadTeam::Options options;
  options.log = &log;
  options.barriers = false;
  ThreadTeam threads(options);
  threads.run([&] { host::prepare_outer_step(threads.executor(), arrays.a); });
  EXPECT_GT(log.n_conflicts(), 0U);
}

// -------------------------------------------------------------- several GPUs

TEST(SeveralGpus, EqualTheCpuEngine) {
  for (const size_t specs : {size_t{1}, size_t{6}, size_t{7}}) {
    Problem s(zoo()[specs], LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 2);
    s.source.overflowing = {3};
    const auto cpu = s.engine(1);
    for (const uint32_t n_gpus : {2U, 3U, 7U}) {
      HostDeviceLog log;
      const ShuffledExecutor executor(n_gpus);
      const auto gpu = engine_on(&log, executor, s.config(1), 6, n_gpus);
      EXPECT_EQ(log.n_devices, std::min(n_gpus, 6U));
      for (const uint32_t n_tasks : {6U, 1U, 4U, 5U}) {
        SCOPED_TRACE(zoo()[specs].name + ", GPUs " + std::to_string(n_gpus) +
                     ", tasks " + std::to_string(n_tasks));
        expect_same(by_engine(s, gpu.get(), n_tasks, n_tasks),
                    by_engine(s, cpu.get(), n_tasks, n_tasks));
      }
      for (const uint32_t n_tasks : {1U, 6U, 20U}) {
        expect_same_scores(
            gpu->evaluate(
                s.theta.data(), s.phi.data(), Split::kValidation, n_tasks),
            cpu->evaluate(
                s.theta.data(), s.phi.data(), Split::kValidation, n_tasks));
      }
    }
  }
}

// Each GPU with memory for one task at a time.
TEST(SeveralGpus, EqualTheCpuEngineInWaves) {
  const Problem s(zoo()[6], LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 2);
  constexpr uint32_t n_tasks = 11;
  for (const uint32_t n_gpus : {2U, 3U}) {
    HostDeviceLog log;
    const uint32_t share = (n_tasks + n_gpus - 1) / n_gpus;
    const auto plan = [&] {
      return host::plan_cuda(s.net.network,
                             s.rule,
                             s.objective,
                             s.source.shape(),
                             share,
                             log.limits);
    };
    log.limits = gpu_with(kPlenty);
    const host::CudaPlan all = plan();
    log.limits =
        gpu_with(all.bytes.episodes + all.bytes.other +
                 all.bytes.scratch / all.teams + all.bytes.bars / all.wave);
    ASSERT_LT(plan().wave, share);
    const auto gpu = engine_on(&log, kOneThread, s.config(1), n_tasks, n_gpus);
    expect_same(by_engine(s, gpu.get(), 5, n_tasks),
                by_engine(s, s.engine(1).get(), 5, n_tasks));
  }
}

// Between GPUs go the sums of each but the last, and the parameters to each but
// the one that took the step.
TEST(SeveralGpus, CopySumsAndParameters) {
  const Problem s(zoo()[6], LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 2);
  const Recipe recipe = recipe_of(kOuterCases[0], s);
  HostDeviceLog log;
  const auto gpu = engine_on(&log, kOneThread, s.config(1), kTasks, 3);
  const auto loop = gpu->start(recipe, first_state(s));
  static_cast<void>(loop->iterate());
  const uint64_t n = s.theta.size() + s.phi.size();
  EXPECT_EQ(log.copied, 2 * (n + 1 + n) * sizeof(float));
}

// Canary: a copy that does not wait for the other GPU's sums.
TEST(SeveralGpus, CopiesHaveToWait) {
  const Problem s(zoo()[6], LossOp::kSoftmaxCrossEntropy, RuleOp::kMetaSgd, 2);
  const auto cpu = s.engine(1);
  HostDeviceLog log;
  log.copies_wait = false;
  const auto gpu = engine_on(&log, kOneThread, s.config(1), 6, 3);
  uint32_t n_wrong = 0;
  for (uint64_t i = 0; i < 20; ++i) {
    const Result a = by_engine(s, gpu.get(), i, 6);
    const Result b = by_engine(s, cpu.get(), i, 6);
    if (!same_bits(a.d_theta, b.d_theta)) ++n_wrong;
  }
  EXPECT_GT(n_wrong, 0U);
}

TEST(SeveralGpus, HandOnTheFailureOfOne) {
  const Problem s(zoo()[0], LossOp::kMeanSquaredError, RuleOp::kSgd, 1);
  HostDeviceLog log;
  log.fail_after = 4;
  const auto gpu = engine_on(&log, kOneThread, s.config(1), 6, 3);
  static_cast<void>(by_engine(s, gpu.get(), 0, 6));
  EXPECT_THROW(by_engine(s, gpu.get(), 1, 6), host::Error);
}

}  // namespace
}  // namespace fewstep::testing
