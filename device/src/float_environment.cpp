// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "float_environment.h"

#include "fewstep/numerics/real.h"

namespace fewstep {
namespace {

struct Check {
  float a, b;
  uint32_t expected;  // The result's bits, so that nothing compares subnormals.
};

// Sums, products, a fused fma(a, a, b), a quotient, a square root of a.
constexpr uint32_t kSums = 2;
constexpr uint32_t kProducts = 2;
constexpr Check kChecks[] = {
    // Ties go to the even neighbour: down from 1 (not so when rounding upwards
    // or away from zero), up from 1 + 2^-23 (not so downwards or to zero).
    {1.0F, 0x1p-24F, 0x3f800000U},
    {0x1.000002p0F, 0x1p-24F, 0x3f800002U},
    // Subnormal results and operands survive.
    {0x1p-126F, 0.5F, 0x00400000U},
    {0x1p-127F, 2.0F, 0x00800000U},
    // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: the last term lives in one rounding
    // only.
    {0x1.001p0F, -0x1.002p0F, 0x33800000U},
    {1.0F, 3.0F, 0x3eaaaaabU},
    {0x1.fffffep-1F, 0.0F, 0x3f7fffffU},
};

}  // namespace

bool float_environment_is_ieee() {
  // The compiler cannot compute with what it cannot see: the processor must.
  const Check* volatile hidden = kChecks;
  const Check* c = hidden;
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < kSums; ++i, ++c) {
    wrong |= to_bits(c->a + c->b) ^ c->expected;
  }
  for (uint32_t i = 0; i < kProducts; ++i, ++c) {
    wrong |= to_bits(c->a * c->b) ^ c->expected;
  }
  wrong |= to_bits(fma(c->a, c->a, c->b)) ^ c->expected;
  ++c;
  wrong |= to_bits(c->a / c->b) ^ c->expected;
  ++c;
  wrong |= to_bits(sqrt(c->a)) ^ c->expected;
  return wrong == 0;
}

}  // namespace fewstep
