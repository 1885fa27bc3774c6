// From a learned mask to a device: the session that adapts what the mask lets,
// in pieces, gives the bits of the inner loop that training ran, which takes
// every parameter's step and keeps those of some.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/sparse_mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "fewstep/host/error.h"
#include "fewstep/host/mask_packing.h"
#include "fewstep/host/meta_gradient.h"
#include "fewstep/host/network_builder.h"
#include "fewstep/host/pack.h"
#include "fewstep/host/rule_values.h"
#include "fewstep/host/task_factory.h"
#include "fewstep/ops.h"
#include "support/device_case.h"
#include "support/step_choices.h"
#include "support/test_network.h"
#include "support/test_rules.h"

namespace fewstep::testing {
namespace {

using host::MaskedNetwork;
using ::testing::HasSubstr;

// The capsule of what training learned.
SmallCapsule capsule_of(const TestNetwork& net,
                        const Rule& rule,
                        const MaskedNetwork& masked,
                        const std::vector<float>& theta,
                        const std::vector<float>& phi) {
  SmallCapsule small;
  CapsuleContents& c = small.contents;
  c.network = masked.network;
  c.theta = theta;
  c.rule = make_rule(rule.op, rule.steps, c.network, rule.options);
  c.rule.weight_decay = rule.weight_decay;
  c.rule.clip_norm = rule.clip_norm;
  for (const uint32_t i : host::kept_phi(rule, net.network, c.network)) {
    c.phi.push_back(phi[i]);
  }
  c.limits = {5, 4, rule.steps};
  return small;
}

// theta_K and the last support loss as training has them.
std::vector<float> trained(const Network& network,
                           const Rule& rule,
                           const std::vector<float>& theta,
                           const std::vector<float>& phi,
                           const DeviceEpisode& episode,
                           uint32_t steps) {
  host::Objective objective;
  objective.steps = steps;
  host::MetaGradient<float> loop(
      network, rule, objective, episode.n, episode.n);
  loop.adapt(SerialExecutor(),
             fewstep::AllOps(),
             PlainView<float>{theta.data()},
             PlainView<float>{phi.data()},
             Batch<float>{episode.x.data(),
                          episode.labels.data(),
                          episode.targets.data(),
                          episode.n});
  std::vector<float> result(theta.size());
  for (uint32_t i = 0; i < network.n_params; ++i) {
    result[i] = loop.adapted()(i);
  }
  result.push_back(loop.support_loss(steps - 1));
  return result;
}

class SparseMasks : public ::testing::TestWithParam<size_t> {};

TEST_P(SparseMasks, OnADeviceGiveTheBitsOfTraining) {
  const NamedSpecs specs = zoo()[GetParam()];
  uint32_t seed = 1;
  for (const StepChoice& choice : kStepChoices) {
    if (choice.adapt != StepChoice::kSparse) continue;
    for (const TestRule& test_rule : kTestRules) {
      TestNetwork net(specs.input, specs.specs, LossOp::kSoftmaxCrossEntropy);
      const Rule rule = choice.rule(&net, test_rule, 3);
      if (rule.n_phi == 0) continue;
      const std::vector<float> theta = net.random_theta(++seed);
      std::vector<float> phi = random_phi(rule, net.network, seed);
      float* const logits = phi.data() + host::logits_begin(rule, net.network);
      // One layer with parameters is stopped whole, another adapts whole.
      const std::vector<size_t> list = net.with_parameters();
      const auto set_layer = [&](size_t at, float value) {
        const Layer& l = net.layers[at];
        std::fill_n(logits + l.param_offset, l.n_params(), value);
      };
      if (seed % 3 == 0) set_layer(list[seed / 3 % list.size()], -1.0F);
      if (seed % 4 == 0) set_layer(list[seed / 4 % list.size()], 0.0F);
      const MaskedNetwork masked(net.network, {logits, net.network.n_params});
      ASSERT_TRUE(masked.adapts);
      const SmallCapsule small = capsule_of(net, rule, masked, theta, phi);
      const DeviceEpisode episode = make_device_episode(net.network, 5, seed);
      for (const uint32_t steps : {1U, 3U}) {
        const std::vector<float> expected =
            trained(net.network, rule, theta, phi, episode, steps);
        for (const uint32_t tile : {1U, 2U, 1000U}) {
          SCOPED_TRACE(specs.name + " " + test_rule.name + " " + choice.name +
                       ", steps " + std::to_string(steps) + ", tile " +
                       std::to_string(tile));
          SessionOptions options;
          options.max_steps = steps;
          options.tile = tile;
          OpenSession s(small, options);
          EXPECT_EQ(s.network().masked, masked.network.masked);
          AdaptReport report = {};
          ASSERT_EQ(s.session.adapt(episode.set(), &report, steps),
                    Status::kOk);
          std::vector<float> adapted = Observed(s.session).parameters;
          adapted.push_back(report.loss_last);
          EXPECT_TRUE(same_bits(adapted, expected));
          EXPECT_EQ(report.high_water_bytes, s.arena.size());
          EXPECT_TRUE(s.arena.margins_intact());
        }
      }
      // And back: what a capsule holds is enough to run training's inner loop.
      if (masked.network.masked == 0) continue;
      const LoadedCapsule loaded(small);
      const host::Unmasked whole = host::unmask(loaded.capsule);
      EXPECT_TRUE(same_bits(
          trained(whole.network, whole.rule, theta, whole.phi, episode, 3),
          trained(net.network, rule, theta, phi, episode, 3)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Zoo,
                         SparseMasks,
                         ::testing::Range<size_t>(0, zoo().size()),
                         [](const auto& i) { return zoo()[i.param].name; });

TEST(SparseMask, CountsBits) {
  for (uint32_t j = 0; j < 32; ++j) {
    EXPECT_EQ(count_bits(1U << j), 1U);
    EXPECT_EQ(count_bits(~(1U << j)), 31U);
    EXPECT_EQ(count_bits((1U << j) - 1U), j);
  }
  EXPECT_EQ(count_bits(0U), 0U);
  EXPECT_EQ(count_bits(0xffffffffU), 32U);
}

TEST(SparseMask, OfWholeLayersIsATable) {
  TestNetwork net(
      {3, 1, 1},
      {reference::dense(4), reference::relu_layer(), reference::dense(2)},
      LossOp::kMeanSquaredError);
  const uint32_t n = net.network.n_params;
  std::vector<float> logits(n, 0.0F);
  const MaskedNetwork all(net.network, logits);
  EXPECT_TRUE(all.adapts);
  EXPECT_EQ(all.network.adapted, nullptr);
  EXPECT_EQ(all.network.masked, 0);
  EXPECT_EQ(all.network.n_adapted, n);

  std::fill_n(logits.begin(), 16, -0.125F);
  const MaskedNetwork head(net.network, logits);
  EXPECT_EQ(head.network.masked, 0);
  EXPECT_EQ(head.network.n_adapted, 10U);
  EXPECT_FALSE(head.network.adapts(0));
  EXPECT_TRUE(head.network.adapts(2));
  EXPECT_EQ(head.network.n_aux_batch, 0U);

  logits[3] = 0.0F;
  const MaskedNetwork split(net.network, logits);
  EXPECT_EQ(split.network.masked, 1);
  EXPECT_EQ(split.network.n_adapted, 11U);
  // Four rows of three weights and a bias.
  EXPECT_EQ(split.network.n_aux_batch, 16U);

  std::fill(logits.begin(), logits.end(), -1.0F);
  EXPECT_FALSE(MaskedNetwork(net.network, logits).adapts);
}

// Rows are taken four at a time; those of which nothing adapts are not.
TEST(SparseMask, CountsMultiplyAdds) {
  TestNetwork net(
      {5, 1, 1},
      {reference::dense(10), reference::relu_layer(), reference::dense(2)},
      LossOp::kMeanSquaredError);
  const auto multiply_adds = [&](const std::vector<uint32_t>& list) {
    std::vector<float> logits(net.network.n_params, -1.0F);
    for (const uint32_t i : list) logits[i] = 1.0F;
    const MaskedNetwork masked(net.network, logits);
    EXPECT_EQ(masked.network.masked, 1);
    return multiply_adds_per_example(masked.network);
  };
  constexpr uint64_t kForward = 50 + 20;
  // Row 4 of the first layer, and then the bias of row 9 of ten.
  EXPECT_EQ(multiply_adds({20}), kForward + 4 * 5 + 20);
  EXPECT_EQ(multiply_adds({20, 59}), kForward + 6 * 5 + 20);
  // Of the last layer: below it no gradient flows.
  EXPECT_EQ(multiply_adds({60}), kForward + 20);
}

constexpr const char* kRecipe = R"(name = "sparse"
[task]
source = "sinusoid"
family = "maml"
shots = 5
queries = 10
[network]
input = [1, 1, 1]
layers = [{op = "dense", units = 9}, {op = "relu"}, {op = "dense", units = 1}]
loss = "mean_squared_error"
[inner]
rule = "adam"
rate_layout = "tensor_step"
learn_moments = true
adapt = "sparse"
steps = 2
rate = 0.01
[outer]
tasks = 4
iterations = 100
)";

TEST(SparseMask, IsPackedFromARecipe) {
  const host::Recipe recipe = host::parse_recipe(kRecipe, "test.toml");
  const host::PlannedNetwork planned = host::build_network(recipe);
  const Rule rule = host::build_rule(recipe.inner, planned.network);
  constexpr uint32_t kParams = 28;
  ASSERT_EQ(planned.network.n_params, kParams);
  // 4 tensors x 2 steps, 2 gains, m_0 and s_0, logits.
  constexpr uint32_t kMoments = 8 + 2;
  constexpr uint32_t kLogits = kMoments + 2 * kParams;
  ASSERT_EQ(rule.n_phi, kLogits + kParams);
  std::vector<float> theta(kParams);
  std::vector<float> phi(rule.n_phi, 0.5F);
  for (uint32_t i = 0; i < kParams; ++i) theta[i] = static_cast<float>(i) / 16;
  for (uint32_t j = 0; j < kLogits; ++j) {
    phi[j] = static_cast<float>(j + 1) / 128;
  }
  // Of the second layer (9 weights and a bias) nothing, of the first some.
  for (uint32_t i = 0; i < kParams; ++i) {
    phi[kLogits + i] = i < 18 && i % 3 != 0 ? 0.0F : -0.0078125F;
  }
  const auto source = host::make_task_source(recipe);
  const CapsuleBytes bytes =
      host::pack_capsule(recipe, {theta, phi, 7}, source.get());
  Capsule c;
  ASSERT_EQ(read_capsule(bytes.data(), bytes.size(), &c), Status::kOk);
  EXPECT_EQ(c.network.masked, 1);
  EXPECT_EQ(c.network.n_adapted, 12U);
  EXPECT_EQ(c.network.adapted[2], kFrozen);
  EXPECT_EQ(c.rule.n_phi, 4U + 2 + 2 * 12);
  std::vector<float> expected(phi.begin(), phi.begin() + 4);
  expected.insert(expected.end(), phi.begin() + 8, phi.begin() + kMoments);
  for (uint32_t mean = 0; mean < 2; ++mean) {
    for (uint32_t i = 0; i < 18; ++i) {
      if (i % 3 == 0) continue;
      expected.push_back(phi[kMoments + mean * kParams + i]);
    }
  }
  EXPECT_EQ(host::decode_rates(c), expected);
  // Its golden episode is the firmware library's, and replays.
  size_t n_bytes = 0;
  ASSERT_EQ(selftest_bytes(c, &n_bytes), Status::kOk);
  CapsuleBytes arena(n_bytes);
  EXPECT_EQ(selftest({bytes.data(), bytes.size()},
                     EveryOp::list,
                     {arena.data(), arena.size()}),
            Status::kOk);

  std::fill(phi.begin() + kLogits, phi.end(), -1.0F);
  try {
    host::pack_capsule(recipe, {theta, phi, 7}, source.get());
    ADD_FAILURE() << "a mask that stops everything was packed";
  } catch (const host::Error& error) {
    EXPECT_EQ(error.exit(), host::Exit::kNumeric);
    EXPECT_THAT(error.what(), HasSubstr("lower outer.mask_rate"));
  }
}

}  // namespace
}  // namespace fewstep::testing
