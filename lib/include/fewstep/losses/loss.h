// Losses: the mean over a batch, and its gradient in the outputs' storage.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LOSSES_LOSS_H_
#define FEWSTEP_LOSSES_LOSS_H_

#include "fewstep/layers/layer.h"

namespace fewstep {

/// Arguments of a loss on a tile of examples.
template <class T>
struct LossCall {
  uint32_t n;                ///< Examples in the tile.
  uint32_t n_total;          ///< Examples in the batch the mean is over.
  uint32_t n_out;            ///< Outputs of one example.
  uint8_t activation;        ///< Network::out_activation.
  const Label<T>* labels;    ///< [n] (cross-entropy), or null.
  const Primal<T>* targets;  ///< [n][n_out] (squared error), or null.
  T* out;                    ///< [n][n_out] outputs -> dL/d(outputs).
  T* row_loss;               ///< [n] scratch: the loss of each example.
  T* loss;                   ///< Sum over examples; the mean after the last.
  bool first;                ///< First tile: the sum starts at +0.
  bool last;                 ///< Last tile: divide.
  bool gradient;             ///< Turn `out` into dL/d(outputs).
};

/// *loss = sum of row_loss over examples ascending, divided after the last tile
/// by `count`. Call with a barrier before it.
template <class T, class E>
FEWSTEP_INLINE void add_row_losses(const E& e,
                                   const LossCall<T>& c,
                                   const T& count) {
  e.for_each(1, [&](uint32_t) {
    T sum = c.first ? constant<T>(0.0F) : *c.loss;
    for (uint32_t ex = 0; ex < c.n; ++ex) sum = sum + c.row_loss[ex];
    *c.loss = c.last ? sum / count : sum;
  });
}

/// L = mean over e of  log(sum_o exp(z[o] - m)) + m - z[label],  m = max z
/// dL/dz[o] = (exp(z[o] - m) / sum - [o = label]) / n
///
/// m is a constant to the derivatives, which do not depend on it.
struct SoftmaxCrossEntropy {
  static constexpr LossOp kOp = LossOp::kSoftmaxCrossEntropy;

  template <class T, class E>
  static FEWSTEP_HD void run(const E& e, const LossCall<T>& c) {
    const T count = constant<T>(static_cast<float>(c.n_total));
    e.for_each(c.n, [&](uint32_t ex) {
      T* const z = c.out + ex * c.n_out;
      const auto label = c.labels[ex];
      auto max = primal(z[0]);
      for (uint32_t o = 1; o < c.n_out; ++o) {
        const auto value = primal(z[o]);
        max = select(exceeds(value, max), value, max);
      }
      const T m = lift<T>(max);
      T sum = constant<T>(0.0F);
      T at_label = constant<T>(0.0F);
      for (uint32_t o = 0; o < c.n_out; ++o) {
        const T shifted = z[o] - m;
        sum = sum + exp(shifted);
        at_label = select(label_is<T>(label, o), shifted, at_label);
      }
      c.row_loss[ex] = log(sum) - at_label;
      if (!c.gradient) return;
      const T scale = constant<T>(1.0F) / sum;
      for (uint32_t o = 0; o < c.n_out; ++o) {
        const T minus_one_hot = select(
            label_is<T>(label, o), constant<T>(-1.0F), constant<T>(0.0F));
        const T d = fma(exp(z[o] - m), scale, minus_one_hot) / count;
        store_delta(z + o, c.activation, d);
      }
    });
    e.barrier();
    add_row_losses(e, c, count);
  }
};

/// L = mean over e and o of (y[o] - target[o])^2;  dL/dy = 2 (y - target) / n
struct MeanSquaredError {
  static constexpr LossOp kOp = LossOp::kMeanSquaredError;

  template <class T, class E>
  static FEWSTEP_HD void run(const E& e, const LossCall<T>& c) {
    const T count = constant<T>(static_cast<float>(c.n_total)) *
                    constant<T>(static_cast<float>(c.n_out));
    const T scale = constant<T>(2.0F) / count;
    e.for_each(c.n, [&](uint32_t ex) {
      T* const y = c.out + ex * c.n_out;
      const Primal<T>* const target = c.targets + ex * c.n_out;
      T sum = constant<T>(0.0F);
      for (uint32_t o = 0; o < c.n_out; ++o) {
        const T d = y[o] - target[o];
        sum = fma(d, d, sum);
        if (c.gradient) store_delta(y + o, c.activation, d * scale);
      }
      c.row_loss[ex] = sum;
    });
    e.barrier();
    add_row_losses(e, c, count);
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_LOSSES_LOSS_H_
