// The inner loop, written once: loss and gradient of a batch, and a step.
//
// Start here. Firmware, CPU and GPU meta-training and the checks instantiate
// these templates over the number type T, the executor E, the weight view W and
// the set of operations Ops, and nothing else in the project runs a layer, a
// loss or a rule.
//
//   gradient_tile   a tile of examples: forward, tile_loss, backward
//   gradient        a whole batch, tile by tile
//   update          theta_{k+1} = rule(theta_k, state_k, g_k, loss_k)
//   forward         outputs only
//
// Ops is StaticOps (ops.h) or, in firmware, a table of what the program links.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_INNER_LOOP_H_
#define FEWSTEP_INNER_LOOP_H_

#include "fewstep/adapted.h"
#include "fewstep/layers/layer.h"
#include "fewstep/losses/loss.h"
#include "fewstep/network.h"
#include "fewstep/views.h"

namespace fewstep {

template <class T>
struct RuleCall;  // rules/rule.h

/// Examples with what they should give. Non-owning.
template <class T>
struct Batch {
  const Primal<T>* x;        ///< [n][n_in]
  const Label<T>* labels;    ///< [n] (cross-entropy), or null.
  const Primal<T>* targets;  ///< [n][n_out] (squared error), or null.
  uint32_t n;
};

/// Where a tile's intermediate values live: one array of workspace_values().
template <class T>
struct Workspace {
  T* values;
  uint32_t tile;  ///< Examples it has room for.
};

/// Values a workspace needs for tiles of `tile` examples: activations,
/// auxiliary values, one loss per example, and one for the batch.
FEWSTEP_HD constexpr uint64_t workspace_values(const Network& network,
                                               uint64_t tile) {
  // At most 2^26 activations, and 2^15 layers of 2^16 auxiliary values.
  const uint32_t per_example = network.n_act + network.n_aux_example + 1;
  return tile * per_example + network.n_aux_batch + 1;
}

/// The batch's loss, in the workspace.
template <class T>
FEWSTEP_INLINE T* batch_loss(const Workspace<T>& ws) {
  return ws.values;
}

/// The outputs, [tile][n_out], in the workspace after forward().
template <class T>
FEWSTEP_INLINE T* outputs(const Network& network, const Workspace<T>& ws) {
  return ws.values + 1 + uint64_t{ws.tile} * (1 + network.out_offset);
}

/// FusedCall::activation of layer `l`: a relu in place on a dense layer's
/// outputs is run by that layer.
FEWSTEP_HD inline uint8_t fused_activation(const Network& network,
                                           const Layer& l) {
  const uint32_t at = static_cast<uint32_t>(&l - network.layers);
  const uint32_t relu = l.op == LayerOp::kDense ? at + 1 : at;
  if (relu == 0 || relu >= network.n_layers) return 0;
  const Layer& above = network.layers[relu];
  const bool fused = above.op == LayerOp::kRelu && above.in_place != 0 &&
                     network.layers[relu - 1].op == LayerOp::kDense;
  return fused ? static_cast<uint8_t>(LayerOp::kRelu) : 0;
}

/// The arguments of layer `l` of the network's for the `n` examples at `x`.
template <class T, class W>
FEWSTEP_HD inline LayerCall<T> layer_call(const Network& network,
                                          const Layer& l,
                                          const W& theta,
                                          const Workspace<T>& ws,
                                          const Primal<T>* x,
                                          uint32_t n) {
  T* const act = ws.values + 1 + ws.tile;
  const bool of_batch = l.op == LayerOp::kBatchNorm;
  const bool of_caller = l.in_offset == kNetworkInput;
  // Auxiliary values of a batch follow those of the examples.
  const uint64_t aux_offset =
      of_batch ? uint64_t{ws.tile} * network.n_aux_example + l.aux_offset
               : uint64_t{ws.tile} * l.aux_offset;
  // Every field, none zeroed first: no call of memset.
  LayerCall<T> c;
  c.layer = &l;
  c.n = n;
  c.weights = layer_weights(network, l, theta);
  c.x = of_caller ? x : nullptr;
  c.in = of_caller ? nullptr : act + uint64_t{ws.tile} * l.in_offset;
  c.out = l.out_offset == kNetworkInput
              ? nullptr
              : act + uint64_t{ws.tile} * l.out_offset;
  c.aux = act + uint64_t{ws.tile} * network.n_act + aux_offset;
  c.grad = nullptr;
  c.first = false;
  if constexpr (FusedCall<T>::kActivates) {
    c.activation = fused_activation(network, l);
  }
  return c;
}

/// outputs(network, ws) = network(theta, x) for n <= ws.tile examples.
template <class T, class E, class W, class Ops>
FEWSTEP_HD void forward(const E& e,
                        const Ops& ops,
                        const Network& network,
                        const W& theta,
                        const Workspace<T>& ws,
                        const Primal<T>* x,
                        uint32_t n) {
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const Layer& l = network.layers[i];
    ops.template forward<W>(e, l.op, layer_call(network, l, theta, ws, x, n));
    e.barrier();
  }
}

/// Arguments of the loss for a tile whose outputs are in `ws`.
template <class T>
FEWSTEP_HD inline LossCall<T> loss_call(const Network& network,
                                        const Workspace<T>& ws,
                                        const Batch<T>& batch,
                                        uint32_t begin,
                                        uint32_t n,
                                        bool gradient) {
  const uint64_t target = uint64_t{begin} * network.n_out;
  LossCall<T> c;
  c.n = n;
  c.n_total = batch.n;
  c.n_out = network.n_out;
  c.activation = network.out_activation;
  c.labels = batch.labels != nullptr ? batch.labels + begin : nullptr;
  c.targets = batch.targets != nullptr ? batch.targets + target : nullptr;
  c.out = outputs(network, ws);
  c.row_loss = ws.values + 1;
  c.loss = batch_loss(ws);
  c.first = begin == 0;
  c.last = begin + n == batch.n;
  c.gradient = gradient;
  return c;
}

/// The loss of examples [begin, begin + n), whose outputs are in `ws`, added to
/// the batch's; with `gradient` the outputs become dL/d(outputs).
template <class T, class E, class Ops>
FEWSTEP_HD void tile_loss(const E& e,
                          const Ops& ops,
                          const Network& network,
                          const Workspace<T>& ws,
                          const Batch<T>& batch,
                          uint32_t begin,
                          uint32_t n,
                          bool gradient) {
  ops.loss(e, network.loss, loss_call(network, ws, batch, begin, n, gradient));
  e.barrier();
}

/// Adds a tile of `n` examples at `x`, whose activations and dL/d(outputs) are
/// in `ws`, to `grad`; the first tile of a batch overwrites it. `grad` is [P],
/// or at an AdaptedView (adapted.h) [A], without what is frozen.
template <class T, class E, class W, class Ops>
FEWSTEP_HD void backward(const E& e,
                         const Ops& ops,
                         const Network& network,
                         const W& theta,
                         const Workspace<T>& ws,
                         const Primal<T>* x,
                         uint32_t n,
                         bool first,
                         T* grad) {
  const uint32_t lowest = first_gradient_layer(network, theta);
  for (uint32_t i = network.n_layers; i-- > lowest;) {
    const Layer& l = network.layers[i];
    LayerCall<T> c = layer_call(network, l, theta, ws, x, n);
    c.grad = layer_gradient(network,
                            l,
                            theta,
                            grad,
                            ws.values + workspace_values(network, ws.tile));
    c.first = first;
    if (has_gradient(l, theta, c.grad)) {
      ops.template weight_gradient<W>(e, l.op, c);
      e.barrier();
    }
    if (i > lowest) {
      ops.template input_gradient<W>(e, l.op, c);
      e.barrier();
    }
  }
}

/// Adds examples [begin, begin + n), n <= ws.tile, to the batch's gradient.
/// After the last tile `grad` [P] is the gradient of the mean loss at theta,
/// and batch_loss(ws) that loss. Tiles come in ascending order; their size
/// never changes a bit.
template <class T, class E, class W, class Ops>
FEWSTEP_HD void gradient_tile(const E& e,
                              const Ops& ops,
                              const Network& network,
                              const W& theta,
                              const Workspace<T>& ws,
                              const Batch<T>& batch,
                              uint32_t begin,
                              uint32_t n,
                              T* grad) {
  const Primal<T>* const x = batch.x + uint64_t{begin} * network.n_in;
  forward(e, ops, network, theta, ws, x, n);
  tile_loss(e, ops, network, ws, batch, begin, n, true);
  backward(e, ops, network, theta, ws, x, n, begin == 0, grad);
}

/// grad [P] = gradient of the batch's mean loss at theta; the loss is left in
/// batch_loss(ws).
template <class T, class E, class W, class Ops>
FEWSTEP_CALLED void gradient(const E& e,
                             const Ops& ops,
                             const Network& network,
                             const W& theta,
                             const Workspace<T>& ws,
                             const Batch<T>& batch,
                             T* grad) {
  for (uint32_t begin = 0; begin < batch.n; begin += ws.tile) {
    const uint32_t left = batch.n - begin;
    gradient_tile(e,
                  ops,
                  network,
                  theta,
                  ws,
                  batch,
                  begin,
                  left < ws.tile ? left : ws.tile,
                  grad);
  }
}

/// batch_loss(ws) = the batch's mean loss at theta. With batch_norm the batch
/// must fit one tile.
template <class T, class E, class W, class Ops>
FEWSTEP_CALLED void mean_loss(const E& e,
                              const Ops& ops,
                              const Network& network,
                              const W& theta,
                              const Workspace<T>& ws,
                              const Batch<T>& batch) {
  for (uint32_t begin = 0; begin < batch.n; begin += ws.tile) {
    const uint32_t left = batch.n - begin;
    const uint32_t n = left < ws.tile ? left : ws.tile;
    forward(e,
            ops,
            network,
            theta,
            ws,
            batch.x + uint64_t{begin} * network.n_in,
            n);
    tile_loss(e, ops, network, ws, batch, begin, n, false);
  }
}

/// grad = theta_{k+1} = rule(theta, state, grad, loss), in place, of everything
/// that adapts (call.begin and call.n are set here).
template <class T, class E, class W, class R, class Ops>
FEWSTEP_HD void update(const E& e,
                       const Ops& ops,
                       RuleCall<T> call,
                       const W& theta,
                       const R& phi) {
  call.begin = 0;
  call.n = call.network->n_adapted;
  ops.template update<W, R>(e, call, theta, phi);
  e.barrier();
}

}  // namespace fewstep

#endif  // FEWSTEP_INNER_LOOP_H_
