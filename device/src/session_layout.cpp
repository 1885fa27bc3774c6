// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "session_layout.h"

#include "fewstep/inner_loop.h"

namespace fewstep {
namespace {

// Counts of examples and steps stay below 2^16, so that their product with any
// size of a network (below 2^26) fits 64 bits.
constexpr uint32_t kMaxCount = 0xffff;

// Parameter vectors alive at once. A step reads theta_k and writes theta_{k+1};
// theta_0 needs no buffer, being read in the capsule.
uint8_t count_buffers(const SessionOptions& options, uint32_t max_steps) {
  if (options.on_failure == OnFailure::kEntry) {
    // Those of entry stay besides: as theta_k itself while there is one step.
    return max_steps == 1 ? 2 : 3;
  }
  return max_steps == 1 && !options.continue_from_current ? 1 : 2;
}

}  // namespace

Status plan_session(const Capsule& capsule,
                    const SessionOptions& options,
                    uint32_t tile,
                    Layout* layout) {
  const Network& network = capsule.network;
  const Limits& limits = capsule.limits;
  const auto or_default = [](uint32_t value, uint32_t fallback) {
    return value != 0 ? value : fallback;
  };
  Layout& l = *layout;
  l.max_support = or_default(options.max_support, limits.support_max);
  l.max_predict = or_default(options.max_predict, limits.predict_max);
  l.max_steps = or_default(options.max_steps, limits.steps);
  if (l.max_support > kMaxCount || l.max_predict > kMaxCount ||
      l.max_steps > kMaxCount) {
    return Status::kBadArgument;
  }
  if (bounds_steps(capsule.rule) && l.max_steps > capsule.rule.steps) {
    return Status::kBadArgument;
  }
  if (options.on_failure != OnFailure::kFactory &&
      options.on_failure != OnFailure::kEntry) {
    return Status::kBadArgument;
  }
  if (network.transductive != 0) {
    l.tile = l.max_support > l.max_predict ? l.max_support : l.max_predict;
  } else if (tile >= l.max_support) {
    l.tile = l.max_support;
  } else {
    l.tile = or_default(tile, 1);
    if ((l.tile & (l.tile - 1)) != 0) return Status::kBadArgument;
  }
  l.n_buffers = count_buffers(options, l.max_steps);

  // Each term is below 2^16 * 2^28, so the sum cannot overflow 64 bits; values
  // of a whole tile are indexed with 32 bits.
  // A rule's scratch memory lies in the workspace, behind the loss, whatever
  // its size.
  const uint64_t workspace =
      workspace_values(network, l.tile) + capsule.rule.n_scratch;
  // State lives from one step to the next.
  const uint32_t n_state =
      l.max_steps == 1 ? 0 : capsule.rule.n_state_per_param;
  const uint64_t before = workspace + uint64_t{n_state} * network.n_adapted;
  const uint64_t bytes =
      (before + uint64_t{l.n_buffers} * network.n_adapted) * sizeof(float);
  const uint64_t inputs = uint64_t{l.tile} * network.n_in;
  if (workspace > 0xffffffffU || inputs > 0xffffffffU || bytes > SIZE_MAX) {
    return Status::kBadArgument;
  }
  l.buffers_at = static_cast<size_t>(before);
  l.bytes = static_cast<size_t>(bytes);
  return Status::kOk;
}

}  // namespace fewstep
