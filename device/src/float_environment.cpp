// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "float_environment.h"

#include "fewstep/numerics/real.h"

namespace fewstep {
namespace {

// A value the compiler cannot compute with: the processor must.
float opaque(float x) {
  volatile float v = x;
  return v;
}

}  // namespace

bool float_environment_is_ieee() {
  const float one = opaque(1.0F);
  const float half_ulp = opaque(0x1p-24F);
  const float odd = opaque(1.0F + 0x1p-23F);
  // Ties go to the even neighbour: down from 1, up from 1 + 2^-23.
  const bool nearest_even =
      one + half_ulp == 1.0F && odd + half_ulp == 1.0F + 0x1p-22F &&
      -one - half_ulp == -1.0F && one + opaque(0x1.8p-24F) == odd;
  // Subnormal results and operands survive.
  const float tiny = opaque(0x1p-126F) * opaque(0.5F);
  const bool subnormals =
      to_bits(tiny) == 0x00400000U && opaque(tiny) * opaque(2.0F) == 0x1p-126F;
  // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: the last term lives in one rounding
  // only.
  const float a = opaque(1.0F + 0x1p-12F);
  const bool fused = fma(a, a, opaque(-(1.0F + 0x1p-11F))) == 0x1p-24F;
  const bool exact = sqrt(opaque(0x1.fffffep-1F)) == 0x1.fffffep-1F &&
                     one / opaque(3.0F) == 0x1.555556p-2F;
  return nearest_even && subnormals && fused && exact;
}

}  // namespace fewstep
