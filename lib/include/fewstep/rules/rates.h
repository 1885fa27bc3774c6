// Pieces that rules with any rate layout share.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_RULES_RATES_H_
#define FEWSTEP_RULES_RATES_H_

#include "fewstep/layers/layer.h"
#include "fewstep/rules/rule.h"

namespace fewstep {

/// Parameters [begin, begin + n): parameter begin + j has the rate
/// phi(first + (each & j)). each is 0, one rate for all, or all ones. One kind
/// of run for all layouts, so that a rule is one loop.
struct RateRun {
  uint32_t begin;
  uint32_t n;
  uint32_t first;
  uint32_t each;

  FEWSTEP_INLINE uint32_t rate(uint32_t j) const { return first + (each & j); }
};

/// f(run) for every run of the parameters [begin, begin + n), a window of what
/// adapts, at step `step`, ascending. One place calls f, for the size of
/// firmware.
template <class F>
FEWSTEP_INLINE void for_each_rate_run(const Network& network,
                                      const Rule& rule,
                                      uint32_t step,
                                      uint32_t begin,
                                      uint32_t n,
                                      const F& f) {
  const RateLayout layout = rule.options.layout();
  const bool by_tensor = layout == RateLayout::kTensorStep;
  RateRun run = {begin, n, 0, 0};
  if (layout == RateLayout::kParameter) {
    run.first = begin;
    run.each = 0xffffffff;
  }
  // Weights and biases of each layer are tensors in turn.
  const uint32_t n_runs = by_tensor ? 2U * network.n_layers : 1U;
  uint32_t tensor = 0;
  uint32_t at = 0;
  for (uint32_t r = 0; r < n_runs; ++r) {
    if (by_tensor) {
      if (!network.adapts(r / 2)) continue;
      const Layer& l = network.layers[r / 2];
      run.begin = at;
      run.n = r % 2 != 0 ? l.n_biases : l.n_weights;
      run.first = tensor * rule.steps + step;
      at += run.n;
      ++tensor;
      if (run.begin - begin >= n) continue;  // Also below `begin`.
    }
    if (run.n != 0) f(run);
  }
}

/// The running mean `at` of parameter i that step k starts from: the stored
/// one, or at k = 0 (state null) the learned one, or 0. A * at + i is where
/// state and learned moments have it.
template <class T, class R>
FEWSTEP_INLINE T running_mean(const Network& network,
                              const Rule& rule,
                              const T* state,
                              const R& phi,
                              uint32_t at,
                              uint32_t i) {
  const uint32_t index = at * network.n_adapted + i;
  if (state != nullptr) return state[index];
  if (!rule.options.learned_moments()) return constant<T>(0.0F);
  return T{phi(n_rates(rule, network) + rule.n_state_per_param + index)};
}

/// A sum of products in the order of partial_sum, for loops that make several
/// sums at once.
template <class T>
class PartialSums {
 public:
  FEWSTEP_HD PartialSums() {
    for (uint32_t j = 0; j < kPartials; ++j) partial_[j] = constant<T>(0.0F);
  }
  /// Adds a * b as element `e`.
  FEWSTEP_HD void add(uint32_t e, const T& a, const T& b) {
    T& partial = partial_[e % kPartials];
    partial = fma(a, b, partial);
  }
  FEWSTEP_HD T sum() const {
    T sum = partial_[0];
    for (uint32_t j = 1; j < kPartials; ++j) sum = sum + partial_[j];
    return sum;
  }

 private:
  T partial_[kPartials];
};

}  // namespace fewstep

#endif  // FEWSTEP_RULES_RATES_H_
