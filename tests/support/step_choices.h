// What a step may have besides its rule: part of the network adapts, or what a
// learned mask lets, weight decay, clipping.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_STEP_CHOICES_H_
#define FEWSTEP_TESTS_SUPPORT_STEP_CHOICES_H_

#include <vector>

#include "support/test_network.h"
#include "support/test_rules.h"

namespace fewstep::testing {

struct StepChoice {
  const char* name;
  enum { kAll, kHead, kBody, kEnds, kContexts, kSparse } adapt;
  float weight_decay;
  float clip_norm;

  /// Changes the network, and gives the rule for it: n_phi = 0 where there is
  /// none.
  Rule rule(TestNetwork* net, const TestRule& test_rule, uint32_t steps) const {
    const std::vector<size_t> list = net->with_parameters();
    if (adapt == kHead) net->adapt(net->head());
    if (adapt == kBody) net->adapt(net->body());
    if (adapt == kEnds) net->adapt({list.front(), list.back()});
    if (adapt == kContexts) net->adapt(net->contexts());
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
