// A mask of which parameters adapt, one by one, on a device.
//
// A capsule stores it as one MaskWord for 32 parameters of theta: their bits,
// and how many adapt before them, so that where one lies among those that adapt
// is one look-up and one count of bits. What the mask stops is read in the
// capsule and takes no RAM; what adapts is an array of A = n_adapted values, as
// with layers (adapted.h), whose table a masked network has too: a layer of
// which nothing adapts is frozen.
//
// Kernels know nothing of masks. A layer that adapts in part runs a few rows at
// a time: its weights are put together, from the capsule and from what adapted,
// in a few rows of scratch memory, and a kernel runs on them as if they were a
// layer, example by example. Rows are independent outputs of the forward pass
// and of the weight gradient, columns of the input gradient, so no sum is cut
// and no bit changes. At theta_0 all weights lie in the capsule, and layers run
// whole.
//
// (Sparse-MAML, von Oswald et al. 2021. Its masks are of single parameters, and
// so are these: a filter or unit of which all weights are stopped is rare.)
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_SPARSE_MASK_H_
#define FEWSTEP_SPARSE_MASK_H_

#include "fewstep/adapted.h"
#include "fewstep/executor/serial.h"
#include "fewstep/layers/layer.h"
#include "fewstep/network.h"

namespace fewstep {

/// 32 parameters of a mask. 8 bytes, little-endian: lib/FORMAT.md.
struct MaskWord {
  uint32_t bits;  ///< Bit j: parameter 32 w + j of theta adapts.
  uint32_t rank;  ///< Parameters that adapt before 32 w.
};
static_assert(sizeof(MaskWord) == 8, "MaskWord is a file format");

/// Words of the mask of `n_params` parameters.
FEWSTEP_HD constexpr uint32_t n_mask_words(uint32_t n_params) {
  return n_params / 32 + (n_params % 32 != 0 ? 1U : 0U);
}

/// Bits that are set.
FEWSTEP_HD constexpr uint32_t count_bits(uint32_t x) {
  x = x - ((x >> 1) & 0x55555555U);
  x = (x & 0x33333333U) + ((x >> 2) & 0x33333333U);
  x = (x + (x >> 4)) & 0x0f0f0f0fU;
  return (x * 0x01010101U) >> 24;
}

/// The mask of a network with Network::masked. Its words follow the table of
/// layers.
class MaskTable {
 public:
  explicit MaskTable(const Network& network)
      : network_(network),
        words_(reinterpret_cast<const MaskWord*>(network.adapted +
                                                 network.n_layers)) {}

  /// Parameters that adapt before parameter i <= P of theta.
  uint32_t rank(uint32_t i) const {
    if (i == network_.n_params) return network_.n_adapted;
    const MaskWord& word = words_[i / 32];
    return word.rank + count_bits(word.bits & ((1U << i % 32) - 1U));
  }
  bool adapts(uint32_t i) const {
    return (words_[i / 32].bits >> i % 32 & 1U) != 0;
  }
  /// Of the parameters [begin, begin + n) of theta, how many adapt.
  uint32_t count(uint32_t begin, uint32_t n) const {
    return rank(begin + n) - rank(begin);
  }
  /// Whether some of a layer's parameters adapt and some do not.
  bool splits(const Layer& l) const {
    const uint32_t n = count(l.param_offset, l.n_params());
    return n != 0 && n != l.n_params();
  }

  /// f(j, rank, adapts) for parameter begin + j of theta, j < n ascending;
  /// `rank` is its place among those that adapt, if it does.
  template <class F>
  void for_each(uint32_t begin, uint32_t n, const F& f) const {
    if (n == 0) return;
    uint32_t at = rank(begin);
    for (uint32_t j = 0; j < n; ++j) {
      const bool on = adapts(begin + j);
      f(j, at, on);
      if (on) ++at;
    }
  }

 private:
  const Network& network_;
  const MaskWord* words_;
};

/// Rows (filters, units) that a layer in parts takes at a time, and inputs of
/// its input gradient: the height of a tile of registers.
constexpr uint32_t kMaskRows = 4;

/// A layer of weights [out][in][taps] and a bias for each output, in parts.
struct MaskedParts {
  uint32_t n_rows, n_inputs, taps;
  uint32_t out_plane, in_plane;  ///< Activations of one output, of one input.

  explicit MaskedParts(const Layer& l)
      : n_rows(l.out_c),
        n_inputs(l.op == LayerOp::kConv2d ? l.in_c : l.n_in()),
        taps(uint32_t{l.kernel} * l.kernel),
        out_plane(uint32_t{l.out_h} * l.out_w),
        in_plane(1) {
    if (l.op == LayerOp::kConv2d) {
      in_plane = uint32_t{l.in_h} * l.in_w;
    } else {
      taps = 1;
    }
  }
  uint32_t fan_in() const { return n_inputs * taps; }
  static uint32_t rows(uint32_t at, uint32_t n) {
    return n - at < kMaskRows ? n - at : kMaskRows;
  }
};

/// Whether a split layer runs in parts; others, of few parameters, run whole.
inline bool has_parts(const Layer& l) {
  return l.op == LayerOp::kDense || l.op == LayerOp::kConv2d;
}

/// Values of scratch memory that a split layer takes: some rows with their
/// biases, or some columns; else all parameters and their gradient.
inline uint32_t mask_scratch(const Layer& l) {
  if (!has_parts(l)) return 2 * l.n_params();
  const MaskedParts parts(l);
  const uint32_t rows =
      MaskedParts::rows(0, parts.n_rows) * (parts.fan_in() + 1);
  const uint32_t columns =
      MaskedParts::rows(0, parts.n_inputs) * parts.n_rows * parts.taps;
  return rows > columns ? rows : columns;
}

/// The same of a network: what its largest split layer takes.
inline uint32_t mask_scratch(const Network& network) {
  const MaskTable mask(network);
  uint32_t most = 0;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const Layer& l = network.layers[i];
    if (!mask.splits(l)) continue;
    const uint32_t n = mask_scratch(l);
    if (n > most) most = n;
  }
  return most;
}

/// Rows of a split layer whose gradient is taken: a few at a time, those none
/// of which adapts left out.
inline uint32_t gradient_rows(const MaskTable& mask, const Layer& l) {
  const MaskedParts parts(l);
  const uint32_t fan_in = parts.fan_in();
  uint32_t n_rows = 0;
  for (uint32_t row = 0; row < parts.n_rows; row += kMaskRows) {
    const uint32_t n = MaskedParts::rows(row, parts.n_rows);
    if (mask.count(l.param_offset + row * fan_in, n * fan_in) +
            mask.count(l.param_offset + l.n_weights + row, n) !=
        0) {
      n_rows += n;
    }
  }
  return n_rows;
}

/// theta_k of a masked network: AdaptedView, parameter by parameter. `current`
/// is an array of A values, or at theta_0 not looked at.
template <class V>
struct MaskedView {
  using Value = typename V::Value;
  V initial;
  V current;
  bool at_initial;

  /// Parameter i of theta.
  Value operator()(const MaskTable& mask, uint32_t i) const {
    if (at_initial || !mask.adapts(i)) return initial(i);
    return current(mask.rank(i));
  }
};

// How inner_loop.h finds a layer's weights and gradient (adapted.h). Of a split
// layer MaskedOps finds the weights itself; its gradient begins where the first
// of its parameters that adapts has it.

template <class V>
RawView layer_weights(const Network& network,
                      const Layer& l,
                      const MaskedView<V>& theta) {
  const uint32_t begin = network.adapted[&l - network.layers];
  if (theta.at_initial || begin == kFrozen) {
    return theta.initial.at(l.param_offset).raw();
  }
  return theta.current.at(begin).raw();
}
template <class T, class V>
T* layer_gradient(const Network& network,
                  const Layer& l,
                  const MaskedView<V>& theta,
                  T* grad,
                  T* workspace_end) {
  const AdaptedView<V> view = {theta.initial, theta.current, theta.at_initial};
  return layer_gradient(network, l, view, grad, workspace_end);
}
template <class V>
bool has_gradient(const Layer&, const MaskedView<V>&, const void* gradient) {
  return gradient != nullptr;
}
template <class V>
uint32_t first_gradient_layer(const Network& network, const MaskedView<V>&) {
  uint32_t i = network.first_param_layer;
  while (network.adapted[i] == kFrozen) ++i;
  return i;
}

/// The operations `Base` at a MaskedView<V>: split layers in parts. float, one
/// thread.
///
/// `make(values)` is the V of an array of floats.
template <class Base, class V, class Make>
class MaskedOps {
 public:
  /// @param scratch  [mask_scratch(network)]
  MaskedOps(const Base& base,
            const Network& network,
            const MaskedView<V>& theta,
            const Make& make,
            float* scratch)
      : base_(base),
        mask_(network),
        theta_(theta),
        make_(make),
        scratch_(scratch) {}

  template <class W>
  void forward(const SerialExecutor& e,
               LayerOp op,
               const LayerCall<float>& c) const {
    const Layer& l = *c.layer;
    if (theta_.at_initial || !mask_.splits(l)) {
      base_.template forward<V>(e, op, c);
      return;
    }
    LayerCall<float> part = c;
    if (!has_parts(l)) {
      load_weights(l.param_offset, l.n_params(), scratch_);
      part.weights = make_(scratch_).raw();
      base_.template forward<V>(e, op, part);
      return;
    }
    const MaskedParts parts(l);
    const uint32_t fan_in = parts.fan_in();
    Layer rows = l;
    part.layer = &rows;
    part.weights = make_(scratch_).raw();
    part.n = 1;
    for (uint32_t row = 0; row < parts.n_rows; row += kMaskRows) {
      set_rows(MaskedParts::rows(row, parts.n_rows), fan_in, &rows);
      load_weights(l.param_offset + row * fan_in, rows.n_weights, scratch_);
      load_weights(l.param_offset + l.n_weights + row,
                   rows.n_biases,
                   scratch_ + rows.n_weights);
      for (uint32_t ex = 0; ex < c.n; ++ex) {
        at_example(c, l, ex, &part);
        part.out += row * parts.out_plane;
        base_.template forward<V>(e, op, part);
      }
    }
  }

  template <class W>
  void weight_gradient(const SerialExecutor& e,
                       LayerOp op,
                       const LayerCall<float>& c) const {
    const Layer& l = *c.layer;
    if (!mask_.splits(l)) {
      base_.template weight_gradient<V>(e, op, c);
      return;
    }
    // c.grad is where the gradient of parameter l.param_offset lies, or would.
    LayerCall<float> part = c;
    part.grad = scratch_;
    if (!has_parts(l)) {
      if (!c.first) load_gradient(l, 0, l.n_params(), c.grad, scratch_);
      base_.template weight_gradient<V>(e, op, part);
      store_gradient(l, 0, l.n_params(), scratch_, c.grad);
      return;
    }
    const MaskedParts parts(l);
    const uint32_t fan_in = parts.fan_in();
    Layer rows = l;
    part.layer = &rows;
    part.n = 1;
    for (uint32_t row = 0; row < parts.n_rows; row += kMaskRows) {
      set_rows(MaskedParts::rows(row, parts.n_rows), fan_in, &rows);
      const uint32_t weights = row * fan_in;
      const uint32_t biases = l.n_weights + row;
      if (mask_.count(l.param_offset + weights, rows.n_weights) +
              mask_.count(l.param_offset + biases, rows.n_biases) ==
          0) {
        continue;
      }
      if (!c.first) {
        load_gradient(l, weights, rows.n_weights, c.grad, scratch_);
        load_gradient(
            l, biases, rows.n_biases, c.grad, scratch_ + rows.n_weights);
      }
      for (uint32_t ex = 0; ex < c.n; ++ex) {
        at_example(c, l, ex, &part);
        part.out += row * parts.out_plane;
        part.first = c.first && ex == 0;
        base_.template weight_gradient<V>(e, op, part);
      }
      store_gradient(l, weights, rows.n_weights, scratch_, c.grad);
      store_gradient(
          l, biases, rows.n_biases, scratch_ + rows.n_weights, c.grad);
    }
  }

  template <class W>
  void input_gradient(const SerialExecutor& e,
                      LayerOp op,
                      const LayerCall<float>& c) const {
    const Layer& l = *c.layer;
    if (!mask_.splits(l)) {
      base_.template input_gradient<V>(e, op, c);
      return;
    }
    LayerCall<float> part = c;
    if (!has_parts(l)) {
      // Batch norm reads the sums that its weight gradient left there.
      part.grad = scratch_;
      if (!theta_.at_initial) {
        float* const weights = scratch_ + l.n_params();
        load_weights(l.param_offset, l.n_params(), weights);
        part.weights = make_(weights).raw();
      }
      base_.template input_gradient<V>(e, op, part);
      return;
    }
    if (theta_.at_initial) {
      base_.template input_gradient<V>(e, op, c);
      return;
    }
    const MaskedParts parts(l);
    const uint32_t fan_in = parts.fan_in();
    Layer columns = l;
    part.layer = &columns;
    part.weights = make_(scratch_).raw();
    part.n = 1;
    for (uint32_t in = 0; in < parts.n_inputs; in += kMaskRows) {
      const uint32_t n = MaskedParts::rows(in, parts.n_inputs);
      const uint32_t run = n * parts.taps;
      columns.in_c = static_cast<uint16_t>(n);
      if (l.op == LayerOp::kDense) columns.in_h = columns.in_w = 1;
      columns.n_weights = run * parts.n_rows;
      for (uint32_t row = 0; row < parts.n_rows; ++row) {
        load_weights(l.param_offset + row * fan_in + in * parts.taps,
                     run,
                     scratch_ + row * run);
      }
      for (uint32_t ex = 0; ex < c.n; ++ex) {
        at_example(c, l, ex, &part);
        part.in += in * parts.in_plane;
        base_.template input_gradient<V>(e, op, part);
      }
    }
  }

 private:
  static void set_rows(uint32_t n, uint32_t fan_in, Layer* rows) {
    rows->out_c = static_cast<uint16_t>(n);
    rows->n_weights = n * fan_in;
    rows->n_biases = n;
  }
  // Moves `part` to example `ex` of `c`, a call of layer `l`.
  static void at_example(const LayerCall<float>& c,
                         const Layer& l,
                         uint32_t ex,
                         LayerCall<float>* part) {
    const size_t in = size_t{ex} * l.n_in();
    if (c.x != nullptr) part->x = c.x + in;
    if (c.in != nullptr) part->in = c.in + in;
    part->out = c.out + size_t{ex} * l.n_out();
  }
  // Parameters [begin, begin + n) of theta_k.
  __attribute__((noinline)) void load_weights(uint32_t begin,
                                              uint32_t n,
                                              float* to) const {
    mask_.for_each(begin, n, [&](uint32_t j, uint32_t rank, bool on) {
      to[j] = on ? theta_.current(rank) : theta_.initial(begin + j);
    });
  }
  // The gradient of a layer's parameters [begin, begin + n), `grad` being that
  // of its first one that adapts; of those that do not, anything.
  __attribute__((noinline)) void load_gradient(const Layer& l,
                                               uint32_t begin,
                                               uint32_t n,
                                               const float* grad,
                                               float* to) const {
    const uint32_t start = mask_.rank(l.param_offset);
    mask_.for_each(
        l.param_offset + begin, n, [&](uint32_t j, uint32_t rank, bool on) {
          to[j] = on ? grad[rank - start] : 0.0F;
        });
  }
  __attribute__((noinline)) void store_gradient(const Layer& l,
                                                uint32_t begin,
                                                uint32_t n,
                                                const float* from,
                                                float* grad) const {
    const uint32_t start = mask_.rank(l.param_offset);
    mask_.for_each(
        l.param_offset + begin, n, [&](uint32_t j, uint32_t rank, bool on) {
          if (on) grad[rank - start] = from[j];
        });
  }

  const Base& base_;
  const MaskTable mask_;
  const MaskedView<V>& theta_;
  const Make make_;
  float* const scratch_;
};

/// Chooses what adapts of a planned network, parameter by parameter. `words`
/// [n_mask_words(P)] hold the bits, those beyond P being 0; ranks are written.
/// `table` [n_layers + 2 n_mask_words(P)] is written: Network::adapted, and the
/// words, where the network finds them. Where the mask stops whole layers only,
/// the network becomes plan_adapted()'s, without a mask; where it stops
/// nothing, it stays as it is. A mask costs the workspace mask_scratch()
/// values. Once for a network.
///
/// @retval kOk           Done.
/// @retval kBadArgument  No parameter would adapt, or a bit beyond P is set;
///                       nothing but `words` and `table` changes.
Status plan_mask(MaskWord* words, uint32_t* table, Network* network);

}  // namespace fewstep

#endif  // FEWSTEP_SPARSE_MASK_H_
