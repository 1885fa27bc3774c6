// What a layer operation is, and the pieces all of them share.
//
// An operation is a type with three static functions, each a template over the
// number type, the executor and the weight view:
//
//   forward          out = op(in)
//   weight_gradient  grad += dL/d(parameters), reads `in` and `out` = dL/d(out)
//   input_gradient   `in` = dL/d(in) * activation'(in), in its own storage
//
// called in this order, with a barrier after each. Backward, `out` holds
// dL/d(out) and input_gradient overwrites the input activation, so training
// needs no second set of buffers.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_LAYER_H_
#define FEWSTEP_LAYERS_LAYER_H_

#include "fewstep/network.h"
#include "fewstep/numerics/elementary.h"
#include "fewstep/views.h"

namespace fewstep {

/// What a call at T may ask of a dense layer besides, so that no pass over what
/// it writes is left for it. Of the CPU engine's SIMD types only
/// (host/include/fewstep/host/lanes.h); all addresses are at the layer's first
/// parameter.
///
///   kActivates  activation  forward also runs this activation, a relu, whose
///                           own forward then has nothing to do; 0: none
///   kDescends   rate        weight_gradient of a whole batch: null, or
///               grad_bar      grad = theta - rate g; but if this is not null,
///                             grad = g, grad_bar = -rate g (descent.h)
///   kTangents   tangents    weight_gradient of tangents alone (TangentView):
///                           null, or they are added here, not put into grad
template <class T>
struct FusedCall {
  static constexpr bool kActivates = false;
  static constexpr bool kDescends = false;
  static constexpr bool kTangents = false;
};

/// Arguments of a layer operation on a tile of examples.
template <class T>
struct LayerCall : FusedCall<T> {
  const Layer* layer;
  uint32_t n;          ///< Examples in the tile.
  RawView weights;     ///< At the layer's first parameter.
  const Primal<T>* x;  ///< [n][n_in] when the input is the network's, or null.
  T* in;               ///< [n][n_in] otherwise.
  T* out;              ///< [n][n_out]
  T* aux;              ///< [n][n_aux], or [n_aux] for batch_norm.
  T* grad;             ///< At the layer's first parameter.
  bool first;          ///< First tile: sums start at +0 instead of `grad`.
};

/// An integer known at compile time, passed as an argument.
template <int v>
struct Int {
  static constexpr int value = v;
};

template <class A, class B>
struct IsSame {
  static constexpr bool value = false;
};
template <class A>
struct IsSame<A, A> {
  static constexpr bool value = true;
};

/// The type behind a reference to const: Value<const T&> is T.
template <class A>
struct RemoveConstRef;
template <class A>
struct RemoveConstRef<const A&> {
  using Type = A;
};
template <class A>
using Value = typename RemoveConstRef<A>::Type;

/// How a T holds channels. Every number type holds one value of one channel,
/// except the CPU engine's Channels, which holds a run of consecutive ones:
/// its layer table counts such runs, and kernels that sum over channels reach
/// the single ones through channel().
template <class T>
struct Packing {
  static constexpr uint32_t kChannels = 1;
  /// Channel `i` < kChannels of *at, as a factor of a sum of T.
  template <class X>
  static FEWSTEP_INLINE X channel(const X* at, uint32_t i) {
    return at[i];
  }
};

/// x as a T: itself, or with tangent 0.
template <class T, class X>
struct Lift {
  static FEWSTEP_INLINE T of(const X& x) { return T{x, constant<X>(0.0F)}; }
};
template <class T>
struct Lift<T, T> {
  static FEWSTEP_INLINE const T& of(const T& x) { return x; }
};
template <class T, class X>
FEWSTEP_INLINE T lift(const X& x) {
  return Lift<T, X>::of(x);
}

/// f(input array): the network's input without tangents, or an activation.
template <class T, class F>
FEWSTEP_INLINE void with_input(const LayerCall<T>& c, const F& f) {
  if constexpr (IsSame<T, Primal<T>>::value) {
    f(static_cast<const T*>(c.x != nullptr ? c.x : c.in));
  } else {
    if (c.x != nullptr) {
      f(c.x);
    } else {
      f(static_cast<const T*>(c.in));
    }
  }
}

/// relu(x) = x <= 0 ? +0 : x; keeps NaN, never gives -0.
template <class T>
FEWSTEP_INLINE T relu(const T& x) {
  const T zero = constant<T>(0.0F);
  return select(less_equal(x, zero), zero, x);
}

/// The same for float, on integers: x <= 0 where the bits, as a signed number,
/// are at most those of -infinity, or +0, which is the result anyway.
FEWSTEP_INLINE float relu(float x) {
  const uint32_t b = to_bits(x);
  constexpr int32_t kMinusInfinity = -0x00800000;
  return from_bits(static_cast<int32_t>(b) <= kMinusInfinity ? 0U : b);
}

/// delta relu'(y) for y = relu(x): y <= 0 ? +0 : delta.
template <class T>
FEWSTEP_INLINE T relu_delta(const T& y, const T& delta) {
  const T zero = constant<T>(0.0F);
  return select(less_equal(y, zero), zero, delta);
}

/// The same for float: what relu() gives is +0, positive or NaN.
FEWSTEP_INLINE float relu_delta(float y, float delta) {
  return to_bits(y) == 0 ? 0.0F : delta;
}

/// *at = delta * activation'(y), y being the activation that *at holds: the
/// write of every input_gradient.
template <class T>
FEWSTEP_INLINE void store_delta(T* at, uint8_t activation, T delta) {
  if (activation == static_cast<uint8_t>(LayerOp::kRelu)) {
    delta = relu_delta(*at, delta);
  } else if (activation == static_cast<uint8_t>(LayerOp::kTanh)) {
    const T y = *at;
    delta = delta * fma(-y, y, constant<T>(1.0F));
  }
  *at = delta;
}

/// The same of a delta's tangent, written beside what is there; not for tanh,
/// whose derivative takes the delta's value, too.
template <class T>
FEWSTEP_INLINE void store_delta(Dual<T>* at, uint8_t activation, T tangent) {
  if (activation == static_cast<uint8_t>(LayerOp::kRelu)) {
    tangent = relu_delta(at->value, tangent);
  }
  at->tangent = tangent;
}

/// Number of partial sums of a normalization sum, on every engine.
constexpr uint32_t kPartials = 32;

/// Sum over the elements (r, i) of [n_rows][n_cols], row-major, in the
/// contract's order for sums that would starve a GPU: element e = r n_cols + i
/// goes to partial sum e mod 32, then partials 0..31 ascending.
/// row(r) gives the row's term(i, s), which returns s plus the element's term.
template <class T, class Row>
FEWSTEP_HD inline T partial_sum(uint32_t n_rows,
                                uint32_t n_cols,
                                const Row& row) {
  T partial[kPartials];
  for (uint32_t j = 0; j < kPartials; ++j) partial[j] = constant<T>(0.0F);
  uint32_t j = 0;
  for (uint32_t r = 0; r < n_rows; ++r) {
    const auto term = row(r);
    for (uint32_t i = 0; i < n_cols; ++i) {
      partial[j] = term(i, partial[j]);
      j = (j + 1) % kPartials;
    }
  }
  T sum = partial[0];
  for (uint32_t k = 1; k < kPartials; ++k) sum = sum + partial[k];
  return sum;
}

/// The same over i in [0, n).
template <class T, class Term>
FEWSTEP_HD inline T partial_sum(uint32_t n, const Term& term) {
  return partial_sum<T>(1, n, [&](uint32_t) -> const Term& { return term; });
}

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_LAYER_H_
