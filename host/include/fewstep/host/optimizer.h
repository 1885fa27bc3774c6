// Outer optimizers: how meta-gradients move the initialization and the rule.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_OPTIMIZER_H_
#define FEWSTEP_HOST_OPTIMIZER_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "fewstep/host/outer_element.h"
#include "fewstep/host/recipe.h"

namespace fewstep::host {

/// The best validation so far (validation.h).
struct BestValidation {
  float score = -INFINITY;  ///< Accuracy for classes, else minus the loss.
  int64_t iteration = -1;   ///< -1: none.
  /// Tasks that diverged in it; while there is none, in the last validation, of
  /// which it was every task.
  int64_t n_diverged = 0;
};

/// Iterations since the last line of losses in metrics.jsonl.
struct LossInterval {
  double sum = 0.0;
  int64_t n = 0;
  int64_t n_dropped = 0;  ///< Tasks.
};

/// Everything the outer loop learns and remembers: what a checkpoint holds.
struct OuterState {
  std::vector<float> theta;  ///< Initialization, [P].
  std::vector<float> phi;    ///< The rule's learned values, [n_phi].
  std::vector<float> m, v;   ///< Adam's moments, [P + n_phi]; else empty.
  float beta1_power = 1.0F;  ///< beta1^t and beta2^t, by running product.
  float beta2_power = 1.0F;
  int64_t iteration = 0;  ///< Steps done.

  BestValidation best;
  LossInterval losses;
};

/// Rate of iteration `iteration` (0-based) of `n`: constant, or
/// min + (rate - min) (1 + cos(pi iteration / n)) / 2.
float scheduled_rate(const OuterRecipe& outer, int64_t iteration);

/// The same for a learned mask's logits: outer.mask_rate in the place of
/// outer.rate.
float scheduled_mask_rate(const OuterRecipe& outer, int64_t iteration);

/// The same for what the rule learns: outer.rule_rate in the place of
/// outer.rate, and falling in the same proportion.
float scheduled_rule_rate(const OuterRecipe& outer, int64_t iteration);

/// The objective of iteration `iteration` (0-based), written to `*objective`,
/// whose storage is kept:
///
/// - order annealing: first order before iteration outer.order_annealing;
/// - multi-step loss, at iteration i < n = outer.multi_step_iterations:
///     w_0 = 0,  w_k = (1 - i / n) / K for 0 < k < K,  w_K = 1 - their sum,
///   and the last step alone from iteration n on.
///
/// (Antoniou et al. 2019, section 3: multi-step loss, derivative-order
/// annealing.) A function of the recipe and the iteration, so a resumed run
/// goes on with the same bits.
void scheduled_objective(const Recipe& recipe,
                         int64_t iteration,
                         Objective* objective);

/// The numbers of the next step, and `*state` after it but for what is learned:
/// the iteration and the powers of the betas go on.
OuterStep next_step(const OuterRecipe& outer, OuterState* state);

/// One step on theta and, if `learn_phi`, phi, with gradients d_theta [P] and
/// d_phi [n_phi], which are overwritten:
///
///   clip   g <- g min(1, clip_norm / |g|), |g| over everything learned
///   decay  theta <- theta - rate weight_decay theta
///   sgd    x <- x - rate g
///   adam   m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
///          x <- x - rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
///
/// (Kingma & Ba 2015; decay apart from the gradient: Loshchilov & Hutter 2019;
/// what the rule learns does not decay, and steps by scheduled_rule_rate().) In
/// float throughout, each operation rounded once, by the functions of
/// outer_element.h, which the GPU's step calls too: the same on every engine.
/// Returns |g| before clipping.
///
/// @param n_logits  The last values of phi, which are a learned mask's and step
///                  by scheduled_mask_rate().
float outer_step(const OuterRecipe& outer,
                 bool learn_phi,
                 std::vector<float>& d_theta,
                 std::vector<float>& d_phi,
                 OuterState* state,
                 uint32_t n_logits = 0);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_OPTIMIZER_H_
