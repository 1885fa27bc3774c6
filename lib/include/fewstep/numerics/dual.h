// Dual numbers: a value and its derivative along one direction.
//
// Running a kernel at Dual<T> gives the kernel's result and, in the tangents,
// its exact directional derivative; the gradient run at theta + eps v gives the
// Hessian-vector product H v. T is float, double or the CPU lanes.
//
// Comparisons, masks, labels and inputs are those of T: a branch is taken by
// the values, and the tangents follow.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_NUMERICS_DUAL_H_
#define FEWSTEP_NUMERICS_DUAL_H_

#include "fewstep/config.h"
#include "fewstep/numerics/elementary.h"
#include "fewstep/numerics/real.h"

namespace fewstep {

/// value + eps tangent, eps^2 = 0. The values are, bit for bit, what the same
/// operations give at T.
template <class T>
struct Dual {
  T value;
  T tangent;
};

template <class T>
struct Number<Dual<T>> {
  using Mask = typename Number<T>::Mask;
  using Bits = typename Number<T>::Bits;
  using Primal = typename Number<T>::Primal;
  using Label = typename Number<T>::Label;
  static FEWSTEP_INLINE Dual<T> constant(float x) {
    return {fewstep::constant<T>(x), fewstep::constant<T>(0.0F)};
  }
};

/// The value of a dual number; any other number itself.
template <class T>
FEWSTEP_INLINE T primal(T x) {
  return x;
}
template <class T>
FEWSTEP_INLINE T primal(Dual<T> x) {
  return x.value;
}
/// The derivative part.
template <class T>
FEWSTEP_INLINE T tangent(Dual<T> x) {
  return x.tangent;
}

template <class T>
FEWSTEP_INLINE Dual<T> operator-(Dual<T> a) {
  return {-a.value, -a.tangent};
}
template <class T>
FEWSTEP_INLINE Dual<T> operator+(Dual<T> a, Dual<T> b) {
  return {a.value + b.value, a.tangent + b.tangent};
}
template <class T>
FEWSTEP_INLINE Dual<T> operator+(Dual<T> a, T b) {
  return {a.value + b, a.tangent};
}
template <class T>
FEWSTEP_INLINE Dual<T> operator+(T a, Dual<T> b) {
  return {a + b.value, b.tangent};
}
template <class T>
FEWSTEP_INLINE Dual<T> operator-(Dual<T> a, Dual<T> b) {
  return {a.value - b.value, a.tangent - b.tangent};
}
template <class T>
FEWSTEP_INLINE Dual<T> operator-(Dual<T> a, T b) {
  return {a.value - b, a.tangent};
}
template <class T>
FEWSTEP_INLINE Dual<T> operator-(T a, Dual<T> b) {
  return {a - b.value, -b.tangent};
}
template <class T>
FEWSTEP_INLINE Dual<T> operator*(Dual<T> a, Dual<T> b) {
  return {a.value * b.value, fma(a.value, b.tangent, a.tangent * b.value)};
}
template <class T>
FEWSTEP_INLINE Dual<T> operator*(Dual<T> a, T b) {
  return {a.value * b, a.tangent * b};
}
template <class T>
FEWSTEP_INLINE Dual<T> operator*(T a, Dual<T> b) {
  return {a * b.value, a * b.tangent};
}
template <class T>
FEWSTEP_INLINE Dual<T> operator/(Dual<T> a, Dual<T> b) {
  const T q = a.value / b.value;
  return {q, fma(-q, b.tangent, a.tangent) / b.value};
}
template <class T>
FEWSTEP_INLINE Dual<T> operator/(Dual<T> a, T b) {
  return {a.value / b, a.tangent / b};
}
template <class T>
FEWSTEP_INLINE Dual<T> operator/(T a, Dual<T> b) {
  const T q = a / b.value;
  return {q, -(q * b.tangent) / b.value};
}

/// a * b + c, where a factor (an input, a constant) may have no tangent.
template <class T>
FEWSTEP_INLINE Dual<T> fma(Dual<T> a, Dual<T> b, Dual<T> c) {
  return {fma(a.value, b.value, c.value),
          fma(a.value, b.tangent, fma(a.tangent, b.value, c.tangent))};
}
template <class T>
FEWSTEP_INLINE Dual<T> fma(Dual<T> a, T b, Dual<T> c) {
  return {fma(a.value, b, c.value), fma(a.tangent, b, c.tangent)};
}
template <class T>
FEWSTEP_INLINE Dual<T> fma(T a, Dual<T> b, Dual<T> c) {
  return {fma(a, b.value, c.value), fma(a, b.tangent, c.tangent)};
}
template <class T>
FEWSTEP_INLINE Dual<T> fma(T a, T b, Dual<T> c) {
  return {fma(a, b, c.value), c.tangent};
}

template <class T>
FEWSTEP_INLINE Mask<T> less_equal(Dual<T> a, Dual<T> b) {
  return less_equal(a.value, b.value);
}
template <class T>
FEWSTEP_INLINE Mask<T> less_equal(Dual<T> a, T b) {
  return less_equal(a.value, b);
}
template <class T>
FEWSTEP_INLINE Mask<T> less_equal(T a, Dual<T> b) {
  return less_equal(a, b.value);
}
template <class T>
FEWSTEP_INLINE Mask<T> exceeds(Dual<T> a, Dual<T> b) {
  return exceeds(a.value, b.value);
}
template <class T>
FEWSTEP_INLINE Mask<T> exceeds(Dual<T> a, T b) {
  return exceeds(a.value, b);
}
template <class T>
FEWSTEP_INLINE Mask<T> exceeds(T a, Dual<T> b) {
  return exceeds(a, b.value);
}

/// mask ? a : b, value and tangent.
template <class T>
FEWSTEP_INLINE Dual<T> select(Mask<T> mask, Dual<T> a, Dual<T> b) {
  return {select(mask, a.value, b.value), select(mask, a.tangent, b.tangent)};
}

/// |x|; the derivative at 0 is +1.
template <class T>
FEWSTEP_INLINE Dual<T> abs(Dual<T> x) {
  const Mask<T> positive = less_equal(fewstep::constant<T>(0.0F), x.value);
  return {abs(x.value), select(positive, x.tangent, -x.tangent)};
}

/// Square root; the derivative at 0 is 0 by definition, so that Adam's
/// sqrt(v) of a parameter whose gradient is always 0 has one.
template <class T>
FEWSTEP_INLINE Dual<T> sqrt(Dual<T> x) {
  const T zero = fewstep::constant<T>(0.0F);
  const T y = sqrt(x.value);
  return {y, select(less_equal(y, zero), zero, x.tangent / (y + y))};
}

template <class T>
FEWSTEP_INLINE Dual<T> exp(Dual<T> x) {
  const T y = exp(x.value);
  return {y, y * x.tangent};
}
template <class T>
FEWSTEP_INLINE Dual<T> log(Dual<T> x) {
  return {log(x.value), x.tangent / x.value};
}
/// d tanh = 1 - tanh^2.
template <class T>
FEWSTEP_INLINE Dual<T> tanh(Dual<T> x) {
  const T y = tanh(x.value);
  return {y, fma(-y, y, fewstep::constant<T>(1.0F)) * x.tangent};
}
/// d sigmoid = sigmoid - sigmoid^2.
template <class T>
FEWSTEP_INLINE Dual<T> sigmoid(Dual<T> x) {
  const T y = sigmoid(x.value);
  return {y, fma(-y, y, y) * x.tangent};
}
template <class T>
FEWSTEP_INLINE Dual<T> sin(Dual<T> x) {
  return {sin(x.value), cos(x.value) * x.tangent};
}
template <class T>
FEWSTEP_INLINE Dual<T> cos(Dual<T> x) {
  return {cos(x.value), -(sin(x.value) * x.tangent)};
}

}  // namespace fewstep

#endif  // FEWSTEP_NUMERICS_DUAL_H_
