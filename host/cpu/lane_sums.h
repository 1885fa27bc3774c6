// Sums over lanes: over the tasks of a group.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_LANE_SUMS_H_
#define FEWSTEP_HOST_CPU_LANE_SUMS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fewstep/host/lanes.h"

namespace fewstep::host {

namespace internal {

using Four = float __attribute__((vector_size(16)));
using Eight = float __attribute__((vector_size(32)));

inline Four load_four(const float* p) {
  Four v;
  memcpy(&v, p, sizeof v);
  return v;
}

/// Rows <-> columns of both halves, each 4 x 4.
inline void turn(Eight (&r)[4]) {
  const Eight a = __builtin_shufflevector(r[0], r[1], 0, 8, 1, 9, 4, 12, 5, 13);
  const Eight b = __builtin_shufflevector(r[2], r[3], 0, 8, 1, 9, 4, 12, 5, 13);
  const Eight c =
      __builtin_shufflevector(r[0], r[1], 2, 10, 3, 11, 6, 14, 7, 15);
  const Eight d =
      __builtin_shufflevector(r[2], r[3], 2, 10, 3, 11, 6, 14, 7, 15);
  r[0] = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
  r[1] = __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  r[2] = __builtin_shufflevector(c, d, 0, 1, 8, 9, 4, 5, 12, 13);
  r[3] = __builtin_shufflevector(c, d, 2, 3, 10, 11, 6, 7, 14, 15);
}

/// add_lanes() for eight sums, which advance together.
inline void add_lanes_of_eight(const float* values,
                               uint32_t used,
                               bool first,
                               float* sums) {
  Eight sum = {};
  if (!first) memcpy(&sum, sums, sizeof sum);
  FEWSTEP_UNROLL(4)
  for (int lane = 0; lane < kLanes; lane += 4) {
    // Lanes lane .. lane + 3 of value i, and of value i + 4.
    Eight rows[4];
    FEWSTEP_UNROLL(4)
    for (int i = 0; i < 4; ++i) {
      const float* const at = values + i * kLanes + lane;
      rows[i] = __builtin_shufflevector(
          load_four(at), load_four(at + 4 * kLanes), 0, 1, 2, 3, 4, 5, 6, 7);
    }
    turn(rows);
    FEWSTEP_UNROLL(4)
    for (int l = 0; l < 4; ++l) {
      if ((used >> (lane + l) & 1U) != 0) sum = sum + rows[l];
    }
  }
  memcpy(sums, &sum, sizeof sum);
}

}  // namespace internal

/// sums[i] = sums[i] + lane l of value i, for the lanes whose bit is set in
/// `used`, ascending; i < n; `first`: the sums start at +0. `values` holds n
/// Lanes. They are turned by fours on the way from memory: half the time that
/// whole registers take.
inline void add_lanes(
    const float* values, uint32_t n, uint32_t used, bool first, float* sums) {
  uint32_t i = 0;
  for (; i + 8 <= n; i += 8) {
    internal::add_lanes_of_eight(
        values + size_t{i} * kLanes, used, first, sums + i);
  }
  for (; i < n; ++i) {
    if (first) sums[i] = 0.0F;
    for (uint32_t l = 0; l < static_cast<uint32_t>(kLanes); ++l) {
      if ((used >> l & 1U) == 0) continue;
      sums[i] = sums[i] + values[size_t{i} * kLanes + l];
    }
  }
}

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CPU_LANE_SUMS_H_
