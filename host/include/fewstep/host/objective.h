// What the outer loop descends along.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_OBJECTIVE_H_
#define FEWSTEP_HOST_OBJECTIVE_H_

#include <cstdint>
#include <vector>

namespace fewstep::host {

enum class OuterMethod : uint8_t {
  kGradient,  ///< The meta-gradient: sweep().
  kReptile,   ///< theta_0 - theta_K: reptile().
};

/// What a task contributes. Everything but the steps and the minibatches may
/// change from one iteration to the next.
struct Objective {
  uint32_t steps = 1;        ///< K >= 1.
  bool second_order = true;  ///< Keep the term with H.
  /// w_0 .. w_K, the weight of the query loss after k steps. Empty: w_K = 1.
  std::vector<float> step_weights;
  OuterMethod method = OuterMethod::kGradient;
  /// The outer loop learns nothing of phi: its derivatives may be left out.
  bool fixed_phi = false;
  /// Examples that a step adapts to (minibatch.h), which divide the support
  /// set's; 0: all of them.
  uint32_t inner_batch = 0;

  /// Whether Hessian-vector products are taken.
  bool has_hessian() const {
    return second_order && method == OuterMethod::kGradient;
  }
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_OBJECTIVE_H_
