// How a session divides its arena: the one place that counts its bytes, for the
// GPU's sessions (ports/jetson) too.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_DEVICE_SRC_SESSION_LAYOUT_H_
#define FEWSTEP_DEVICE_SRC_SESSION_LAYOUT_H_

#include "fewstep/device/session.h"

namespace fewstep {

/// The arena: the workspace, the rule's state, then n_buffers vectors of as
/// many floats as there are parameters that adapt. Options with their defaults
/// filled in.
struct Layout {
  uint32_t tile;
  uint32_t max_support;
  uint32_t max_predict;
  uint32_t max_steps;
  uint8_t n_buffers;
  size_t buffers_at;  ///< Floats before the buffers.
  size_t bytes;
};

/// Plans a session for tiles of `tile` examples, as options.tile would say.
/// kBadArgument when an option is out of range or the size
/// overflows; `*layout` then holds anything.
Status plan_session(const Capsule& capsule,
                    const SessionOptions& options,
                    uint32_t tile,
                    Layout* layout);

/// Steps of an adaptation for which the caller said `steps`; above `most` it is
/// refused.
FEWSTEP_INLINE uint32_t steps_of(const Limits& limits,
                                 uint32_t steps,
                                 uint32_t most) {
  if (steps != 0) return steps;
  return limits.steps < most ? limits.steps : most;
}

/// A vector of parameters that is neither the current one nor, if these must
/// survive (entry != 0), those of entry. Vector 0 is theta_0, in the capsule;
/// count_buffers() has made as many as this can return.
FEWSTEP_INLINE uint32_t free_vector(uint32_t current, uint32_t entry) {
  uint32_t index = 1;
  while (index == current || index == entry) ++index;
  return index;
}

}  // namespace fewstep

#endif  // FEWSTEP_DEVICE_SRC_SESSION_LAYOUT_H_
