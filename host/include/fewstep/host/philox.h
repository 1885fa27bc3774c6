// Random numbers as a function of (seed, iteration, task, purpose).
//
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as
// easy as 1, 2, 3") is a counter-based generator: there is no state to save,
// so a run is the same for any number of threads and after any resume. No
// distribution of the C++ library is used: those differ between libraries.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_PHILOX_H_
#define FEWSTEP_HOST_PHILOX_H_

#include <array>
#include <cstdint>
#include <span>

#include "fewstep/host/philox_stream.h"

namespace fewstep::host {

/// Philox4x32-10: a bijection of the counter for each key.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                   std::array<uint32_t, 2> key);

/// A stream of random numbers.
///
///     key     = seed
///     counter = (block, task, iteration mod 2^32,
///                purpose + 2^8 * (iteration div 2^32))
///
/// Block b gives numbers 4b to 4b + 3; a stream has 2^34 numbers. Copying a
/// Random copies its position.
class Random {
 public:
  /// `iteration` is below 2^56; higher bits are dropped.
  Random(uint64_t seed, uint64_t iteration, uint32_t task, Purpose purpose);

  /// Leaves out the first `n` numbers of the stream, a multiple of 4. Before
  /// any is drawn.
  void skip(uint64_t n) { stream_.skip(n); }

  /// The next 32 random bits.
  uint32_t bits();

  /// Uniform in [0, 1): (bits >> 8) * 2^-24.
  float uniform();

  /// lo + (hi - lo) * uniform(), with one rounding at the end: in [lo, hi].
  float uniform(float lo, float hi);

  /// Uniform in 0..n-1, each exactly as likely (Lemire 2019); n >= 1. Takes one
  /// number, rarely more.
  uint32_t below(uint32_t n);

  /// Standard normal, by the Box-Muller transform: |z| < 5.8. Takes two numbers
  /// for every two values.
  float normal();

  /// Standard normal given |z| <= bound; bound > 0, and not much below 1, since
  /// values beyond it are drawn again.
  float truncated_normal(float bound = 2.0F);

  /// Fills `out` with distinct integers of 0..n-1 in random order; every
  /// ordered choice is equally likely (Floyd's algorithm P). out.size() <= n.
  /// O(size^2), no allocation.
  void distinct(uint32_t n, std::span<uint32_t> out);

  /// Puts `values` into a random order (Fisher-Yates); at most 2^32 - 1 values.
  void shuffle(std::span<uint32_t> values);

 private:
  RandomStream stream_;
  float spare_ = 0.0F;  // Second value of the last Box-Muller pair.
  bool has_spare_ = false;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_PHILOX_H_
