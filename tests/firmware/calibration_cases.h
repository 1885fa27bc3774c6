// The steps that tools/calibrate_core.sh measures, beside the three networks
// whose cost is bounded (golden_cases.h): what `fewstep inspect` estimates
// from.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_FIRMWARE_CALIBRATION_CASES_H_
#define FEWSTEP_TESTS_FIRMWARE_CALIBRATION_CASES_H_

#include <string>
#include <vector>

#include "golden_cases.h"

namespace fewstep {

/// Networks of layers, all with meta_sgd and f32.
inline std::vector<Case> calibration_networks() {
  const Layer relu = plain(LayerOp::kRelu);
  const Layer tanh = plain(LayerOp::kTanh);
  const Layer average = plain(LayerOp::kGlobalAvgPool);
  constexpr LossOp kMse = LossOp::kMeanSquaredError;
  constexpr LossOp kCe = LossOp::kSoftmaxCrossEntropy;
  constexpr Storage kF32 = Storage::kF32;
  return {
      {"network_d",
       20,
       1,
       1,
       {dense(24), tanh, dense(12), relu, dense(3)},
       kMse,
       RuleOp::kMetaSgd,
       1,
       kF32,
       kF32,
       9},
      {"network_e",
       2,
       12,
       12,
       {conv2d(8, 3, 1, 1),
        group_norm(4),
        relu,
        max_pool(2, 2),
        conv2d(12, 3, 1, 1),
        group_norm(4),
        relu,
        max_pool(2, 2),
        dense(4)},
       kCe,
       RuleOp::kMetaSgd,
       1,
       kF32,
       kF32,
       6},
      {"network_f",
       1,
       20,
       20,
       {conv2d(12, 5, 2, 2), relu, conv2d(8, 3, 1, 0), tanh, average, dense(3)},
       kCe,
       RuleOp::kMetaSgd,
       1,
       kF32,
       kF32,
       4},
      {"network_g",
       1,
       28,
       28,
       {conv2d(16, 3, 2, 1),
        group_norm(4),
        relu,
        conv2d(24, 3, 2, 1),
        group_norm(4),
        relu,
        conv2d(32, 3, 2, 1),
        group_norm(4),
        relu,
        dense(5)},
       kCe,
       RuleOp::kMetaSgd,
       1,
       kF32,
       kF32,
       5},
      {"network_h",
       8,
       1,
       1,
       {dense(50), relu, dense(50), relu, dense(10)},
       kCe,
       RuleOp::kMetaSgd,
       1,
       kF32,
       kF32,
       16},
      {"network_i",
       3,
       16,
       16,
       {conv2d(8, 3, 1, 1),
        relu,
        max_pool(2, 2),
        conv2d(16, 3, 1, 1),
        relu,
        max_pool(2, 2),
        conv2d(16, 3, 1, 1),
        relu,
        average,
        dense(5)},
       kCe,
       RuleOp::kMetaSgd,
       1,
       kF32,
       kF32,
       5},
  };
}

/// Four small networks with every other rule, storage of learned values, step
/// option, context and mask. Names begin with what they are there for.
inline std::vector<Case> calibration_rules() {
  const Layer relu = plain(LayerOp::kRelu);
  const Layer tanh = plain(LayerOp::kTanh);
  constexpr LossOp kMse = LossOp::kMeanSquaredError;
  constexpr LossOp kCe = LossOp::kSoftmaxCrossEntropy;
  constexpr Storage kF32 = Storage::kF32;
  constexpr Storage kF16 = Storage::kF16;
  constexpr Storage kLog8 = Storage::kLog8;
  using Layers = std::vector<Layer>;
  std::vector<Case> all;
  const auto add = [&](const char* name,
                       uint16_t c,
                       uint16_t edge,
                       const Layers& layers,
                       LossOp loss,
                       uint32_t n) -> Case& {
    Case made = {};
    made.name = name;
    made.c = c;
    made.h = made.w = edge;
    made.layers = layers;
    made.loss = loss;
    made.rule = RuleOp::kMetaSgd;
    made.steps = 3;
    made.init = made.rates = kF32;
    made.n_support = n;
    all.push_back(made);
    return all.back();
  };
  const auto sinusoid = [&](const char* name) -> Case& {
    return add(
        name, 1, 1, {dense(40), relu, dense(40), relu, dense(1)}, kMse, 10);
  };
  const auto classes = [&](const char* name) -> Case& {
    return add(name, 13, 1, {dense(32), relu, dense(5)}, kCe, 25);
  };
  const auto small = [&](const char* name) -> Case& {
    return add(
        name, 3, 1, {dense(17), tanh, dense(9), tanh, dense(2)}, kMse, 7);
  };
  const auto images = [&](const char* name) -> Case& {
    return add(name,
               1,
               14,
               {conv2d(8, 3, 2, 1),
                group_norm(4),
                relu,
                conv2d(16, 3, 2, 1),
                relu,
                dense(5)},
               kCe,
               5);
  };
  const auto with = [](Case& c, RuleOp rule, RuleOptions options) -> Case& {
    c.rule = rule;
    c.options = options;
    return c;
  };
  constexpr RateLayout kScalar = RateLayout::kScalar;
  constexpr RateLayout kTensorStep = RateLayout::kTensorStep;
  constexpr RateLayout kParameter = RateLayout::kParameter;

  // The same without activations, or with others.
  add("layers_small", 3, 1, {dense(17), dense(9), dense(2)}, kMse, 7);
  add("layers_small_relu",
      3,
      1,
      {dense(17), relu, dense(9), relu, dense(2)},
      kMse,
      7);
  add("layers_d_relu",
      20,
      1,
      {dense(24), relu, dense(12), relu, dense(3)},
      kMse,
      9);
  add("layers_five_inputs",
      5,
      1,
      {dense(40), relu, dense(40), relu, dense(1)},
      kMse,
      10);
  add("layers_tanh",
      13,
      1,
      {dense(50), relu, dense(16), tanh, dense(5)},
      kCe,
      16);

  add("layers_tanh_wide", 4, 1, {dense(60), tanh, dense(3)}, kMse, 8);
  add("layers_tanh_deep",
      8,
      1,
      {dense(20), tanh, dense(16), tanh, dense(12), tanh, dense(4)},
      kCe,
      12);
  add("layers_wide_relu", 2, 1, {dense(64), relu, dense(2)}, kMse, 9);
  // Filters beside fours, and other kernels than 3x3.
  const Layer average = plain(LayerOp::kGlobalAvgPool);
  add("odd_pool",
      3,
      12,
      {conv2d(6, 3, 1, 1),
       relu,
       max_pool(2, 2),
       conv2d(9, 3, 1, 0),
       relu,
       dense(3)},
      kCe,
      5);
  add("odd_five",
      1,
      16,
      {conv2d(7, 5, 2, 2), relu, conv2d(5, 3, 2, 1), relu, dense(4)},
      kCe,
      6);
  add("odd_two",
      2,
      10,
      {conv2d(4, 2, 2, 0), relu, conv2d(6, 2, 1, 0), tanh, average, dense(3)},
      kMse,
      7);
  add("odd_one",
      3,
      8,
      {conv2d(5, 5, 1, 2), relu, conv2d(3, 1, 1, 0), relu, dense(2)},
      kMse,
      4);
  add("odd_norm",
      1,
      14,
      {conv2d(10, 3, 2, 1),
       group_norm(5),
       relu,
       conv2d(7, 3, 1, 0),
       group_norm(1),
       tanh,
       dense(5)},
      kCe,
      5);
  add("odd_frozen",
      1,
      15,
      {conv2d(7, 3, 2, 1), relu, conv2d(6, 3, 1, 1), relu, dense(4)},
      kCe,
      5)
      .adapt = {4};
  add("odd_three",
      4,
      12,
      {conv2d(8, 2, 2, 0), relu, conv2d(8, 4, 1, 1), relu, dense(3)},
      kCe,
      4);
  add("odd_frozen_wide",
      2,
      12,
      {conv2d(6, 3, 1, 1), relu, conv2d(11, 3, 1, 1), relu, dense(3)},
      kCe,
      3)
      .adapt = {4};
  add("odd_frozen_few",
      6,
      9,
      {conv2d(3, 3, 1, 0), relu, conv2d(7, 3, 1, 1), tanh, dense(3)},
      kMse,
      5)
      .adapt = {4};
  add("odd_all",
      4,
      10,
      {conv2d(7, 3, 1, 1), relu, conv2d(5, 3, 1, 1), relu, dense(2)},
      kMse,
      3);
  add("odd_frozen_three",
      5,
      10,
      {conv2d(8, 2, 1, 0), relu, conv2d(7, 4, 2, 1), relu, dense(3)},
      kCe,
      4)
      .adapt = {4};
  add("odd_frozen_norm",
      3,
      10,
      {conv2d(9, 3, 1, 1), relu, average, dense(3)},
      kCe,
      4)
      .adapt = {3};
  add("odd_frozen_two",
      2,
      9,
      {conv2d(5, 2, 1, 0), relu, average, dense(3)},
      kCe,
      4)
      .adapt = {3};
  add("five_whole",
      4,
      12,
      {conv2d(8, 5, 1, 2), relu, conv2d(8, 5, 2, 2), relu, dense(3)},
      kCe,
      3);
  // Weights that are read as f16: frozen, masked, or at theta_0.
  Case& f16_above = classes("f16_weights_classes");
  f16_above.adapt = {0};
  f16_above.init = kF16;
  Case& f16_below = images("f16_weights_images");
  f16_below.adapt = {5};
  f16_below.init = kF16;
  Case& f16_above_images = images("f16_weights_images_above");
  f16_above_images.adapt = {0};
  f16_above_images.init = kF16;
  Case& f16_sinusoid = sinusoid("f16_weights_one_step");
  f16_sinusoid.steps = 1;
  f16_sinusoid.init = kF16;
  Case& f16_images = images("f16_weights_images_one_step");
  f16_images.steps = 1;
  f16_images.init = kF16;
  Case& f16_mask = classes("f16_weights_mask");
  f16_mask.mask = 0x9e3779b9U;
  f16_mask.init = kF16;
  Case& f16_mask_images = images("f16_weights_mask_images");
  f16_mask_images.mask = 0x85ebca6bU;
  f16_mask_images.init = kF16;
  // Frozen layers, above one that adapts and below.
  classes("frozen_above").adapt = {0};
  add("frozen_tanh",
      20,
      1,
      {dense(24), tanh, dense(12), relu, dense(3)},
      kMse,
      9)
      .adapt = {0};
  add("frozen_wide",
      8,
      1,
      {context(6), dense(50), relu, dense(50), relu, dense(10)},
      kCe,
      16)
      .adapt = {0};
  sinusoid("frozen_below").adapt = {4};
  classes("frozen_below_classes").adapt = {2};
  images("frozen_below_images").adapt = {5};
  images("frozen_above_images").adapt = {0};
  add("frozen_below_pool",
      3,
      12,
      {conv2d(8, 3, 1, 1),
       relu,
       max_pool(2, 2),
       conv2d(10, 5, 1, 0),
       relu,
       dense(4)},
      kCe,
      4)
      .adapt = {5};
  add("frozen_below_norm",
      2,
      12,
      {conv2d(8, 3, 1, 1),
       group_norm(2),
       relu,
       conv2d(12, 3, 1, 0),
       relu,
       dense(4)},
      kCe,
      6)
      .adapt = {5};
  add("frozen_below_five", 1, 20, {conv2d(12, 5, 2, 2), tanh, dense(3)}, kCe, 4)
      .adapt = {2};
  add("frozen_below_wide",
      1,
      28,
      {conv2d(8, 3, 2, 1), relu, conv2d(16, 3, 2, 1), relu, dense(5)},
      kCe,
      5)
      .adapt = {4};

  // Learned rates as they are stored.
  sinusoid("f16_sinusoid").rates = kF16;
  classes("f16_classes").rates = kF16;
  images("f16_images").rates = kF16;
  sinusoid("log8_sinusoid").rates = kLog8;
  classes("log8_classes").rates = kLog8;
  images("log8_images").rates = kLog8;
  with(sinusoid("sgd_sinusoid"), RuleOp::kSgd, {});
  with(classes("lslr_classes"), RuleOp::kLslr, {});

  with(classes("momentum_classes"),
       RuleOp::kMomentum,
       mean_options(kScalar, false));
  with(sinusoid("momentum_sinusoid"),
       RuleOp::kMomentum,
       mean_options(kParameter, true));
  with(images("momentum_images"),
       RuleOp::kMomentum,
       mean_options(kTensorStep, false));
  with(classes("momentum_classes_log8"),
       RuleOp::kMomentum,
       mean_options(kParameter, false))
      .rates = kLog8;
  with(small("momentum_small_log8"),
       RuleOp::kMomentum,
       mean_options(kParameter, true))
      .rates = kLog8;

  with(classes("momentum_one_step"),
       RuleOp::kMomentum,
       mean_options(kScalar, true))
      .steps = 1;

  with(classes("adam_classes"),
       RuleOp::kAdam,
       mean_options(kParameter, true, 8));
  with(sinusoid("adam_sinusoid"),
       RuleOp::kAdam,
       mean_options(kScalar, false, 8));
  with(images("adam_images"),
       RuleOp::kAdam,
       mean_options(kTensorStep, false, 8));
  with(small("adam_small_one_step"),
       RuleOp::kAdam,
       mean_options(kParameter, true, 8))
      .steps = 1;

  with(sinusoid("online_sinusoid"), RuleOp::kOnlineMetaSgd, online_options());
  with(classes("online_classes"), RuleOp::kOnlineMetaSgd, online_options());
  with(images("online_images_log8"), RuleOp::kOnlineMetaSgd, online_options())
      .rates = kLog8;

  with(sinusoid("rate_net_sinusoid"),
       RuleOp::kRateNet,
       rate_net_options(12, true));
  with(small("rate_net_small"), RuleOp::kRateNet, rate_net_options(30, true));
  with(classes("rate_net_classes_f16"),
       RuleOp::kRateNet,
       rate_net_options(20, false))
      .rates = kF16;
  with(images("rate_net_images"), RuleOp::kRateNet, rate_net_options(30, true));

  with(small("lstm_small"), RuleOp::kLstm, lstm_options(8));
  with(classes("lstm_classes"), RuleOp::kLstm, lstm_options(4));
  with(small("lstm_small_f16"), RuleOp::kLstm, lstm_options(20)).rates = kF16;
  with(classes("lstm_classes_f16"), RuleOp::kLstm, lstm_options(8)).rates =
      kF16;
  with(sinusoid("lstm_sinusoid_f16"), RuleOp::kLstm, lstm_options(12)).rates =
      kF16;
  with(images("lstm_images"), RuleOp::kLstm, lstm_options(5));
  with(sinusoid("lstm_sinusoid_one_step"), RuleOp::kLstm, lstm_options(8))
      .steps = 1;

  add("context_sinusoid",
      1,
      1,
      {context(4), dense(40), relu, dense(40), relu, dense(1)},
      kMse,
      10)
      .adapt = {0};
  add("context_sinusoid_all",
      1,
      1,
      {context(4), dense(40), relu, dense(40), relu, dense(1)},
      kMse,
      10);
  add("context_inside",
      13,
      1,
      {dense(30), relu, context(20), dense(7), tanh, context(9), dense(5)},
      kCe,
      16);
  add("context_wide",
      40,
      1,
      {context(24), dense(16), tanh, context(30), dense(2)},
      kMse,
      12)
      .adapt = {0, 3};

  sinusoid("decay_sinusoid").weight_decay = 0.0625F;
  classes("clip_classes").clip_norm = 0.25F;
  Case& both = images("decay_clip_images");
  both.weight_decay = 0.03125F;
  both.clip_norm = 0.25F;
  Case& both_small = small("decay_clip_small");
  both_small.weight_decay = 0.03125F;
  both_small.clip_norm = 0.25F;

  sinusoid("mask_sinusoid").mask = 0x9e3779b9U;
  classes("mask_classes").mask = 0x85ebca6bU;
  small("mask_small").mask = 0x02c00001U;
  images("mask_images").mask = 0x9e3779b9U;
  add("mask_convolutions",
      2,
      11,
      {conv2d(5, 3, 1, 1), relu, conv2d(12, 3, 1, 0), tanh, dense(3)},
      kCe,
      6)
      .mask = 0x85ebca6bU;
  add("mask_wide", 64, 1, {dense(32), relu, dense(5)}, kCe, 12).mask =
      0x9e3779b9U;
  Case& once = sinusoid("mask_sinusoid_one_step");
  once.mask = 0x9e3779b9U;
  once.steps = 1;
  Case& images_once = images("mask_images_one_step");
  images_once.mask = 0x85ebca6bU;
  images_once.steps = 1;
  return all;
}

/// All of them, with the three.
inline std::vector<Case> calibration_cases() {
  std::vector<Case> all;
  for (const Case& c : cases()) {
    if (c.name.rfind("network_", 0) == 0) all.push_back(c);
  }
  for (const Case& c : calibration_networks()) all.push_back(c);
  for (const Case& c : calibration_rules()) all.push_back(c);
  return all;
}

}  // namespace fewstep

#endif  // FEWSTEP_TESTS_FIRMWARE_CALIBRATION_CASES_H_
