// 8-bit logarithmic storage of learning rates, with sign.
//
// One int16 `exponent` per array, kLog8MinExponent..kLog8MaxExponent; a code
// byte is sign (bit 7) and magnitude code m (bits 0..6):
//
//   m = 0        +0, whatever the sign bit (0x80 is never written)
//   m = 1..127   (-1)^sign * M[(m + 1) & 7] * 2^(exponent - 16 + ((m + 1) >>
//   3))
//
// where M[j] is 2^(j/8) rounded to binary32. So m = 127 is 2^exponent, each
// code below it a factor 2^(-1/8) smaller, and m = 1 is 2^(exponent - 15.75):
// eight codes an octave over 15.75 octaves.
//
// Error of encode then decode, relative to the value: at most
// (2^(1/8) - 1) / (2^(1/8) + 1) = 4.3295 % between the smallest and the largest
// magnitude; smaller ones go to 0 below half the smallest and to the smallest
// otherwise, larger ones to the largest.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_NUMERICS_LOG8_H_
#define FEWSTEP_NUMERICS_LOG8_H_

#include "fewstep/config.h"
#include "fewstep/numerics/real.h"

namespace fewstep {

/// Exponents for which every decoded value is a normal number (or 0).
constexpr int16_t kLog8MinExponent = -110;
constexpr int16_t kLog8MaxExponent = 127;

/// Bits of 2^(j/8), j = 0..7, rounded to binary32.
FEWSTEP_INLINE uint32_t log8_mantissa(uint32_t j) {
  constexpr uint32_t kTable[8] = {0x3f800000,
                                  0x3f8b95c2,
                                  0x3f9837f0,
                                  0x3fa5fed7,
                                  0x3fb504f3,
                                  0x3fc5672a,
                                  0x3fd744fd,
                                  0x3feac0c7};
  return kTable[j];
}

/// The value of `code`; integer operations only.
/// Requires kLog8MinExponent <= exponent <= kLog8MaxExponent.
FEWSTEP_INLINE float log8_decode(uint8_t code, int16_t exponent) {
  const uint32_t m = code & 0x7fU;
  const uint32_t t = m + 1U;
  const uint32_t octave = static_cast<uint32_t>(exponent) - 16U + (t >> 3);
  const uint32_t magnitude = log8_mantissa(t & 7U) + (octave << 23);
  const uint32_t sign = (uint32_t{code} & 0x80U) << 24;
  return from_bits((magnitude | sign) & (0U - static_cast<uint32_t>(m != 0)));
}

/// The code whose value is nearest to `x`, the larger magnitude on a tie.
/// Magnitudes beyond the largest code give that code; NaN gives 0.
/// Requires kLog8MinExponent <= exponent <= kLog8MaxExponent. 7 decodings.
FEWSTEP_HD inline uint8_t log8_encode(float x, int16_t exponent) {
  const float a = abs(x);
  // The largest code whose value is <= a.
  uint32_t m = 0;
  for (uint32_t step = 64; step != 0; step >>= 1) {
    const uint8_t next = static_cast<uint8_t>(m + step);
    if (log8_decode(next, exponent) <= a) m = next;
  }
  if (m < 127) {
    // Neighbours are within a factor of 2 of a, which makes these differences
    // exact, save below the smallest code, where rounding keeps the order.
    const float below = log8_decode(static_cast<uint8_t>(m), exponent);
    const float above = log8_decode(static_cast<uint8_t>(m + 1), exponent);
    if (a - below >= above - a) m += 1;
  }
  const uint32_t sign = m != 0 ? (to_bits(x) >> 31) << 7 : 0;
  return static_cast<uint8_t>(m | sign);
}

/// The smallest exponent whose largest code is nearest to some value >=
/// `max_abs` (the array's largest magnitude, finite), within the allowed
/// range: nothing saturates by more than the error stated above, unless
/// max_abs is above 1.0453 * 2^127.
FEWSTEP_HD inline int16_t log8_choose_exponent(float max_abs) {
  // 2^k <= max_abs < 2^(k+1); max_abs subnormal or 0 gives the minimum.
  const uint32_t b = to_bits(max_abs);
  const int32_t k = static_cast<int32_t>((b >> 23) & 0xffU) - 127;
  // (1 + 2^(1/8)) / 2 rounded down: the end of what code 127 stands for.
  const uint32_t reach = 0x3f85cae1U & 0x007fffffU;
  const int32_t e = (b & 0x007fffffU) > reach ? k + 1 : k;
  if (e < kLog8MinExponent) return kLog8MinExponent;
  if (e > kLog8MaxExponent) return kLog8MaxExponent;
  return static_cast<int16_t>(e);
}

}  // namespace fewstep

#endif  // FEWSTEP_NUMERICS_LOG8_H_
