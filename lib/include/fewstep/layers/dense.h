// Dense layer: y[o] = b[o] + sum_i W[o][i] x[i], i ascending.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_DENSE_H_
#define FEWSTEP_LAYERS_DENSE_H_

#include "fewstep/layers/tile.h"

namespace fewstep {

struct Dense {
  static constexpr LayerOp kOp = LayerOp::kDense;

  /// out[e][o] = b[o] + sum_i W[o][i] in[e][i]
  template <class W, class T, class E>
  static FEWSTEP_HD void forward(const E& e, const LayerCall<T>& c) {
    using Sum = typename SumOf<W, T>::Type;
    using S = typename SumOf<W, T>::Shape;
    const W w = W::from(c.weights);
    const W bias = w.at(c.layer->n_weights);
    const uint32_t n_in = c.layer->n_in();
    const uint32_t n_out = c.layer->out_c;
    T* const out = c.out;
    const FusedCall<T> fused = c;
    with_input(c, [&](const auto* in) FEWSTEP_INLINE_LAMBDA {
      for_each_tile<S::kRows, S::kCols, S::kExactCols>(
          e, n_out, c.n, [=](auto rows, auto cols, uint32_t o, uint32_t ex) {
            Sum sums[decltype(rows)::value][decltype(cols)::value];
            start_columns(sums, bias.at(o));
            multiply_rows(
                sums, w.at(o * n_in), n_in, in + ex * n_in, n_in, n_in);
            if constexpr (FusedCall<T>::kActivates && IsSame<Sum, T>::value) {
              activate(sums, fused.activation);
            }
            store_columns(sums, out + ex * n_out + o, n_out);
          });
    });
  }

  /// grad W[o][i] += sum_e dL_dout[e][o] in[e][i];  grad b[o] += sum_e dL_dout
  template <class W, class T, class E>
  static FEWSTEP_HD void weight_gradient(const E& e, const LayerCall<T>& c) {
    const uint32_t n_in = c.layer->n_in();
    const uint32_t n_out = c.layer->out_c;
    const T* const dL_dout = c.out;
    using Sums = SumOf<W, T>;
    with_gradient<W>(c, [&](auto grad, bool first) FEWSTEP_INLINE_LAMBDA {
      with_input(c, [&](const auto* in) FEWSTEP_INLINE_LAMBDA {
        add_products<Sums>(
            e, grad, first, dL_dout, n_out, n_out, in, n_in, n_in, c.n);
      });
      add_sums<Sums>(
          e, grad + c.layer->n_weights, first, dL_dout, n_out, n_out, c.n);
    });
  }

  /// dL_din[e][i] = sum_o W[o][i] dL_dout[e][o]
  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient(const E& e, const LayerCall<T>& c) {
    using Sum = typename SumOf<W, T>::Type;
    using S = typename SumOf<W, T>::Shape;
    const W w = W::from(c.weights);
    const uint32_t n_in = c.layer->n_in();
    const uint32_t n_out = c.layer->out_c;
    const uint8_t activation = c.layer->in_activation;
    const T* const out = c.out;
    T* const in = c.in;
    for_each_tile<S::kRows, S::kCols, S::kExactCols>(
        e, n_in, c.n, [=](auto rows, auto cols, uint32_t i, uint32_t ex) {
          Sum sums[decltype(rows)::value][decltype(cols)::value];
          clear_columns(sums);
          multiply_column_by_rows(
              sums, w.at(i), n_in, out + ex * n_out, n_out, n_out);
          store_delta_columns(sums, in + ex * n_in + i, n_in, activation);
        });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_DENSE_H_
