// Normalization: group norm (per example) and batch norm (per batch).
//
//   y = gamma[c] (x - mean) rstd + beta[c],  rstd = 1 / sqrt(var + 1e-5)
//
// with mean and the biased two-pass variance over the group of channels of one
// example (Wu & He 2018; groups = 1 is layer norm), or over one channel of the
// whole batch at hand, in training and in prediction alike (the convention of
// MAML: transductive). Sums run in the order of partial_sum.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_NORM_H_
#define FEWSTEP_LAYERS_NORM_H_

#include "fewstep/layers/layer.h"

namespace fewstep {

constexpr float kNormEpsilon = 1e-5F;

/// Mean of value(i) over i in [0, n).
template <class T, class Value>
FEWSTEP_HD inline T mean_of(uint32_t n, const Value& value) {
  return partial_sum<T>(n,
                        [&](uint32_t i, const T& s) { return s + value(i); }) /
         constant<T>(static_cast<float>(n));
}

/// 1 / sqrt(biased variance of value(i) + epsilon)
template <class T, class Value>
FEWSTEP_HD inline T rstd_of(uint32_t n, const T& mean, const Value& value) {
  const T var = partial_sum<T>(n,
                               [&](uint32_t i, const T& s) {
                                 const T d = value(i) - mean;
                                 return fma(d, d, s);
                               }) /
                constant<T>(static_cast<float>(n));
  return constant<T>(1.0F) / sqrt(var + constant<T>(kNormEpsilon));
}

struct GroupNorm {
  static constexpr LayerOp kOp = LayerOp::kGroupNorm;

  /// aux[e][2 g], aux[e][2 g + 1] = mean and rstd of group g.
  template <class W, class T, class E>
  static FEWSTEP_HD void forward(const E& e, const LayerCall<T>& c) {
    const Layer& l = *c.layer;
    const W w = W::from(c.weights);
    const uint32_t plane = uint32_t{l.in_h} * l.in_w;
    const uint32_t per_group = l.in_c / l.groups;
    const uint32_t size = per_group * plane;
    T* const out = c.out;
    T* const aux = c.aux;
    with_input(c, [&](const auto* in) {
      e.for_each(c.n, l.groups, [&](uint32_t ex, uint32_t g) {
        const uint32_t base = (ex * l.groups + g) * size;
        const auto value = [&](uint32_t i) { return lift<T>(in[base + i]); };
        const T mean = mean_of<T>(size, value);
        const T rstd = rstd_of<T>(size, mean, value);
        T* const stats = aux + (ex * l.groups + g) * 2;
        stats[0] = mean;
        stats[1] = rstd;
        for (uint32_t ch = 0; ch < per_group; ++ch) {
          const T gamma = w(g * per_group + ch);
          const T beta = w(l.n_weights + g * per_group + ch);
          for (uint32_t i = 0; i < plane; ++i) {
            const uint32_t at = base + ch * plane + i;
            out[at] = fma((lift<T>(in[at]) - mean) * rstd, gamma, beta);
          }
        }
      });
    });
  }

  /// grad gamma[c] += sum_e sum_i dL_dy xhat;  grad beta[c] += sum_e sum_i
  /// dL_dy: a partial_sum over positions, then examples ascending.
  template <class W, class T, class E>
  static FEWSTEP_HD void weight_gradient(const E& e, const LayerCall<T>& c) {
    const Layer& l = *c.layer;
    const uint32_t plane = uint32_t{l.in_h} * l.in_w;
    const uint32_t per_group = l.in_c / l.groups;
    const T* const dL_dout = c.out;
    const T* const aux = c.aux;
    T* const grad = c.grad;
    const bool first = c.first;
    with_input(c, [&](const auto* in) {
      e.for_each(l.in_c, [&](uint32_t ch) {
        const T zero = constant<T>(0.0F);
        T g_gamma = first ? zero : grad[ch];
        T g_beta = first ? zero : grad[l.n_weights + ch];
        for (uint32_t ex = 0; ex < c.n; ++ex) {
          const T* const stats = aux + (ex * l.groups + ch / per_group) * 2;
          const T mean = stats[0];
          const T rstd = stats[1];
          const uint32_t base = (ex * l.in_c + ch) * plane;
          g_gamma =
              g_gamma + partial_sum<T>(plane, [&](uint32_t i, const T& s) {
                return fma(dL_dout[base + i],
                           (lift<T>(in[base + i]) - mean) * rstd,
                           s);
              });
          g_beta = g_beta + partial_sum<T>(plane, [&](uint32_t i, const T& s) {
                     return s + dL_dout[base + i];
                   });
        }
        grad[ch] = g_gamma;
        grad[l.n_weights + ch] = g_beta;
      });
    });
  }

  /// dL_dx = rstd (t - mean(t) - xhat mean(t xhat)),  t = gamma dL_dy
  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient(const E& e, const LayerCall<T>& c) {
    const Layer& l = *c.layer;
    const W w = W::from(c.weights);
    const uint32_t plane = uint32_t{l.in_h} * l.in_w;
    const uint32_t per_group = l.in_c / l.groups;
    const uint32_t size = per_group * plane;
    const T* const dL_dout = c.out;
    const T* const aux = c.aux;
    T* const in = c.in;
    e.for_each(c.n, l.groups, [&](uint32_t ex, uint32_t g) {
      const uint32_t base = (ex * l.groups + g) * size;
      const T* const stats = aux + (ex * l.groups + g) * 2;
      const T mean = stats[0];
      const T rstd = stats[1];
      const auto t = [&](uint32_t i) {
        return w(g * per_group + i / plane) * dL_dout[base + i];
      };
      const auto xhat = [&](uint32_t i) {
        return (in[base + i] - mean) * rstd;
      };
      const T mean_t = mean_of<T>(size, t);
      const T mean_t_xhat = partial_sum<T>(size,
                                           [&](uint32_t i, const T& s) {
                                             return fma(t(i), xhat(i), s);
                                           }) /
                            constant<T>(static_cast<float>(size));
      for (uint32_t i = 0; i < size; ++i) {
        const T d = rstd * fma(-xhat(i), mean_t_xhat, t(i) - mean_t);
        store_delta(in + base + i, l.in_activation, d);
      }
    });
  }
};

struct BatchNorm {
  static constexpr LayerOp kOp = LayerOp::kBatchNorm;

  /// aux[2 c], aux[2 c + 1] = mean and rstd of channel c. Element e of a
  /// channel's sum is (example, position) in row-major order.
  template <class W, class T, class E>
  static FEWSTEP_HD void forward(const E& e, const LayerCall<T>& c) {
    const Layer& l = *c.layer;
    const W w = W::from(c.weights);
    const uint32_t plane = uint32_t{l.in_h} * l.in_w;
    const uint32_t size = c.n * plane;
    T* const out = c.out;
    T* const aux = c.aux;
    with_input(c, [&](const auto* in) {
      e.for_each(l.in_c, [&](uint32_t ch) {
        const auto at = [&](uint32_t i) {
          return (i / plane * l.in_c + ch) * plane + i % plane;
        };
        const auto value = [&](uint32_t i) { return lift<T>(in[at(i)]); };
        const T mean = mean_of<T>(size, value);
        const T rstd = rstd_of<T>(size, mean, value);
        aux[2 * ch] = mean;
        aux[2 * ch + 1] = rstd;
        const T gamma = w(ch);
        const T beta = w(l.n_weights + ch);
        for (uint32_t i = 0; i < size; ++i) {
          out[at(i)] = fma((value(i) - mean) * rstd, gamma, beta);
        }
      });
    });
  }

  /// grad gamma[c] = sum of dL_dy xhat;  grad beta[c] = sum of dL_dy. The batch
  /// is one tile, so these are whole sums.
  template <class W, class T, class E>
  static FEWSTEP_HD void weight_gradient(const E& e, const LayerCall<T>& c) {
    const Layer& l = *c.layer;
    const uint32_t plane = uint32_t{l.in_h} * l.in_w;
    const uint32_t size = c.n * plane;
    const T* const dL_dout = c.out;
    const T* const aux = c.aux;
    T* const grad = c.grad;
    with_input(c, [&](const auto* in) {
      e.for_each(l.in_c, [&](uint32_t ch) {
        const auto at = [&](uint32_t i) {
          return (i / plane * l.in_c + ch) * plane + i % plane;
        };
        const T mean = aux[2 * ch];
        const T rstd = aux[2 * ch + 1];
        grad[ch] = partial_sum<T>(size, [&](uint32_t i, const T& s) {
          return fma(dL_dout[at(i)], (lift<T>(in[at(i)]) - mean) * rstd, s);
        });
        grad[l.n_weights + ch] = partial_sum<T>(
            size, [&](uint32_t i, const T& s) { return s + dL_dout[at(i)]; });
      });
    });
  }

  /// dL_dx = gamma rstd (dL_dy - mean(dL_dy) - xhat mean(dL_dy xhat)); the two
  /// means come from the sums that weight_gradient left in `grad`.
  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient(const E& e, const LayerCall<T>& c) {
    const Layer& l = *c.layer;
    const W w = W::from(c.weights);
    const uint32_t plane = uint32_t{l.in_h} * l.in_w;
    const uint32_t size = c.n * plane;
    const T* const dL_dout = c.out;
    const T* const aux = c.aux;
    const T* const grad = c.grad;
    T* const in = c.in;
    e.for_each(l.in_c, [&](uint32_t ch) {
      const T n = constant<T>(static_cast<float>(size));
      const T mean = aux[2 * ch];
      const T rstd = aux[2 * ch + 1];
      const T mean_d_xhat = grad[ch] / n;
      const T mean_d = grad[l.n_weights + ch] / n;
      const T scale = w(ch) * rstd;
      for (uint32_t i = 0; i < size; ++i) {
        const uint32_t at = (i / plane * l.in_c + ch) * plane + i % plane;
        const T xhat = (in[at] - mean) * rstd;
        const T d = scale * fma(-xhat, mean_d_xhat, dL_dout[at] - mean_d);
        store_delta(in + at, l.in_activation, d);
      }
    });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_NORM_H_
