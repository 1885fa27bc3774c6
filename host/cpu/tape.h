// A tape of primal values: what a gradient at theta_k leaves behind for its
// Hessian-vector product.
//
// The product is the gradient at dual numbers theta_k + eps v, whose values are
// those that the support pass of step k had: of its three multiply-adds a term,
// one computes a sum again. The tape records, at the number type X of the
// support pass,
//
//   what dense and conv2d put out, before the activation above them runs
//     (after it where that is a relu and a dense layer runs it: FusedCall),
//   what their input gradients put out,
//
// and the pass at Dual<X> takes the values from there; the kernels of lib/ then
// sum tangents alone (TangentView), in the order in which they always do, so
// the bits are the same. Weight gradients need no record: nobody reads their
// values. All other operations have few terms a value and run at Dual<X> as
// they are.
//
// An input gradient below which a tanh lies is not recorded and computed in
// full: the tanh's derivative takes the delta before it, which is not what is
// left in the array. (A relu's is 0 or 1: it only selects.)
//
// TapeOps is the layer of operations that records and replays. The sweep tells
// it which batch comes (BatchPass): the support set of step k at X is recorded,
// at Dual<X> replayed, and query sets pass by. And it hands the sweep's Fusion
// on to dense layers, so that their gradients need no pass of their own.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_TAPE_H_
#define FEWSTEP_HOST_CPU_TAPE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "fewstep/host/sweep.h"
#include "fewstep/host/wrapped_ops.h"
#include "fewstep/layers/layer.h"
#include "fewstep/network.h"

namespace fewstep::host {

/// The values of the support set's examples at steps 0 .. K - 1. One worker's.
template <class X>
class Tape {
 public:
  /// A value's way onto the tape and back takes as long as so many terms.
  static constexpr uint32_t kMinTerms = 8;

  /// @param n_examples  Of a support set.
  /// @param max_bytes   Where it would need more there is no tape, and use()
  ///     changes nothing.
  /// @param min_terms   Sums of fewer terms are computed again.
  Tape(const Network& network,
       uint32_t n_examples,
       uint32_t steps,
       uint64_t max_bytes,
       uint32_t min_terms = kMinTerms,
       std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : n_in_(network.n_in), values_(memory) {
    uint64_t n = 0;
    for (uint32_t i = network.first_param_layer; i < network.n_layers; ++i) {
      const Layer& l = network.layers[i];
      if (l.op != LayerOp::kDense && l.n_params() != 0) is_dense_ = false;
      if (l.op != LayerOp::kDense && l.op != LayerOp::kConv2d) continue;
      // Of a sum that gives an output, and of one that gives a delta.
      const uint32_t out_terms = l.n_weights / l.out_c;
      const uint32_t delta_terms =
          l.out_c * Packing<X>::kChannels *
          (l.op == LayerOp::kConv2d ? uint32_t{l.kernel} * l.kernel : 1U);
      LayerTape t = {l.param_offset, kNone, kNone};
      if (out_terms >= min_terms) {
        t.out = n;
        n += uint64_t{n_examples} * l.n_out();
      }
      if (i > network.first_param_layer && delta_terms >= min_terms &&
          l.in_activation != static_cast<uint8_t>(LayerOp::kTanh)) {
        t.delta = n;
        n += uint64_t{n_examples} * l.n_in();
      }
      layers_.push_back(t);
    }
    step_values_ = n;
    n_values_ = n * steps;
    fits_ = n_values_ * sizeof(X) <= max_bytes;
  }

  /// Whether the support sets that follow are recorded and replayed. Allocates
  /// the first time that they are.
  void use(bool yes) {
    on_ = yes && fits_;
    if (on_) values_.resize(n_values_);
  }

  /// The operations that follow are those of batch `pass`, inputs at `x`.
  void start(const BatchPass& pass, const Primal<X>* x) {
    active_ = on_ && !pass.query;
    step_begin_ = pass.step * step_values_;
    x_ = x;
  }
  /// They are no batch's.
  void stop() { active_ = false; }

  /// A tile's output of layer c.layer, and its delta of the layer's input, in
  /// the pass at hand; null where they are not recorded. In each pass the
  /// first is asked for before the second, lower layers first.
  template <class T>
  X* out(LayerOp op, const LayerCall<T>& c) {
    if (!active_) return nullptr;
    if (c.x != nullptr) first_ = static_cast<size_t>(c.x - x_) / n_in_;
    const LayerTape* const t = find(op, *c.layer);
    return t == nullptr || t->out == kNone ? nullptr
                                           : at(t->out, c.layer->n_out());
  }
  template <class T>
  X* delta(LayerOp op, const LayerCall<T>& c) {
    if (!active_) return nullptr;
    const LayerTape* const t = find(op, *c.layer);
    return t == nullptr || t->delta == kNone ? nullptr
                                             : at(t->delta, c.layer->n_in());
  }
  /// Whether all parameters are dense layers'.
  bool is_dense() const { return is_dense_; }
  /// Whether there are records.
  bool is_on() const { return on_; }
  /// Whether layer c.layer's sums need no values in the pass at hand.
  bool has(LayerOp op, const Layer& layer) const {
    return active_ && find(op, layer) != nullptr;
  }

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};
  struct LayerTape {
    uint32_t param_offset;  // Its name: calls may bring a copy of the layer.
    uint64_t out, delta;    // [n_examples][n_out] and [n_examples][n_in].
  };

  const LayerTape* find(LayerOp op, const Layer& layer) const {
    if (op != LayerOp::kDense && op != LayerOp::kConv2d) return nullptr;
    for (const LayerTape& t : layers_) {
      if (t.param_offset == layer.param_offset) return &t;
    }
    return nullptr;
  }
  X* at(uint64_t offset, uint32_t n) {
    return values_.data() + step_begin_ + offset + first_ * n;
  }

  uint32_t n_in_;
  bool is_dense_ = true;
  std::vector<LayerTape> layers_;
  uint64_t step_values_ = 0, n_values_ = 0;
  bool fits_ = false;
  std::pmr::vector<X> values_;

  bool on_ = false;
  // The batch at hand, and the first example of its tile.
  bool active_ = false;
  uint64_t step_begin_ = 0;
  const Primal<X>* x_ = nullptr;
  size_t first_ = 0;
};

/// `Ops` on a tape.
template <class Ops, class X>
class TapeOps : public WrappedOps<Ops> {
 public:
  TapeOps(const Ops& ops, Tape<X>* tape) : WrappedOps<Ops>(ops), tape_(tape) {}

  void start(const BatchPass& pass, const Primal<X>* x) {
    tape_->start(pass, x);
  }
  void stop() { tape_->stop(); }

  /// sweep.h: of networks of dense layers whose gradient is one tile's.
  bool fuse(const Fusion<X>& fusion, uint32_t n, uint32_t tile) {
    const bool product = fusion.tangents != nullptr;
    if (product ? !FusedCall<Dual<X>>::kTangents || !tape_->is_on()
                : !FusedCall<X>::kDescends) {
      return false;
    }
    if (!tape_->is_dense() || n > tile) return false;
    fusion_ = fusion;
    return true;
  }
  void fuse_nothing() { fusion_ = {}; }

  template <class W, class E>
  void forward(const E& e, LayerOp op, const LayerCall<X>& c) const {
    ops_.template forward<W>(e, op, c);
    record(c.out, c.n * c.layer->n_out(), tape_->out(op, c));
  }
  template <class W, class E>
  void forward(const E& e, LayerOp op, const LayerCall<Dual<X>>& c) const {
    const X* const out = tape_->out(op, c);
    if (out == nullptr) {
      ops_.template forward<W>(e, op, c);
      return;
    }
    ops_.template forward<TangentView<W>>(e, op, c);
    const uint32_t n = c.n * c.layer->n_out();
    if constexpr (FusedCall<Dual<X>>::kActivates) {
      if (c.activation != 0) {
        replay_relu(out, n, c.out);
        return;
      }
    }
    replay(out, n, c.out);
  }

  template <class W, class E>
  void weight_gradient(const E& e, LayerOp op, const LayerCall<X>& c) const {
    LayerCall<X> call = c;
    if constexpr (FusedCall<X>::kDescends) {
      call.rate = fusion_.rate;
      if (fusion_.grad_bar != nullptr) {
        call.grad_bar = fusion_.grad_bar + (c.grad - fusion_.grad);
      }
    }
    ops_.template weight_gradient<W>(e, op, call);
  }
  template <class W, class E>
  void weight_gradient(const E& e,
                       LayerOp op,
                       const LayerCall<Dual<X>>& c) const {
    if (tape_->has(op, *c.layer)) {
      LayerCall<Dual<X>> call = c;
      if constexpr (FusedCall<Dual<X>>::kTangents) {
        if (fusion_.tangents != nullptr) {
          call.tangents = fusion_.tangents + (c.grad - fusion_.hessian);
        }
      }
      ops_.template weight_gradient<TangentView<W>>(e, op, call);
    } else {
      ops_.template weight_gradient<W>(e, op, c);
    }
  }

  template <class W, class E>
  void input_gradient(const E& e, LayerOp op, const LayerCall<X>& c) const {
    ops_.template input_gradient<W>(e, op, c);
    record(c.in, c.n * c.layer->n_in(), tape_->delta(op, c));
  }
  template <class W, class E>
  void input_gradient(const E& e,
                      LayerOp op,
                      const LayerCall<Dual<X>>& c) const {
    const X* const delta = tape_->delta(op, c);
    if (delta == nullptr) {
      ops_.template input_gradient<W>(e, op, c);
      return;
    }
    // The activation, whose values the kernel reads, is there until then.
    ops_.template input_gradient<TangentView<W>>(e, op, c);
    replay(delta, c.n * c.layer->n_in(), c.in);
  }

 private:
  static void record(const X* from, uint32_t n, X* to) {
    if (to != nullptr) std::copy(from, from + n, to);
  }
  static void replay(const X* from, uint32_t n, Dual<X>* to) {
    for (uint32_t j = 0; j < n; ++j) to[j].value = from[j];
  }
  // The same of what a relu has run on: its derivative is still to be.
  static void replay_relu(const X* from, uint32_t n, Dual<X>* to) {
    for (uint32_t j = 0; j < n; ++j) {
      to[j] = {from[j], relu_delta(from[j], to[j].tangent)};
    }
  }

  using WrappedOps<Ops>::ops_;

  Tape<X>* tape_;
  Fusion<X> fusion_;  // Of the gradient at hand.
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CPU_TAPE_H_
