// From trained parameters to the capsule that ships.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_PACK_H_
#define FEWSTEP_HOST_PACK_H_

#include <cstdint>
#include <span>

#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/recipe.h"
#include "fewstep/host/task_source.h"

namespace fewstep::host {

/// What training learned.
struct Trained {
  std::span<const float> theta;  ///< [P]
  std::span<const float> rate;   ///< [n_phi]
  std::int64_t iteration = 0;    ///< Provenance: after how many iterations.
};

/// The capsule that `recipe` asks for. Deterministic: the same arguments give
/// the same bytes on every machine.
///
/// @param source  Gives the limits that the recipe leaves open and the golden
///     episode: task 0 of the test split, or of the training split when there
///     is no other. May be null where needs_source() is false.
///
/// @throws Error  kBadData when the lengths do not fit the recipe's network,
///     kUsage when a value does not fit its storage, kNumeric when one is not
///     finite or the golden episode diverges.
CapsuleBytes pack_capsule(const Recipe& recipe,
                          const Trained& trained,
                          const TaskSource* source);

/// Whether pack_capsule() needs the recipe's data: for a golden episode, and
/// for the limits of `episodes`.
bool needs_source(const Recipe& recipe);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_PACK_H_
