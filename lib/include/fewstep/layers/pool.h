// Pooling: maximum of windows, mean of channels.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_POOL_H_
#define FEWSTEP_LAYERS_POOL_H_

#include "fewstep/layers/layer.h"

namespace fewstep {

/// y[c][v][u] = max over the window at (v k, u k); windows do not overlap, rows
/// and columns beyond the last whole window are dropped. The maximum is the
/// first in row-major order; NaN wins.
struct MaxPool {
  static constexpr LayerOp kOp = LayerOp::kMaxPool;

  template <class W, class T, class E>
  static FEWSTEP_HD void forward(const E& e, const LayerCall<T>& c) {
    const Layer& l = *c.layer;
    const uint32_t k = l.kernel;
    const uint32_t in_plane = uint32_t{l.in_h} * l.in_w;
    const uint32_t out_plane = uint32_t{l.out_h} * l.out_w;
    T* const out = c.out;
    with_input(c, [&](const auto* in) {
      e.for_each(c.n * l.out_c, l.out_h, [&](uint32_t plane, uint32_t v) {
        for (uint32_t u = 0; u < l.out_w; ++u) {
          const auto* const window =
              in + plane * in_plane + v * k * l.in_w + u * k;
          auto best = window[0];
          for (uint32_t y = 0; y < k; ++y) {
            for (uint32_t x = 0; x < k; ++x) {
              const auto value = window[y * l.in_w + x];
              best = select(exceeds(value, best), value, best);
            }
          }
          out[plane * out_plane + v * l.out_w + u] = lift<T>(best);
        }
      });
    });
  }

  template <class W, class T, class E>
  static FEWSTEP_HD void weight_gradient(const E&, const LayerCall<T>&) {}

  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient(const E& e, const LayerCall<T>& c) {
    const Layer& l = *c.layer;
    const uint32_t k = l.kernel;
    const uint32_t in_plane = uint32_t{l.in_h} * l.in_w;
    const uint32_t out_plane = uint32_t{l.out_h} * l.out_w;
    const uint32_t n_y = uint32_t{l.out_h} * k;  // Rows that windows cover.
    const uint32_t n_x = uint32_t{l.out_w} * k;
    T* const in = c.in;
    const T* const dL_dout = c.out;
    e.for_each(c.n * l.out_c, [&](uint32_t plane) {
      const T zero = constant<T>(0.0F);
      T* const a = in + plane * in_plane;
      for (uint32_t v = 0; v < l.out_h; ++v) {
        for (uint32_t u = 0; u < l.out_w; ++u) {
          T* const window = a + v * k * l.in_w + u * k;
          // Where the maximum is, as a number: it may differ between lanes.
          T best = window[0];
          T at = zero;
          for (uint32_t j = 1; j < k * k; ++j) {
            const T value = window[j / k * l.in_w + j % k];
            const auto wins = exceeds(value, best);
            best = select(wins, value, best);
            at = select(wins, constant<T>(static_cast<float>(j)), at);
          }
          const T d = dL_dout[plane * out_plane + v * l.out_w + u];
          for (uint32_t j = 0; j < k * k; ++j) {
            const T here = constant<T>(static_cast<float>(j));
            const auto is_max =
                mask_and(less_equal(at, here), less_equal(here, at));
            store_delta(window + j / k * l.in_w + j % k,
                        l.in_activation,
                        select(is_max, d, zero));
          }
        }
      }
      for (uint32_t y = 0; y < l.in_h; ++y) {
        for (uint32_t x = y < n_y ? n_x : 0; x < l.in_w; ++x) {
          a[y * l.in_w + x] = zero;
        }
      }
    });
  }
};

/// y[c] = mean of x[c][..], summed in ascending order.
struct GlobalAvgPool {
  static constexpr LayerOp kOp = LayerOp::kGlobalAvgPool;

  template <class W, class T, class E>
  static FEWSTEP_HD void forward(const E& e, const LayerCall<T>& c) {
    const uint32_t plane = uint32_t{c.layer->in_h} * c.layer->in_w;
    T* const out = c.out;
    with_input(c, [&](const auto* in) {
      e.for_each(c.n * c.layer->in_c, [&](uint32_t j) {
        T sum = constant<T>(0.0F);
        for (uint32_t i = 0; i < plane; ++i) {
          sum = sum + lift<T>(in[j * plane + i]);
        }
        out[j] = sum / constant<T>(static_cast<float>(plane));
      });
    });
  }

  template <class W, class T, class E>
  static FEWSTEP_HD void weight_gradient(const E&, const LayerCall<T>&) {}

  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient(const E& e, const LayerCall<T>& c) {
    const uint32_t plane = uint32_t{c.layer->in_h} * c.layer->in_w;
    const uint8_t activation = c.layer->in_activation;
    T* const in = c.in;
    const T* const dL_dout = c.out;
    e.for_each(c.n * c.layer->in_c, [&](uint32_t j) {
      const T d = dL_dout[j] / constant<T>(static_cast<float>(plane));
      for (uint32_t i = 0; i < plane; ++i) {
        store_delta(in + j * plane + i, activation, d);
      }
    });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_POOL_H_
