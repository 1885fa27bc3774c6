// From a recipe's [inner] table to the rule, its learned values phi, and which
// of them the outer loop moves.
//
// phi is what checkpoints and NPZ files call `rate`: rates, then for rules with
// state the gains 1 - beta, then with learned moments m_0 and adam's s_0; with
// rate adaptation the rates, then beta's cube root (rules/rule.h); then with a
// learned mask its logits (learned_mask.h).
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_RULE_VALUES_H_
#define FEWSTEP_HOST_RULE_VALUES_H_

#include <cstdint>
#include <vector>

#include "fewstep/host/outer_element.h"
#include "fewstep/host/recipe.h"
#include "fewstep/network.h"
#include "fewstep/rules/rule.h"

namespace fewstep::host {

/// beta, and with it 1 - beta, stays where a bias correction is a number.
constexpr float kMaxBeta = 0.9999F;
constexpr float kMinGain = 1e-4F;

/// The rule of a recipe.
Rule build_rule(const InnerRecipe& inner, const Network& network);

/// phi as training starts: rates at `rate`, gains at 1 - beta, rate
/// adaptation's beta at `rate_beta` (its cube root), m_0 = 0 and s_0 = `rms`. A
/// rate_net starts as lslr: its last layer is 0, the hidden ones He-normal,
/// decays 0. An lstm's weights are normal with deviation 0.1, but for what
/// makes its first steps go against the gradient, `rate` long: forget biases
/// are 1, the first unit's candidate is sign g, and it is the direction.
/// A mask's logits start at `mask_start`.
std::vector<float> initial_phi(const InnerRecipe& inner,
                               uint64_t seed,
                               const Rule& rule,
                               const Network& network);

/// Whether the outer loop learns any of phi.
bool learns_phi(const InnerRecipe& inner);

/// The same by element, for whoever holds phi; freeze_phi() and project_phi()
/// are loops over it.
PhiElements phi_elements(const InnerRecipe& inner,
                         const Rule& rule,
                         const Network& network);

/// Zeroes the part of a meta-gradient by phi that the recipe does not learn.
void freeze_phi(const InnerRecipe& inner,
                const Rule& rule,
                const Network& network,
                std::vector<float>* d_phi);

/// Moves every beta to the nearest in [0, kMaxBeta], gains accordingly, after
/// an outer step. Rates may be of either sign.
void project_phi(const Rule& rule,
                 const Network& network,
                 std::vector<float>* phi);

/// n of eps = 10^-n; -1 when it is no power of ten from 1 to 1e-15.
int digit_of_eps(double eps);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_RULE_VALUES_H_
