// Conv2d in tiles of neighbours, for number types of one value: what firmware
// runs. The tiles, of rows of one image:
//
//   forward          4 filters x 4 neighbours (3x3 kernels), or x 1
//   weight_gradient  4 filters x 3 taps, or x 1
//   input_gradient   4 channels x 4 neighbours (3x3 kernels, stride 2), x 4
//                    inputs that see the same taps, or x 1
//
// A row of three taps is loaded once for all that it multiplies. What is left
// of filters and channels beyond a multiple of four is computed value by value.
// Each tile (conv2d_row_tiles.h) is a function of its own, which reads what it
// needs from one struct: gcc then keeps its sums in registers. Included by
// conv2d.h only.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_CONV2D_ROWS_H_
#define FEWSTEP_LAYERS_CONV2D_ROWS_H_

#include "fewstep/layers/conv2d_row_tiles.h"

namespace fewstep {

struct ConvRows : private ConvRowTiles {
  template <class W, class T, class E>
  static FEWSTEP_HD void forward(const E& e, const LayerCall<T>& c) {
    const Layer& l = *c.layer;
    const W w = W::from(c.weights);
    const uint32_t whole = l.out_c & ~3U;
    const T* const input = c.x != nullptr ? c.x : c.in;
    e.for_each(c.n, l.out_h, [&](uint32_t ex, uint32_t v) {
      ForwardTile<W, T> t;
      t.in_c = l.in_c;
      t.kernel = l.kernel;
      t.window = uint32_t{l.kernel} * l.kernel;
      t.in_w = l.in_w;
      t.in_plane = uint32_t{l.in_h} * l.in_w;
      t.out_plane = uint32_t{l.out_h} * l.out_w;
      t.stride = l.stride;
      const Taps ty = forward_taps(v, l.in_h, l.kernel, l.stride, l.pad);
      const T* const row = input + ex * l.n_in() + ty.other * l.in_w;
      T* const out = c.out + ex * l.n_out() + v * l.out_w;
      t.n_y = ty.hi - ty.lo;
      for (uint32_t u = 0; u < l.out_w;) {
        if (whole != 0 && place_four(l, &u, &t)) {
          t.x = row + static_cast<int32_t>(u * l.stride - l.pad);
          t.w = w.at(ty.lo * l.kernel);
          t.bias = w.at(l.n_weights);
          t.y = out + u;
          for (uint32_t o = 0; o < whole; o += 4, t.next_filters(4)) {
            forward_four(t);
          }
          u += 4;
        } else {
          place_one(l, w, ty, row, out, u, &t);
          for (uint32_t o = 0; o < whole; o += 4, t.next_filters(4)) {
            forward_one<4>(t);
          }
          ++u;
        }
      }
      if (whole != l.out_c) {
        for (uint32_t u = 0; u < l.out_w; ++u) {
          place_one(l, w, ty, row, out, u, &t);
          t.next_filters(whole);
          for (uint32_t o = whole; o < l.out_c; ++o, t.next_filters(1)) {
            forward_one<1>(t);
          }
        }
      }
    });
  }

  template <class T, class E>
  static FEWSTEP_HD void weight_gradient(const E& e, const LayerCall<T>& c) {
    const Layer& l = *c.layer;
    const uint32_t kernel = l.kernel;
    const uint32_t window = kernel * kernel;
    const uint32_t in_plane = uint32_t{l.in_h} * l.in_w;
    const T* const input = c.x != nullptr ? c.x : c.in;
    e.for_each(kernel, l.in_c, [&](uint32_t ky, uint32_t i) {
      WeightTile<T> t;
      t.first = c.first;
      t.n = c.n;
      t.stride = l.stride;
      t.n_taps = l.in_c * window;
      t.out_plane = uint32_t{l.out_h} * l.out_w;
      t.out_w = l.out_w;
      t.x_row = uint32_t{l.stride} * l.in_w;
      t.n_out = l.n_out();
      t.n_in = l.n_in();
      const Range rows = valid(ky, l.in_h, l.out_h, l);
      t.n_v = rows.hi - rows.lo;
      for (uint32_t kx = 0; kx < kernel;) {
        // Three taps when the middle one reaches all columns that any of them
        // reaches, and the others at most one less.
        Range cols = valid(kx, l.in_w, l.out_w, l);
        uint32_t taps = 1;
        t.lead = false;
        t.tail = false;
        if (kx + 3 <= kernel) {
          const Range middle = valid(kx + 1, l.in_w, l.out_w, l);
          const Range last = valid(kx + 2, l.in_w, l.out_w, l);
          const uint32_t lead = cols.lo - middle.lo;
          const uint32_t tail = middle.hi - last.hi;
          if (lead <= 1 && tail <= 1 && last.lo == middle.lo &&
              cols.hi == middle.hi && cols.lo + 1 < last.hi) {
            taps = 3;
            cols.lo = middle.lo;
            t.lead = lead != 0;
            t.tail = tail != 0;
          }
        }
        t.n_cols = cols.hi - cols.lo - t.lead - t.tail;
        t.x = input + i * in_plane +
              static_cast<int32_t>(rows.lo * l.stride + ky - l.pad) * l.in_w +
              static_cast<int32_t>(cols.lo * l.stride + kx - l.pad);
        t.g = c.grad + i * window + ky * kernel + kx;
        t.d = c.out + rows.lo * l.out_w + cols.lo;
        weight_tiles(taps, l.out_c, t);
        kx += taps;
      }
    });
  }

  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient(const E& e, const LayerCall<T>& c) {
    const Layer& l = *c.layer;
    const W w = W::from(c.weights);
    const uint32_t whole = l.in_c & ~3U;
    e.for_each(c.n, l.in_h, [&](uint32_t ex, uint32_t y) {
      InputTile<W, T> t;
      t.out_c = l.out_c;
      t.window = uint32_t{l.kernel} * l.kernel;
      t.n_taps = l.in_c * t.window;
      t.w_row = uint32_t{l.stride} * l.kernel;
      t.out_w = l.out_w;
      t.out_plane = uint32_t{l.out_h} * l.out_w;
      t.in_plane = uint32_t{l.in_h} * l.in_w;
      t.stride = l.stride;
      t.activation = l.in_activation;
      const Taps ty = backward_taps(y, l.out_h, l.kernel, l.stride, l.pad);
      const T* const row = c.out + ex * l.n_out() + ty.other * l.out_w;
      T* const in = c.in + ex * l.n_in() + y * l.in_w;
      t.n_y = count(ty, l.stride);
      // Inputs [begin, end) go to tiles of four neighbours, the first of which
      // sees only the middle tap.
      uint32_t begin = 0;
      uint32_t end = 0;
      if (l.kernel == 3 && l.stride == 2 && whole != 0) {
        begin = 1U - l.pad % 2U;
        for (end = begin; end < l.in_w; end += t.n_cols) {
          const uint32_t u = (end + l.pad) / 2;
          if (u >= l.out_w) break;
          t.n_d = l.out_w - u;
          t.n_cols = l.in_w - end < 4 ? l.in_w - end : 4;
          t.w = w.at(ty.lo * 3U);
          t.d = row + u;
          t.x = in + end;
          for (uint32_t i = 0; i < whole; i += 4, t.next_channels(4)) {
            input_four(t);
          }
        }
      }
      for (uint32_t lane = 0; lane < l.stride && lane < l.in_w; ++lane) {
        uint32_t n_cols = 1;
        for (uint32_t x = lane; x < l.in_w; x += n_cols * l.stride) {
          n_cols = 1;
          const bool done = x >= begin && x < end;
          if (done && whole == l.in_c) continue;
          const Taps tx = backward_taps(x, l.out_w, l.kernel, l.stride, l.pad);
          while (!done && n_cols < 4) {
            const uint32_t next = x + n_cols * l.stride;
            if (next >= l.in_w || (next >= begin && next < end) ||
                !same_taps(
                    tx,
                    backward_taps(next, l.out_w, l.kernel, l.stride, l.pad))) {
              break;
            }
            ++n_cols;
          }
          if (n_cols != 4) n_cols = 1;
          t.n_x = count(tx, l.stride);
          t.w = w.at(ty.lo * l.kernel + tx.lo);
          t.d = row + tx.other;
          t.x = in + x;
          if (done) {
            t.next_channels(whole);
          } else {
            for (uint32_t i = 0; i < whole; i += 4, t.next_channels(4)) {
              n_cols == 4 ? input_tile<4, 4>(t) : input_tile<4, 1>(t);
            }
          }
          for (uint32_t i = whole; i < l.in_c; ++i, t.next_channels(1)) {
            for (uint32_t q = n_cols; q != 0; --q) {
              input_tile<1, 1>(t);
              ++t.d;
              t.x += l.stride;
            }
            t.d -= n_cols;
            t.x -= n_cols * l.stride;
          }
        }
      }
    });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_CONV2D_ROWS_H_
