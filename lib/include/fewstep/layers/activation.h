// Elementwise layers: relu, tanh, and flatten, which moves nothing.
//
// An activation normally runs in the storage of its input (NetworkPlanner);
// its derivative is then applied by the layer above (store_delta), and its own
// input_gradient has nothing left to do.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_ACTIVATION_H_
#define FEWSTEP_LAYERS_ACTIVATION_H_

#include "fewstep/layers/layer.h"

namespace fewstep {

/// out[j] = f(in[j]) for all values of the tile.
template <class T, class E, class F>
FEWSTEP_INLINE void map_values(const E& e, const LayerCall<T>& c, const F& f) {
  T* const out = c.out;
  with_input(c, [&](const auto* in) {
    e.for_each(c.n * c.layer->n_out(),
               [&](uint32_t j) { out[j] = f(lift<T>(in[j])); });
  });
}

/// An activation in storage of its own: `out` already holds dL/d(in), because
/// the layer above multiplied by this activation's derivative.
template <class T, class E>
FEWSTEP_INLINE void hand_down(const E& e, const LayerCall<T>& c) {
  if (c.layer->in_place != 0) return;
  const T* const d = c.out;
  T* const in = c.in;
  const uint8_t activation = c.layer->in_activation;
  e.for_each(c.n * c.layer->n_in(), [&](uint32_t j) {
    store_delta(in + j, activation, lift<T>(d[j]));
  });
}

struct Relu {
  static constexpr LayerOp kOp = LayerOp::kRelu;
  template <class W, class T, class E>
  static FEWSTEP_HD void forward(const E& e, const LayerCall<T>& c) {
    if constexpr (FusedCall<T>::kActivates) {
      if (c.activation != 0) return;
    }
    map_values(e, c, [](const T& x) { return relu(x); });
  }
  template <class W, class T, class E>
  static FEWSTEP_HD void weight_gradient(const E&, const LayerCall<T>&) {}
  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient(const E& e, const LayerCall<T>& c) {
    hand_down(e, c);
  }
};

struct Tanh {
  static constexpr LayerOp kOp = LayerOp::kTanh;
  template <class W, class T, class E>
  static FEWSTEP_HD void forward(const E& e, const LayerCall<T>& c) {
    map_values(e, c, [](const T& x) { return tanh(x); });
  }
  template <class W, class T, class E>
  static FEWSTEP_HD void weight_gradient(const E&, const LayerCall<T>&) {}
  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient(const E& e, const LayerCall<T>& c) {
    hand_down(e, c);
  }
};

struct Flatten {
  static constexpr LayerOp kOp = LayerOp::kFlatten;
  template <class W, class T, class E>
  static FEWSTEP_HD void forward(const E&, const LayerCall<T>&) {}
  template <class W, class T, class E>
  static FEWSTEP_HD void weight_gradient(const E&, const LayerCall<T>&) {}
  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient(const E&, const LayerCall<T>&) {}
};

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_ACTIVATION_H_
