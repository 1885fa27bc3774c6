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

/// Mean over the elements (r, i) of [n_rows][n_cols]; row(r) gives the row's
/// value(i).
template <class T, class Row>
FEWSTEP_HD inline T mean_of(uint32_t n_rows, uint32_t n_cols, const Row& row) {
  return partial_sum<T>(n_rows,
                        n_cols,
                        [&](uint32_t r) {
                          return [value = row(r)](uint32_t i, const T& s) {
                            return s + value(i);
                          };
                        }) /
         constant<T>(static_cast<float>(n_rows * n_cols));
}

/// 1 / sqrt(biased variance of the elements + epsilon)
template <class T, class Row>
FEWSTEP_HD inline T rstd_of(uint32_t n_rows,
                            uint32_t n_cols,
                            const T& mean,
                            const Row& row) {
  const T var =
      partial_sum<T>(n_rows,
                     n_cols,
                     [&](uint32_t r) {
                       return [value = row(r), &mean](uint32_t i, const T& s) {
                         const T d = value(i) - mean;
                         return fma(d, d, s);
                       };
                     }) /
      constant<T>(static_cast<float>(n_rows * n_cols));
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
        const auto row = [&](uint32_t) {
          return [x = in + base](uint32_t i) { return lift<T>(x[i]); };
        };
        const T mean = mean_of<T>(1, size, row);
        const T rstd = rstd_of<T>(1, size, mean, row);
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
      // Row r is channel r of the group.
      const auto t = [&](uint32_t r) {
        return [gamma = w(g * per_group + r), d = dL_dout + base + r * plane](
                   uint32_t i) { return gamma * d[i]; };
      };
      const auto xhat = [&](uint32_t r) {
        return [mean, rstd, x = in + base + r * plane](uint32_t i) {
          return (x[i] - mean) * rstd;
        };
      };
      const T mean_t = mean_of<T>(per_group, plane, t);
      const T mean_t_xhat =
          partial_sum<T>(per_group,
                         plane,
                         [&](uint32_t r) {
                           return [t_r = t(r), xhat_r = xhat(r)](uint32_t i,
                                                                 const T& s) {
                             return fma(t_r(i), xhat_r(i), s);
                           };
                         }) /
          constant<T>(static_cast<float>(size));
      for (uint32_t r = 0; r < per_group; ++r) {
        const auto t_r = t(r);
        const auto xhat_r = xhat(r);
        T* const x = in + base + r * plane;
        for (uint32_t i = 0; i < plane; ++i) {
          const T d = rstd * fma(-xhat_r(i), mean_t_xhat, t_r(i) - mean_t);
          store_delta(x + i, l.in_activation, d);
        }
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
    const uint32_t n_in = l.in_c * plane;
    T* const out = c.out;
    T* const aux = c.aux;
    with_input(c, [&](const auto* in) {
      e.for_each(l.in_c, [&](uint32_t ch) {
        // Row ex is the channel's plane of example ex.
        const auto row = [&](uint32_t ex) {
          return [x = in + ex * n_in + ch * plane](uint32_t i) {
            return lift<T>(x[i]);
          };
        };
        const T mean = mean_of<T>(c.n, plane, row);
        const T rstd = rstd_of<T>(c.n, plane, mean, row);
        aux[2 * ch] = mean;
        aux[2 * ch + 1] = rstd;
        const T gamma = w(ch);
        const T beta = w(l.n_weights + ch);
        for (uint32_t ex = 0; ex < c.n; ++ex) {
          const auto x = row(ex);
          T* const y = out + ex * n_in + ch * plane;
          for (uint32_t i = 0; i < plane; ++i) {
            y[i] = fma((x(i) - mean) * rstd, gamma, beta);
          }
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
    const uint32_t n_in = l.in_c * plane;
    const T* const dL_dout = c.out;
    const T* const aux = c.aux;
    T* const grad = c.grad;
    with_input(c, [&](const auto* in) {
      e.for_each(l.in_c, [&](uint32_t ch) {
        const T mean = aux[2 * ch];
        const T rstd = aux[2 * ch + 1];
        grad[ch] = partial_sum<T>(c.n, plane, [&](uint32_t ex) {
          const uint32_t at = ex * n_in + ch * plane;
          return [d = dL_dout + at, x = in + at, &mean, &rstd](uint32_t i,
                                                               const T& s) {
            return fma(d[i], (lift<T>(x[i]) - mean) * rstd, s);
          };
        });
        grad[l.n_weights + ch] = partial_sum<T>(c.n, plane, [&](uint32_t ex) {
          return [d = dL_dout + ex * n_in + ch * plane](
                     uint32_t i, const T& s) { return s + d[i]; };
        });
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
    const uint32_t n_in = l.in_c * plane;
    const T* const dL_dout = c.out;
    const T* const aux = c.aux;
    const T* const grad = c.grad;
    T* const in = c.in;
    e.for_each(l.in_c, [&](uint32_t ch) {
      const T n = constant<T>(static_cast<float>(c.n * plane));
      const T mean = aux[2 * ch];
      const T rstd = aux[2 * ch + 1];
      const T mean_d_xhat = grad[ch] / n;
      const T mean_d = grad[l.n_weights + ch] / n;
      const T scale = w(ch) * rstd;
      for (uint32_t ex = 0; ex < c.n; ++ex) {
        const uint32_t at = ex * n_in + ch * plane;
        for (uint32_t i = 0; i < plane; ++i) {
          const T xhat = (in[at + i] - mean) * rstd;
          const T d = scale * fma(-xhat, mean_d_xhat, dL_dout[at + i] - mean_d);
          store_delta(in + at + i, l.in_activation, d);
        }
      }
    });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_NORM_H_
