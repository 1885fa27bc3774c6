// From what the outer loop learned of a mask to what a capsule holds, and back.
//
// Training has a logit for each parameter and phi for all of them
// (learned_mask.h); a capsule has the mask, and of phi what belongs to
// parameters, and to tensors of layers, that adapt (sparse_mask.h).
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_MASK_PACKING_H_
#define FEWSTEP_HOST_MASK_PACKING_H_

#include <cstdint>
#include <span>
#include <vector>

#include "fewstep/capsule.h"
#include "fewstep/network.h"
#include "fewstep/rules/rule.h"
#include "fewstep/sparse_mask.h"

namespace fewstep::host {

/// A network as a capsule with a learned mask has it. Moves, does not copy.
struct MaskedNetwork {
  Network network;  ///< Points into `table`.
  std::vector<uint32_t> table;
  bool adapts = false;  ///< false: no logit is >= 0, `network` is unchanged.

  /// @param logits  [P]
  MaskedNetwork(const Network& whole, std::span<const float> logits);
  MaskedNetwork(MaskedNetwork&&) = default;
  MaskedNetwork& operator=(MaskedNetwork&&) = default;
};

/// Indices of the values of a rule's phi for `whole`, logits aside, that a
/// capsule of `masked` keeps, ascending: as many as its own rule has.
///
/// @param rule  Of all parameters.
std::vector<uint32_t> kept_phi(const Rule& rule,
                               const Network& whole,
                               const Network& masked);

/// A capsule with a mask as training would have it, step by step the same bits:
/// logits are +1 and -1, rates of what the mask stops 0.
struct Unmasked {
  Network network;
  Rule rule;
  std::vector<float> phi;  ///< [rule.n_phi]
};
Unmasked unmask(const Capsule& capsule);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_MASK_PACKING_H_
