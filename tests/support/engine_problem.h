// Problems to run engines with, and what they give.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_ENGINE_PROBLEM_H_
#define FEWSTEP_TESTS_SUPPORT_ENGINE_PROBLEM_H_

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <vector>

#include "fewstep/host/engine.h"
#include "support/step_choices.h"
#include "support/test_network.h"
#include "support/test_rules.h"

namespace fewstep::testing {

/// Random episodes, some of which overflow.
class RandomEpisodes : public host::TaskSource {
 public:
  RandomEpisodes(const TestNetwork& net, uint32_t n_support, uint32_t n_query)
      : net_(net), shape_(net.episode_shape(n_support, n_query)) {}
  const host::EpisodeShape& shape() const override { return shape_; }
  host::InputShape input_shape() const override {
    return {net_.network.in_c, net_.network.in_h, net_.network.in_w};
  }
  void sample(host::Split split,
              uint64_t seed,
              uint64_t iteration,
              uint32_t task,
              host::Episode* out) const override {
    *out = net_.random_episode(
        static_cast<uint32_t>(seed * 1000003 + iteration * 1009 + task * 7 +
                              static_cast<uint64_t>(split)),
        shape_.n_support,
        shape_.n_query);
    if (overflowing.count(task) != 0) {
      for (float& x : out->support_x) x = 3e38F;
    }
  }
  std::set<uint32_t> overflowing;

 private:
  const TestNetwork& net_;
  host::EpisodeShape shape_;
};

/// A network, a rule and parameters to run engines with.
struct Problem {
  TestNetwork net;
  Rule rule;
  RandomEpisodes source;
  host::Objective objective;
  std::vector<float> theta, phi;

  Problem(const NamedSpecs& specs,
          LossOp loss,
          const TestRule& test_rule,
          uint32_t steps,
          uint32_t n_support = 5,
          uint32_t n_query = 7)
      : net(specs.input, specs.specs, loss),
        rule(test_rule.make(steps, net.network)),
        source(net, n_support, n_query),
        theta(net.random_theta(1)),
        phi(random_phi(rule, net.network, 2)) {
    objective.steps = steps;
  }
  /// Of which part adapts, with weight decay and clipping.
  Problem(const NamedSpecs& specs,
          LossOp loss,
          const TestRule& test_rule,
          const StepChoice& c)
      : net(specs.input, specs.specs, loss),
        rule(c.rule(&net, test_rule, 2)),
        source(net, 5, 7),
        theta(net.random_theta(1)),
        phi(random_phi(rule, net.network, 2)) {
    objective.steps = 2;
  }
  Problem(const NamedSpecs& specs,
          LossOp loss,
          RuleOp op,
          uint32_t steps,
          uint32_t n_support = 5,
          uint32_t n_query = 7)
      : Problem(specs,
                loss,
                TestRule{to_string(op), op},
                steps,
                n_support,
                n_query) {}

  host::EngineConfig config(
      uint32_t n_threads,
      host::LaneLayout layout = host::LaneLayout::kTasks) const {
    return {&net.network, &rule, objective, &source, 11, n_threads, layout, 1};
  }
  std::unique_ptr<host::Engine> engine(
      uint32_t n_threads,
      host::LaneLayout layout = host::LaneLayout::kTasks) const {
    return host::make_cpu_engine(config(n_threads, layout));
  }
};

struct Result {
  host::MetaStep step{};
  std::vector<float> d_theta, d_phi;
};

inline Result by_engine(const Problem& s,
                        host::Engine* engine,
                        uint64_t iteration,
                        uint32_t n_tasks) {
  Result r;
  // Not zero: the engine must overwrite.
  r.d_theta.assign(s.theta.size(), 77.0F);
  r.d_phi.assign(s.phi.size(), 77.0F);
  r.step = engine->meta_gradient(s.theta.data(),
                                 s.phi.data(),
                                 iteration,
                                 n_tasks,
                                 r.d_theta.data(),
                                 r.d_phi.data());
  return r;
}

inline void expect_same(const Result& a, const Result& b) {
  EXPECT_TRUE(same_bits(a.d_theta, b.d_theta)) << "d_theta";
  EXPECT_TRUE(same_bits(a.d_phi, b.d_phi)) << "d_phi";
  EXPECT_EQ(a.step.query_loss, b.step.query_loss);
  EXPECT_EQ(a.step.support_loss, b.step.support_loss);
  EXPECT_EQ(a.step.n_dropped, b.step.n_dropped);
}

// The objectives of a training with both annealings, and Reptile.
inline std::vector<host::Objective> objectives(uint32_t steps) {
  host::Objective first;
  first.steps = steps;
  first.second_order = false;
  host::Objective weighted = first;
  weighted.step_weights.assign(steps + 1, 0.25F);
  host::Objective second = weighted;
  second.second_order = true;
  host::Objective last = second;
  last.step_weights.clear();
  host::Objective reptile = first;
  reptile.method = host::OuterMethod::kReptile;
  return {first, weighted, second, last, reptile, second, first};
}

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_ENGINE_PROBLEM_H_
