// The stream of random numbers that episodes are drawn from, on the host and on
// a GPU: what Random (philox.h) is made of. Start there.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_PHILOX_STREAM_H_
#define FEWSTEP_HOST_PHILOX_STREAM_H_

#include <cstdint>

#include "fewstep/numerics/real.h"

namespace fewstep::host {

/// What a stream is for: streams of different purposes share no number. Values
/// are part of what a seed means: append, never renumber.
enum class Purpose : uint8_t {
  kTrainEpisode = 0,
  kValidationEpisode = 1,
  kTestEpisode = 2,
  kClassSplit = 3,      ///< Which classes are for training.
  kInitialization = 4,  ///< theta before the first iteration.
  kRates = 5,           ///< The rule's parameters before the first iteration.
  kDropout = 6,
  kCheck = 7,  ///< Directions of gradient checks.
};

/// Philox4x32-10 of a counter and a key, in the counter's place.
FEWSTEP_HD inline void philox_rounds(uint32_t* counter,
                                     uint32_t key0,
                                     uint32_t key1) {
  constexpr uint32_t kMultiplier0 = 0xd2511f53U;
  constexpr uint32_t kMultiplier1 = 0xcd9e8d57U;
  constexpr uint32_t kWeyl0 = 0x9e3779b9U;  // Golden ratio.
  constexpr uint32_t kWeyl1 = 0xbb67ae85U;  // sqrt(3) - 1.
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{kMultiplier0} * counter[0];
    const uint64_t p1 = uint64_t{kMultiplier1} * counter[2];
    counter[0] = static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key0;
    counter[1] = static_cast<uint32_t>(p1);
    counter[2] = static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key1;
    counter[3] = static_cast<uint32_t>(p0);
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
}

/// Random's numbers; see there for what each member gives.
class RandomStream {
 public:
  FEWSTEP_HD RandomStream(uint64_t seed,
                          uint64_t iteration,
                          uint32_t task,
                          Purpose purpose)
      : task_(task),
        iteration_(static_cast<uint32_t>(iteration)),
        purpose_(static_cast<uint32_t>(iteration >> 32 << 8) |
                 static_cast<uint32_t>(purpose)),
        key0_(static_cast<uint32_t>(seed)),
        key1_(static_cast<uint32_t>(seed >> 32)) {}

  FEWSTEP_HD void skip(uint64_t n) { n_blocks_ = static_cast<uint32_t>(n / 4); }

  FEWSTEP_HD uint32_t bits() {
    if (n_left_ == 0) {
      block_[0] = n_blocks_++;
      block_[1] = task_;
      block_[2] = iteration_;
      block_[3] = purpose_;
      philox_rounds(block_, key0_, key1_);
      n_left_ = 4;
    }
    return block_[4 - n_left_--];
  }

  FEWSTEP_HD float uniform() {
    return static_cast<float>(bits() >> 8) * 0x1p-24F;
  }

  FEWSTEP_HD float uniform(float lo, float hi) {
    return fma(hi - lo, uniform(), lo);
  }

  FEWSTEP_HD uint32_t below(uint32_t n) {
    uint64_t product = uint64_t{bits()} * n;
    if (static_cast<uint32_t>(product) < n) {
      // The 2^32 mod n lowest fractions would make some integers likelier.
      const uint32_t threshold = (0U - n) % n;
      while (static_cast<uint32_t>(product) < threshold)
        product = uint64_t{bits()} * n;
    }
    return static_cast<uint32_t>(product >> 32);
  }

  FEWSTEP_HD void distinct(uint32_t n, uint32_t k, uint32_t* out) {
    for (uint32_t i = 0; i < k; ++i) {
      const uint32_t top = n - k + i;  // Larger than any value drawn so far.
      const uint32_t drawn = below(top + 1);
      uint32_t same = 0;
      while (same < i && out[same] != drawn) ++same;
      // A new value goes to the front; in place of a repeated one `top` goes
      // right behind it. So every order is equally likely too.
      const uint32_t place = same == i ? 0 : same + 1;
      for (uint32_t j = i; j > place; --j) out[j] = out[j - 1];
      out[place] = same == i ? drawn : top;
    }
  }

 private:
  uint32_t task_, iteration_, purpose_;  // Of every block's counter.
  uint32_t key0_, key1_;
  uint32_t n_blocks_ = 0;
  uint32_t block_[4] = {};
  uint32_t n_left_ = 0;  // Numbers of block_ not handed out yet.
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_PHILOX_STREAM_H_
