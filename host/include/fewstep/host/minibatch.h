// Minibatches of a support set: what a step of the inner loop adapts to in
// meta-training, where the recipe's inner.batch asks for it.
//
// Step k takes minibatch k mod m, so steps that follow one another have
// different examples, which Reptile's generalization comes from (Nichol et al.
// 2018, section 6). Adaptation on a device, validation and evaluation take the
// whole support set in each step.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_MINIBATCH_H_
#define FEWSTEP_HOST_MINIBATCH_H_

#include <cstdint>

#include "fewstep/config.h"

namespace fewstep::host {

/// A support set in m minibatches of n examples. Minibatch j holds examples j,
/// j + m, j + 2 m, .. of the set as its source draws it: images come class by
/// class, so each class has floor or ceil(n / ways) in it, and all the same
/// number if `ways` divides n. For training the set is put in the order of its
/// minibatches, where each lies in one piece.
struct Minibatches {
  uint32_t n;      ///< Examples of each.
  uint32_t count;  ///< m

  /// `inner_batch` divides n_support; 0: one minibatch, the whole set.
  FEWSTEP_HD Minibatches(uint32_t n_support, uint32_t inner_batch)
      : n(inner_batch == 0 ? n_support : inner_batch),
        count(inner_batch == 0 ? 1 : n_support / inner_batch) {}

  /// Where example i as drawn lies in the order of minibatches.
  FEWSTEP_HD uint32_t place_of(uint32_t i) const {
    return count == 1 ? i : i % count * n + i / count;
  }
  /// First example, in that order, of what step k adapts to.
  FEWSTEP_HD uint32_t first_of_step(uint32_t k) const { return k % count * n; }
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_MINIBATCH_H_
