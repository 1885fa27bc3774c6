// IEEE binary16 storage: exact decoding everywhere, encoding for the writer.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_NUMERICS_HALF_H_
#define FEWSTEP_NUMERICS_HALF_H_

#include "fewstep/config.h"
#include "fewstep/numerics/real.h"

namespace fewstep {

/// The binary16 pattern of +infinity: what half_from_float returns, with
/// either sign, when a finite value overflows.
constexpr uint16_t kHalfInfinity = 0x7c00;

/// The value of the binary16 pattern `h`, exactly. Subnormals, signed zeros
/// and infinities included; NaN gives a NaN. No branch, no table, and no
/// binary32 subnormal on the way.
FEWSTEP_INLINE float float_from_half(uint16_t h) {
#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M' && \
    defined(__ARM_FP)
  // Every floating-point unit of a Cortex-M converts: the same value.
  float x;
  __asm__("vcvtb.f32.f16 %0, %1" : "=t"(x) : "t"(from_bits(uint32_t{h})));
  return x;
#else
  const uint32_t u = (h & 0x7fffU) << 13;
  // A subnormal half m * 2^-24 is (2^-14 + m * 2^-24) - 2^-14, both of which
  // are normal floats; for all others the subtrahend is 0.
  const uint32_t subnormal = 0U - ((u - 0x00800000U) >> 31);
  const uint32_t special = 0U - ((u + 0x00800000U) >> 28);
  const uint32_t rebased =
      u + (112U << 23) + (subnormal & 0x00800000U) + (special & (112U << 23));
  const float magnitude =
      from_bits(rebased) - from_bits(subnormal & 0x38800000U);
  return from_bits(to_bits(magnitude) | (uint32_t{h} & 0x8000U) << 16);
#endif
}

/// The binary16 pattern nearest to `x`, ties to even. Magnitudes of 65,520 and
/// more overflow to infinity (kHalfInfinity with the sign), those up to 2^-25
/// underflow to a signed zero; NaN gives 0x7e00 with the sign.
FEWSTEP_HD inline uint16_t half_from_float(float x) {
  const uint32_t b = to_bits(x);
  const uint32_t sign = (b >> 16) & 0x8000U;
  const uint32_t a = b & 0x7fffffffU;
  uint32_t h;
  if (a > 0x7f800000U) {
    h = 0x7e00U;
  } else if (a >= 0x47800000U) {  // 2^16; the carry below handles 65,520.
    h = kHalfInfinity;
  } else if (a >= 0x38800000U) {  // 2^-14: normal.
    h = (a - (112U << 23) + 0x0fffU + ((a >> 13) & 1U)) >> 13;
  } else if (a > 0x33000000U) {  // 2^-25: subnormal.
    const uint32_t m = (a & 0x007fffffU) | 0x00800000U;
    const uint32_t n = 126U - (a >> 23);  // 14..24 bits fall off.
    h = (m + (1U << (n - 1)) - 1U + ((m >> n) & 1U)) >> n;
  } else {
    h = 0;
  }
  return static_cast<uint16_t>(sign | h);
}

}  // namespace fewstep

#endif  // FEWSTEP_NUMERICS_HALF_H_
