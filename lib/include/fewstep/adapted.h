// Which parameters adapt, and where they lie.
//
// A layer's tensors adapt together or are frozen. Of the P parameters of theta,
// A = Network::n_adapted change in the inner loop; whatever is kept for one of
// them (its learned rate, a rule's state, on a device theta_k itself) is an
// array of A values in ascending order. For each layer Network::adapted holds
// the index of its first parameter there.
//
// (ANIL adapts the head, Raghu et al. 2020; BOIL the body, Oh et al. 2021.)
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_ADAPTED_H_
#define FEWSTEP_ADAPTED_H_

#include "fewstep/network.h"
#include "fewstep/views.h"

namespace fewstep {

/// Adapting parameters [begin, begin + n), which are [begin + shift,
/// begin + shift + n) of theta.
struct AdaptedWindow {
  uint32_t begin;
  uint32_t n;
  uint32_t shift;  ///< Frozen parameters before them.
};

/// f(window) for the adapting parameters, ascending, in as few windows as they
/// lie in: one when all of them adapt, or the head, or the body.
template <class F>
FEWSTEP_INLINE void for_each_window(const Network& network, const F& f) {
  if (network.adapted == nullptr) {
    f(AdaptedWindow{0, network.n_params, 0});
    return;
  }
  AdaptedWindow w = {0, 0, 0};
  for (uint32_t i = 0; i <= network.n_layers; ++i) {
    const bool end = i == network.n_layers;
    const uint32_t n = end ? 0 : network.layers[i].n_params();
    if (!end && network.adapted[i] != kFrozen) {
      w.n += n;
    } else if (end || n != 0) {
      if (w.n != 0) f(w);
      w.begin += w.n;
      w.n = 0;
      w.shift += n;
    }
  }
}

/// to[A] = what adapts of from(i), i < P.
template <class T, class E, class W>
FEWSTEP_CALLED void gather_adapted(const E& e,
                                   const Network& network,
                                   const W& from,
                                   T* to) {
  for_each_window(network, [&](const AdaptedWindow& w) {
    e.for_each(w.n, [&](uint32_t j) {
      to[w.begin + j] = from(w.begin + w.shift + j);
    });
  });
}

/// What adapts of to[P] = from[A].
template <class T, class E>
FEWSTEP_CALLED void scatter_adapted(const E& e,
                                    const Network& network,
                                    const T* from,
                                    T* to) {
  for_each_window(network, [&](const AdaptedWindow& w) {
    e.for_each(w.n, [&](uint32_t j) {
      to[w.begin + w.shift + j] = from[w.begin + j];
    });
  });
}

/// theta_k of a device: what adapts in an array of its own, `current`, and the
/// rest in `initial`, theta_0. At theta_0 itself, `current` is `initial`.
template <class V>
struct AdaptedView {
  using Value = typename V::Value;
  V initial;
  V current;
  bool at_initial;

  /// The parameters of layer `l`.
  FEWSTEP_HD V layer(const Network& network, const Layer& l) const {
    if (network.adapted == nullptr) return current.at(l.param_offset);
    const uint32_t begin = network.adapted[&l - network.layers];
    if (at_initial || begin == kFrozen) return initial.at(l.param_offset);
    return current.at(begin);
  }
};

// How inner_loop.h finds a layer's weights and gradient: arrays of P values,
// or, at an AdaptedView, of A.

/// The weights of layer `l`.
template <class W>
FEWSTEP_INLINE RawView layer_weights(const Network&,
                                     const Layer& l,
                                     const W& theta) {
  return theta.at(l.param_offset).raw();
}
template <class V>
FEWSTEP_INLINE RawView layer_weights(const Network& network,
                                     const Layer& l,
                                     const AdaptedView<V>& theta) {
  return theta.layer(network, l).raw();
}

/// Where the gradient of layer `l` goes in `grad`. Of a frozen layer there is
/// none (null), but batch_norm's input gradient needs the sums that its own
/// would be: they go to the end of the workspace, before `workspace_end`, where
/// plan_adapted() has made room.
template <class T, class W>
FEWSTEP_INLINE T* layer_gradient(
    const Network&, const Layer& l, const W&, T* grad, T*) {
  return grad + l.param_offset;
}
template <class T, class V>
FEWSTEP_INLINE T* layer_gradient(const Network& network,
                                 const Layer& l,
                                 const AdaptedView<V>&,
                                 T* grad,
                                 T* workspace_end) {
  if (l.n_params() == 0) return nullptr;
  if (network.adapted == nullptr) return grad + l.param_offset;
  const uint32_t begin = network.adapted[&l - network.layers];
  if (begin != kFrozen) return grad + begin;
  return l.op == LayerOp::kBatchNorm ? workspace_end - l.n_params() : nullptr;
}
template <class W>
FEWSTEP_INLINE bool has_gradient(const Layer& l, const W&, const void*) {
  return l.n_weights != 0;
}
template <class V>
FEWSTEP_INLINE bool has_gradient(const Layer&,
                                 const AdaptedView<V>&,
                                 const void* gradient) {
  return gradient != nullptr;
}

/// The layer below which no gradient flows.
template <class W>
FEWSTEP_INLINE uint32_t first_gradient_layer(const Network& network, const W&) {
  return network.first_param_layer;
}
template <class V>
FEWSTEP_INLINE uint32_t first_gradient_layer(const Network& network,
                                             const AdaptedView<V>&) {
  uint32_t i = network.first_param_layer;
  if (network.adapted == nullptr) return i;
  while (network.adapted[i] == kFrozen) ++i;
  return i;
}

/// Chooses what adapts of a planned network: `adapted` [n_layers] holds kFrozen
/// for layers that do not, anything else for those that do. Entries become
/// offsets, n_adapted is counted, and network->adapted
/// points to the array, or stays null when everything adapts. A frozen
/// batch_norm above a layer that adapts costs auxiliary values of the batch.
/// Once for a network.
///
/// @retval kOk           Done.
/// @retval kBadArgument  No parameter would adapt; nothing changes.
Status plan_adapted(uint32_t* adapted, Network* network);

}  // namespace fewstep

#endif  // FEWSTEP_ADAPTED_H_
