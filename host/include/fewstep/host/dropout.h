// Dropout in meta-training: a layer of operations between the inner loop and
// the kernels.
//
// Behind each relu and tanh but one that makes the network's outputs, value j
// of an example becomes m_j y_j, m_j = 0 with probability p, else 1 / (1 - p);
// its derivative likewise (Srivastava et al. 2014, inverted). The masks are
// numbers of a Philox stream that (seed, iteration, task) keys, at a position
// that (support or query, step, example, layer, value) gives: so they are the
// same in a gradient and in its Hessian-vector product, for any threads, lanes
// and tiles.
//
// It is no layer of the network and no part of a capsule: adaptation on a
// device, evaluation and validation know nothing of it.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_DROPOUT_H_
#define FEWSTEP_HOST_DROPOUT_H_

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include "fewstep/host/sweep.h"
#include "fewstep/host/wrapped_ops.h"
#include "fewstep/layers/layer.h"
#include "fewstep/network.h"

namespace fewstep::host {

/// Which activations of a network are dropped, and where their masks are.
class DropoutPlan {
 public:
  static constexpr uint32_t kNone = 0xffffffff;

  explicit DropoutPlan(const Network& network);

  /// Numbers that the masks of one example take; 0: there is none to drop.
  uint32_t n_numbers() const { return n_numbers_; }
  /// First of those of layer i, a multiple of 4, or kNone.
  uint32_t mask_of(size_t i) const { return mask_[i]; }
  /// The same of the activation that layer i's input gradient overwrites.
  uint32_t mask_below(size_t i) const { return below_[i]; }

 private:
  std::vector<uint32_t> mask_, below_;
  uint32_t n_numbers_ = 0;
};

/// A task's stream of masks.
struct DropoutStream {
  uint64_t seed, iteration;
  uint32_t task;
};

/// out[i] = number `first` + i of the stream is below `rate` ? 0 : scale, for i
/// in [0, n). `first` is a multiple of 4; numbers are (bits >> 8) 2^-24.
void draw_mask(const DropoutStream& stream,
               uint64_t first,
               uint32_t n,
               float rate,
               float scale,
               float* out);

/// How masks of several tasks lie in a number type: lanes.
template <class X>
struct MaskLanes {
  static constexpr uint32_t kCount = 1;
  static void set(X* at, uint32_t, float value) { *at = constant<X>(value); }
};

/// `Ops` with dropout. X is what the sweep's numbers are without tangents: its
/// passes run at X and Dual<X>. One worker's.
template <class Ops, class X>
class DropoutOps : public WrappedOps<Ops> {
 public:
  /// @param rate        p, in [0, 1); 0: no dropout at all.
  /// @param n_examples  Most examples of a batch.
  DropoutOps(const Ops& ops,
             const Network& network,
             float rate,
             uint32_t n_examples)
      : WrappedOps<Ops>(ops),
        network_(network),
        plan_(network),
        rate_(rate),
        scale_(1.0F / (1.0F - rate)),
        n_examples_(n_examples) {}

  /// Draws masks for these tasks from now on, one for each lane of X.
  void draw_for(const std::vector<DropoutStream>& streams) {
    streams_ = streams;
  }
  /// No masks from now on.
  void draw_nothing() { streams_.clear(); }

  /// The passes that follow are over batch `pass`, whose inputs are at `x`.
  void start(const BatchPass& pass, const X* x) {
    on_ = rate_ != 0.0F && !streams_.empty();
    pass_ = pass;
    x_ = x;
    start_batch(ops_, pass, x);
  }
  /// Those that follow are not dropped.
  void stop() {
    on_ = false;
    if constexpr (requires { ops_.stop(); }) ops_.stop();
  }

  bool fuse(const Fusion<X>& fusion, uint32_t n, uint32_t tile) {
    return host::fuse(ops_, fusion, n, tile);
  }
  void fuse_nothing() { host::fuse_nothing(ops_); }

  template <class W, class E, class T>
  void forward(const E& e, LayerOp op, const LayerCall<T>& c) const {
    ops_.template forward<W>(e, op, c);
    if (!on_) return;
    if (c.x != nullptr) {
      first_ = static_cast<uint32_t>((c.x - x_) / network_.n_in);
    }
    const uint32_t at = plan_.mask_of(index(c));
    if (at == DropoutPlan::kNone) return;
    e.barrier();
    const X* const mask = draw(at, c.n, c.layer->n_out());
    e.for_each(c.n * c.layer->n_out(),
               [&](uint32_t j) { c.out[j] = c.out[j] * mask[j]; });
  }

  template <class W, class E, class T>
  void weight_gradient(const E& e, LayerOp op, const LayerCall<T>& c) const {
    ops_.template weight_gradient<W>(e, op, c);
  }

  // The layer above an activation takes its derivative by what it put out, and
  // that is m y here: right for a relu, but for m, and wrong for a tanh.
  template <class W, class E, class T>
  void input_gradient(const E& e, LayerOp op, const LayerCall<T>& c) const {
    const uint32_t at = on_ ? plan_.mask_below(index(c)) : DropoutPlan::kNone;
    if (at == DropoutPlan::kNone) {
      ops_.template input_gradient<W>(e, op, c);
      return;
    }
    const uint32_t n = c.n * c.layer->n_in();
    const X* const mask = masks_.data() + size_t{at} * n_tile_;
    if (c.layer->in_activation != static_cast<uint8_t>(LayerOp::kTanh)) {
      ops_.template input_gradient<W>(e, op, c);
      e.barrier();
      e.for_each(n, [&](uint32_t j) { c.in[j] = c.in[j] * mask[j]; });
      return;
    }
    std::vector<T>& out = std::get<std::vector<T>>(outputs_);
    if (out.size() < n) out.resize(n);
    e.for_each(n, [&](uint32_t j) { out[j] = c.in[j]; });
    e.barrier();
    Layer linear = *c.layer;
    linear.in_activation = 0;
    LayerCall<T> call = c;
    call.layer = &linear;
    ops_.template input_gradient<W>(e, op, call);
    e.barrier();
    const X scale = constant<X>(scale_);
    e.for_each(n, [&](uint32_t j) {
      const T y = out[j] / scale;  // 0 where it was dropped, as mask[j] is.
      c.in[j] = c.in[j] * fma(-y, y, constant<T>(1.0F)) * mask[j];
    });
  }

 private:
  template <class T>
  size_t index(const LayerCall<T>& c) const {
    return static_cast<size_t>(c.layer - network_.layers);
  }

  // The masks of `n` examples of a layer with `n_out` values.
  const X* draw(uint32_t at, uint32_t n, uint32_t n_out) const {
    if (n > n_tile_) {
      n_tile_ = n;
      masks_.resize(size_t{n} * plan_.n_numbers());
    }
    row_.resize(n_out);
    X* const mask = masks_.data() + size_t{at} * n_tile_;
    const uint64_t batch = 2 * uint64_t{pass_.step} + (pass_.query ? 1 : 0);
    for (uint32_t e = 0; e < n; ++e) {
      const uint64_t example = batch * n_examples_ + first_ + e;
      for (uint32_t l = 0; l < MaskLanes<X>::kCount; ++l) {
        draw_mask(streams_[l],
                  example * plan_.n_numbers() + at,
                  n_out,
                  rate_,
                  scale_,
                  row_.data());
        for (uint32_t j = 0; j < n_out; ++j) {
          MaskLanes<X>::set(mask + size_t{e} * n_out + j, l, row_[j]);
        }
      }
    }
    return mask;
  }

  using WrappedOps<Ops>::ops_;

  Network network_;
  DropoutPlan plan_;
  float rate_, scale_;
  uint32_t n_examples_;
  std::vector<DropoutStream> streams_;

  // The batch at hand.
  bool on_ = false;
  BatchPass pass_ = {};
  const X* x_ = nullptr;

  // Of the tile at hand: the inner loop calls operations as constants.
  mutable uint32_t first_ = 0;
  mutable uint32_t n_tile_ = 0;   // Examples there is room for.
  mutable std::vector<X> masks_;  // By layer, [n_tile_][n_out].
  mutable std::vector<float> row_;
  mutable std::tuple<std::vector<X>, std::vector<Dual<X>>> outputs_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_DROPOUT_H_
