// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/philox.h"

#include <utility>

#include "fewstep/numerics/elementary.h"
#include "fewstep/numerics/real.h"

namespace fewstep::host {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                   std::array<uint32_t, 2> key) {
  philox_rounds(counter.data(), key[0], key[1]);
  return counter;
}

Random::Random(uint64_t seed,
               uint64_t iteration,
               uint32_t task,
               Purpose purpose)
    : stream_(seed, iteration, task, purpose) {}

uint32_t Random::bits() { return stream_.bits(); }

float Random::uniform() { return stream_.uniform(); }

float Random::uniform(float lo, float hi) { return stream_.uniform(lo, hi); }

uint32_t Random::below(uint32_t n) { return stream_.below(n); }

float Random::normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  constexpr float kTwoPi = 0x1.921fb6p+2F;
  // In (0, 1], so that the logarithm is finite.
  const float u = static_cast<float>((bits() >> 8) + 1) * 0x1p-24F;
  const float radius = fewstep::sqrt(-2.0F * fewstep::log(u));
  const float angle = kTwoPi * uniform();
  spare_ = radius * fewstep::sin(angle);
  has_spare_ = true;
  return radius * fewstep::cos(angle);
}

float Random::truncated_normal(float bound) {
  for (;;) {
    const float z = normal();
    if (z >= -bound && z <= bound) return z;
  }
}

void Random::distinct(uint32_t n, std::span<uint32_t> out) {
  stream_.distinct(n, static_cast<uint32_t>(out.size()), out.data());
}

void Random::shuffle(std::span<uint32_t> values) {
  for (size_t n = values.size(); n > 1; --n)
    std::swap(values[n - 1], values[below(static_cast<uint32_t>(n))]);
}

}  // namespace fewstep::host
