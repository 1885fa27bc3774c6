// What "the same bits" of an adaptation are: one hash over losses, parameters
// and outputs.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_BITS_EPISODE_HASH_H_
#define FEWSTEP_TESTS_BITS_EPISODE_HASH_H_

#include "fewstep/capsule.h"

namespace fewstep::same_bits {

/// FNV-1a of the floats handed to it, in order, as little-endian binary32.
class EpisodeHash {
 public:
  void add(float x) { hash_ = fnv1a(&x, sizeof x, hash_); }
  void add(const float* x, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) add(x[i]);
  }
  /// Takes another hash in.
  void add(const EpisodeHash& other) {
    hash_ = fnv1a(&other.hash_, sizeof hash_, hash_);
  }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = fnv1a(nullptr, 0);
};

/// Orders in which every program here adds: the support loss at theta_0, ...,
/// theta_{K-1}; the adapted parameters; the outputs of all queries, predicted
/// together. Capsules in the order of their names' list (CMakeLists.txt).

}  // namespace fewstep::same_bits

#endif  // FEWSTEP_TESTS_BITS_EPISODE_HASH_H_
