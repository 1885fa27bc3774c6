// Lanes: a SIMD register of floats as a number type.
//
// CPU meta-training runs the kernels of lib/ at Lanes, where each lane holds
// another task, or at Channels, where it holds another channel of one task
// (host/cpu/channels.h); each gets, bit for bit, what the same kernel gives at
// float. Built on Eigen's packet math; only operations that
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
#include "fewstep/numerics/dual.h"
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

/// kLanes floats, whose meaning `Of` names. Aligned to its size; pass by value.
template <class Of>
struct Packet {
  internal::FloatPacket v;
};

/// kLanes bit patterns or masks (all ones or zero, lane by lane).
template <class Of>
struct PacketBits {
  internal::IntPacket v;
};

/// What the lanes of a packet are, and so its inputs and labels (Number<T>).
struct OfTasks;
struct OfChannels;

/// The same value of kLanes tasks.
using Lanes = Packet<OfTasks>;
using LaneBits = PacketBits<OfTasks>;
/// kLanes consecutive channels of one example of one task.
using Channels = Packet<OfChannels>;

struct OfTasks {
  using Primal = Lanes;
  using Label = Lanes;  ///< Class indices as floats, a task's in each lane.
};
struct OfChannels {
  using Primal = float;  ///< Inputs are plain CHW arrays, read one by one.
  using Label = uint16_t;
};

template <class Of>
struct Number<Packet<Of>> {
  using Mask = PacketBits<Of>;
  using Bits = PacketBits<Of>;
  using Primal = typename Of::Primal;
  using Label = typename Of::Label;
  static FEWSTEP_INLINE Packet<Of> constant(float x) {
    return {Eigen::internal::pset1<internal::FloatPacket>(x)};
  }
  static FEWSTEP_INLINE PacketBits<Of> bits(uint32_t b) {
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
template <class Of>
FEWSTEP_INLINE void store(float* p, Packet<Of> x) {
  Eigen::internal::pstore(p, x.v);
}
template <class Of>
FEWSTEP_INLINE void store_unaligned(float* p, Packet<Of> x) {
  Eigen::internal::pstoreu(p, x.v);
}

/// `x` in every lane.
FEWSTEP_INLINE Lanes broadcast(float x) { return Number<Lanes>::constant(x); }

/// Lane i of x, 0 <= i < kLanes. Goes through memory: for loading and checking,
/// not for kernels.
template <class Of>
inline float lane(Packet<Of> x, int i) {
  float value;
  memcpy(&value,
         reinterpret_cast<const unsigned char*>(&x) + sizeof(float) * i,
         sizeof value);
  return value;
}
template <class Of>
inline uint32_t lane(PacketBits<Of> b, int i) {
  uint32_t value;
  memcpy(&value,
         reinterpret_cast<const unsigned char*>(&b) + sizeof(uint32_t) * i,
         sizeof value);
  return value;
}
/// Writes lane i of *x.
template <class Of>
inline void set_lane(Packet<Of>* x, int i, float value) {
  memcpy(reinterpret_cast<unsigned char*>(x) + sizeof(float) * i,
         &value,
         sizeof value);
}

template <class Of>
FEWSTEP_INLINE PacketBits<Of> to_bits(Packet<Of> x) {
  return {Eigen::internal::preinterpret<internal::IntPacket>(x.v)};
}
template <class Of>
FEWSTEP_INLINE Packet<Of> from_bits(PacketBits<Of> b) {
  return {Eigen::internal::preinterpret<internal::FloatPacket>(b.v)};
}

template <class Of>
FEWSTEP_INLINE PacketBits<Of> operator+(PacketBits<Of> a, PacketBits<Of> b) {
  return {Eigen::internal::padd(a.v, b.v)};
}
template <class Of>
FEWSTEP_INLINE PacketBits<Of> operator-(PacketBits<Of> a, PacketBits<Of> b) {
  return {Eigen::internal::psub(a.v, b.v)};
}
template <class Of>
FEWSTEP_INLINE PacketBits<Of> operator&(PacketBits<Of> a, PacketBits<Of> b) {
  return {Eigen::internal::pand(a.v, b.v)};
}
template <class Of>
FEWSTEP_INLINE PacketBits<Of> operator|(PacketBits<Of> a, PacketBits<Of> b) {
  return {Eigen::internal::por(a.v, b.v)};
}
template <class Of>
FEWSTEP_INLINE PacketBits<Of> operator^(PacketBits<Of> a, PacketBits<Of> b) {
  return {Eigen::internal::pxor(a.v, b.v)};
}
template <class Of>
FEWSTEP_INLINE PacketBits<Of> operator~(PacketBits<Of> a) {
  return a ^ Number<Packet<Of>>::bits(0xffffffffU);
}
template <int n, class Of>
FEWSTEP_INLINE PacketBits<Of> shift_left(PacketBits<Of> b) {
  return {Eigen::internal::plogical_shift_left<n>(b.v)};
}
template <int n, class Of>
FEWSTEP_INLINE PacketBits<Of> shift_right(PacketBits<Of> b) {
  return {Eigen::internal::plogical_shift_right<n>(b.v)};
}

template <class Of>
FEWSTEP_INLINE Packet<Of> operator+(Packet<Of> a, Packet<Of> b) {
  return {Eigen::internal::padd(a.v, b.v)};
}
template <class Of>
FEWSTEP_INLINE Packet<Of> operator-(Packet<Of> a, Packet<Of> b) {
  return {Eigen::internal::psub(a.v, b.v)};
}
template <class Of>
FEWSTEP_INLINE Packet<Of> operator*(Packet<Of> a, Packet<Of> b) {
  return {Eigen::internal::pmul(a.v, b.v)};
}
template <class Of>
FEWSTEP_INLINE Packet<Of> operator/(Packet<Of> a, Packet<Of> b) {
  return {Eigen::internal::pdiv(a.v, b.v)};
}
/// Flips the sign bits. (Eigen's pnegate subtracts from 0: no -0.)
template <class Of>
FEWSTEP_INLINE Packet<Of> operator-(Packet<Of> a) {
  return from_bits(to_bits(a) ^ Number<Packet<Of>>::bits(0x80000000U));
}

template <class Of>
FEWSTEP_INLINE Packet<Of> fma(Packet<Of> a, Packet<Of> b, Packet<Of> c) {
  return {Eigen::internal::pmadd(a.v, b.v, c.v)};
}
template <class Of>
FEWSTEP_INLINE Packet<Of> sqrt(Packet<Of> x) {
  return {Eigen::internal::psqrt(x.v)};
}
template <class Of>
FEWSTEP_INLINE Packet<Of> abs(Packet<Of> x) {
  return from_bits(to_bits(x) & Number<Packet<Of>>::bits(0x7fffffffU));
}

template <class Of>
FEWSTEP_INLINE PacketBits<Of> less_equal(Packet<Of> a, Packet<Of> b) {
  return to_bits(Packet<Of>{Eigen::internal::pcmp_le(a.v, b.v)});
}
template <class Of>
FEWSTEP_INLINE PacketBits<Of> exceeds(Packet<Of> a, Packet<Of> b) {
  // b < a, or not (a == a).
  return to_bits(Packet<Of>{Eigen::internal::pcmp_lt(b.v, a.v)}) |
         ~to_bits(Packet<Of>{Eigen::internal::pcmp_eq(a.v, a.v)});
}
template <class Of>
FEWSTEP_INLINE Packet<Of> select(PacketBits<Of> mask,
                                 Packet<Of> a,
                                 Packet<Of> b) {
  const PacketBits<Of> other{Eigen::internal::pandnot(to_bits(b).v, mask.v)};
  return from_bits((to_bits(a) & mask) | other);
}
template <class Of>
FEWSTEP_INLINE PacketBits<Of> mask_and(PacketBits<Of> m, PacketBits<Of> n) {
  return m & n;
}
template <class Of>
FEWSTEP_INLINE PacketBits<Of> mask_not(PacketBits<Of> m) {
  return ~m;
}

/// Mask of the lanes whose class index is `o`. For T = Lanes and Dual<Lanes>.
template <class T>
FEWSTEP_INLINE Mask<T> label_is(Lanes label, uint32_t o) {
  const Lanes index = broadcast(static_cast<float>(o));
  return to_bits(Lanes{Eigen::internal::pcmp_eq(label.v, index.v)});
}

/// Whether x is finite in every lane.
template <class Of>
FEWSTEP_INLINE bool all_finite(Packet<Of> x) {
  const PacketBits<Of> exponent = Number<Packet<Of>>::bits(0x7f800000U);
  const PacketBits<Of> special{
      Eigen::internal::pcmp_eq((to_bits(x) & exponent).v, exponent.v)};
  bool any = false;
  for (int i = 0; i < kLanes; ++i) any |= lane(special, i) != 0;
  return !any;
}

// layers/layer.h; cpu/tape.h asks for it.
template <class T>
struct FusedCall;
template <>
struct FusedCall<Lanes> {
  static constexpr bool kActivates = true;
  static constexpr bool kDescends = true;
  static constexpr bool kTangents = false;
  uint8_t activation = 0;
  const Lanes* rate = nullptr;
  Lanes* grad_bar = nullptr;
};
template <>
struct FusedCall<Dual<Lanes>> {
  static constexpr bool kActivates = true;
  static constexpr bool kDescends = false;
  static constexpr bool kTangents = true;
  uint8_t activation = 0;
  Lanes* tangents = nullptr;
};

}  // namespace fewstep

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif  // FEWSTEP_HOST_LANES_H_
