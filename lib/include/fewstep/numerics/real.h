// The primitives every number type offers, for float and double.
//
// Start here to add a number type `T` (Dual, the CPU lanes, the test types):
// kernels use + - * / and unary minus, and from this header fma, sqrt, the
// comparisons that return Mask<T>, select, and Number<T>. Each primitive is
// one IEEE-754 operation, or an exact one, on every target.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_NUMERICS_REAL_H_
#define FEWSTEP_NUMERICS_REAL_H_

#include <string.h>

#include "fewstep/config.h"

namespace fewstep {

/// What a kernel may ask of a number type.
///
///   Mask      what comparisons give and select() takes
///   Bits      unsigned integer(s) of the same width (bit patterns)
///   Primal    T without its tangent: the type of inputs and targets
///   Label     how a class index is stored (one per example)
///   constant  a literal as T
///   bits      a literal bit pattern as Bits (binary32-like types only)
template <class T>
struct Number;

template <>
struct Number<float> {
  using Mask = uint32_t;  ///< All ones or zero.
  using Bits = uint32_t;
  using Primal = float;
  using Label = uint16_t;
  static FEWSTEP_INLINE float constant(float x) { return x; }
  static FEWSTEP_INLINE uint32_t bits(uint32_t b) { return b; }
};

template <>
struct Number<double> {
  using Mask = uint64_t;
  using Bits = uint64_t;
  using Primal = double;
  using Label = uint16_t;
  static FEWSTEP_INLINE double constant(float x) {
    return static_cast<double>(x);
  }
};

template <class T>
using Mask = typename Number<T>::Mask;
template <class T>
using Primal = typename Number<T>::Primal;
template <class T>
using Label = typename Number<T>::Label;

/// `x` as a T, exactly.
template <class T>
FEWSTEP_INLINE T constant(float x) {
  return Number<T>::constant(x);
}

/// The bit pattern `b` as Bits.
template <class T>
FEWSTEP_INLINE typename Number<T>::Bits bits(uint32_t b) {
  return Number<T>::bits(b);
}

/// Bits shifted by a constant number of places, zeros shifted in. Bits also
/// have + - & | ^ ~ (modulo 2^32), and are what masks are made of.
template <int n>
FEWSTEP_INLINE uint32_t shift_left(uint32_t b) {
  return b << n;
}
template <int n>
FEWSTEP_INLINE uint32_t shift_right(uint32_t b) {
  return b >> n;
}

FEWSTEP_INLINE uint32_t to_bits(float x) {
  uint32_t b;
  memcpy(&b, &x, sizeof b);
  return b;
}
FEWSTEP_INLINE float from_bits(uint32_t b) {
  float x;
  memcpy(&x, &b, sizeof x);
  return x;
}
FEWSTEP_INLINE uint64_t to_bits(double x) {
  uint64_t b;
  memcpy(&b, &x, sizeof b);
  return b;
}
FEWSTEP_INLINE double from_bits(uint64_t b) {
  double x;
  memcpy(&x, &b, sizeof x);
  return x;
}

/// a * b + c with one rounding.
FEWSTEP_INLINE float fma(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}
FEWSTEP_INLINE double fma(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

/// Correctly rounded square root.
FEWSTEP_INLINE float sqrt(float x) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(x);
#else
  return __builtin_sqrtf(x);
#endif
}
FEWSTEP_INLINE double sqrt(double x) {
#if defined(__CUDA_ARCH__)
  return __dsqrt_rn(x);
#else
  return __builtin_sqrt(x);
#endif
}

/// a <= b; false when either is NaN.
FEWSTEP_INLINE uint32_t less_equal(float a, float b) {
  return 0U - static_cast<uint32_t>(a <= b);
}
FEWSTEP_INLINE uint64_t less_equal(double a, double b) {
  return 0U - static_cast<uint64_t>(a <= b);
}

/// a > b, or a is NaN: the comparison of every maximum ("NaN wins"). A running
/// maximum that is NaN stays NaN.
FEWSTEP_INLINE uint32_t exceeds(float a, float b) {
  return 0U - (static_cast<uint32_t>(a > b) | static_cast<uint32_t>(a != a));
}
FEWSTEP_INLINE uint64_t exceeds(double a, double b) {
  return 0U - (static_cast<uint64_t>(a > b) | static_cast<uint64_t>(a != a));
}

/// mask ? a : b, bit by bit.
FEWSTEP_INLINE float select(uint32_t mask, float a, float b) {
  return from_bits((to_bits(a) & mask) | (to_bits(b) & ~mask));
}
FEWSTEP_INLINE double select(uint64_t mask, double a, double b) {
  return from_bits((to_bits(a) & mask) | (to_bits(b) & ~mask));
}

/// mask_and(m, n), mask_not(m): on masks of one number type.
FEWSTEP_INLINE uint32_t mask_and(uint32_t m, uint32_t n) { return m & n; }
FEWSTEP_INLINE uint64_t mask_and(uint64_t m, uint64_t n) { return m & n; }
FEWSTEP_INLINE uint32_t mask_not(uint32_t m) { return ~m; }
FEWSTEP_INLINE uint64_t mask_not(uint64_t m) { return ~m; }

/// Mask that is all ones where the class index `label` is `o`.
template <class T>
FEWSTEP_INLINE Mask<T> label_is(uint16_t label, uint32_t o) {
  using M = Mask<T>;
  return M{0} - static_cast<M>(label == o);
}

/// Absolute value: clears the sign bit.
FEWSTEP_INLINE float abs(float x) {
  return from_bits(to_bits(x) & 0x7fffffffU);
}
FEWSTEP_INLINE double abs(double x) {
  return from_bits(to_bits(x) & (~uint64_t{0} >> 1));
}

/// x is neither NaN nor infinite.
FEWSTEP_INLINE bool is_finite(float x) {
  return (to_bits(x) & 0x7f800000U) != 0x7f800000U;
}

}  // namespace fewstep

#endif  // FEWSTEP_NUMERICS_REAL_H_
