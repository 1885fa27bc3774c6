// Which taps of a convolution lie on its input, along one axis.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_CONV2D_TAPS_H_
#define FEWSTEP_LAYERS_CONV2D_TAPS_H_

#include "fewstep/config.h"

namespace fewstep {

/// Kernel positions lo, lo + step, ... < hi along one axis that connect a
/// position to valid positions at the other side, the first of which is
/// `other`.
struct Taps {
  uint32_t lo;
  uint32_t hi;
  uint32_t other;
};

FEWSTEP_INLINE bool same_taps(const Taps& a, const Taps& b) {
  return a.lo == b.lo && a.hi == b.hi;
}

/// Taps of output `o`: other is the input position of the first, and grows by
/// one with each (step 1).
FEWSTEP_INLINE Taps forward_taps(
    uint32_t o, uint32_t n_in, uint32_t kernel, uint32_t stride, uint32_t pad) {
  const uint32_t at = o * stride;
  Taps t;
  t.lo = at < pad ? pad - at : 0;
  t.hi = n_in + pad - at < kernel ? n_in + pad - at : kernel;
  t.other = at + t.lo - pad;
  return t;
}

/// Taps of input `i`: other is the output position of the first, and falls by
/// one with each (step = stride). lo >= hi when there are none.
FEWSTEP_INLINE Taps backward_taps(uint32_t i,
                                  uint32_t n_out,
                                  uint32_t kernel,
                                  uint32_t stride,
                                  uint32_t pad) {
  const uint32_t at = i + pad;
  const uint32_t last = stride * (n_out - 1);  // Furthest window's start.
  Taps t;
  t.lo = at % stride;
  if (at > last) t.lo = at - last;  // Congruent to `at` modulo the stride.
  t.hi = at + 1 < kernel ? at + 1 : kernel;
  t.other = t.lo < t.hi ? (at - t.lo) / stride : 0;
  return t;
}

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_CONV2D_TAPS_H_
