// Every rule in the layouts that tests run it in.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_TEST_RULES_H_
#define FEWSTEP_TESTS_SUPPORT_TEST_RULES_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>

#include "fewstep/rules/rule.h"

namespace fewstep::testing {

/// A rule by name, with its options.
struct TestRule {
  const char* name;
  RuleOp op;
  RuleOptions options = {};
  /// Of phi where gradients are checked: a draw whose steps leave units of the
  /// zoo's networks alive, so that a fault has something to show in.
  uint32_t phi_seed = 3;

  Rule make(uint32_t steps, const Network& network) const {
    return make_rule(op, static_cast<uint16_t>(steps), network, options);
  }
};
inline void PrintTo(const TestRule& r, std::ostream* os) { *os << r.name; }

/// eps = 0.1 keeps adam smooth where gradients change sign: central differences
/// reach their tolerance.
inline constexpr uint8_t kTestEps = 1;

inline constexpr TestRule kStatelessRules[] = {
    {"sgd", RuleOp::kSgd},
    {"lslr", RuleOp::kLslr},
    {"meta_sgd", RuleOp::kMetaSgd},
};
inline constexpr TestRule kStateRules[] = {
    {"momentum",
     RuleOp::kMomentum,
     mean_options(RateLayout::kScalar, false, 0)},
    {"momentum_tensor_step",
     RuleOp::kMomentum,
     mean_options(RateLayout::kTensorStep, true, 0)},
    {"momentum_parameter",
     RuleOp::kMomentum,
     mean_options(RateLayout::kParameter, false, 0)},
    {"adam",
     RuleOp::kAdam,
     mean_options(RateLayout::kScalar, false, kTestEps),
     6},
    {"adam_tensor_step",
     RuleOp::kAdam,
     mean_options(RateLayout::kTensorStep, false, kTestEps)},
    {"adam_parameter",
     RuleOp::kAdam,
     mean_options(RateLayout::kParameter, true, kTestEps)},
    {"online_meta_sgd", RuleOp::kOnlineMetaSgd, online_options()},
};
inline constexpr TestRule kLearnedRules[] = {
    {"rate_net", RuleOp::kRateNet, rate_net_options(3, false), 4},
    {"rate_net_decay", RuleOp::kRateNet, rate_net_options(4, true), 4},
    {"lstm", RuleOp::kLstm, lstm_options(3), 5},
};
inline constexpr TestRule kTestRules[] = {
    kStatelessRules[0],
    kStatelessRules[1],
    kStatelessRules[2],
    kStateRules[0],
    kStateRules[1],
    kStateRules[2],
    kStateRules[3],
    kStateRules[4],
    kStateRules[5],
    kLearnedRules[0],
    kLearnedRules[1],
    kLearnedRules[2],
    kStateRules[6],
};

/// For INSTANTIATE_TEST_SUITE_P.
inline constexpr auto kRuleName = [](const auto& row) {
  return std::string(row.param.name);
};

/// Which rate parameter i uses at step k (DESIGN section 6).
inline uint32_t rate_index(const Rule& rule,
                           const Network& network,
                           uint32_t i,
                           uint32_t k) {
  if (rule.op == RuleOp::kSgd) return 0;
  if (rule.op == RuleOp::kMetaSgd) return i;
  if (rule.op != RuleOp::kLslr) {
    if ((rule.options.bits & 3) == 0) return 0;
    if ((rule.options.bits & 3) == 2) return i;
  }
  uint32_t tensor = 0;
  for (uint32_t l = 0; l < network.n_layers; ++l) {
    if (network.layers[l].n_params() == 0) continue;
    for (const uint32_t n :
         {network.layers[l].n_weights, network.layers[l].n_biases}) {
      if (i < n) return tensor * rule.steps + k;
      i -= n;
      ++tensor;
    }
  }
  ADD_FAILURE() << "parameter beyond the network";
  return 0;
}

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_TEST_RULES_H_
