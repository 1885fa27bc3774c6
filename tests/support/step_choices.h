// What a step may have besides its rule: part of the network adapts, or what a
// learned mask lets, weight decay, clipping.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_STEP_CHOICES_H_
#define FEWSTEP_TESTS_SUPPORT_STEP_CHOICES_H_

#include <vector>

#include "fewstep/adapted.h"
#include "support/test_rules.h"

namespace fewstep::testing {

struct StepChoice {
  const char* name;
  enum { kAll, kHead, kBody, kEnds, kContexts, kSparse } adapt;
  float weight_decay;
  float clip_norm;

  /// The layers that adapt, of those with parameters.
  std::vector<size_t> layers(const std::vector<Layer>& all) const {
    std::vector<size_t> list;
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i].n_params() != 0) list.push_back(i);
    }
    switch (adapt) {
      case kAll:
      case kSparse: break;
      case kHead: return {list.back()};
      case kBody: list.pop_back(); break;
      case kEnds: return {list.front(), list.back()};
      case kContexts: {
        std::vector<size_t> contexts;
        for (const size_t i : list) {
          if (all[i].op == LayerOp::kContext) contexts.push_back(i);
        }
        return contexts;
      }
    }
    return list;
  }

  /// Changes the network (a TestNetwork), and gives the rule for it.
  template <class Net>
  Rule rule(Net* net, const TestRule& test_rule, uint32_t steps) const {
    if (adapt != kAll && adapt != kSparse) net->adapt(layers(net->layers));
    Rule made = test_rule.make(steps, net->network);
    made.weight_decay = weight_decay;
    made.clip_norm = clip_norm;
    if (adapt == kSparse && made.op == RuleOp::kRateNet) made.n_phi = 0;
    if (adapt == kSparse && made.n_phi != 0) {
      made.learned_mask = true;
      made.n_phi += net->network.n_params;
    }
    return made;
  }
};

/// On the zoo's gradients; clipping acts in some steps.
inline constexpr StepChoice kStepChoices[] = {
    {"head", StepChoice::kHead, 0.0F, 0.0F},
    {"body", StepChoice::kBody, 0.0F, 0.0F},
    {"decay", StepChoice::kAll, 0.0625F, 0.0F},
    {"clip", StepChoice::kAll, 0.0F, 0.375F},
    {"head_decay_clip", StepChoice::kHead, 0.0625F, 0.25F},
    {"ends_decay_clip", StepChoice::kEnds, 0.0625F, 0.375F},
    {"sparse", StepChoice::kSparse, 0.0F, 0.0F},
    {"sparse_decay_clip", StepChoice::kSparse, 0.0625F, 0.375F},
};

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_STEP_CHOICES_H_
