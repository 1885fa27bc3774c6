// Checking a meta-gradient in double precision.
//
// The sweep of meta_gradient.h against calculations that share no derivative
// code with it: the tangent of the whole inner loop at dual numbers, and
// central differences of the query loss after adaptation.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_GRADCHECK_H_
#define FEWSTEP_HOST_GRADCHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "fewstep/host/episode.h"
#include "fewstep/network.h"
#include "fewstep/rules/rule.h"

namespace fewstep::host {

struct GradcheckOptions {
  uint32_t steps = 1;
  uint64_t seed = 1;
  uint32_t n_directions = 4;  ///< Random directions of the tangent checks.
  /// Coordinates of each quantity that central differences take, drawn at
  /// random; 0: all of them.
  uint32_t n_coordinates = 200;
  /// w_0 .. w_K of the query losses (Objective); empty: the last one's only.
  std::vector<float> step_weights;
  /// Examples of a minibatch (Objective); `episode` is as its source draws it.
  uint32_t inner_batch = 0;
  float dropout = 0.0F;  ///< p of dropout.h; masks are those of `seed`.
};

/// One comparison of numbers a (the sweep's) and n (the check's) as vectors:
/// passes when |a - n| <= tolerance |a|.
struct GradcheckResult {
  std::string check;     ///< "tangent", "first-order tangent", "differences".
  std::string quantity;  ///< "theta", "phi" or "mask".
  double error;          ///< |a - n| / |a|
  double tolerance;
  uint32_t n_values;   ///< Directions or coordinates compared.
  uint32_t n_skipped;  ///< Coordinates left out: a comparison (relu, max pool)
                       ///< comes out differently on the two sides.
  bool passed;         ///< Also false when over 1 % were skipped.
};

/// Checks the meta-gradient of `network` and `rule` on one episode at
/// initialization `theta` [P] and rule values `phi` [n_phi]:
///
/// - "tangent": second order against the tangent of the whole inner loop in
///   random directions, tolerance 1e-11;
/// - "first-order tangent": first order against the same tangent with every
///   g_k and loss_k held constant, tolerance 1e-11;
/// - "differences": second order against fourth-order central differences,
///   tolerance 1e-6, coordinate by coordinate. (Second-order differences err by
///   more than that on the rates of several steps.) h = 1e-5, or as much less,
///   down to 1e-8, as a coordinate needs: where a comparison lies between the
///   points, or the loss bends too much for them.
///
/// Of a learned mask (learned_mask.h), whose logits are apart from phi's other
/// values, the loss is piecewise constant in the logits, and what the sweep
/// gives is by definition the derivative by the mask as a continuous factor of
/// the step, at its hard value. The tangents are of that function, at dual
/// numbers whose primal parts are the hard ones; differences are not taken.
std::vector<GradcheckResult> gradcheck(const Network& network,
                                       const Rule& rule,
                                       const Episode& episode,
                                       const EpisodeShape& shape,
                                       const std::vector<double>& theta,
                                       const std::vector<double>& phi,
                                       const GradcheckOptions& options);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_GRADCHECK_H_
