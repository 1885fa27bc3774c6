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
    constexpr int kRows = TileShape<T>::kRows;
    constexpr int kCols = TileShape<T>::kCols;
    const W w = W::from(c.weights);
    const uint32_t n_in = c.layer->n_in();
    const uint32_t n_out = c.layer->n_out();
    const uint32_t n_weights = c.layer->n_weights;
    T* const out = c.out;
    with_input(c, [&](const auto* in) {
      using X = Value<decltype(*in)>;
      for_each_tile<kRows, kCols, TileShape<T>::kExactCols>(
          e, n_out, c.n, [&](auto rows, auto cols, uint32_t o, uint32_t ex) {
            constexpr int kR = decltype(rows)::value;
            constexpr int kC = decltype(cols)::value;
            T sums[kR][kC];
            init_sums(sums, [&](int r, int) {
              return w(n_weights + o + static_cast<uint32_t>(r));
            });
            const W wo = w.at(o * n_in);
            const X* const xe = in + ex * n_in;
            for (uint32_t i = 0; i < n_in; ++i) {
              T a[kR];
              X b[kC];
              load_all(a, [&](int r) {
                return wo(static_cast<uint32_t>(r) * n_in + i);
              });
              load_all(b, [&](int k) {
                return xe[static_cast<uint32_t>(k) * n_in + i];
              });
              multiply_add(sums, a, b);
            }
            T* col[kC];
            load_all(col, [&](int k) {
              return opaque(out + (ex + static_cast<uint32_t>(k)) * n_out + o);
            });
            store_sums(sums,
                       [&](int r, int k, const T& sum) { col[k][r] = sum; });
          });
    });
  }

  /// grad W[o][i] += sum_e dL_dout[e][o] in[e][i];  grad b[o] += sum_e dL_dout
  template <class W, class T, class E>
  static FEWSTEP_HD void weight_gradient(const E& e, const LayerCall<T>& c) {
    constexpr int kRows = TileShape<T>::kRows;
    constexpr int kCols = TileShape<T>::kCols;
    const uint32_t n_in = c.layer->n_in();
    const uint32_t n_out = c.layer->n_out();
    const T* const dL_dout = c.out;
    T* const grad = c.grad;
    const bool first = c.first;
    with_input(c, [&](const auto* in) {
      using X = Value<decltype(*in)>;
      for_each_tile<kRows, kCols, TileShape<T>::kExactCols>(
          e, n_out, n_in, [&](auto rows, auto cols, uint32_t o, uint32_t i) {
            constexpr int kR = decltype(rows)::value;
            constexpr int kC = decltype(cols)::value;
            T* const g = grad + o * n_in + i;
            T* row[kR];
            load_all(row, [&](int r) {
              return opaque(g + static_cast<uint32_t>(r) * n_in);
            });
            T sums[kR][kC];
            init_sums(sums, [&](int r, int k) {
              return first ? constant<T>(0.0F) : row[r][k];
            });
            const T* d = dL_dout + o;
            const X* x = in + i;
            for (uint32_t ex = 0; ex < c.n; ++ex, d += n_out, x += n_in) {
              T a[kR];
              X b[kC];
              load_all(a, [&](int r) { return d[r]; });
              load_all(b, [&](int k) { return x[k]; });
              multiply_add(sums, a, b);
            }
            store_sums(sums,
                       [&](int r, int k, const T& sum) { row[r][k] = sum; });
          });
    });
    T* const g_bias = c.grad + c.layer->n_weights;
    e.for_each(n_out, [&](uint32_t o) {
      T sum = first ? constant<T>(0.0F) : g_bias[o];
      for (uint32_t ex = 0; ex < c.n; ++ex) {
        sum = sum + dL_dout[ex * n_out + o];
      }
      g_bias[o] = sum;
    });
  }

  /// dL_din[e][i] = sum_o W[o][i] dL_dout[e][o]
  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient(const E& e, const LayerCall<T>& c) {
    constexpr int kRows = TileShape<T>::kRows;
    constexpr int kCols = TileShape<T>::kCols;
    const W w = W::from(c.weights);
    const uint32_t n_in = c.layer->n_in();
    const uint32_t n_out = c.layer->n_out();
    const uint8_t activation = c.layer->in_activation;
    T* const in = c.in;
    for_each_tile<kRows, kCols, TileShape<T>::kExactCols>(
        e, n_in, c.n, [&](auto rows, auto cols, uint32_t i, uint32_t ex) {
          constexpr int kR = decltype(rows)::value;
          constexpr int kC = decltype(cols)::value;
          T sums[kR][kC];
          init_sums(sums, [](int, int) { return constant<T>(0.0F); });
          const T* const d = c.out + ex * n_out;
          for (uint32_t o = 0; o < n_out; ++o) {
            const W wo = w.at(o * n_in + i);
            T a[kR];
            T b[kC];
            load_all(a, [&](int r) { return wo(static_cast<uint32_t>(r)); });
            load_all(b, [&](int k) {
              return d[static_cast<uint32_t>(k) * n_out + o];
            });
            multiply_add(sums, a, b);
          }
          spill_sums(sums, [&](int r, int k, const T& sum) {
            store_delta(in + (ex + static_cast<uint32_t>(k)) * n_in + i +
                            static_cast<uint32_t>(r),
                        activation,
                        sum);
          });
        });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_DENSE_H_
