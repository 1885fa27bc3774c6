// What the threads of the outer step do: means over tasks, clipping, and one
// element of the parameters and moments a thread, by the functions that the
// host's optimizer calls (outer_element.h).
//
//   prepare_outer_step   one block: the norm of the gradient, if it is clipped
//   take_outer_step      any number of threads: everything learned
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_OUTER_PROGRAM_H_
#define FEWSTEP_HOST_CUDA_OUTER_PROGRAM_H_

#include <cstdint>

#include "fewstep/host/outer_element.h"
#include "fewstep/layers/layer.h"

namespace fewstep::host {

/// Arrays in global memory. Element i < n_theta is theta's, the others phi's.
template <class T>
struct OuterArrays {
  const OuterStep* step;  ///< Of the iteration.
  PhiElements phi;
  const Layer* layers;  ///< [n_layers] where some are contexts.
  uint32_t n_layers;    ///< 0 where none is.
  uint32_t n_theta;
  uint32_t n_learned;  ///< Elements that the step moves: theta, or all.
  const T* sum;        ///< [n_learned ..] over the tasks in use.
  const T* n_used;     ///< Tasks in use.
  T* learned;          ///< [n_learned ..] theta, then phi.
  T* m;                ///< [n_learned] adam
  T* v;                ///< [n_learned] adam
  T* norm;             ///< [kPartials + 1] partial sums; what to multiply by.
};
/// Values of OuterArrays::norm.
constexpr uint32_t kNormValues = kPartials + 1;

/// The mean gradient by element i, or 0 where the outer loop moves nothing.
template <class T>
FEWSTEP_INLINE T mean_gradient(const OuterArrays<T>& a,
                               const T& n_used,
                               uint32_t i) {
  const bool frozen = i < a.n_theta ? is_context(a.layers, a.n_layers, i)
                                    : a.phi.is_frozen(i - a.n_theta);
  if (frozen) return constant<T>(0.0F);
  return a.sum[i] / n_used;
}

/// max(1, tasks in use): where all were left out the sums are 0.
template <class T>
FEWSTEP_INLINE T divisor_of(const OuterArrays<T>& a) {
  const T one = constant<T>(1.0F);
  return *a.n_used > one ? *a.n_used : one;
}

/// norm[kPartials] = min(1, clip / |g|), |g| in the contract's order: element i
/// in partial sum i mod 32, then the partial sums ascending.
template <class T, class E>
FEWSTEP_HD void prepare_outer_step(const E& e, const OuterArrays<T>& a) {
  const OuterStep& s = *a.step;
  if (s.clip > 0.0F) {
    const T n = divisor_of(a);
    e.for_each(kPartials, [&](uint32_t j) {
      T partial = constant<T>(0.0F);
      FEWSTEP_UNROLL(8)
      for (uint32_t i = j; i < a.n_learned; i += kPartials) {
        const T g = mean_gradient(a, n, i);
        partial = fma(g, g, partial);
      }
      a.norm[j] = partial;
    });
    e.barrier();
  }
  e.for_each(1, [&](uint32_t) {
    T scale = constant<T>(1.0F);
    if (s.clip > 0.0F) {
      T sum = a.norm[0];
      for (uint32_t j = 1; j < kPartials; ++j) sum = sum + a.norm[j];
      scale = clip_scale(s, sqrt(sum));
    }
    a.norm[kPartials] = scale;
  });
  e.barrier();
}

/// outer_step() and project_phi() of what is learned.
template <class T, class E>
FEWSTEP_HD void take_outer_step(const E& e, const OuterArrays<T>& a) {
  const OuterStep& s = *a.step;
  const T n = divisor_of(a);
  const T scale = a.norm[kPartials];
  e.for_each(a.n_learned, [&](uint32_t i) {
    const bool is_theta = i < a.n_theta;
    const float rate = is_theta ? s.rate : a.phi.rate_of(s, i - a.n_theta);
    const T g = mean_gradient(a, n, i) * scale;
    T x = a.learned[i];
    if (is_theta && s.decay != 0.0F) x = decayed(s, x);
    if (s.adam) {
      adam_element(s, rate, g, &x, a.m + i, a.v + i);
    } else {
      sgd_element(rate, g, &x);
    }
    a.learned[i] = is_theta ? x : a.phi.projected(i - a.n_theta, x);
  });
}

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_OUTER_PROGRAM_H_
