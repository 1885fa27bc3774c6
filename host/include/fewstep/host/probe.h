// Probe: double that remembers how every comparison came out.
//
// Central differences are right only where no relu or maximum switches between
// the two points; running the loss at Probe shows whether one did.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_PROBE_H_
#define FEWSTEP_HOST_PROBE_H_

#include "fewstep/numerics/elementary.h"
#include "fewstep/numerics/real.h"

namespace fewstep {

struct Probe {
  double v;
};

template <>
struct Number<Probe> {
  using Mask = uint64_t;
  using Bits = uint64_t;
  using Primal = Probe;
  using Label = uint16_t;
  static Probe constant(float x) { return {static_cast<double>(x)}; }
};

/// Hash of the comparisons of this thread since it was last set.
inline thread_local uint64_t probe_pattern = 0;

inline uint64_t recorded(uint64_t mask) {
  probe_pattern = (probe_pattern ^ (mask & 1)) * 0x100000001b3ULL + 1;
  return mask;
}

inline Probe operator+(Probe a, Probe b) { return {a.v + b.v}; }
inline Probe operator-(Probe a, Probe b) { return {a.v - b.v}; }
inline Probe operator*(Probe a, Probe b) { return {a.v * b.v}; }
inline Probe operator/(Probe a, Probe b) { return {a.v / b.v}; }
inline Probe operator-(Probe a) { return {-a.v}; }
inline Probe fma(Probe a, Probe b, Probe c) { return {fma(a.v, b.v, c.v)}; }
inline Probe sqrt(Probe a) { return {sqrt(a.v)}; }
inline Probe exp(Probe a) { return {exp(a.v)}; }
inline Probe log(Probe a) { return {log(a.v)}; }
inline Probe tanh(Probe a) { return {tanh(a.v)}; }
inline Probe sigmoid(Probe a) { return {sigmoid(a.v)}; }
inline Probe abs(Probe a) {
  static_cast<void>(recorded(less_equal(a.v, 0.0)));  // Its kink.
  return {abs(a.v)};
}
inline uint64_t less_equal(Probe a, Probe b) {
  return recorded(less_equal(a.v, b.v));
}
inline uint64_t exceeds(Probe a, Probe b) {
  return recorded(exceeds(a.v, b.v));
}
inline Probe select(uint64_t mask, Probe a, Probe b) {
  return {select(mask, a.v, b.v)};
}

}  // namespace fewstep

#endif  // FEWSTEP_HOST_PROBE_H_
