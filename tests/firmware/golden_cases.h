// The networks, rules and storages that golden_capsules writes by name.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_FIRMWARE_GOLDEN_CASES_H_
#define FEWSTEP_TESTS_FIRMWARE_GOLDEN_CASES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "fewstep/capsule.h"
#include "fewstep/network.h"
#include "fewstep/rules/rule.h"

namespace fewstep {

inline Layer dense(uint16_t units) {
  Layer l = {};
  l.op = LayerOp::kDense;
  l.out_c = units;
  return l;
}
inline Layer conv2d(uint16_t filters,
                    uint8_t kernel,
                    uint8_t stride,
                    uint8_t pad) {
  Layer l = {};
  l.op = LayerOp::kConv2d;
  l.out_c = filters;
  l.kernel = kernel;
  l.stride = stride;
  l.pad = pad;
  return l;
}
inline Layer max_pool(uint8_t kernel, uint8_t stride) {
  Layer l = {};
  l.op = LayerOp::kMaxPool;
  l.kernel = kernel;
  l.stride = stride;
  return l;
}
inline Layer group_norm(uint16_t groups) {
  Layer l = {};
  l.op = LayerOp::kGroupNorm;
  l.groups = groups;
  return l;
}
inline Layer plain(LayerOp op) {
  Layer l = {};
  l.op = op;
  return l;
}

struct Case {
  std::string name;
  uint16_t c, h, w;
  std::vector<Layer> layers;
  LossOp loss;
  RuleOp rule;
  uint16_t steps;
  Storage init, rates;
  uint32_t n_support;
  RuleOptions options = {};
};

inline std::vector<Case> cases() {
  const Layer relu = plain(LayerOp::kRelu);
  const Layer tanh = plain(LayerOp::kTanh);
  const Layer flatten = plain(LayerOp::kFlatten);
  const Layer average = plain(LayerOp::kGlobalAvgPool);
  const Layer batch_norm = plain(LayerOp::kBatchNorm);
  constexpr LossOp kMse = LossOp::kMeanSquaredError;
  constexpr LossOp kCe = LossOp::kSoftmaxCrossEntropy;
  constexpr Storage kF32 = Storage::kF32;
  constexpr Storage kF16 = Storage::kF16;
  constexpr Storage kLog8 = Storage::kLog8;
  return {
      {"sinusoid",
       1,
       1,
       1,
       {dense(40), relu, dense(40), relu, dense(1)},
       kMse,
       RuleOp::kMetaSgd,
       3,
       kF32,
       kF32,
       10},
      {"tanh_f16_log8",
       3,
       1,
       1,
       {dense(17), tanh, dense(9), tanh, dense(2)},
       kMse,
       RuleOp::kMetaSgd,
       2,
       kF16,
       kLog8,
       7},
      {"classes",
       13,
       1,
       1,
       {dense(32), relu, dense(5)},
       kCe,
       RuleOp::kLslr,
       3,
       kF32,
       kF32,
       25},
      {"conv_group_norm",
       1,
       14,
       14,
       {conv2d(8, 3, 2, 1),
        group_norm(4),
        relu,
        conv2d(6, 3, 1, 0),
        group_norm(1),
        tanh,
        flatten,
        dense(5)},
       kCe,
       RuleOp::kMetaSgd,
       2,
       kF16,
       kF16,
       5},
      {"conv_pool",
       2,
       11,
       9,
       {conv2d(5, 3, 1, 1),
        relu,
        max_pool(2, 2),
        conv2d(7, 2, 1, 0),
        tanh,
        max_pool(2, 2),
        average,
        dense(3)},
       kCe,
       RuleOp::kSgd,
       3,
       kF32,
       kF32,
       6},
      {"batch_norm",
       1,
       12,
       12,
       {conv2d(6, 3, 1, 0),
        batch_norm,
        relu,
        max_pool(2, 2),
        conv2d(4, 3, 1, 1),
        batch_norm,
        relu,
        dense(4)},
       kCe,
       RuleOp::kLslr,
       2,
       kF16,
       kLog8,
       8},
      {"average_regression",
       3,
       8,
       8,
       {conv2d(4, 5, 2, 2),
        relu,
        average,
        dense(6),
        group_norm(2),
        relu,
        dense(2)},
       kMse,
       RuleOp::kSgd,
       1,
       kF16,
       kF16,
       4},
      // The three networks whose cost is bounded (cost_test.sh).
      {"network_a",
       1,
       1,
       1,
       {dense(40), relu, dense(40), relu, dense(1)},
       kMse,
       RuleOp::kMetaSgd,
       1,
       kF32,
       kF32,
       10},
      {"network_b",
       64,
       1,
       1,
       {dense(32), relu, dense(5)},
       kCe,
       RuleOp::kMetaSgd,
       1,
       kF32,
       kF32,
       25},
      {"network_c",
       1,
       28,
       28,
       {conv2d(8, 3, 2, 1),
        relu,
        conv2d(16, 3, 2, 1),
        relu,
        conv2d(16, 3, 2, 1),
        relu,
        dense(5)},
       kCe,
       RuleOp::kMetaSgd,
       1,
       kF32,
       kF32,
       5},
      // Others to calibrate with (tools/calibrate_core.sh).
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
      {"momentum",
       13,
       1,
       1,
       {dense(32), relu, dense(5)},
       kCe,
       RuleOp::kMomentum,
       3,
       kF16,
       kF32,
       25,
       mean_options(RateLayout::kTensorStep, false, 0)},
      {"adam",
       1,
       1,
       1,
       {dense(40), relu, dense(40), relu, dense(1)},
       kMse,
       RuleOp::kAdam,
       3,
       kF32,
       kF32,
       10,
       mean_options(RateLayout::kScalar, false, 8)},
      {"adam_learned",
       3,
       1,
       1,
       {dense(17), tanh, dense(9), tanh, dense(2)},
       kMse,
       RuleOp::kAdam,
       2,
       kF16,
       kF16,
       7,
       mean_options(RateLayout::kParameter, true, 3)},
  };
}

}  // namespace fewstep

#endif  // FEWSTEP_TESTS_FIRMWARE_GOLDEN_CASES_H_
