// One element of the outer step: the source that the host's optimizer and the
// GPU's both run.
//
// Start at optimizer.h for what a step is. Here is what happens to a single
// value of what is learned, so that a loop on the host and threads on a GPU
// give the same bits.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_OUTER_ELEMENT_H_
#define FEWSTEP_HOST_OUTER_ELEMENT_H_

#include <cstdint>

#include "fewstep/network.h"
#include "fewstep/numerics/real.h"

namespace fewstep::host {

/// The numbers of one outer step, the same for every element.
struct OuterStep {
  bool adam;                ///< Else sgd.
  float clip;               ///< Of the norm of everything learned; 0: none.
  float rate;               ///< Of theta.
  float rule_rate;          ///< Of phi, but for
  float mask_rate;          ///< the logits of a learned mask.
  float decay;              ///< rate * weight_decay, of theta; 0: none.
  float beta1, beta2, eps;  ///< adam
  float correction1, correction2;  ///< 1 - beta1^t, 1 - beta2^t
};

/// Which of phi an outer loop moves, and where to: rates [0, scalars), scalars
/// (gains 1 - beta; online_meta_sgd's root of beta) [scalars, moments), learned
/// moments, and a learned mask's logits from `logits` on.
struct PhiElements {
  uint32_t scalars, moments, logits;
  bool learn_rate, learn_scalars;
  bool are_gains;  ///< Scalars stay in [min_gain, 1].
  float min_gain;

  /// The outer rate of phi[j].
  FEWSTEP_INLINE float rate_of(const OuterStep& s, uint32_t j) const {
    return j < logits ? s.rule_rate : s.mask_rate;
  }
  /// Whether phi[j] has no gradient.
  FEWSTEP_INLINE bool is_frozen(uint32_t j) const {
    return j < scalars ? !learn_rate : j < moments && !learn_scalars;
  }
  /// phi[j] = x, moved to where it may be.
  template <class T>
  FEWSTEP_INLINE T projected(uint32_t j, const T& x) const {
    if (!are_gains || j < scalars || j >= moments) return x;
    const T least = constant<T>(min_gain);
    const T most = constant<T>(1.0F);
    return least > x ? least : x > most ? most : x;
  }
};

/// Whether theta[i] is a context's. Contexts start every task at 0: the outer
/// loop learns none of them, which would be no more than a bias of the layer
/// above (Zintgraf et al. 2019, 3.1).
FEWSTEP_INLINE bool is_context(const Layer* layers,
                               uint32_t n_layers,
                               uint32_t i) {
  for (uint32_t j = 0; j < n_layers; ++j) {
    const Layer& l = layers[j];
    if (l.op == LayerOp::kContext && i - l.param_offset < l.n_weights) {
      return true;
    }
  }
  return false;
}

/// What clipping multiplies the gradient by: min(1, clip / norm).
template <class T>
FEWSTEP_INLINE T clip_scale(const OuterStep& s, const T& norm) {
  const T clip = constant<T>(s.clip);
  if (s.clip > 0.0F && norm > clip) return clip / norm;
  return constant<T>(1.0F);
}

/// x <- x - decay x
template <class T>
FEWSTEP_INLINE T decayed(const OuterStep& s, const T& x) {
  return fma(constant<T>(-s.decay), x, x);
}

/// x <- x - rate g
template <class T>
FEWSTEP_INLINE void sgd_element(float rate, const T& g, T* x) {
  *x = fma(constant<T>(-rate), g, *x);
}

/// x, or +0 where it is subnormal.
template <class T>
FEWSTEP_INLINE T without_subnormals(const T& x) {
  constexpr float kLeastNormal = 0x1p-126F;
  return select(
      exceeds(constant<T>(kLeastNormal), abs(x)), constant<T>(0.0F), x);
}

/// m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
/// x <- x - rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
///
/// Moments that become subnormal are 0 from then on: of a parameter without
/// gradients, a dead relu's, b1 m would stay the least subnormal for ever, and
/// a step with such numbers takes twice as long.
template <class T>
FEWSTEP_INLINE void adam_element(
    const OuterStep& s, float rate, const T& g, T* x, T* m, T* v) {
  *m = without_subnormals(
      fma(constant<T>(1.0F - s.beta1), g, constant<T>(s.beta1) * *m));
  *v = without_subnormals(
      fma(constant<T>(1.0F - s.beta2) * g, g, constant<T>(s.beta2) * *v));
  const T m_hat = *m / constant<T>(s.correction1);
  const T v_hat = *v / constant<T>(s.correction2);
  *x = *x - constant<T>(rate) * (m_hat / (sqrt(v_hat) + constant<T>(s.eps)));
}

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_OUTER_ELEMENT_H_
