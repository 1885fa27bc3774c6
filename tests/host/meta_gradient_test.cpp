// The meta-gradient against closed forms and against the complex-step
// derivative of the reference network's whole adaptation.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <complex>
#include <string>
#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/host/meta_gradient.h"
#include "fewstep/ops.h"
#include "support/step_choices.h"
#include "support/test_network.h"

namespace fewstep::testing {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;
using host::MetaGradient;
using host::Objective;

constexpr RuleOp kRules[] = {RuleOp::kSgd, RuleOp::kLslr, RuleOp::kMetaSgd};

/// A task at double.
struct Task {
  std::vector<double> sx, sy, qx, qy;
  host::Episode episode;
  uint32_t n_support, n_query;

  Task(const host::Episode& e, uint32_t n_s, uint32_t n_q)
      : sx(e.support_x.begin(), e.support_x.end()),
        sy(e.support_targets.begin(), e.support_targets.end()),
        qx(e.query_x.begin(), e.query_x.end()),
        qy(e.query_targets.begin(), e.query_targets.end()),
        episode(e),
        n_support(n_s),
        n_query(n_q) {}
  Batch<double> support() const {
    return {sx.data(),
            sy.empty() ? episode.support_labels.data() : nullptr,
            sy.empty() ? nullptr : sy.data(),
            n_support};
  }
  Batch<double> query() const {
    return {qx.data(),
            qy.empty() ? episode.query_labels.data() : nullptr,
            qy.empty() ? nullptr : qy.data(),
            n_query};
  }
};

/// d/d theta_0, then d/d phi.
VectorXd sweep(const TestNetwork& net,
               const Rule& rule,
               const Objective& objective,
               const Task& task,
               const VectorXd& theta,
               const VectorXd& phi,
               uint32_t support_tile,
               uint32_t query_tile,
               double* loss = nullptr) {
  MetaGradient<double> m(
      net.network, rule, objective, support_tile, query_tile);
  m.run(SerialExecutor(),
        AllOps(),
        PlainView<double>{theta.data()},
        PlainView<double>{phi.data()},
        task.support(),
        task.query());
  VectorXd g(theta.size() + phi.size());
  for (size_t i = 0; i < m.theta_bar().size(); ++i) {
    g[static_cast<Eigen::Index>(i)] = m.theta_bar()[i];
  }
  for (size_t i = 0; i < m.phi_bar().size(); ++i) {
    g[theta.size() + static_cast<Eigen::Index>(i)] = m.phi_bar()[i];
  }
  if (loss != nullptr) *loss = m.query_loss();
  return g;
}

constexpr size_t kNoRate = ~size_t{0};

/// Parameter i's rate at step k as an index into phi (DESIGN section 6), or
/// kNoRate when it is frozen.
std::vector<size_t> rate_index(const TestNetwork& net,
                               const Rule& rule,
                               uint32_t k) {
  std::vector<size_t> index;
  size_t tensor = 0;
  size_t parameter = 0;
  for (size_t layer = 0; layer < net.layers.size(); ++layer) {
    const Layer& l = net.layers[layer];
    if (!net.adapted.empty() && net.adapted[layer] == kFrozen) {
      index.insert(index.end(), l.n_params(), kNoRate);
      continue;
    }
    if (l.n_params() == 0) continue;
    for (const uint32_t n : {l.n_weights, l.n_biases}) {
      for (uint32_t i = 0; i < n; ++i) {
        if (rule.op == RuleOp::kSgd) index.push_back(0);
        if (rule.op == RuleOp::kLslr) index.push_back(tensor * rule.steps + k);
        if (rule.op == RuleOp::kMetaSgd) index.push_back(parameter);
        ++parameter;
      }
      ++tensor;
    }
  }
  return index;
}

// ---------------------------------------------------------- closed forms
//
// A linear model with mean squared error is quadratic in theta: with A the rows
// [x, 1] and b the targets, L = |A theta - b|^2 / n, g = 2 A'(A theta - b) / n
// and H = 2 A'A / n is constant, so
//
//   theta_{k+1} = theta_k - D_k g(theta_k),       D_k = diag(rates)
//   d L_Q / d theta_0 = (I - H D_0) ... (I - H D_{K-1}) g_Q(theta_K)
//   d L_Q / d rate_i^k = -g_k[i] lambda_{k+1}[i]
//
// with every matrix written out.

struct Quadratic {
  MatrixXd a, h;
  VectorXd b;
  Quadratic(const std::vector<double>& x, const std::vector<double>& y) {
    const auto n = static_cast<Eigen::Index>(y.size());
    const auto n_in = static_cast<Eigen::Index>(x.size()) / n;
    a = MatrixXd::Ones(n, n_in + 1);
    b = VectorXd(n);
    for (Eigen::Index e = 0; e < n; ++e) {
      for (Eigen::Index i = 0; i < n_in; ++i) {
        a(e, i) = x[static_cast<size_t>(e * n_in + i)];
      }
      b[e] = y[static_cast<size_t>(e)];
    }
    h = 2.0 * a.transpose() * a / static_cast<double>(n);
  }
  VectorXd gradient(const VectorXd& theta) const {
    return 2.0 * a.transpose() * (a * theta - b) /
           static_cast<double>(b.size());
  }
};

TEST(MetaGradient, QuadraticTasksMatchTheClosedForm) {
  const TestNetwork net(
      {4, 1, 1}, {reference::dense(1)}, LossOp::kMeanSquaredError);
  const Task task(net.random_episode(1, 7, 5), 7, 5);
  const Quadratic support(task.sx, task.sy);
  const Quadratic query(task.qx, task.qy);
  for (const RuleOp op : kRules) {
    for (uint32_t steps = 1; steps <= 4; ++steps) {
      for (const bool second_order : {true, false}) {
        SCOPED_TRACE(std::string(to_string(op)) + " " + std::to_string(steps));
        const Rule rule =
            make_rule(op, static_cast<uint16_t>(steps), net.network);
        const VectorXd theta = reference_vector<double>(net.random_theta(2));
        const VectorXd phi =
            reference_vector<double>(random_phi(rule, net.network, 3));
        std::vector<VectorXd> path = {theta};
        std::vector<VectorXd> rates, grads;
        for (uint32_t k = 0; k < steps; ++k) {
          VectorXd rate(theta.size());
          const auto index = rate_index(net, rule, k);
          for (Eigen::Index i = 0; i < rate.size(); ++i) {
            rate[i] =
                phi[static_cast<Eigen::Index>(index[static_cast<size_t>(i)])];
          }
          rates.push_back(rate);
          grads.push_back(support.gradient(path.back()));
          path.push_back(path.back() - rate.cwiseProduct(grads.back()));
        }
        VectorXd lambda = query.gradient(path.back());
        VectorXd d_phi = VectorXd::Zero(phi.size());
        const MatrixXd identity =
            MatrixXd::Identity(theta.size(), theta.size());
        for (uint32_t k = steps; k-- > 0;) {
          const auto index = rate_index(net, rule, k);
          for (Eigen::Index i = 0; i < lambda.size(); ++i) {
            d_phi[static_cast<Eigen::Index>(index[static_cast<size_t>(i)])] -=
                grads[k][i] * lambda[i];
          }
          if (second_order) {
            const MatrixXd step =
                identity - support.h * MatrixXd(rates[k].asDiagonal());
            lambda = (step * lambda).eval();
          }
        }
        Objective objective;
        objective.steps = steps;
        objective.second_order = second_order;
        double loss = 0.0;
        const VectorXd g =
            sweep(net, rule, objective, task, theta, phi, 7, 5, &loss);
        EXPECT_LE((g.head(theta.size()) - lambda).norm(),
                  1e-13 * lambda.norm());
        EXPECT_LE((g.tail(phi.size()) - d_phi).norm(), 1e-13 * d_phi.norm());
        EXPECT_NEAR(
            loss, (query.a * path.back() - query.b).squaredNorm() / 5.0, 1e-13);
      }
    }
  }
}

// Reptile on the same: with rate a, theta_K - theta* = (I - a H)^K
// (theta_0 - theta*), so theta_0 - theta_K = (I - (I - a H)^K) (theta_0 -
// theta*) whatever the query set; the reported loss is the query set's.
TEST(MetaGradient, ReptileOnQuadraticTasksMatchesTheClosedForm) {
  const TestNetwork net(
      {4, 1, 1}, {reference::dense(1)}, LossOp::kMeanSquaredError);
  const Task task(net.random_episode(1, 7, 5), 7, 5);
  const Quadratic support(task.sx, task.sy);
  const Quadratic query(task.qx, task.qy);
  const VectorXd optimum =
      support.h.ldlt().solve(2.0 / 7.0 * support.a.transpose() * support.b);
  for (uint32_t steps = 1; steps <= 6; ++steps) {
    SCOPED_TRACE(steps);
    const Rule rule =
        make_rule(RuleOp::kSgd, static_cast<uint16_t>(steps), net.network);
    const VectorXd theta = reference_vector<double>(net.random_theta(2));
    const VectorXd phi = VectorXd::Constant(1, 0.125);
    const MatrixXd identity = MatrixXd::Identity(theta.size(), theta.size());
    MatrixXd contraction = identity;
    for (uint32_t k = 0; k < steps; ++k) {
      contraction = (contraction * (identity - 0.125 * support.h)).eval();
    }
    const VectorXd expected = (identity - contraction) * (theta - optimum);
    Objective objective;
    objective.steps = steps;
    objective.method = host::OuterMethod::kReptile;
    double loss = 0.0;
    const VectorXd g =
        sweep(net, rule, objective, task, theta, phi, 7, 5, &loss);
    EXPECT_LE((g.head(theta.size()) - expected).norm(),
              1e-13 * expected.norm());
    EXPECT_EQ(g.tail(phi.size()).norm(), 0.0);
    const VectorXd after = theta - expected;
    EXPECT_NEAR(loss, (query.a * after - query.b).squaredNorm() / 5.0, 1e-13);
    // The query set moves nothing.
    Task other = task;
    for (double& y : other.qy) y += 1.0;
    const VectorXd same = sweep(net, rule, objective, other, theta, phi, 7, 5);
    EXPECT_EQ(g, same);
  }
}

// A Hessian that changes along the path, and bends: one parameter pair through
// tanh, f(x) = w2 tanh(w1 x + b1) + b2 on one example with x = 0, so that only
// b1, w2, b2 act. L = (w2 t + b2 - y)^2 with t = tanh(b1), differentiated on
// paper; the query asks for another y.
TEST(MetaGradient, AHessianThatChangesAlongThePathMatchesPaper) {
  const TestNetwork net(
      {1, 1, 1},
      {reference::dense(1), reference::tanh_layer(), reference::dense(1)},
      LossOp::kMeanSquaredError);
  host::Episode e = net.random_episode(1, 1, 1);
  e.support_x = e.query_x = {0.0F};
  e.support_targets = {0.25F};
  e.query_targets = {-0.75F};
  const Task task(e, 1, 1);
  using V = Eigen::Vector3d;  // (b1, w2, b2)
  const auto gradient = [&](const V& p, double y) {
    const double t = std::tanh(p[0]);
    const double r = p[1] * t + p[2] - y;
    return V(2 * r * p[1] * (1 - t * t), 2 * r * t, 2 * r);
  };
  const auto hessian = [&](const V& p) {
    const double t = std::tanh(p[0]);
    const double s = 1 - t * t;
    const double r = p[1] * t + p[2] - 0.25;
    const V j(p[1] * s, t, 1.0);  // dr/dp
    Eigen::Matrix3d h = 2.0 * j * j.transpose();
    h(0, 0) += 2 * r * p[1] * -2 * t * s;
    h(0, 1) += 2 * r * s;
    h(1, 0) += 2 * r * s;
    return h;
  };
  for (uint32_t steps = 1; steps <= 5; ++steps) {
    const Rule rule =
        make_rule(RuleOp::kSgd, static_cast<uint16_t>(steps), net.network);
    const double a = 0.05;
    std::vector<V> path = {V(0.7, -1.1, 0.4)};
    for (uint32_t k = 0; k < steps; ++k) {
      path.push_back(path.back() - a * gradient(path.back(), 0.25));
    }
    V lambda = gradient(path.back(), -0.75);
    double d_a = 0.0;
    for (uint32_t k = steps; k-- > 0;) {
      d_a -= gradient(path[k], 0.25).dot(lambda);
      lambda = (lambda - a * hessian(path[k]) * lambda).eval();
    }
    VectorXd theta(4);
    theta << 0.9, path[0];
    Objective objective;
    objective.steps = steps;
    const VectorXd g = sweep(
        net, rule, objective, task, theta, VectorXd::Constant(1, a), 1, 1);
    EXPECT_EQ(g[0], 0.0);  // w1 sees x = 0.
    EXPECT_LE((g.segment(1, 3) - lambda).norm(), 1e-14 * lambda.norm());
    EXPECT_NEAR(g[4], d_a, 1e-14 * std::abs(d_a));
  }
}

// ------------------------------------------- every layer, loss and rule

class MetaGradients : public ::testing::TestWithParam<size_t> {};

// The reference's inner loop at complex numbers, its gradients by its own
// reverse mode; d objective / d (theta, phi) by complex step: no Hessian, no
// dual number, no sweep.
TEST_P(MetaGradients, EqualsComplexStepOfTheReference) {
  using C = std::complex<double>;
  using reference::Vector;
  const NamedSpecs specs = zoo()[GetParam()];
  for (const LossOp loss :
       {LossOp::kSoftmaxCrossEntropy, LossOp::kMeanSquaredError}) {
    for (const RuleOp op : kRules) {
      // Combinations rotate, to keep the run short; the rules are quick.
      const bool multi_step = (op == RuleOp::kLslr);
      const TestNetwork net(specs.input, specs.specs, loss);
      SCOPED_TRACE(specs.name + " " + to_string(loss) + " " + to_string(op));
      const uint32_t n_s = 4;
      const uint32_t n_q = 5;
      const Task task(net.random_episode(4, n_s, n_q), n_s, n_q);
      Objective objective;
      objective.steps = 2;
      if (multi_step) objective.step_weights = {0.25F, 0.5F, 1.5F};
      const Rule rule = make_rule(op, 2, net.network);
      const VectorXd theta = reference_vector<double>(net.random_theta(2));
      const VectorXd phi =
          reference_vector<double>(random_phi(rule, net.network, 3));

      const reference::Network<C> ref(specs.input, specs.specs);
      const auto sx = reference_rows<C>(task.sx.data(), n_s, net.network.n_in);
      const auto qx = reference_rows<C>(task.qx.data(), n_q, net.network.n_in);
      const auto sa = reference_answers(task.episode.support_labels,
                                        task.episode.support_targets,
                                        n_s,
                                        net.network.n_out);
      const auto qa = reference_answers(task.episode.query_labels,
                                        task.episode.query_targets,
                                        n_q,
                                        net.network.n_out);
      const auto value = [&](const Vector<C>& both) {
        Vector<C> t = both.head(theta.size());
        const Vector<C> p = both.tail(phi.size());
        C total = multi_step ? 0.25 * ref.loss(t, qx, qa) : C(0.0);
        for (uint32_t k = 0; k < 2; ++k) {
          const auto index = rate_index(net, rule, k);
          const Vector<C> g = ref.gradient(t, sx, sa);
          for (Eigen::Index i = 0; i < t.size(); ++i) {
            t[i] -=
                p[static_cast<Eigen::Index>(index[static_cast<size_t>(i)])] *
                g[i];
          }
          if (k == 0 && multi_step) total += 0.5 * ref.loss(t, qx, qa);
        }
        return total + (multi_step ? 1.5 : 1.0) * ref.loss(t, qx, qa);
      };
      VectorXd both(theta.size() + phi.size());
      both << theta, phi;
      const VectorXd exact = reference::complex_step(value, both);
      const bool whole = specs.name == "batch_norm";
      for (const uint32_t tile : {n_s, 1U}) {
        if (whole && tile != n_s) continue;
        const VectorXd g = sweep(
            net, rule, objective, task, theta, phi, tile, whole ? n_q : 2);
        EXPECT_LE((g - exact).norm(), 1e-11 * exact.norm())
            << (g - exact).norm() / exact.norm();
      }
    }
  }
}

// The same where part of the network adapts, with weight decay and clipping:
// all of it written again at complex numbers. A learned mask multiplies the
// step: by its hard value, to whose derivative a logit's imaginary part is
// added.
TEST_P(MetaGradients, WithStepOptionsEqualsComplexStepOfTheReference) {
  using C = std::complex<double>;
  using reference::Vector;
  const NamedSpecs specs = zoo()[GetParam()];
  for (const StepChoice& choice : kStepChoices) {
    for (const TestRule& test_rule : kStatelessRules) {
      SCOPED_TRACE(specs.name + " " + test_rule.name + " " + choice.name);
      TestNetwork net(specs.input, specs.specs, LossOp::kSoftmaxCrossEntropy);
      const Rule rule = choice.rule(&net, test_rule, 2);
      const uint32_t n_s = 4;
      const uint32_t n_q = 5;
      const Task task(net.random_episode(4, n_s, n_q), n_s, n_q);
      Objective objective;
      objective.steps = 2;
      const VectorXd theta = reference_vector<double>(net.random_theta(2));
      const VectorXd phi =
          reference_vector<double>(random_phi(rule, net.network, 3));
      const reference::Network<C> ref(specs.input, specs.specs);
      const auto sx = reference_rows<C>(task.sx.data(), n_s, net.network.n_in);
      const auto qx = reference_rows<C>(task.qx.data(), n_q, net.network.n_in);
      const auto sa = reference_answers(
          task.episode.support_labels, {}, n_s, net.network.n_out);
      const auto qa = reference_answers(
          task.episode.query_labels, {}, n_q, net.network.n_out);
      const auto value = [&](const Vector<C>& both) {
        Vector<C> t = both.head(theta.size());
        const Vector<C> p = both.tail(phi.size());
        for (uint32_t k = 0; k < 2; ++k) {
          const auto index = rate_index(net, rule, k);
          Vector<C> g = ref.gradient(t, sx, sa);
          g += 2.0 * static_cast<double>(rule.weight_decay) * t;
          const Eigen::Index logits = rule.learned_mask ? t.size() : 0;
          const auto mask = [&](Eigen::Index i) {
            if (logits == 0) return C(1.0);
            const C m = p[p.size() - logits + i];
            return C(m.real() >= 0.0 ? 1.0 : 0.0, m.imag());
          };
          C square(0.0);
          for (Eigen::Index i = 0; i < t.size(); ++i) {
            if (index[static_cast<size_t>(i)] == kNoRate) continue;
            square += mask(i).real() * g[i] * g[i];
          }
          const double most = static_cast<double>(rule.clip_norm);
          const C norm = std::sqrt(square);
          if (most != 0.0 && norm.real() > most) g *= most / norm;
          for (Eigen::Index i = 0; i < t.size(); ++i) {
            const size_t at = index[static_cast<size_t>(i)];
            if (at == kNoRate) continue;
            t[i] -= mask(i) * p[static_cast<Eigen::Index>(at)] * g[i];
          }
        }
        return ref.loss(t, qx, qa);
      };
      VectorXd both(theta.size() + phi.size());
      both << theta, phi;
      const VectorXd exact = reference::complex_step(value, both);
      const VectorXd g =
          sweep(net, rule, objective, task, theta, phi, n_s, n_q);
      EXPECT_LE((g - exact).norm(), 1e-11 * exact.norm())
          << (g - exact).norm() / exact.norm();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Zoo,
                         MetaGradients,
                         ::testing::Range<size_t>(0, zoo().size()),
                         [](const auto& i) { return zoo()[i.param].name; });

TEST(MetaGradient, AdaptLeavesWhatRunLeaves) {
  const TestNetwork net(
      {3, 1, 1},
      {reference::dense(5), reference::tanh_layer(), reference::dense(2)},
      LossOp::kMeanSquaredError);
  const Task task(net.random_episode(1, 4, 3), 4, 3);
  const Rule rule = make_rule(RuleOp::kMetaSgd, 3, net.network);
  const VectorXd theta = reference_vector<double>(net.random_theta(2));
  const VectorXd phi =
      reference_vector<double>(random_phi(rule, net.network, 3));
  Objective objective;
  objective.steps = 3;
  MetaGradient<double> m(net.network, rule, objective, 4, 3);
  const PlainView<double> t = {theta.data()};
  const PlainView<double> p = {phi.data()};
  m.adapt(SerialExecutor(), AllOps(), t, p, task.support());
  const double after = m.loss_after(SerialExecutor(), AllOps(), task.query());
  const double before = m.support_loss(0);
  m.run(SerialExecutor(), AllOps(), t, p, task.support(), task.query());
  EXPECT_EQ(m.query_loss(), after);
  EXPECT_EQ(m.support_loss(0), before);
  // Again: nothing of the first run is left over.
  const std::vector<double> first = m.theta_bar();
  const std::vector<double> first_phi = m.phi_bar();
  m.run(SerialExecutor(), AllOps(), t, p, task.support(), task.query());
  EXPECT_EQ(m.theta_bar(), first);
  EXPECT_EQ(m.phi_bar(), first_phi);
}

}  // namespace
}  // namespace fewstep::testing
