// Lanes: a SIMD register of floats as a number type.
//
// CPU meta-training runs the kernels of lib/ at Lanes: each lane holds another
// task (or another output of one task), and gets, bit for bit, what the same
// kernel gives at float. Built on Eigen's packet math; only operations that
// are one IEEE-754 operation or exact are used.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_LANES_H_
#define FEWSTEP_HOST_LANES_H_

// Eigen's fast square root is wrong by up to 3 ulp. Every file of a program
// that uses Lanes must agree on this, whichever Eigen header it takes first.
#if !defined(EIGEN_FAST_MATH)
#define EIGEN_FAST_MATH 0
#elif EIGEN_FAST_MATH
#error "fewstep needs correct square roots: compile with EIGEN_FAST_MATH=0"
#endif
#include <Eigen/Core>

#include "fewstep/config.h"
#include "fewstep/numerics/elementary.h"
#include "fewstep/numerics/real.h"

#if !defined(EIGEN_VECTORIZE_FMA) && !defined(__ARM_FEATURE_FMA)
#error "Lanes needs fused multiply-add: compile for x86-64-v3 or AArch64"
#endif

// Eigen's packets are built-in vector types; that their attributes are not part
// of a template argument is harmless here.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"
#endif

namespace fewstep {

namespace internal {
using FloatPacket = Eigen::internal::packet_traits<float>::type;
using IntPacket = Eigen::internal::unpacket_traits<FloatPacket>::integer_packet;
}  // namespace internal

/// Floats in a Lanes: 8 with AVX2, 16 with AVX-512, 4 with NEON.
constexpr int kLanes =
    Eigen::internal::unpacket_traits<internal::FloatPacket>::size;
static_assert(kLanes > 1, "Eigen has no packet of floats for this target");

/// kLanes floats. Aligned to its size; pass by value.
struct Lanes {
  internal::FloatPacket v;
};

/// kLanes bit patterns or masks (all ones or zero, lane by lane).
struct LaneBits {
  internal::IntPacket v;
};

template <>
struct Number<Lanes> {
  using Mask = LaneBits;
  using Bits = LaneBits;
  using Primal = Lanes;
  using Label = Lanes;  ///< Class indices as floats, a task's in each lane.
  static FEWSTEP_INLINE Lanes constant(float x) {
    return {Eigen::internal::pset1<internal::FloatPacket>(x)};
  }
  static FEWSTEP_INLINE LaneBits bits(uint32_t b) {
    return {
        Eigen::internal::pset1<internal::IntPacket>(static_cast<int32_t>(b))};
  }
};

/// The kLanes floats at `p`, which is aligned to sizeof(Lanes).
FEWSTEP_INLINE Lanes load(const float* p) {
  return {Eigen::internal::pload<internal::FloatPacket>(p)};
}
/// The kLanes floats at `p`, at any alignment of float.
FEWSTEP_INLINE Lanes load_unaligned(const float* p) {
  return {Eigen::internal::ploadu<internal::FloatPacket>(p)};
}
FEWSTEP_INLINE void store(float* p, Lanes x) {
  Eigen::internal::pstore(p, x.v);
}
FEWSTEP_INLINE void store_unaligned(float* p, Lanes x) {
  Eigen::internal::pstoreu(p, x.v);
}

/// `x` in every lane.
FEWSTEP_INLINE Lanes broadcast(float x) { return Number<Lanes>::constant(x); }

/// Lane i of x, 0 <= i < kLanes. Goes through memory: for loading and checking,
/// not for kernels.
inline float lane(Lanes x, int i) {
  float value;
  memcpy(&value,
         reinterpret_cast<const unsigned char*>(&x) + sizeof(float) * i,
         sizeof value);
  return value;
}
inline uint32_t lane(LaneBits b, int i) {
  uint32_t value;
  memcpy(&value,
         reinterpret_cast<const unsigned char*>(&b) + sizeof(uint32_t) * i,
         sizeof value);
  return value;
}
/// Writes lane i of *x.
inline void set_lane(Lanes* x, int i, float value) {
  memcpy(reinterpret_cast<unsigned char*>(x) + sizeof(float) * i,
         &value,
         sizeof value);
}

FEWSTEP_INLINE LaneBits to_bits(Lanes x) {
  return {Eigen::internal::preinterpret<internal::IntPacket>(x.v)};
}
FEWSTEP_INLINE Lanes from_bits(LaneBits b) {
  return {Eigen::internal::preinterpret<internal::FloatPacket>(b.v)};
}

FEWSTEP_INLINE LaneBits operator+(LaneBits a, LaneBits b) {
  return {Eigen::internal::padd(a.v, b.v)};
}
FEWSTEP_INLINE LaneBits operator-(LaneBits a, LaneBits b) {
  return {Eigen::internal::psub(a.v, b.v)};
}
FEWSTEP_INLINE LaneBits operator&(LaneBits a, LaneBits b) {
  return {Eigen::internal::pand(a.v, b.v)};
}
FEWSTEP_INLINE LaneBits operator|(LaneBits a, LaneBits b) {
  return {Eigen::internal::por(a.v, b.v)};
}
FEWSTEP_INLINE LaneBits operator^(LaneBits a, LaneBits b) {
  return {Eigen::internal::pxor(a.v, b.v)};
}
FEWSTEP_INLINE LaneBits operator~(LaneBits a) {
  return a ^ Number<Lanes>::bits(0xffffffffU);
}
template <int n>
FEWSTEP_INLINE LaneBits shift_left(LaneBits b) {
  return {Eigen::internal::plogical_shift_left<n>(b.v)};
}
template <int n>
FEWSTEP_INLINE LaneBits shift_right(LaneBits b) {
  return {Eigen::internal::plogical_shift_right<n>(b.v)};
}

FEWSTEP_INLINE Lanes operator+(Lanes a, Lanes b) {
  return {Eigen::internal::padd(a.v, b.v)};
}
FEWSTEP_INLINE Lanes operator-(Lanes a, Lanes b) {
  return {Eigen::internal::psub(a.v, b.v)};
}
FEWSTEP_INLINE Lanes operator*(Lanes a, Lanes b) {
  return {Eigen::internal::pmul(a.v, b.v)};
}
FEWSTEP_INLINE Lanes operator/(Lanes a, Lanes b) {
  return {Eigen::internal::pdiv(a.v, b.v)};
}
/// Flips the sign bits. (Eigen's pnegate subtracts from 0: no -0.)
FEWSTEP_INLINE Lanes operator-(Lanes a) {
  return from_bits(to_bits(a) ^ Number<Lanes>::bits(0x80000000U));
}

FEWSTEP_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {Eigen::internal::pmadd(a.v, b.v, c.v)};
}
FEWSTEP_INLINE Lanes sqrt(Lanes x) { return {Eigen::internal::psqrt(x.v)}; }
FEWSTEP_INLINE Lanes abs(Lanes x) {
  return from_bits(to_bits(x) & Number<Lanes>::bits(0x7fffffffU));
}

FEWSTEP_INLINE LaneBits less_equal(Lanes a, Lanes b) {
  return to_bits(Lanes{Eigen::internal::pcmp_le(a.v, b.v)});
}
FEWSTEP_INLINE LaneBits exceeds(Lanes a, Lanes b) {
  // b < a, or not (a == a).
  return to_bits(Lanes{Eigen::internal::pcmp_lt(b.v, a.v)}) |
         ~to_bits(Lanes{Eigen::internal::pcmp_eq(a.v, a.v)});
}
FEWSTEP_INLINE Lanes select(LaneBits mask, Lanes a, Lanes b) {
  const LaneBits other{Eigen::internal::pandnot(to_bits(b).v, mask.v)};
  return from_bits((to_bits(a) & mask) | other);
}
FEWSTEP_INLINE LaneBits mask_and(LaneBits m, LaneBits n) { return m & n; }
FEWSTEP_INLINE LaneBits mask_not(LaneBits m) { return ~m; }

/// Mask of the lanes whose class index is `o`. For T = Lanes and Dual<Lanes>.
template <class T>
FEWSTEP_INLINE Mask<T> label_is(Lanes label, uint32_t o) {
  const Lanes index = broadcast(static_cast<float>(o));
  return to_bits(Lanes{Eigen::internal::pcmp_eq(label.v, index.v)});
}

/// Whether x is finite in every lane.
FEWSTEP_INLINE bool all_finite(Lanes x) {
  const LaneBits exponent = Number<Lanes>::bits(0x7f800000U);
  const LaneBits special{
      Eigen::internal::pcmp_eq((to_bits(x) & exponent).v, exponent.v)};
  bool any = false;
  for (int i = 0; i < kLanes; ++i) any |= lane(special, i) != 0;
  return !any;
}

}  // namespace fewstep

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif  // FEWSTEP_HOST_LANES_H_
