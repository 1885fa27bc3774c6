// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/philox.h"

#include <algorithm>
#include <utility>

#include "fewstep/numerics/elementary.h"
#include "fewstep/numerics/real.h"

namespace fewstep::host {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                   std::array<uint32_t, 2> key) {
  constexpr uint32_t kMultiplier0 = 0xd2511f53U;
  constexpr uint32_t kMultiplier1 = 0xcd9e8d57U;
  constexpr uint32_t kWeyl0 = 0x9e3779b9U;  // Golden ratio.
  constexpr uint32_t kWeyl1 = 0xbb67ae85U;  // sqrt(3) - 1.
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{kMultiplier0} * counter[0];
    const uint64_t p1 = uint64_t{kMultiplier1} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(p0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

Random::Random(uint64_t seed,
               uint64_t iteration,
               uint32_t task,
               Purpose purpose)
    : counter_{0,
               task,
               static_cast<uint32_t>(iteration),
               static_cast<uint32_t>(iteration >> 32 << 8) |
                   static_cast<uint32_t>(purpose)},
      key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)} {}

uint32_t Random::bits() {
  if (n_left_ == 0) {
    block_ = philox4x32(counter_, key_);
    ++counter_[0];
    n_left_ = 4;
  }
  return block_[4 - n_left_--];
}

float Random::uniform() { return static_cast<float>(bits() >> 8) * 0x1p-24F; }

float Random::uniform(float lo, float hi) {
  return fma(hi - lo, uniform(), lo);
}

uint32_t Random::below(uint32_t n) {
  uint64_t product = uint64_t{bits()} * n;
  if (static_cast<uint32_t>(product) < n) {
    // The 2^32 mod n lowest fractions would make some integers likelier.
    const uint32_t threshold = (0U - n) % n;
    while (static_cast<uint32_t>(product) < threshold)
      product = uint64_t{bits()} * n;
  }
  return static_cast<uint32_t>(product >> 32);
}

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
  const uint32_t k = static_cast<uint32_t>(out.size());
  for (uint32_t i = 0; i < k; ++i) {
    const uint32_t top = n - k + i;  // Larger than any value drawn so far.
    const uint32_t drawn = below(top + 1);
    const auto end = out.begin() + i;
    const auto same = std::find(out.begin(), end, drawn);
    // A new value goes to the front; in place of a repeated one `top` goes
    // right behind it. So every order is equally likely too.
    const auto place = same == end ? out.begin() : same + 1;
    std::move_backward(place, end, end + 1);
    *place = same == end ? drawn : top;
  }
}

void Random::shuffle(std::span<uint32_t> values) {
  for (size_t n = values.size(); n > 1; --n)
    std::swap(values[n - 1], values[below(static_cast<uint32_t>(n))]);
}

}  // namespace fewstep::host
