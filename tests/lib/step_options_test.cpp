// What adapts, in windows and on a device's arrays; weight decay and clipping
// against their formulas.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/step_options.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "fewstep/executor/serial.h"
#include "support/test_network.h"

namespace fewstep::testing {
namespace {

using reference::batch_norm;
using reference::dense;
using reference::relu_layer;

using Windows = std::vector<std::vector<uint32_t>>;

Windows windows(const TestNetwork& net) {
  Windows all;
  for_each_window(net.network, [&](const AdaptedWindow& w) {
    all.push_back({w.begin, w.n, w.shift});
  });
  return all;
}

/// Layers of 12, -, 6, 8 and 6 parameters.
struct Net : TestNetwork {
  Net()
      : TestNetwork({3, 1, 1},
                    {dense(3), relu_layer(), batch_norm(), dense(2), dense(2)},
                    LossOp::kMeanSquaredError) {}
};

TEST(Adapted, IsAllUnlessSaidOtherwise) {
  Net net;
  EXPECT_EQ(windows(net), (Windows{{0, net.network.n_params, 0}}));
  net.adapt({0, 2, 3, 4});
  EXPECT_EQ(net.network.adapted, nullptr);
  EXPECT_EQ(net.network.n_adapted, net.network.n_params);
}

TEST(Adapted, LiesInAsFewWindowsAsItCan) {
  struct Row {
    std::vector<size_t> layers;
    Windows windows;
    bool one_piece;
    uint32_t n_aux_batch;
  };
  const Row rows[] = {
      {{4}, {{0, 6, 26}}, true, 6},
      {{0, 2, 3}, {{0, 26, 0}}, true, 6},
      {{0}, {{0, 12, 0}}, true, 12},
      {{0, 4}, {{0, 12, 0}, {12, 6, 14}}, false, 12},
      {{0, 3}, {{0, 12, 0}, {12, 8, 6}}, false, 12},
      {{2, 4}, {{0, 6, 12}, {6, 6, 20}}, false, 6},
  };
  for (const Row& row : rows) {
    Net net;
    ASSERT_EQ(net.network.n_params, 32U);
    net.adapt(row.layers);
    EXPECT_EQ(windows(net), row.windows);
    EXPECT_EQ(net.network.adapts_in_one_piece(), row.one_piece);
    EXPECT_EQ(net.network.n_aux_batch, row.n_aux_batch);
    EXPECT_EQ(net.network.n_adapted_tensors(), 2 * row.layers.size());
    uint32_t begin = 0;
    for (uint32_t i = 0; i < net.network.n_layers; ++i) {
      const bool adapts = net.network.adapts(i);
      EXPECT_EQ(net.adapted[i], adapts ? begin : kFrozen);
      if (adapts) begin += net.layers[i].n_params();
    }
    EXPECT_EQ(net.network.n_adapted, begin);
  }
}

TEST(Adapted, OfNothingIsRefused) {
  Net net;
  const Network before = net.network;
  std::vector<uint32_t> none(net.layers.size(), kFrozen);
  none[1] = 0;  // relu: no parameters.
  EXPECT_EQ(plan_adapted(none.data(), &net.network), Status::kBadArgument);
  EXPECT_EQ(net.network.n_adapted, before.n_adapted);
  EXPECT_EQ(net.network.adapted, nullptr);
}

TEST(Adapted, IsGatheredAndScattered) {
  Net net;
  net.adapt({0, 3});
  std::vector<float> theta(net.network.n_params);
  for (size_t i = 0; i < theta.size(); ++i) theta[i] = static_cast<float>(i);
  std::vector<float> some(net.network.n_adapted + 1, -1.0F);
  const SerialExecutor e;
  gather_adapted(e, net.network, PlainView<float>{theta.data()}, some.data());
  for (uint32_t i = 0; i < 20; ++i) {
    EXPECT_EQ(some[i], static_cast<float>(i < 12 ? i : i + 6));
  }
  EXPECT_EQ(some.back(), -1.0F);
  std::vector<float> back(theta.size(), -2.0F);
  scatter_adapted(e, net.network, some.data(), back.data());
  for (size_t i = 0; i < back.size(); ++i) {
    const bool frozen = (i >= 12 && i < 18) || i >= 26;
    EXPECT_EQ(back[i], frozen ? -2.0F : theta[i]);
  }
}

// A device's arrays: the gradient of what adapts, theta_0 whole or theta_k not.
TEST(StepOptions, AreTheirFormulas) {
  for (const bool part : {false, true}) {
    Net net;
    if (part) net.adapt({0, 3});
    const Network& network = net.network;
    Uniform uniform(3);
    const std::vector<float> theta = uniform.vector(network.n_params);
    const std::vector<float> raw = uniform.vector(network.n_adapted);
    std::vector<float> some(network.n_adapted);
    const SerialExecutor e;
    const PlainView<float> all = {theta.data()};
    gather_adapted(e, network, all, some.data());
    for (const float decay : {0.0F, 0.125F}) {
      for (const float clip : {0.0F, 0.5F, 100.0F}) {
        Rule rule = make_rule(RuleOp::kSgd, 1, network);
        rule.weight_decay = decay;
        rule.clip_norm = clip;
        std::vector<float> expected = raw;
        for (size_t i = 0; i < raw.size() && decay != 0.0F; ++i) {
          expected[i] = std::fma(2.0F * decay, some[i], raw[i]);
        }
        float partial[32] = {};
        for (size_t i = 0; i < raw.size(); ++i) {
          partial[i % 32] = std::fma(expected[i], expected[i], partial[i % 32]);
        }
        float sum = 0.0F;
        for (const float p : partial) sum += p;
        if (clip != 0.0F && std::sqrt(sum) > clip) {
          EXPECT_EQ(clip, 0.5F);
          for (float& g : expected) g *= clip / std::sqrt(sum);
        }
        float scale = 0.0F;
        std::vector<float> g = raw;
        apply_step_options(e, network, rule, all, true, g.data(), &scale);
        EXPECT_TRUE(same_bits(g, expected));
        g = raw;
        apply_step_options(e,
                           network,
                           rule,
                           PlainView<float>{some.data()},
                           false,
                           g.data(),
                           &scale);
        EXPECT_TRUE(same_bits(g, expected));
      }
    }
  }
}

// At the bound itself nothing is scaled, just above it something is.
TEST(StepOptions, ClipAboveTheBoundOnly) {
  const TestNetwork net({1, 1, 1}, {dense(1)}, LossOp::kMeanSquaredError);
  const float above = std::nextafter(5.0F, 6.0F);
  for (const float bound : {5.0F, above}) {
    Rule rule = make_rule(RuleOp::kSgd, 1, net.network);
    rule.clip_norm = bound;
    std::vector<float> g = {3.0F, 4.0F};
    float scale = 0.0F;
    const PlainView<float> theta = {g.data()};
    apply_step_options(
        SerialExecutor(), net.network, rule, theta, false, g.data(), &scale);
    EXPECT_EQ(scale, 1.0F);
    EXPECT_EQ(g, (std::vector<float>{3.0F, 4.0F}));
  }
  Rule rule = make_rule(RuleOp::kSgd, 1, net.network);
  rule.clip_norm = std::nextafter(5.0F, 4.0F);
  std::vector<float> g = {3.0F, 4.0F};
  float scale = 0.0F;
  const PlainView<float> theta = {g.data()};
  apply_step_options(
      SerialExecutor(), net.network, rule, theta, false, g.data(), &scale);
  EXPECT_LT(scale, 1.0F);
  EXPECT_LT(g[0], 3.0F);
}

}  // namespace
}  // namespace fewstep::testing
