// Whole networks: gradients against the reference, and the same bits for every
// tile size, number type and weight view.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <string>
#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/host/lanes.h"
#include "fewstep/numerics/half.h"
#include "fewstep/ops.h"
#include "lane_batch.h"
#include "lane_ops.h"
#include "support/test_network.h"
#include "support/test_rules.h"

namespace fewstep::testing {
namespace {

constexpr LossOp kLosses[] = {LossOp::kSoftmaxCrossEntropy,
                              LossOp::kMeanSquaredError};
constexpr uint32_t kExamples = 6;

class Networks : public ::testing::TestWithParam<size_t> {
 protected:
  NamedSpecs specs = zoo()[GetParam()];
  bool transductive() const { return specs.name == "batch_norm"; }
};

/// Gradient, then the loss.
template <class T, class W, class Ops = AllOps>
std::vector<T> gradient_and_loss(const TestNetwork& net,
                                 const W& theta,
                                 const Batch<T>& batch,
                                 uint32_t tile,
                                 const Ops& ops = {}) {
  std::vector<T> values(workspace_values(net.network, tile));
  const Workspace<T> ws = {values.data(), tile};
  std::vector<T> result(net.network.n_params);
  gradient(SerialExecutor(), ops, net.network, theta, ws, batch, result.data());
  result.push_back(*batch_loss(ws));
  return result;
}

std::vector<float> floats(const host::Episode& e,
                          const TestNetwork& net,
                          const std::vector<float>& theta,
                          uint32_t tile) {
  return gradient_and_loss<float>(
      net, PlainView<float>{theta.data()}, support_of(e, kExamples), tile);
}

/// kLanes tasks at once, at Lanes and Dual<Lanes>, own parameters and shared
/// ones, against each alone.
void expect_lanes_equal_floats(const TestNetwork& net, uint32_t tile) {
  const host::EpisodeShape shape = net.episode_shape(kExamples, 1);
  host::LaneSet set;
  set.resize(shape, kExamples);
  const uint32_t n_params = net.network.n_params;
  std::vector<Lanes> theta(n_params), direction(n_params);
  std::vector<std::vector<float>> thetas, directions;
  std::vector<host::Episode> episodes;
  for (int l = 0; l < kLanes; ++l) {
    const uint32_t seed = static_cast<uint32_t>(l);
    thetas.push_back(net.random_theta(seed));
    directions.push_back(net.random_theta(seed + 100));
    episodes.push_back(net.random_episode(seed, kExamples, 1));
    set.set(l,
            episodes.back().support_x,
            episodes.back().support_labels,
            episodes.back().support_targets);
    for (uint32_t i = 0; i < n_params; ++i) {
      set_lane(&theta[i], l, thetas.back()[i]);
      set_lane(&direction[i], l, directions.back()[i]);
    }
  }
  const Batch<Lanes> batch = set.batch(kExamples);
  const auto plain = gradient_and_loss<Lanes>(
      net, PlainView<Lanes>{theta.data()}, batch, tile, host::LaneOps());
  const auto shared = gradient_and_loss<Lanes>(
      net, SharedView<Lanes>{thetas[0].data()}, batch, tile, host::LaneOps());
  using DV = DualView<PlainView<Lanes>>;
  const auto dual = gradient_and_loss<Dual<Lanes>>(
      net,
      DV{{theta.data()}, direction.data()},
      {batch.x, batch.labels, batch.targets, batch.n},
      tile,
      host::LaneOps());
  using DS = DualView<SharedView<Lanes>>;
  const auto dual_shared = gradient_and_loss<Dual<Lanes>>(
      net,
      DS{{thetas[0].data()}, direction.data()},
      {batch.x, batch.labels, batch.targets, batch.n},
      tile,
      host::LaneOps());
  for (int l = 0; l < kLanes; ++l) {
    SCOPED_TRACE("lane " + std::to_string(l));
    const size_t at = static_cast<size_t>(l);
    const auto expected = floats(episodes[at], net, thetas[at], kExamples);
    const auto with_first = floats(episodes[at], net, thetas[0], kExamples);
    using DF = DualView<PlainView<float>>;
    const Batch<float> b = support_of(episodes[at], kExamples);
    const auto dual_float = gradient_and_loss<Dual<float>>(
        net,
        DF{{thetas[at].data()}, directions[at].data()},
        {b.x, b.labels, b.targets, b.n},
        kExamples);
    const auto dual_first = gradient_and_loss<Dual<float>>(
        net,
        DF{{thetas[0].data()}, directions[at].data()},
        {b.x, b.labels, b.targets, b.n},
        kExamples);
    std::vector<float> a, c, d, t, dt, first_t, ds;
    for (size_t i = 0; i < plain.size(); ++i) {
      a.push_back(lane(plain[i], l));
      c.push_back(lane(shared[i], l));
      d.push_back(lane(dual[i].value, l));
      t.push_back(lane(dual[i].tangent, l));
      dt.push_back(dual_float[i].tangent);
      ds.push_back(lane(dual_shared[i].tangent, l));
      first_t.push_back(dual_first[i].tangent);
    }
    EXPECT_TRUE(same_bits(a, expected));
    EXPECT_TRUE(same_bits(c, with_first));
    EXPECT_TRUE(same_bits(d, expected)) << "values of the duals";
    EXPECT_TRUE(same_bits(t, dt)) << "tangents";
    EXPECT_TRUE(same_bits(ds, first_t)) << "tangents, shared";
  }
}

TEST_P(Networks, GradientEqualsReference) {
  for (const LossOp loss : kLosses) {
    const TestNetwork net(specs.input, specs.specs, loss);
    SCOPED_TRACE(specs.name + " " + to_string(loss));
    const auto theta = net.random_theta(1);
    const auto e = net.random_episode(2, kExamples, 1);
    using C = std::complex<double>;
    const reference::Network<double> ref(specs.input, specs.specs);
    const reference::Network<C> complex_ref(specs.input, specs.specs);
    ASSERT_EQ(static_cast<uint32_t>(ref.n_params()), net.network.n_params);
    const auto answers = reference_answers(
        e.support_labels, e.support_targets, kExamples, net.network.n_out);
    const auto x =
        reference_rows<double>(e.support_x.data(), kExamples, net.network.n_in);
    const auto p = reference_vector<double>(theta);
    const Eigen::VectorXd g = ref.gradient(p, x, answers);

    // The reference's reverse mode against its own forward pass.
    const reference::Matrix<C> cx = x.cast<C>();
    const Eigen::VectorXd exact = reference::complex_step(
        [&](const reference::Vector<C>& v) {
          return complex_ref.loss(v, cx, answers);
        },
        p);
    ASSERT_LE((g - exact).norm(), 1e-13 * (1.0 + g.norm()));

    const std::vector<double> td(theta.begin(), theta.end());
    const std::vector<double> xd(e.support_x.begin(), e.support_x.end());
    const std::vector<double> yd(e.support_targets.begin(),
                                 e.support_targets.end());
    const Batch<double> batch = {
        xd.data(),
        net.classes() ? e.support_labels.data() : nullptr,
        net.classes() ? nullptr : yd.data(),
        kExamples};
    const auto at_double = gradient_and_loss<double>(
        net, PlainView<double>{td.data()}, batch, kExamples);
    const auto at_float = floats(e, net, theta, kExamples);
    // Float: sums of a few hundred terms through at most nine layers, errors
    // mostly random: 1e-5 = 170 u, of the whole gradient.
    double error_double = 0.0;
    double error_float = 0.0;
    for (Eigen::Index i = 0; i < g.size(); ++i) {
      const size_t at = static_cast<size_t>(i);
      error_double += std::pow(at_double[at] - g[i], 2);
      error_float += std::pow(static_cast<double>(at_float[at]) - g[i], 2);
    }
    EXPECT_LE(std::sqrt(error_double), 1e-12 * g.norm());
    EXPECT_LE(std::sqrt(error_float), 1e-5 * g.norm());
    const double l = ref.loss(p, x, answers);
    EXPECT_NEAR(at_double.back(), l, 1e-13);
    EXPECT_NEAR(static_cast<double>(at_float.back()), l, 2e-6);
  }
}

TEST_P(Networks, SameBitsForEveryTile) {
  if (transductive()) return;  // The batch is one tile.
  for (const LossOp loss : kLosses) {
    const TestNetwork net(specs.input, specs.specs, loss);
    const auto theta = net.random_theta(1);
    const auto e = net.random_episode(2, kExamples, 1);
    const auto expected = floats(e, net, theta, kExamples);
    for (const uint32_t tile : {1U, 2U, 3U, 4U, 5U, kExamples + 3}) {
      EXPECT_TRUE(same_bits(floats(e, net, theta, tile), expected))
          << specs.name << " tile " << tile;
    }
  }
}

TEST_P(Networks, LossAndOutputsWithoutGradientHaveTheSameBits) {
  for (const LossOp loss : kLosses) {
    const TestNetwork net(specs.input, specs.specs, loss);
    const auto theta = net.random_theta(1);
    const auto e = net.random_episode(2, kExamples, 1);
    const float expected = floats(e, net, theta, kExamples).back();
    const PlainView<float> view = {theta.data()};
    std::vector<float> together;
    for (const uint32_t tile : {kExamples, 1U, 4U}) {
      if (transductive() && tile != kExamples) continue;
      std::vector<float> values(workspace_values(net.network, tile));
      const Workspace<float> ws = {values.data(), tile};
      mean_loss(SerialExecutor(),
                AllOps(),
                net.network,
                view,
                ws,
                support_of(e, kExamples));
      EXPECT_EQ(to_bits(*batch_loss(ws)), to_bits(expected));
      std::vector<float> y;
      for (uint32_t begin = 0; begin < kExamples; begin += tile) {
        const uint32_t n = std::min(tile, kExamples - begin);
        forward(SerialExecutor(),
                AllOps(),
                net.network,
                view,
                ws,
                e.support_x.data() + begin * net.network.n_in,
                n);
        const float* const out = outputs(net.network, ws);
        y.insert(y.end(), out, out + n * net.network.n_out);
      }
      if (together.empty()) together = y;
      EXPECT_TRUE(same_bits(y, together));
    }
  }
}

TEST_P(Networks, EveryLaneHasTheBitsOfFloat) {
  for (const LossOp loss : kLosses) {
    const TestNetwork net(specs.input, specs.specs, loss);
    for (const uint32_t tile : {kExamples, 1U, 2U, 4U}) {
      if (transductive() && tile != kExamples) continue;
      SCOPED_TRACE(specs.name + " tile " + std::to_string(tile));
      expect_lanes_equal_floats(net, tile);
    }
  }
}

// Both ways of tiling a convolution, with filters and channels around a tile.
TEST(LaneKernels, ConvolutionsHaveTheBitsOfFloat) {
  for (const int kernel : {1, 2, 3, 5}) {
    for (const int stride : {1, 2, 3}) {
      const int pad = kernel - 1 - (stride - 1) % kernel;
      const TestNetwork net({1, 5, 11},
                            {reference::conv(5, 1, 1, 0),
                             reference::relu_layer(),
                             reference::conv(6, kernel, stride, pad),
                             reference::tanh_layer(),
                             reference::dense(5)},
                            LossOp::kMeanSquaredError);
      for (const uint32_t tile : {1U, 2U, 3U, 4U, kExamples}) {
        SCOPED_TRACE("kernel " + std::to_string(kernel) + " stride " +
                     std::to_string(stride) + " pad " + std::to_string(pad) +
                     " tile " + std::to_string(tile));
        expect_lanes_equal_floats(net, tile);
      }
    }
  }
}

TEST_P(Networks, DualsHaveTheValuesOfFloatForEveryTile) {
  const TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
  const auto theta = net.random_theta(1);
  const auto direction = net.random_theta(7);
  const auto e = net.random_episode(2, kExamples, 1);
  const auto expected = floats(e, net, theta, kExamples);
  const Batch<float> b = support_of(e, kExamples);
  std::vector<float> tangents;
  for (const uint32_t tile : {kExamples, 1U, 2U, 4U}) {
    if (transductive() && tile != kExamples) continue;
    const auto dual = gradient_and_loss<Dual<float>>(
        net,
        DualView<PlainView<float>>{{theta.data()}, direction.data()},
        {b.x, b.labels, b.targets, b.n},
        tile);
    std::vector<float> v, t;
    for (const auto& d : dual) {
      v.push_back(d.value);
      t.push_back(d.tangent);
    }
    EXPECT_TRUE(same_bits(v, expected)) << "tile " << tile;
    if (tangents.empty()) tangents = t;
    EXPECT_TRUE(same_bits(t, tangents)) << "tile " << tile;
  }
}

TEST_P(Networks, WeightViewsGiveTheSameBits) {
  const TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
  std::vector<uint16_t> halves;
  std::vector<float> theta;
  for (const float v : net.random_theta(1)) {
    halves.push_back(half_from_float(v));
    theta.push_back(float_from_half(halves.back()));
  }
  const auto e = net.random_episode(2, kExamples, 1);
  const Batch<float> b = support_of(e, kExamples);
  const auto expected = floats(e, net, theta, kExamples);
  EXPECT_TRUE(same_bits(
      gradient_and_loss<float>(net, F16View{halves.data()}, b, kExamples),
      expected));
  EXPECT_TRUE(same_bits(gradient_and_loss<float>(
                            net, SharedView<float>{theta.data()}, b, kExamples),
                        expected));
}

INSTANTIATE_TEST_SUITE_P(Zoo,
                         Networks,
                         ::testing::Range<size_t>(0, zoo().size()),
                         [](const auto& i) { return zoo()[i.param].name; });

// Rules at Lanes: update and vjp, lane by lane.
TEST(LaneRules, HaveTheBitsOfFloat) {
  const TestNetwork net({3, 1, 1},
                        {reference::dense(9), reference::dense(2)},
                        LossOp::kMeanSquaredError);
  const uint32_t n = net.network.n_params;
  for (const TestRule& test_rule : kTestRules) {
    const Rule rule = test_rule.make(2, net.network);
    const uint32_t n_state = n * rule.n_state_per_param;
    Uniform uniform(1);
    const auto phi = random_phi(rule, net.network, 4);
    const auto theta_0 = net.random_theta(2);
    std::vector<std::vector<float>> g, theta, lambda, phi_bar, state, bar;
    std::vector<Lanes> lg(n), lt(n), ll(n), lp(rule.n_phi), lgb(n);
    std::vector<Lanes> ls(n_state), lb(n_state);
    for (int l = 0; l < kLanes; ++l) {
      g.push_back(uniform.vector(n));
      theta.push_back(uniform.vector(n));
      lambda.push_back(uniform.vector(n));
      phi_bar.push_back(uniform.vector(rule.n_phi));
      state.push_back(uniform.vector(n_state));
      bar.push_back(uniform.vector(n_state));
      for (uint32_t i = 0; i < n_state; ++i) {
        state.back()[i] = std::fabs(state.back()[i]);
        set_lane(&ls[i], l, state.back()[i]);
        set_lane(&lb[i], l, bar.back()[i]);
      }
      for (uint32_t i = 0; i < n; ++i) {
        set_lane(&lg[i], l, g.back()[i]);
        set_lane(&lt[i], l, theta.back()[i]);
        set_lane(&ll[i], l, lambda.back()[i]);
      }
      for (uint32_t i = 0; i < rule.n_phi; ++i) {
        set_lane(&lp[i], l, phi_bar.back()[i]);
      }
    }
    const SerialExecutor e;
    const Lanes loss = broadcast(0.5F);
    std::vector<Lanes> next = lg;
    std::vector<Lanes> next_shared = lg;
    std::vector<Lanes> next_state = ls;
    std::vector<Lanes> scratch(
        std::max<uint64_t>(rule.n_scratch, vjp_scratch(rule, net.network)));
    std::vector<float> float_scratch(scratch.size());
    RuleCall<Lanes> call = {&net.network,
                            &rule,
                            1,
                            &loss,
                            next.data(),
                            next_state.data(),
                            next_state.data(),
                            scratch.data(),
                            0,
                            n};
    const SharedView<Lanes> rates = {phi.data()};
    host::LaneOps().update(e, call, PlainView<Lanes>{lt.data()}, rates);
    // At step 0: without state, and without storing it.
    call.step = 0;
    call.state = call.next_state = nullptr;
    call.grad = next_shared.data();
    host::LaneOps().update(e, call, SharedView<Lanes>{theta_0.data()}, rates);
    Lanes loss_bar = broadcast(1.0F);
    RuleVjpCall<Lanes> vjp = {&net.network,
                              &rule,
                              1,
                              &loss,
                              lg.data(),
                              ls.data(),
                              ll.data(),
                              lb.data(),
                              lgb.data(),
                              &loss_bar,
                              lp.data(),
                              false,
                              scratch.data()};
    host::LaneOps().vjp(e, vjp, PlainView<Lanes>{lt.data()}, rates);
    for (int l = 0; l < kLanes; ++l) {
      SCOPED_TRACE(std::string(test_rule.name) + " lane " + std::to_string(l));
      const size_t at = static_cast<size_t>(l);
      const float fl = 0.5F;
      const PlainView<float> fphi = {phi.data()};
      std::vector<float> f = g[at];
      std::vector<float> f_shared = g[at];
      std::vector<float> fs = state[at];
      RuleCall<float> fc = {&net.network,
                            &rule,
                            1,
                            &fl,
                            f.data(),
                            fs.data(),
                            fs.data(),
                            float_scratch.data(),
                            0,
                            n};
      AllOps().update(e, fc, PlainView<float>{theta[at].data()}, fphi);
      fc.step = 0;
      fc.state = fc.next_state = nullptr;
      fc.grad = f_shared.data();
      AllOps().update(e, fc, PlainView<float>{theta_0.data()}, fphi);
      std::vector<float> gb(n);
      float fb = 1.0F;
      RuleVjpCall<float> fv = {&net.network,
                               &rule,
                               1,
                               &fl,
                               g[at].data(),
                               state[at].data(),
                               lambda[at].data(),
                               bar[at].data(),
                               gb.data(),
                               &fb,
                               phi_bar[at].data(),
                               false,
                               float_scratch.data()};
      AllOps().vjp(e, fv, PlainView<float>{theta[at].data()}, fphi);
      const auto of_lane = [&](const std::vector<Lanes>& v) {
        std::vector<float> r;
        for (const Lanes& x : v) r.push_back(lane(x, l));
        return r;
      };
      EXPECT_TRUE(same_bits(of_lane(next), f));
      EXPECT_TRUE(same_bits(of_lane(next_shared), f_shared));
      EXPECT_TRUE(same_bits(of_lane(next_state), fs));
      EXPECT_TRUE(same_bits(of_lane(lgb), gb));
      EXPECT_TRUE(same_bits(of_lane(lb), bar[at]));
      EXPECT_TRUE(same_bits(of_lane(ll), lambda[at]));
      EXPECT_TRUE(same_bits(of_lane(lp), phi_bar[at]));
      EXPECT_EQ(lane(loss_bar, l), fb);
    }
  }
}

}  // namespace
}  // namespace fewstep::testing
