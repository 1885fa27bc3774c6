// The register tiles of conv2d_rows.h and what each of them reads.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_CONV2D_ROW_TILES_H_
#define FEWSTEP_LAYERS_CONV2D_ROW_TILES_H_

#include "fewstep/layers/conv2d_taps.h"
#include "fewstep/layers/tile.h"

namespace fewstep {

struct ConvRowTiles {
  template <class W, class T>
  struct ForwardTile {
    W w;         ///< First filter's first tap.
    W bias;      ///< First filter's.
    const T* x;  ///< First input.
    T* y;        ///< First output.
    uint32_t n_y, n_x;
    bool lead, tail;  ///< The first input's first tap is missing, ...
    uint32_t in_c, kernel, window, in_w, in_plane, out_plane, stride;

    FEWSTEP_HD void next_filters(uint32_t n) {
      w = w.at(n * in_c * window);
      bias = bias.at(n);
      y += n * out_plane;
    }
  };

  /// Whether four outputs from *u on fit a tile: of their 3x3 taps only the
  /// first's first column and the last's last may be missing. At the right
  /// edge *u moves back: some are then computed twice.
  template <class W, class T>
  static FEWSTEP_HD bool place_four(const Layer& l,
                                    uint32_t* u,
                                    ForwardTile<W, T>* t) {
    if (l.kernel != 3 || l.out_w < 4) return false;
    const uint32_t at = *u + 4 <= l.out_w ? *u : l.out_w - 4U;
    const int32_t first = static_cast<int32_t>(at * l.stride) - l.pad;
    const int32_t last = first + 3 * l.stride;
    const int32_t n = l.in_w;
    t->lead = first < 0;
    t->tail = last + 2 >= n;
    if (first < -1 || first + l.stride < 0 || last + 1 >= n ||
        last - l.stride + 2 >= n) {
      return false;
    }
    *u = at;
    return true;
  }

  template <class W, class T>
  static FEWSTEP_NOINLINE void place_one(const Layer& l,
                                         const W& w,
                                         const Taps& ty,
                                         const T* row,
                                         T* out,
                                         uint32_t u,
                                         ForwardTile<W, T>* t) {
    const Taps tx = forward_taps(u, l.in_w, l.kernel, l.stride, l.pad);
    t->n_x = tx.hi - tx.lo;
    t->x = row + tx.other;
    t->w = w.at(ty.lo * l.kernel + tx.lo);
    t->bias = w.at(l.n_weights);
    t->y = out + u;
  }

  /// sums[r][c] += sum over k of a[r][k] b[k]
  template <int c, int k = 0, int kRows, int kCols, int kTaps, class T>
  static FEWSTEP_INLINE void multiply_taps(T (&sums)[kRows][kCols],
                                           const T (&a)[kRows][kTaps],
                                           const T (&b)[kTaps]) {
    FEWSTEP_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      sums[r][c] = fma(a[r][k], b[k], sums[r][c]);
    }
    if constexpr (k + 1 < kTaps) multiply_taps<c, k + 1>(sums, a, b);
  }

  /// The same for one tap.
  template <int c, int kRows, int kCols, int kTaps, class T>
  static FEWSTEP_INLINE void multiply_tap(T (&sums)[kRows][kCols],
                                          const T (&a)[kRows][kTaps],
                                          int k,
                                          T b) {
    FEWSTEP_UNROLL(4)
    for (int r = 0; r < kRows; ++r) sums[r][c] = fma(a[r][k], b, sums[r][c]);
  }

  template <class W, class T>
  static FEWSTEP_NOINLINE void forward_four(const ForwardTile<W, T>& t) {
    T sums[4][4];
    init_sums(sums,
              [&](int r, int) { return t.bias(static_cast<uint32_t>(r)); });
    const uint32_t n_taps = t.in_c * 9;
    const uint32_t stride = t.stride;
    W w = t.w;
    const T* x = t.x;
    uint32_t i = t.in_c;
    do {
      W wy = w;
      const T* row = x;
      uint32_t ky = t.n_y;
      do {
        T a[4][3];
        T b[3];
        load_tap_rows<16>(a, wy, n_taps);
        const T* p = row;
        if (!t.lead) multiply_tap<0>(sums, a, 0, p[0]);
        multiply_tap<0>(sums, a, 1, p[1]);
        multiply_tap<0>(sums, a, 2, p[2]);
        p = opaque(p + stride);
        load_run<28>(b, p);
        multiply_taps<1>(sums, a, b);
        p = opaque(p + stride);
        load_run<28>(b, p);
        multiply_taps<2>(sums, a, b);
        p = opaque(p + stride);
        multiply_tap<3>(sums, a, 0, p[0]);
        multiply_tap<3>(sums, a, 1, p[1]);
        if (!t.tail) multiply_tap<3>(sums, a, 2, p[2]);
        wy = wy.at(3);
        row += t.in_w;
      } while (--ky != 0);
      w = w.at(9);
      x += t.in_plane;
    } while (--i != 0);
    store_rows(sums, t.y, t.out_plane);
  }

  template <int kTaps, int kRows, class W, class T>
  static FEWSTEP_INLINE void multiply_one(T (&sums)[kRows][1],
                                          const W& w,
                                          uint32_t n_taps,
                                          const T* x) {
    T a[kRows][kTaps];
    T b[kTaps];
    load_tap_rows<16>(a, w, n_taps);
    load_run<28>(b, x);
    multiply_taps<0>(sums, a, b);
  }

  template <int kRows, class W, class T>
  static FEWSTEP_NOINLINE void forward_one(const ForwardTile<W, T>& t) {
    T sums[kRows][1];
    init_sums(sums,
              [&](int r, int) { return t.bias(static_cast<uint32_t>(r)); });
    const uint32_t n_taps = t.in_c * t.window;
    W w = t.w;
    const T* x = t.x;
    uint32_t i = t.in_c;
    do {
      W wy = w;
      const T* row = x;
      uint32_t ky = t.n_y;
      do {
        uint32_t n = t.n_x;
        W wx = wy;
        const T* p = row;
        for (; n >= 3; n -= 3, wx = wx.at(3), p += 3) {
          multiply_one<3>(sums, wx, n_taps, p);
        }
        for (; n != 0; --n, wx = wx.at(1), ++p) {
          multiply_one<1>(sums, wx, n_taps, p);
        }
        wy = wy.at(t.kernel);
        row += t.in_w;
      } while (--ky != 0);
      w = w.at(t.window);
      x += t.in_plane;
    } while (--i != 0);
    store_rows(sums, t.y, t.out_plane);
  }

  template <class T>
  struct WeightTile {
    const T* d;  ///< First filter's delta at the first row and column.
    const T* x;  ///< Input of the first tap there.
    T* g;        ///< First filter's first tap.
    bool first;
    bool lead, tail;  ///< The first column lacks the first tap, ...
    uint32_t n_cols;  ///< Columns between those two.
    uint32_t n, n_v;  ///< Examples, rows.
    uint32_t stride, n_taps, out_plane, out_w, x_row, n_out, n_in;
  };

  /// g[r * n_taps + j] += sum over examples, rows, columns of d[r] x[j]
  template <int kRows, int kTaps, class T>
  static FEWSTEP_NOINLINE void weight_tile(const WeightTile<T>& t) {
    T sums[kRows][kTaps];
    if (t.first) {
      init_sums(sums, [](int, int) { return constant<T>(0.0F); });
    } else {
      T* g[kRows];
      row_pointers(g, t.g, t.n_taps);
      init_sums(sums, [&](int r, int j) { return g[r][j]; });
    }
    const uint32_t stride = t.stride;
    // A tap that lies on the padding for all outputs.
    if (t.n_v == 0 || t.n_cols == 0) return store_taps(sums, t);
    const T* d_example = t.d;
    const T* x_example = t.x;
    uint32_t ex = t.n;
    do {
      const T* d_row = d_example;
      const T* x_row = x_example;
      uint32_t v = t.n_v;
      do {
        const T* d[kRows];
        row_pointers(d, d_row, t.out_plane);
        const T* x = x_row;
        T vd[kRows];
        if (kTaps == 3 && t.lead) {
          load_next(d, vd);
          add_tap<1>(sums, vd, x[1]);
          add_tap<kTaps - 1>(sums, vd, x[2]);
          x += stride;
        }
        uint32_t u = t.n_cols;
        do {
          T b[kTaps];
          load_next(d, vd);
          load_run<16>(b, x);
          x += stride;
          add_taps(sums, vd, b);
        } while (--u != 0);
        if (kTaps == 3 && t.tail) {
          load_next(d, vd);
          add_tap<0>(sums, vd, x[0]);
          add_tap<1>(sums, vd, x[1]);
        }
        d_row += t.out_w;
        x_row += t.x_row;
      } while (--v != 0);
      d_example += t.n_out;
      x_example += t.n_in;
    } while (--ex != 0);
    store_taps(sums, t);
  }

  template <int kRows, int kTaps, class T>
  static FEWSTEP_INLINE void store_taps(const T (&sums)[kRows][kTaps],
                                        const WeightTile<T>& t) {
    T* g[kRows];
    row_pointers(g, t.g, t.n_taps);
    store_sums(sums, [&](int r, int j, T sum) { g[r][j] = sum; });
  }

  /// sums[r][j] += d[r] x
  template <int j, int kRows, int kTaps, class T>
  static FEWSTEP_INLINE void add_tap(T (&sums)[kRows][kTaps],
                                     const T (&d)[kRows],
                                     T x) {
    if constexpr (j < kTaps) {
      FEWSTEP_UNROLL(4)
      for (int r = 0; r < kRows; ++r) sums[r][j] = fma(d[r], x, sums[r][j]);
    }
  }

  /// The same for all j.
  template <int j = 0, int kRows, int kTaps, class T>
  static FEWSTEP_INLINE void add_taps(T (&sums)[kRows][kTaps],
                                      const T (&d)[kRows],
                                      const T (&x)[kTaps]) {
    if constexpr (j < kTaps) {
      add_tap<j>(sums, d, x[j]);
      add_taps<j + 1>(sums, d, x);
    }
  }

  /// Outputs [lo, hi) whose tap `k` lies on the input.
  struct Range {
    uint32_t lo;
    uint32_t hi;
  };
  static FEWSTEP_NOINLINE Range valid(uint32_t k,
                                      uint32_t n_in,
                                      uint32_t n_out,
                                      const Layer& l) {
    Range r;
    r.lo = k < l.pad ? (l.pad - k + l.stride - 1) / l.stride : 0;
    r.hi = n_in + l.pad > k ? (n_in - 1 + l.pad - k) / l.stride + 1 : 0;
    if (r.hi > n_out) r.hi = n_out;
    if (r.lo > r.hi) r.lo = r.hi;
    return r;
  }

  /// All filters, in fours and one by one, where each tap has a range of its
  /// own.
  template <class T>
  static FEWSTEP_INLINE void weight_tiles(uint32_t taps,
                                          uint32_t n_filters,
                                          WeightTile<T>& t) {
    for (; n_filters >= 4; n_filters -= 4) {
      taps == 3 ? weight_tile<4, 3>(t) : weight_tile<4, 1>(t);
      t.d += 4 * t.out_plane;
      t.g += 4 * t.n_taps;
    }
    for (; n_filters != 0; --n_filters) {
      for (uint32_t j = 0; j < taps; ++j) {
        const bool skip = taps == 3 && j == 0 && t.lead;
        const bool drop = taps == 3 && j == 2 && t.tail;
        WeightTile<T> one = t;
        one.d += skip;
        one.x += j + (skip ? t.stride : 0U);
        one.g += j;
        one.n_cols += t.lead + t.tail - skip - drop;
        weight_tile<1, 1>(one);
      }
      t.d += t.out_plane;
      t.g += t.n_taps;
    }
  }

  template <class W, class T>
  struct InputTile {
    W w;         ///< First channel's first tap.
    const T* d;  ///< What it multiplies, for the first input.
    T* x;        ///< First input.
    uint32_t n_y, n_x, n_cols, n_d;
    uint32_t out_c, window, n_taps, w_row, out_w, out_plane, in_plane, stride;
    uint8_t activation;

    FEWSTEP_HD void next_channels(uint32_t n) {
      w = w.at(n * window);
      x += n * in_plane;
    }
  };

  static FEWSTEP_HD uint32_t count(const Taps& t, uint32_t stride) {
    return t.lo < t.hi ? (t.hi - t.lo + stride - 1) / stride : 0;
  }

  /// Four neighbours x of a 3x3 kernel at stride 2. With d[u] below the middle
  /// tap of the first, they see (d, tap), taps ascending:
  ///
  ///   (u, 1)    (u + 1, 0) (u, 2)    (u + 1, 1)    (u + 2, 0) (u + 1, 2)
  ///
  /// of which n_d columns of d exist. Columns beyond n_cols are dropped.
  template <class W, class T>
  static FEWSTEP_NOINLINE void input_four(const InputTile<W, T>& t) {
    T sums[4][4];
    init_sums(sums, [](int, int) { return constant<T>(0.0F); });
    W w = t.w;
    const T* d = t.d;
    uint32_t o = t.n_y == 0 ? 0U : t.out_c;
    while (o != 0) {
      W wy = w;
      const T* row = d;
      uint32_t ky = t.n_y;
      do {
        T a[4][3];
        T b[3];
        load_tap_rows<16>(a, wy, 9);
        if (t.n_d > 2) {
          load_run<28>(b, row);
          multiply_tap<3>(sums, a, 0, b[2]);
        } else {
          b[0] = row[0];
          b[1] = row[t.n_d - 1];
        }
        if (t.n_d > 1) {
          multiply_tap<1>(sums, a, 0, b[1]);
          multiply_tap<2>(sums, a, 1, b[1]);
          multiply_tap<3>(sums, a, 2, b[1]);
        }
        multiply_tap<0>(sums, a, 1, b[0]);
        multiply_tap<1>(sums, a, 2, b[0]);
        wy = wy.at(6);
        row -= t.out_w;
      } while (--ky != 0);
      w = w.at(t.n_taps);
      d += t.out_plane;
      --o;
    }
    T spilled[4][4];
    store_rows(sums, spilled[0], 4);
    if (t.n_cols == 4) {
      store_delta_fours(t.x, t.in_plane, spilled[0], 4, t.activation);
    } else {
      store_delta_runs(t.x, t.in_plane, spilled[0], 4, t.n_cols, t.activation);
    }
  }

  /// kCols inputs `stride` apart that see the same taps.
  template <int kRows, int kCols, class W, class T>
  static FEWSTEP_NOINLINE void input_tile(const InputTile<W, T>& t) {
    T sums[kRows][kCols];
    init_sums(sums, [](int, int) { return constant<T>(0.0F); });
    W w = t.w;
    const T* d = t.d;
    uint32_t o = t.n_y == 0 || t.n_x == 0 ? 0U : t.out_c;
    while (o != 0) {
      W wy = w;
      const T* row = d;
      uint32_t ky = t.n_y;
      do {
        W wx = wy;
        const T* at = row;
        uint32_t kx = t.n_x;
        do {
          T a[kRows][1];
          T b[kCols];
          load_tap_rows<16>(a, wx, t.window);
          load_run<20>(b, at);
          FEWSTEP_UNROLL(4)
          for (int r = 0; r < kRows; ++r) {
            FEWSTEP_UNROLL(4)
            for (int q = 0; q < kCols; ++q) {
              sums[r][q] = fma(a[r][0], b[q], sums[r][q]);
            }
          }
          wx = wx.at(t.stride);
          --at;
        } while (--kx != 0);
        wy = wy.at(t.w_row);
        row -= t.out_w;
      } while (--ky != 0);
      w = w.at(t.n_taps);
      d += t.out_plane;
      --o;
    }
    spill_sums(sums, [&](int r, int q, const T& sum) {
      store_delta(t.x + static_cast<uint32_t>(r) * t.in_plane +
                      static_cast<uint32_t>(q) * t.stride,
                  t.activation,
                  sum);
    });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_CONV2D_ROW_TILES_H_
