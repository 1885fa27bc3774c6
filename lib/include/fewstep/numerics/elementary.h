// exp, log, tanh, sigmoid, sin and cos with the same bits on every target.
//
// One implementation for every binary32-like number type (float, the CPU
// lanes), made of fma, + - * /, comparisons, select and integer operations on
// bit patterns: no branch, no table, no conversion between floating point and
// integer. dual.h differentiates them. All of them return NaN for NaN.
//
// Error against the exact result in ulp (units in the last place of the
// binary32 result; 2^-149 where that is subnormal), the maximum over all 2^32
// arguments, measured by elementary_test with FEWSTEP_EXHAUSTIVE=1:
//
//   exp      1.032
//   log      0.827
//   tanh     1.488
//   sigmoid  1.509
//   sin      1.541  |x| <= kMaxAngle
//   cos      1.537  |x| <= kMaxAngle
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_NUMERICS_ELEMENTARY_H_
#define FEWSTEP_NUMERICS_ELEMENTARY_H_

#include "fewstep/config.h"
#include "fewstep/numerics/real.h"

namespace fewstep {

/// Largest |x| that sin and cos take: 32,768.
constexpr float kMaxAngle = 0x1p15F;

namespace internal {

/// Adding 1.5 * 2^23 to |x| < 2^22 rounds x to the nearest integer n (ties to
/// even) and leaves n + kRoundBits in the bits of the sum.
constexpr float kRound = 0x1.8p23F;
constexpr uint32_t kRoundBits = 0x4b400000;

constexpr uint32_t kSignBit = 0x80000000;
constexpr uint32_t kNan = 0x7fc00000;
constexpr uint32_t kInfinity = 0x7f800000;

/// x = n ln 2 + r with integer n and |r| <= 0.3466, for |x| < 2^21.
template <class T>
struct Octaves {
  typename Number<T>::Bits n;  ///< n + kRoundBits
  T r;
};

template <class T>
FEWSTEP_INLINE Octaves<T> split_octaves(T x) {
  const T rounded =
      fma(x, constant<T>(0x1.715476p+0F), constant<T>(kRound));  // 1/ln 2
  const T n = rounded - constant<T>(kRound);
  // ln 2 in two parts; n times the first one is exact.
  const T r = fma(n, constant<T>(-0x1.62e4p-1F), x);
  return {to_bits(rounded), fma(n, constant<T>(-0x1.7f7d1cp-20F), r)};
}

/// e^r - 1 for |r| <= 0.347: a polynomial whose relative error is at most
/// 0.23 * 2^-24, also near 0.
template <class T>
FEWSTEP_INLINE T expm1_octave(T r) {
  T q = constant<T>(0x1.6b8fd8p-10F);
  q = fma(q, r, constant<T>(0x1.1226bap-7F));
  q = fma(q, r, constant<T>(0x1.5556fep-5F));
  q = fma(q, r, constant<T>(0x1.5554b2p-3F));
  q = fma(q, r, constant<T>(0x1.fffffep-2F));
  return fma(q, r * r, r);
}

/// 1 / d within 5 % for d in [1, 2]: enough to weigh a correction of one ulp.
template <class T>
FEWSTEP_INLINE T rough_reciprocal(T d) {
  return fma(d, constant<T>(-0.5F), constant<T>(1.457F));
}

/// x with the sign bit of `sign` flipped in.
template <class T>
FEWSTEP_INLINE T flip_sign(T x, typename Number<T>::Bits sign) {
  return from_bits(to_bits(x) ^ sign);
}

template <class T>
FEWSTEP_INLINE typename Number<T>::Bits sign_bit(T x) {
  return to_bits(x) & bits<T>(kSignBit);
}

/// sin and cos of r, |r| <= 0.786, and the quadrant they belong to.
template <class T>
struct Quadrant {
  T sin, cos;
  typename Number<T>::Bits q;  ///< The low two bits count quarter turns.
};

/// |x| = q pi/2 + r, for |x| <= kMaxAngle.
template <class T>
FEWSTEP_INLINE Quadrant<T> split_quadrants(T absolute) {
  const T rounded =
      fma(absolute, constant<T>(0x1.45f306p-1F), constant<T>(kRound));  // 2/pi
  const T n = rounded - constant<T>(kRound);
  // pi/2 in three parts. The first fma is exact: n has at most 15 bits, and
  // what cancels leaves a multiple of 2^-24 below 1.
  T r = fma(n, constant<T>(-0x1.921fb6p+0F), absolute);
  r = fma(n, constant<T>(0x1.777a5cp-25F), r);
  r = fma(n, constant<T>(0x1.ee59dap-50F), r);
  const T z = r * r;
  T s = constant<T>(-0x1.991ddp-13F);
  s = fma(s, z, constant<T>(0x1.1106c8p-7F));
  s = fma(s, z, constant<T>(-0x1.555544p-3F));
  s = fma(s, z * r, r);
  T c = constant<T>(0x1.99e71cp-16F);
  c = fma(c, z, constant<T>(-0x1.6c0c26p-10F));
  c = fma(c, z, constant<T>(0x1.55554ap-5F));
  c = fma(c, z, constant<T>(-0.5F));
  c = fma(c, z, constant<T>(1.0F));
  return {s, c, to_bits(rounded)};
}

/// The sine of an angle that is `turn` quarter turns (low two bits) beyond r,
/// or NaN where |x| is beyond kMaxAngle.
template <class T>
FEWSTEP_INLINE T sine_in_quadrant(const Quadrant<T>& r,
                                  typename Number<T>::Bits turn,
                                  typename Number<T>::Bits sign,
                                  T absolute) {
  const typename Number<T>::Bits odd = bits<T>(0) - (turn & bits<T>(1));
  const T y = select(odd, r.cos, r.sin);
  sign = sign ^ (shift_left<30>(turn) & bits<T>(kSignBit));
  return select(less_equal(absolute, constant<T>(kMaxAngle)),
                flip_sign(y, sign),
                from_bits(bits<T>(kNan)));
}

}  // namespace internal

/// e^x. Overflows to infinity above 88.72; below -87.34 the result is
/// subnormal, and 0 below -103.97.
template <class T>
FEWSTEP_LONG_INLINE T exp(T x) {
  // Beyond these bounds the result is infinity or 0 anyhow.
  const T high = constant<T>(89.0F);
  const T low = constant<T>(-104.0F);
  x = select(less_equal(high, x), high, x);
  x = select(less_equal(x, low), low, x);
  const internal::Octaves<T> s = internal::split_octaves(x);
  const T y = internal::expm1_octave(s.r) + constant<T>(1.0F);
  // 2^n in two normal factors, n = floor(n / 2) + the rest, so that only the
  // last multiplication can round: into the subnormals.
  const typename Number<T>::Bits biased =
      s.n - bits<T>(internal::kRoundBits - 2 * 127);
  const typename Number<T>::Bits half = shift_right<1>(biased);
  return y * from_bits(shift_left<23>(half)) *
         from_bits(shift_left<23>(biased - half));
}

/// Natural logarithm of x: -infinity at +0 and -0, NaN below.
template <class T>
FEWSTEP_INLINE T log(T x) {
  using internal::kRound;
  using internal::kRoundBits;
  using B = typename Number<T>::Bits;
  // Subnormal arguments are scaled by 2^23 first.
  const Mask<T> subnormal = less_equal(x, from_bits(bits<T>(0x007fffff)));
  const T scaled = select(subnormal, x * constant<T>(0x1p23F), x);
  // scaled = 2^k m with m in [sqrt(1/2), sqrt(2)); biased = k + 128.
  const B root = bits<T>(0x3f3504f3);
  const B offset = to_bits(scaled) - root;
  const B biased = shift_right<23>(offset + bits<T>(128U << 23));
  const T m = from_bits((offset & bits<T>(0x007fffff)) + root);
  const T bias = select(subnormal,
                        constant<T>(kRound + 128.0F + 23.0F),
                        constant<T>(kRound + 128.0F));
  const T k = from_bits(biased + bits<T>(kRoundBits)) - bias;
  // log m = 2 s + s R(s^2) = f - (h - s (h + R)), h = f^2 / 2, which keeps
  // the leading term exact.
  const T f = m - constant<T>(1.0F);
  const T s = f / (f + constant<T>(2.0F));
  const T z = s * s;
  T r = constant<T>(0x1.31e1a6p-2F);
  r = fma(r, z, constant<T>(0x1.995edp-2F));
  r = fma(r, z, constant<T>(0x1.55557ap-1F));
  const T h = f * constant<T>(0.5F) * f;
  r = fma(r, z, h);
  r = fma(s, r, k * constant<T>(0x1.7f7d1cp-20F));
  T y = fma(k, constant<T>(0x1.62e4p-1F), f - (h - r));
  const T zero = constant<T>(0.0F);
  const T infinity = from_bits(bits<T>(internal::kInfinity));
  y = select(less_equal(infinity, x), infinity, y);
  y = select(less_equal(x, zero), -infinity, y);
  return select(less_equal(zero, x), y, from_bits(bits<T>(internal::kNan)));
}

/// Hyperbolic tangent, odd to the bit: tanh(-x) = -tanh(x), tanh(-0) = -0.
template <class T>
FEWSTEP_INLINE T tanh(T x) {
  // tanh |x| = -t / (t + 2) with t = e^(-2|x|) - 1, which has no cancellation.
  const T limit = constant<T>(10.0F);  // tanh rounds to 1 from 9.02 on.
  T a = abs(x);
  a = select(less_equal(limit, a), limit, a);
  const internal::Octaves<T> s =
      internal::split_octaves(a * constant<T>(-2.0F));
  const T scale =
      from_bits(shift_left<23>(s.n - bits<T>(internal::kRoundBits - 127)));
  const T p = internal::expm1_octave(s.r);
  const T base = scale - constant<T>(1.0F);
  const T t = fma(p, scale, base);
  // One step of refinement, for the roundings of t, of d and of the division.
  const T t_low = fma(p, scale, base - t);
  const T d = t + constant<T>(2.0F);
  const T d_low = t - (d - constant<T>(2.0F)) + t_low;
  const T q = t / d;
  const T rest = fma(-q, d_low, fma(-q, d, t) + t_low);
  const T y = fma(rest, internal::rough_reciprocal(d), q);
  // t <= 0 (or NaN): its sign bit gives way to that of x.
  return from_bits(to_bits(abs(y)) | internal::sign_bit(x));
}

/// 1 / (1 + e^-x), accurate in both tails (e^x in the left one, through the
/// subnormals).
template <class T>
FEWSTEP_INLINE T sigmoid(T x) {
  const T one = constant<T>(1.0F);
  const T e = exp(-abs(x));
  const T numerator = select(less_equal(x, constant<T>(0.0F)), e, one);
  // One step of refinement, for the roundings of d and of the division.
  const T d = e + one;
  const T q = numerator / d;
  const T rest = fma(-q, e - (d - one), fma(-q, d, numerator));
  return fma(rest, internal::rough_reciprocal(d), q);
}

/// sin x (radians) for |x| <= kMaxAngle, NaN beyond; sin(-0) = -0.
template <class T>
FEWSTEP_INLINE T sin(T x) {
  const T a = abs(x);
  const internal::Quadrant<T> r = internal::split_quadrants(a);
  return internal::sine_in_quadrant(r, r.q, internal::sign_bit(x), a);
}

/// cos x (radians) for |x| <= kMaxAngle, NaN beyond.
template <class T>
FEWSTEP_INLINE T cos(T x) {
  const T a = abs(x);
  const internal::Quadrant<T> r = internal::split_quadrants(a);
  return internal::sine_in_quadrant(r, r.q + bits<T>(1), bits<T>(0), a);
}

// double exists for gradient checks only, on the host: the C library's
// functions, without a promise about bits.
#if defined(__CUDA_ARCH__)
#define FEWSTEP_LIBM(name) ::name
#else
#define FEWSTEP_LIBM(name) __builtin_##name
#endif
FEWSTEP_INLINE double exp(double x) { return FEWSTEP_LIBM(exp)(x); }
FEWSTEP_INLINE double log(double x) { return FEWSTEP_LIBM(log)(x); }
FEWSTEP_INLINE double tanh(double x) { return FEWSTEP_LIBM(tanh)(x); }
FEWSTEP_INLINE double sigmoid(double x) {
  const double e = FEWSTEP_LIBM(exp)(x < 0.0 ? x : -x);
  return (x < 0.0 ? e : 1.0) / (1.0 + e);
}
FEWSTEP_INLINE double sin(double x) { return FEWSTEP_LIBM(sin)(x); }
FEWSTEP_INLINE double cos(double x) { return FEWSTEP_LIBM(cos)(x); }
#undef FEWSTEP_LIBM

}  // namespace fewstep

#endif  // FEWSTEP_NUMERICS_ELEMENTARY_H_
