// No kernel depends on the order of its items, and none lacks a barrier: whole
// networks, rules and meta-gradients under a shuffling and a checking executor,
// and proof that the checker sees races.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/host/meta_gradient.h"
#include "fewstep/ops.h"
#include "support/checking_executor.h"
#include "support/shuffled_executor.h"
#include "support/step_choices.h"
#include "support/test_network.h"
#include "support/test_rules.h"
#include "support/traced.h"

namespace fewstep::testing {
namespace {

constexpr LossOp kLosses[] = {LossOp::kSoftmaxCrossEntropy,
                              LossOp::kMeanSquaredError};
constexpr uint32_t kSupport = 6;
constexpr uint32_t kQuery = 5;

template <class T>
std::vector<T> traced(const std::vector<float>& v) {
  std::vector<T> t;
  t.reserve(v.size());
  for (const float x : v) t.push_back(constant<T>(x));
  return t;
}
std::vector<float> values(const std::vector<float>& v) { return v; }
std::vector<float> values(const std::vector<Traced>& v) {
  std::vector<float> f;
  for (const Traced& x : v) f.push_back(x.peek());
  return f;
}
std::vector<float> values(const std::vector<Dual<float>>& v) {
  std::vector<float> f;
  for (const auto& x : v) f.insert(f.end(), {x.value, x.tangent});
  return f;
}
std::vector<float> values(const std::vector<Dual<Traced>>& v) {
  std::vector<float> f;
  for (const auto& x : v) f.insert(f.end(), {x.value.peek(), x.tangent.peek()});
  return f;
}

template <class V>
void watch(AccessLog* log,
           const std::string& name,
           const std::vector<V>& v,
           bool fresh) {
  if (log != nullptr) {
    log->watch(name, v.data(), v.size() * sizeof(V), fresh);
  }
}

/// One task as float or Traced arrays.
template <class X>
struct Task {
  std::vector<X> support_x, support_targets, query_x, query_targets;
  host::Episode episode;

  explicit Task(const host::Episode& e)
      : support_x(traced<X>(e.support_x)),
        support_targets(traced<X>(e.support_targets)),
        query_x(traced<X>(e.query_x)),
        query_targets(traced<X>(e.query_targets)),
        episode(e) {}
  template <class T>
  Batch<T> support() const {
    return batch<T>(
        support_x, episode.support_labels, support_targets, kSupport);
  }
  template <class T>
  Batch<T> query() const {
    return batch<T>(query_x, episode.query_labels, query_targets, kQuery);
  }

 private:
  template <class T>
  static Batch<T> batch(const std::vector<X>& x,
                        const std::vector<uint16_t>& labels,
                        const std::vector<X>& targets,
                        uint32_t n) {
    return {x.data(),
            labels.empty() ? nullptr : labels.data(),
            targets.empty() ? nullptr : targets.data(),
            n};
  }
};

/// Gradient, loss and updated parameters in tiles, on `e`; every array the
/// kernels touch is watched.
template <class T, class E>
std::vector<float> gradient_and_update(const E& e,
                                       AccessLog* log,
                                       const TestNetwork& net,
                                       const TestRule& test_rule,
                                       uint32_t tile) {
  using X = Primal<T>;
  const Network& network = net.network;
  const Rule rule = test_rule.make(2, network);
  const Task<X> task(net.random_episode(5, kSupport, kQuery));
  std::vector<T> theta, phi;
  for (const float v : net.random_theta(3)) theta.push_back(constant<T>(v));
  for (const float v : random_phi(rule, net.network, 4))
    phi.push_back(constant<T>(v));
  if constexpr (!IsSame<T, X>::value) {
    Uniform uniform(9);
    for (T& v : theta) v.tangent = constant<X>(uniform());
  }
  std::vector<T> workspace(workspace_values(network, tile));
  std::vector<T> grad(network.n_params);
  watch(log, "theta", theta, false);
  watch(log, "phi", phi, false);
  watch(log, "workspace", workspace, true);
  watch(log, "grad", grad, true);
  watch(log, "x", task.support_x, false);
  const PlainView<T> view = {theta.data()};
  const Workspace<T> ws = {workspace.data(), tile};
  gradient(
      e, AllOps(), network, view, ws, task.template support<T>(), grad.data());
  std::vector<float> result = values(grad);
  const std::vector<T> loss = {*batch_loss(ws)};
  RuleCall<T> call = {};
  call.network = &network;
  call.rule = &rule;
  call.step = 1;
  call.loss = loss.data();
  call.grad = grad.data();
  // State in place; |v| of what adam takes the root of.
  std::vector<T> state;
  Uniform of_state(8);
  for (uint32_t i = 0; i < rule.n_state_per_param * network.n_params; ++i) {
    state.push_back(constant<T>(std::fabs(of_state())));
  }
  watch(log, "state", state, false);
  if (!state.empty()) call.state = call.next_state = state.data();
  std::vector<T> scratch(rule.n_scratch);
  watch(log, "scratch", scratch, true);
  call.scratch = scratch.data();
  update(e, AllOps(), call, view, PlainView<T>{phi.data()});
  for (const auto& more : {values(grad), values(loss), values(state)}) {
    result.insert(result.end(), more.begin(), more.end());
  }
  mean_loss(e, AllOps(), network, view, ws, task.template support<T>());
  return result;
}

/// A rule's vector-Jacobian product on `e`.
template <class T, class E>
std::vector<float> vjp(const E& e,
                       AccessLog* log,
                       const TestNetwork& net,
                       const TestRule& test_rule,
                       bool at_start) {
  const uint32_t n = net.network.n_params;
  const Rule rule = test_rule.make(2, net.network);
  Uniform uniform(6);
  std::vector<T> phi = traced<T>(random_phi(rule, net.network, 4));
  std::vector<T> grad = traced<T>(uniform.vector(n));
  std::vector<T> theta_bar = traced<T>(uniform.vector(n));
  std::vector<T> phi_bar = traced<T>(uniform.vector(rule.n_phi));
  std::vector<T> grad_bar(n);
  std::vector<T> loss_bar(1);
  const uint32_t n_state = n * rule.n_state_per_param;
  std::vector<float> positive = uniform.vector(n_state);
  for (float& v : positive) v = std::fabs(v);
  const std::vector<T> state = traced<T>(positive);
  std::vector<T> state_bar = traced<T>(uniform.vector(n_state));
  const T loss = constant<T>(0.5F);
  const std::vector<T> theta = traced<T>(uniform.vector(n));
  watch(log, "theta", theta, false);
  watch(log, "phi", phi, false);
  watch(log, "grad", grad, false);
  watch(log, "theta_bar", theta_bar, false);
  watch(log, "phi_bar", phi_bar, false);
  watch(log, "state", state, false);
  watch(log, "state_bar", state_bar, false);
  watch(log, "grad_bar", grad_bar, true);
  watch(log, "loss_bar", loss_bar, true);
  RuleVjpCall<T> c = {};
  c.network = &net.network;
  c.rule = &rule;
  c.step = at_start ? 0 : 1;
  c.loss = &loss;
  c.grad = grad.data();
  if (!at_start) c.state = state.data();
  c.theta_bar = theta_bar.data();
  c.state_bar = state_bar.data();
  std::vector<T> scratch(vjp_scratch(rule, net.network));
  watch(log, "scratch", scratch, true);
  c.scratch = scratch.data();
  c.grad_bar = grad_bar.data();
  c.loss_bar = loss_bar.data();
  c.phi_bar = phi_bar.data();
  AllOps().vjp(e, c, PlainView<T>{theta.data()}, PlainView<T>{phi.data()});
  e.barrier();
  std::vector<float> result;
  for (const auto& part : {values(theta_bar),
                           values(grad_bar),
                           values(phi_bar),
                           values(state_bar),
                           values(loss_bar)}) {
    result.insert(result.end(), part.begin(), part.end());
  }
  return result;
}

/// A second-order meta-gradient, or Reptile's difference, of two steps on `e`,
/// each on the support set or on `inner_batch` examples of it.
template <class T, class E>
std::vector<float> meta_gradient(const E& e,
                                 AccessLog* log,
                                 const TestNetwork& net,
                                 const Rule& rule,
                                 host::OuterMethod method,
                                 uint32_t inner_batch = 0) {
  const Task<T> task(net.random_episode(5, kSupport, kQuery));
  const std::vector<T> theta = traced<T>(net.random_theta(3));
  const std::vector<T> phi = traced<T>(random_phi(rule, net.network, 4));
  host::Objective objective;
  objective.steps = 2;
  objective.step_weights = {0.25F, 0.5F, 1.0F};
  objective.method = method;
  objective.inner_batch = inner_batch;
  host::MetaGradient<T> m(net.network, rule, objective, kSupport, kQuery);
  watch(log, "theta", theta, false);
  watch(log, "phi", phi, false);
  watch(log, "theta_bar", m.theta_bar(), true);
  watch(log, "phi_bar", m.phi_bar(), true);
  if (log != nullptr) {
    log->watch("workspace",
               m.workspace().values,
               workspace_values(net.network, kSupport) * sizeof(T),
               true);
    if (!m.step_arrays().empty()) {
      log->watch("step",
                 m.step_arrays().data(),
                 m.step_arrays().size() * sizeof(T),
                 true);
    }
    log->allow_host_writes();
  }
  m.run(e,
        AllOps(),
        PlainView<T>{theta.data()},
        PlainView<T>{phi.data()},
        task.template support<T>(),
        task.template query<T>());
  std::vector<float> result = values(m.theta_bar());
  const auto more = values(m.phi_bar());
  result.insert(result.end(), more.begin(), more.end());
  const auto loss = values(std::vector<T>{m.query_loss()});
  result.insert(result.end(), loss.begin(), loss.end());
  return result;
}

class Executors : public ::testing::TestWithParam<size_t> {
 protected:
  NamedSpecs specs = zoo()[GetParam()];
  bool transductive() const { return specs.name == "batch_norm"; }
};

// Runs f(executor, log) serially, shuffled and checked; the bits must agree and
// the log be clean. f is called with float, or Traced for the checker.
template <class F>
void expect_order_free(const F& f) {
  const std::vector<float> serial = f(SerialExecutor(), nullptr, 0.0F);
  for (uint32_t seed = 1; seed <= 2; ++seed) {
    EXPECT_TRUE(same_bits(f(ShuffledExecutor(seed), nullptr, 0.0F), serial));
  }
  AccessLog log;
  const std::vector<float> checked =
      f(CheckingExecutor(&log), &log, Traced(0.0F));
  EXPECT_TRUE(same_bits(checked, serial));
  EXPECT_EQ(log.n_conflicts(), 0U) << log.report();
}

TEST_P(Executors, GradientAndUpdate) {
  for (const LossOp loss : kLosses) {
    const TestNetwork net(specs.input, specs.specs, loss);
    for (const uint32_t tile : {1U, 2U, 4U, kSupport}) {
      if (transductive() && tile != kSupport) continue;
      SCOPED_TRACE(specs.name + " " + to_string(loss) + ", tile " +
                   std::to_string(tile));
      for (const TestRule& rule : kTestRules) {
        expect_order_free([&](const auto& e, AccessLog* log, const auto& x) {
          using X = std::decay_t<decltype(x)>;
          return gradient_and_update<X>(e, log, net, rule, tile);
        });
      }
      expect_order_free([&](const auto& e, AccessLog* log, const auto& x) {
        using X = std::decay_t<decltype(x)>;
        return gradient_and_update<Dual<X>>(e, log, net, kTestRules[0], tile);
      });
    }
  }
}

TEST_P(Executors, Vjp) {
  const TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
  for (const TestRule& rule : kTestRules) {
    SCOPED_TRACE(rule.name);
    expect_order_free([&](const auto& e, AccessLog* log, const auto& x) {
      return vjp<std::decay_t<decltype(x)>>(e, log, net, rule, false);
    });
    expect_order_free([&](const auto& e, AccessLog* log, const auto& x) {
      return vjp<std::decay_t<decltype(x)>>(e, log, net, rule, true);
    });
  }
}

TEST_P(Executors, MetaGradient) {
  for (const TestRule& rule : kTestRules) {
    const TestNetwork net(
        specs.input, specs.specs, LossOp::kSoftmaxCrossEntropy);
    SCOPED_TRACE(specs.name + " " + rule.name);
    expect_order_free([&](const auto& e, AccessLog* log, const auto& x) {
      return meta_gradient<std::decay_t<decltype(x)>>(
          e, log, net, rule.make(2, net.network), host::OuterMethod::kGradient);
    });
  }
}

TEST_P(Executors, MetaGradientOfMinibatches) {
  const TestNetwork net(specs.input, specs.specs, LossOp::kSoftmaxCrossEntropy);
  expect_order_free([&](const auto& e, AccessLog* log, const auto& x) {
    return meta_gradient<std::decay_t<decltype(x)>>(
        e,
        log,
        net,
        kTestRules[2].make(2, net.network),
        host::OuterMethod::kGradient,
        kSupport / 2);
  });
}

TEST_P(Executors, MetaGradientWithStepOptions) {
  for (const StepChoice& choice : kStepChoices) {
    TestNetwork net(specs.input, specs.specs, LossOp::kSoftmaxCrossEntropy);
    const Rule rule = choice.rule(&net, kTestRules[8], 2);
    SCOPED_TRACE(specs.name + " " + choice.name);
    expect_order_free([&](const auto& e, AccessLog* log, const auto& x) {
      return meta_gradient<std::decay_t<decltype(x)>>(
          e, log, net, rule, host::OuterMethod::kGradient);
    });
  }
}

TEST_P(Executors, Reptile) {
  const TestNetwork net(specs.input, specs.specs, LossOp::kSoftmaxCrossEntropy);
  expect_order_free([&](const auto& e, AccessLog* log, const auto& x) {
    return meta_gradient<std::decay_t<decltype(x)>>(
        e,
        log,
        net,
        kTestRules[0].make(2, net.network),
        host::OuterMethod::kReptile);
  });
}

// Real kernels whose barriers are ignored are reported.
TEST_P(Executors, MissingBarriersAreReported) {
  for (const LossOp loss : kLosses) {
    const TestNetwork net(specs.input, specs.specs, loss);
    AccessLog log;
    static_cast<void>(gradient_and_update<Traced>(
        CheckingExecutor(&log, false), &log, net, kTestRules[0], kSupport));
    EXPECT_GT(log.n_conflicts(), 0U);
  }
  const TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
  AccessLog log;
  static_cast<void>(meta_gradient<Traced>(CheckingExecutor(&log, false),
                                          &log,
                                          net,
                                          kTestRules[0].make(2, net.network),
                                          host::OuterMethod::kGradient));
  EXPECT_GT(log.n_conflicts(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Zoo,
                         Executors,
                         ::testing::Range<size_t>(0, zoo().size()),
                         [](const auto& i) { return zoo()[i.param].name; });

// The barrier inside the losses, by itself.
TEST(CheckingExecutor, SeesTheLossesInnerBarrier) {
  for (const bool barriers : {true, false}) {
    for (const LossOp op : kLosses) {
      std::vector<Traced> out = traced<Traced>({1, 2, 3, 4});
      const std::vector<Traced> targets = traced<Traced>({0, 0, 0, 0});
      const std::vector<uint16_t> labels = {0, 1};
      std::vector<Traced> row_loss(2);
      std::vector<Traced> loss(1);
      AccessLog log;
      watch(&log, "row_loss", row_loss, true);
      watch(&log, "out", out, false);
      watch(&log, "loss", loss, true);
      LossCall<Traced> c = {};
      c.n = 2;
      c.n_total = 2;
      c.n_out = 2;
      c.labels = labels.data();
      c.targets = targets.data();
      c.out = out.data();
      c.row_loss = row_loss.data();
      c.loss = loss.data();
      c.first = c.last = c.gradient = true;
      AllOps().loss(CheckingExecutor(&log, barriers), op, c);
      EXPECT_EQ(log.n_conflicts() == 0, barriers) << log.report();
    }
  }
}

// ------------------------------------------------------- planted faults

struct Plant {
  std::vector<Traced> a = traced<Traced>({1, 2, 3, 4});
  std::vector<Traced> fresh = std::vector<Traced>(4);
  AccessLog log;
  CheckingExecutor e{&log};
  Plant() {
    watch(&log, "a", a, false);
    watch(&log, "fresh", fresh, true);
  }
};

TEST(CheckingExecutor, AcceptsIndependentItems) {
  Plant p;
  p.e.for_each(4, [&](uint32_t i) { p.a[i] = p.a[i] + p.a[i]; });
  p.e.barrier();
  p.e.for_each(2, 2, [&](uint32_t i, uint32_t j) {
    p.fresh[2 * i + j] = p.a[3 - (2 * i + j)];
  });
  p.e.barrier();
  p.e.for_each(1, [&](uint32_t) { p.a[0] = p.fresh[1] + p.fresh[2]; });
  EXPECT_EQ(p.log.n_conflicts(), 0U) << p.log.report();
}

TEST(CheckingExecutor, ReportsTwoWriters) {
  Plant p;
  p.e.for_each(2, [&](uint32_t) { p.a[1] = Traced(5.0F); });
  EXPECT_EQ(p.log.n_conflicts(), 1U);
  EXPECT_EQ(p.log.messages()[0], "a[1]: written by two items");
}

TEST(CheckingExecutor, ReportsASharedSum) {
  Plant p;
  p.e.for_each(
      2, 2, [&](uint32_t i, uint32_t j) { p.a[0] = p.a[0] + p.a[2 * i + j]; });
  EXPECT_GT(p.log.n_conflicts(), 0U);
}

TEST(CheckingExecutor, ReportsANeighbourReadInEitherOrder) {
  for (const bool above : {false, true}) {
    Plant p;
    p.e.for_each(4, [&](uint32_t i) {
      const uint32_t other = above ? (i + 1 < 4 ? i + 1 : i) : (i ? i - 1 : i);
      p.a[i] = p.a[other];
    });
    EXPECT_EQ(p.log.n_conflicts(), 3U) << p.log.report();
  }
}

TEST(CheckingExecutor, ReportsAMissingBarrier) {
  Plant p;
  p.e.for_each(4, [&](uint32_t i) { p.fresh[i] = p.a[i]; });
  p.e.for_each(4, [&](uint32_t i) { p.a[i] = p.fresh[i]; });
  // Each a[i] and each fresh[i].
  EXPECT_EQ(p.log.n_conflicts(), 8U) << p.log.report();
}

TEST(CheckingExecutor, ReportsAReadOfWhatWasNeverWritten) {
  Plant p;
  p.e.for_each(1, [&](uint32_t) { p.a[0] = p.fresh[2]; });
  EXPECT_EQ(p.log.n_conflicts(), 1U);
  EXPECT_EQ(p.log.messages()[0], "fresh[2]: read before any write");
}

TEST(CheckingExecutor, ReportsAccessOutsideItems) {
  Plant p;
  p.a[0] = Traced(1.0F);
  EXPECT_EQ(p.log.n_conflicts(), 1U);
  p.e.for_each(1, [&](uint32_t) { p.a[1] = Traced(1.0F); });
  static_cast<void>(p.a[1] + p.a[1]);
  EXPECT_GT(p.log.n_conflicts(), 1U);
}

TEST(CheckingExecutor, ReportsThroughDuals) {
  std::vector<Dual<Traced>> d(2, constant<Dual<Traced>>(1.0F));
  AccessLog log;
  watch(&log, "d", d, false);
  const CheckingExecutor e(&log);
  e.for_each(2, [&](uint32_t) { d[1] = d[0] * d[0]; });
  EXPECT_EQ(log.n_conflicts(), 2U) << log.report();
}

}  // namespace
}  // namespace fewstep::testing
