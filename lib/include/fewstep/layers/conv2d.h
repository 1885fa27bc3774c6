// 2-D convolution (cross-correlation) with zero padding, padded taps skipped.
//
//   y[o][v][u] = b[o] + sum over (i, ky, kx) ascending of
//                W[o][i][ky][kx] x[i][v s + ky - p][u s + kx - p]
//
// Every sum runs over taps that lie on the input only. A tile of sums takes
// either the same position of several examples, which see the same taps (this
// file; the CPU engine, which has examples enough), or neighbours in one image
// (conv2d_rows.h; firmware): TileShape<T>::kAcrossExamples chooses.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_CONV2D_H_
#define FEWSTEP_LAYERS_CONV2D_H_

#include "fewstep/layers/conv2d_rows.h"
#include "fewstep/layers/tile.h"

namespace fewstep {

/// Channels that the input of a convolution has, and its output.
template <class T>
FEWSTEP_INLINE uint32_t conv_in_channels(const Layer& l) {
  if constexpr (Packing<T>::kChannels == 1) return l.in_c;
  return l.n_weights / (uint32_t{l.out_c} * l.kernel * l.kernel);
}
template <class T>
FEWSTEP_INLINE uint32_t conv_out_channels(const Layer& l) {
  if constexpr (Packing<T>::kChannels == 1) return l.out_c;
  return l.groups;
}

/// Array elements that hold n channels, a plane of them at a time.
template <class X>
FEWSTEP_INLINE uint32_t packed(uint32_t n) {
  constexpr uint32_t k = Packing<X>::kChannels;
  return (n + k - 1) / k;
}

struct Conv2d {
  static constexpr LayerOp kOp = LayerOp::kConv2d;

  template <class W, class T, class E>
  static FEWSTEP_HD void forward(const E& e, const LayerCall<T>& c) {
    if constexpr (SumOf<W, T>::Shape::kAcrossExamples) {
      forward_across<W>(e, c);
    } else {
      ConvRows::forward<W>(e, c);
    }
  }

  /// grad W[o][i][ky][kx] += sum over (example, v, u) of dL_dy[o][v][u]
  /// x[i][v s + ky - p][u s + kx - p];  grad b[o] += sum of dL_dy[o][v][u]
  template <class W, class T, class E>
  static FEWSTEP_HD void weight_gradient(const E& e, const LayerCall<T>& c) {
    if constexpr (SumOf<W, T>::Shape::kAcrossExamples) {
      weight_gradient_across<W>(e, c);
    } else {
      ConvRows::weight_gradient(e, c);
    }
    using Sum = typename SumOf<W, T>::Type;
    const Layer& l = *c.layer;
    const uint32_t out_plane = uint32_t{l.out_h} * l.out_w;
    const uint32_t n_out = l.n_out();
    T* const g_bias = c.grad + l.n_weights;
    e.for_each(l.out_c, [&](uint32_t o) {
      Sum sum = c.first ? constant<Sum>(0.0F) : as_sum<Sum>(g_bias[o]);
      for (uint32_t ex = 0; ex < c.n; ++ex) {
        const T* const d = c.out + ex * n_out + o * out_plane;
        for (uint32_t k = 0; k < out_plane; ++k) sum = sum + as_sum<Sum>(d[k]);
      }
      put_sum(g_bias + o, sum);
    });
  }

  /// dL_dx[i][y][x] = sum over (o, ky, kx) ascending of W[o][i][ky][kx]
  /// dL_dy[o][(y + p - ky) / s][(x + p - kx) / s], where these are positions.
  /// A T that holds several channels reads weights packed over inputs.
  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient(const E& e, const LayerCall<T>& c) {
    if constexpr (SumOf<W, T>::Shape::kAcrossExamples) {
      input_gradient_across<W>(e, c);
    } else {
      ConvRows::input_gradient<W>(e, c);
    }
  }

 private:
  template <class W, class T, class E>
  static FEWSTEP_HD void forward_across(const E& e, const LayerCall<T>& c) {
    using Sum = typename SumOf<W, T>::Type;
    using Shape = typename SumOf<W, T>::Shape;
    constexpr int kRows = Shape::kRows;
    constexpr int kCols = Shape::kCols;
    constexpr bool kExact = Shape::kExactCols;
    const Layer& l = *c.layer;
    const W w = W::from(c.weights);
    const uint32_t kernel = l.kernel;
    const uint32_t n_out = l.n_out();
    const uint32_t in_plane = uint32_t{l.in_h} * l.in_w;
    const uint32_t out_plane = uint32_t{l.out_h} * l.out_w;
    const uint32_t in_c = conv_in_channels<T>(l);
    const uint32_t n_taps = in_c * kernel * kernel;  // Of one filter.
    T* const out = c.out;

    with_input(c, [&](const auto* in) {
      using X = Value<decltype(*in)>;
      using Factor = decltype(Packing<T>::channel(in, 0U));
      constexpr uint32_t kPack = Packing<X>::kChannels;
      const uint32_t n_in = packed<X>(in_c) * in_plane;
      // One tile: filters o.. at one position of several examples. `x` and `y`
      // point at the first's.
      const auto tile = [&](auto rows,
                            auto cols,
                            uint32_t o,
                            const Taps& ty,
                            const Taps& tx,
                            const X* x,
                            T* y) {
        constexpr int kR = decltype(rows)::value;
        constexpr int kC = decltype(cols)::value;
        Sum sums[kR][kC];
        init_sums(sums, [&](int r, int) {
          return as_sum<Sum>(w(l.n_weights + o + static_cast<uint32_t>(r)));
        });
        W wr[kR];
        const X* xq[kC];
        load_all(wr, [&](int r) {
          return w.at((o + static_cast<uint32_t>(r)) * n_taps + tx.lo);
        });
        load_all(xq,
                 [&](int q) { return x + static_cast<uint32_t>(q) * n_in; });
        const uint32_t n_x = tx.hi - tx.lo;
        for (uint32_t i = 0; i < in_c; ++i) {
          for (uint32_t ky = ty.lo; ky < ty.hi; ++ky) {
            const uint32_t w_at = (i * kernel + ky) * kernel;
            const uint32_t x_at = i / kPack * in_plane + (ky - ty.lo) * l.in_w;
            for (uint32_t k = 0; k < n_x; ++k) {
              add_term<Factor>(
                  sums,
                  [&](int r) { return wr[r](w_at + k); },
                  [&](int q) {
                    return Packing<T>::channel(xq[q] + (x_at + k), i % kPack);
                  });
            }
          }
        }
        store_sums(sums, [&](int r, int q, const Sum& sum) {
          put_sum(y + static_cast<uint32_t>(r) * out_plane +
                      static_cast<uint32_t>(q) * n_out,
                  sum);
        });
      };

      const uint32_t n_groups = (c.n + kCols - 1U) / kCols;
      const uint32_t n_row_tiles = (l.out_c + kRows - 1U) / kRows;
      constexpr bool kByPosition = Shape::kByPosition;
      const uint32_t n_row_items = n_row_tiles * l.out_h;
      const uint32_t per_row = kByPosition ? l.out_w : 1U;
      e.for_each(n_groups, n_row_items * per_row, [&](uint32_t g, uint32_t k) {
        const uint32_t ex = g * kCols;
        const uint32_t ex_end = ex + kCols < c.n ? ex + kCols : c.n;
        const uint32_t j = kByPosition ? k / l.out_w : k;
        const uint32_t o = j / l.out_h * kRows;
        const uint32_t o_end = o + kRows < l.out_c ? o + kRows : l.out_c;
        const uint32_t v = j % l.out_h;
        const Taps ty = forward_taps(v, l.in_h, kernel, l.stride, l.pad);
        const uint32_t u_begin = kByPosition ? k - j * l.out_w : 0U;
        const uint32_t u_end = kByPosition ? u_begin + 1 : l.out_w;
        for (uint32_t u = u_begin; u < u_end; ++u) {
          const Taps tx = forward_taps(u, l.in_w, kernel, l.stride, l.pad);
          const X* const x = in + ty.other * l.in_w + tx.other;
          T* const y = out + v * l.out_w + u;
          cover_tile<kRows, kCols, kExact>(
              o,
              o_end,
              ex,
              ex_end,
              [&](auto rows, auto cols, uint32_t r, uint32_t q) {
                tile(rows,
                     cols,
                     r,
                     ty,
                     tx,
                     x + q * n_in,
                     y + q * n_out + r * out_plane);
              });
        }
      });
    });
  }

  template <class W, class T, class E>
  static FEWSTEP_HD void weight_gradient_across(const E& e,
                                                const LayerCall<T>& c) {
    using Sum = typename SumOf<W, T>::Type;
    using Shape = typename SumOf<W, T>::Shape;
    constexpr int kRows = Shape::kRows;
    // Columns are input channels here: within one T where it holds several.
    constexpr int kCols = Shape::kChannelCols;
    constexpr bool kExact = Shape::kExactCols;
    const Layer& l = *c.layer;
    const uint32_t kernel = l.kernel;
    const uint32_t n_out = l.n_out();
    const uint32_t in_plane = uint32_t{l.in_h} * l.in_w;
    const uint32_t out_plane = uint32_t{l.out_h} * l.out_w;
    const uint32_t window = kernel * kernel;
    const uint32_t in_c = conv_in_channels<T>(l);
    const uint32_t n_taps = in_c * window;
    const T* const dL_dout = c.out;
    const bool first = c.first;

    with_input(c, [&](const auto* in) {
      using X = Value<decltype(*in)>;
      using Factor = decltype(Packing<T>::channel(in, 0U));
      constexpr uint32_t kPack = Packing<X>::kChannels;
      static_assert(kPack == 1 || kPack % kCols == 0);
      const uint32_t n_in = packed<X>(in_c) * in_plane;
      // One tile: filters o.., channels i.. at tap (ky, kx), adding examples
      // [ex0, ex1).
      const auto tile = [&](auto rows,
                            auto cols,
                            uint32_t o,
                            uint32_t i,
                            uint32_t tap,
                            uint32_t ex0,
                            uint32_t ex1) {
        constexpr int kR = decltype(rows)::value;
        constexpr int kC = decltype(cols)::value;
        const uint32_t ky = tap / kernel;
        const uint32_t kx = tap % kernel;
        // Outputs whose tap (ky, kx) lies on the input.
        const uint32_t s = l.stride;
        const uint32_t p = l.pad;
        const uint32_t v0 = ky < p ? (p - ky + s - 1) / s : 0;
        const uint32_t u0 = kx < p ? (p - kx + s - 1) / s : 0;
        uint32_t v1 = l.in_h + p > ky ? (l.in_h - 1 + p - ky) / s + 1 : 0;
        uint32_t u1 = l.in_w + p > kx ? (l.in_w - 1 + p - kx) / s + 1 : 0;
        if (v1 > l.out_h) v1 = l.out_h;
        if (u1 > l.out_w) u1 = l.out_w;
        T* const g = c.grad + o * n_taps + i * window + tap;
        const bool from_zero = first && ex0 == 0;
        Sum sums[kR][kC];
        init_sums(sums, [&](int r, int q) {
          return from_zero ? constant<Sum>(0.0F)
                           : as_sum<Sum>(g[static_cast<uint32_t>(r) * n_taps +
                                           static_cast<uint32_t>(q) * window]);
        });
        for (uint32_t ex = ex0; ex < ex1; ++ex) {
          for (uint32_t v = v0; v < v1; ++v) {
            const T* d =
                dL_dout + ex * n_out + o * out_plane + v * l.out_w + u0;
            const X* x = in + ex * n_in + i / kPack * in_plane +
                         (v * s + ky - p) * l.in_w + u0 * s + kx - p;
            for (uint32_t u = u0; u < u1; ++u, ++d, x += s) {
              add_term<Factor>(
                  sums,
                  [&](int r) {
                    return d[static_cast<uint32_t>(r) * out_plane];
                  },
                  [&](int q) {
                    const uint32_t n = static_cast<uint32_t>(q);
                    return Packing<T>::channel(x + n / kPack * in_plane,
                                               i % kPack + n % kPack);
                  });
            }
          }
        }
        store_sums(sums, [&](int r, int q, const Sum& sum) {
          put_sum(g + static_cast<uint32_t>(r) * n_taps +
                      static_cast<uint32_t>(q) * window,
                  sum);
        });
      };
      // Every tile reads all of dL_dout: examples go by chunks that stay in the
      // cache, and the sums wait in `grad`.
      constexpr uint32_t kChunk = Shape::kChunkValues;
      const uint32_t chunk = kChunk == 0 || n_out * c.n <= kChunk
                                 ? c.n
                                 : (kChunk + n_out - 1) / n_out;
      for (uint32_t ex = 0; ex < c.n; ex += chunk) {
        const uint32_t ex_end = ex + chunk < c.n ? ex + chunk : c.n;
        if (ex != 0) e.barrier();
        e.for_each((l.out_c + kRows - 1U) / kRows,
                   (in_c + kCols - 1U) / kCols * window,
                   [&](uint32_t rt, uint32_t j) {
                     const uint32_t o = rt * kRows;
                     const uint32_t i = j / window * kCols;
                     cover_tile<kRows, kCols, kExact>(
                         o,
                         o + kRows < l.out_c ? o + kRows : l.out_c,
                         i,
                         i + kCols < in_c ? i + kCols : in_c,
                         [&](auto rows, auto cols, uint32_t r, uint32_t q) {
                           tile(rows, cols, r, q, j % window, ex, ex_end);
                         });
                   });
      }
    });
  }

  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient_across(const E& e,
                                               const LayerCall<T>& c) {
    using Sum = typename SumOf<W, T>::Type;
    using Shape = typename SumOf<W, T>::Shape;
    constexpr int kRows = Shape::kRows;
    constexpr int kCols = Shape::kCols;
    constexpr bool kExact = Shape::kExactCols;
    const Layer& l = *c.layer;
    const W w = W::from(c.weights);
    const uint32_t kernel = l.kernel;
    const uint32_t stride = l.stride;
    const uint32_t n_in = l.n_in();
    const uint32_t n_out = l.n_out();
    const uint32_t in_plane = uint32_t{l.in_h} * l.in_w;
    const uint32_t out_plane = uint32_t{l.out_h} * l.out_w;
    const uint32_t window = kernel * kernel;
    const uint32_t n_taps = l.in_c * window;
    const uint32_t out_c = conv_out_channels<T>(l);
    constexpr uint32_t kPack = Packing<T>::kChannels;
    const uint8_t activation = l.in_activation;

    // One tile: input channels i.. at one position of several examples.
    const auto tile = [&](auto rows,
                          auto cols,
                          uint32_t i,
                          const Taps& ty,
                          const Taps& tx,
                          const T* d,
                          T* x) {
      constexpr int kR = decltype(rows)::value;
      constexpr int kC = decltype(cols)::value;
      Sum sums[kR][kC];
      init_sums(sums, [](int, int) { return constant<Sum>(0.0F); });
      W wr[kR];
      const T* dq[kC];
      load_all(wr, [&](int r) {
        return w.at((i + static_cast<uint32_t>(r)) * window);
      });
      load_all(dq, [&](int q) { return d + static_cast<uint32_t>(q) * n_out; });
      for (uint32_t o = 0; o < out_c; ++o) {
        uint32_t row = o / kPack * out_plane;
        for (uint32_t ky = ty.lo; ky < ty.hi; ky += stride, row -= l.out_w) {
          const uint32_t w_at = o * n_taps + ky * kernel;
          uint32_t at = row;
          for (uint32_t kx = tx.lo; kx < tx.hi; kx += stride, --at) {
            add_term<T>(
                sums,
                [&](int r) { return wr[r](w_at + kx); },
                [&](int q) {
                  return Packing<T>::channel(dq[q] + static_cast<int32_t>(at),
                                             o % kPack);
                });
          }
        }
      }
      spill_sums(sums, [&](int r, int q, const Sum& sum) {
        store_delta(x + static_cast<uint32_t>(r) * in_plane +
                        static_cast<uint32_t>(q) * n_in,
                    activation,
                    sum);
      });
    };

    const uint32_t n_groups = (c.n + kCols - 1U) / kCols;
    const uint32_t n_row_tiles = (l.in_c + kRows - 1U) / kRows;
    constexpr bool kByPosition = Shape::kByPosition;
    const uint32_t n_row_items = n_row_tiles * l.in_h;
    const uint32_t per_row = kByPosition ? l.in_w : 1U;
    e.for_each(n_groups, n_row_items * per_row, [&](uint32_t g, uint32_t k) {
      const uint32_t ex = g * kCols;
      const uint32_t ex_end = ex + kCols < c.n ? ex + kCols : c.n;
      const uint32_t j = kByPosition ? k / l.in_w : k;
      const uint32_t i = j / l.in_h * kRows;
      const uint32_t i_end = i + kRows < l.in_c ? i + kRows : l.in_c;
      const uint32_t y = j % l.in_h;
      const Taps ty = backward_taps(y, l.out_h, kernel, stride, l.pad);
      const uint32_t x_begin = kByPosition ? k - j * l.in_w : 0U;
      const uint32_t x_end = kByPosition ? x_begin + 1 : l.in_w;
      for (uint32_t x = x_begin; x < x_end; ++x) {
        const Taps tx = backward_taps(x, l.out_w, kernel, stride, l.pad);
        const T* const d = c.out + ty.other * l.out_w + tx.other;
        T* const at = c.in + y * l.in_w + x;
        cover_tile<kRows, kCols, kExact>(
            i,
            i_end,
            ex,
            ex_end,
            [&](auto rows, auto cols, uint32_t r, uint32_t q) {
              tile(rows,
                   cols,
                   r,
                   ty,
                   tx,
                   d + q * n_out,
                   at + q * n_in + r * in_plane);
            });
      }
    });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_CONV2D_H_
