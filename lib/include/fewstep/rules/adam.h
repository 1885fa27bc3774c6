// Adam as an inner rule (Kingma & Ba 2015), with learned rates, decays and
// initial moments.
//
//   m_{k+1} = m_k + c1 (g_k - m_k)                              c1 = 1 - beta1
//   v_{k+1} = v_k + c2 (g_k^2 - v_k)                            c2 = 1 - beta2
//   u = a1 m_{k+1} / (sqrt(a2 v_{k+1}) + eps)
//   theta_{k+1} = theta_k - alpha u
//
// The bias corrections are a = 1 / (1 - beta^t) at t = k + 1, where 1 - beta^t
// is the running mean of ones, t fused multiply-adds: no cancellation for a
// beta near 1. With learned moments a = 1: there is no bias to correct.
//
// phi: rates, c1, c2, and with learned moments m_0 [P] and s_0 [P], v_0 = s_0^2
// (else 0). state: m [P], then v [P].
//
// The vector-Jacobian product, with lambda = theta_bar, r = sqrt(a2 v_{k+1})
// and the bars of m_{k+1}, v_{k+1} that state_bar brings:
//
//   p     = -alpha lambda / (r + eps)               of a1 m_{k+1}
//   q     = -p u / (2 r), 0 at r = 0                of a2 v_{k+1}
//   m_bar = m_bar' + a1 p,  v_bar = v_bar' + a2 q
//   theta_bar = lambda,  g_bar = c1 m_bar + 2 c2 g v_bar
//   state_bar = (1 - c1) m_bar, (1 - c2) v_bar;  s_0_bar = 2 s_0 v_0_bar
//   alpha_bar = -sum lambda u
//   c1_bar = sum m_bar (g - m_k) + a1' p m_{k+1}    a' = da/dc
//   c2_bar = sum v_bar (g^2 - v_k) + a2' q v_{k+1}
//
// A parameter whose gradient is always 0 (a dead unit) has r = 0, where the
// root's derivative is 0 by definition.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_RULES_ADAM_H_
#define FEWSTEP_RULES_ADAM_H_

#include "fewstep/rules/rates.h"

namespace fewstep {

/// 10^-digit.
FEWSTEP_INLINE float adam_eps(uint32_t digit) {
  constexpr float kTable[16] = {1e0F,
                                1e-1F,
                                1e-2F,
                                1e-3F,
                                1e-4F,
                                1e-5F,
                                1e-6F,
                                1e-7F,
                                1e-8F,
                                1e-9F,
                                1e-10F,
                                1e-11F,
                                1e-12F,
                                1e-13F,
                                1e-14F,
                                1e-15F};
  return kTable[digit & 15];
}

struct Adam {
  static constexpr RuleOp kOp = RuleOp::kAdam;

  /// A running mean's gain and bias correction.
  template <class T>
  struct Mean {
    T gain;
    T scale;  ///< a
    T slope;  ///< a'
  };
  /// What a step makes of one parameter.
  template <class T>
  struct Step {
    T m_error, v_error;  ///< g - m_k, g^2 - v_k
    T m, v;              ///< m_{k+1}, v_{k+1}
    T root;              ///< r
    T divisor;           ///< r + eps
    T direction;         ///< u
  };
  /// Bars of one parameter.
  template <class T>
  struct Bars {
    T p, q, m, v;
  };

  /// Everything a step reads but the parameters and the rates.
  template <class T, class R>
  struct Moments {
    const Network& network;
    const Rule& rule;
    const T* state;
    const R& phi;
    uint32_t at_gains;
    Mean<T> of_m, of_v;
    T eps;

    FEWSTEP_HD Moments(const Network& the_network,
                       const Rule& the_rule,
                       uint32_t k,
                       const T* state_k,
                       const R& the_phi)
        : network(the_network),
          rule(the_rule),
          state(state_k),
          phi(the_phi),
          at_gains(n_rates(the_rule, the_network)),
          of_m(mean(at_gains, k)),
          of_v(mean(at_gains + 1, k)),
          eps(constant<T>(adam_eps(the_rule.options.eps_digit()))) {}

    FEWSTEP_HD Mean<T> mean(uint32_t at, uint32_t k) const {
      const T one = constant<T>(1.0F);
      const T gain = phi(at);
      if (rule.options.learned_moments()) return {gain, one, constant<T>(0.0F)};
      T of_ones = gain;
      T slope = one;
      for (; k != 0; --k) {
        const T rest = one - of_ones;
        slope = fma(-gain, slope, slope) + rest;
        of_ones = fma(gain, rest, of_ones);
      }
      const T scale = one / of_ones;
      return {gain, scale, -(scale * scale * slope)};
    }
    FEWSTEP_INLINE T m_0(uint32_t i) const {
      return running_mean(network, rule, state, phi, 0, i);
    }
    /// s_0 at k = 0.
    FEWSTEP_INLINE T s_0(uint32_t i) const {
      return running_mean(network, rule, state, phi, 1, i);
    }
    FEWSTEP_INLINE Step<T> step(uint32_t i, const T& g) const {
      Step<T> s;
      const T m = m_0(i);
      T v = s_0(i);
      if (state == nullptr) v = v * v;
      s.m_error = g - m;
      s.v_error = fma(g, g, -v);
      s.m = fma(of_m.gain, s.m_error, m);
      s.v = fma(of_v.gain, s.v_error, v);
      s.root = sqrt(of_v.scale * s.v);
      s.divisor = s.root + eps;
      s.direction = (of_m.scale * s.m) / s.divisor;
      return s;
    }
    FEWSTEP_INLINE Bars<T> bars(const RuleVjpCall<T>& c,
                                const Step<T>& s,
                                const T& rate,
                                uint32_t i) const {
      const T zero = constant<T>(0.0F);
      Bars<T> b;
      b.p = -(rate * c.theta_bar[i]) / s.divisor;
      b.q = select(less_equal(s.root, zero),
                   zero,
                   -(b.p * s.direction) / (s.root + s.root));
      b.m = fma(of_m.scale, b.p, c.state_bar[i]);
      b.v = fma(of_v.scale, b.q, c.state_bar[network.n_adapted + i]);
      return b;
    }
  };

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void update(const E& e,
                                const RuleCall<T>& c,
                                const W& theta,
                                const R& phi) {
    const Moments<T, R> moments(*c.network, *c.rule, c.step, c.state, phi);
    const uint32_t n_params = c.network->n_adapted;
    for_each_rate_run(
        *c.network, *c.rule, c.step, c.begin, c.n, [&](const RateRun& run) {
          e.for_each(run.n, [&](uint32_t j) {
            const uint32_t i = run.begin + j;
            const Step<T> s = moments.step(i, c.grad[i]);
            if (c.next_state != nullptr) {
              c.next_state[i] = s.m;
              c.next_state[n_params + i] = s.v;
            }
            c.grad[i] = fma(-T{phi(run.rate(j))}, s.direction, theta(i));
          });
        });
  }

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void vjp(const E& e,
                             const RuleVjpCall<T>& c,
                             const W&,
                             const R& phi) {
    const Moments<T, R> moments(*c.network, *c.rule, c.step, c.state, phi);
    const Network& network = *c.network;
    const Rule& rule = *c.rule;
    const uint32_t n_params = network.n_adapted;
    const uint32_t at_gains = moments.at_gains;
    const bool to_phi = c.state == nullptr && rule.options.learned_moments();
    // The sums first: they read what the second loop overwrites.
    e.for_each(1, [&](uint32_t) {
      *c.loss_bar = constant<T>(0.0F);
      PartialSums<T> of_m;
      PartialSums<T> of_v;
      for_each_rate_run(
          network, rule, c.step, 0, n_params, [&](const RateRun& run) {
            PartialSums<T> of_rate;
            for (uint32_t j = 0; j < run.n; ++j) {
              const uint32_t i = run.begin + j;
              const Step<T> s = moments.step(i, c.grad[i]);
              const Bars<T> b = moments.bars(c, s, T{phi(run.rate(j))}, i);
              of_m.add(i, b.m, s.m_error);
              of_m.add(i, moments.of_m.slope * b.p, s.m);
              of_v.add(i, b.v, s.v_error);
              of_v.add(i, moments.of_v.slope * b.q, s.v);
              of_rate.add(j, c.theta_bar[i], s.direction);
            }
            if (run.each == 0) {
              c.phi_bar[run.first] = c.phi_bar[run.first] - of_rate.sum();
            }
          });
      c.phi_bar[at_gains] = c.phi_bar[at_gains] + of_m.sum();
      c.phi_bar[at_gains + 1] = c.phi_bar[at_gains + 1] + of_v.sum();
    });
    e.barrier();
    for_each_rate_run(
        network, rule, c.step, 0, n_params, [&](const RateRun& run) {
          e.for_each(run.n, [&](uint32_t j) {
            const uint32_t i = run.begin + j;
            const T g = c.grad[i];
            const Step<T> s = moments.step(i, g);
            const Bars<T> b = moments.bars(c, s, T{phi(run.rate(j))}, i);
            const T gain_m = moments.of_m.gain;
            const T gain_v = moments.of_v.gain;
            if (run.each != 0) {
              c.phi_bar[i] = fma(-c.theta_bar[i], s.direction, c.phi_bar[i]);
            }
            const T v_part = gain_v * b.v;
            c.grad_bar[i] = fma(g + g, v_part, gain_m * b.m);
            const T m_bar = fma(-gain_m, b.m, b.m);
            const T v_bar = b.v - v_part;
            if (to_phi) {
              const T s_0 = moments.s_0(i);
              T& at_m = c.phi_bar[at_gains + 2 + i];
              T& at_s = c.phi_bar[at_gains + 2 + n_params + i];
              at_m = at_m + m_bar;
              at_s = fma(s_0 + s_0, v_bar, at_s);
            }
            c.state_bar[i] = m_bar;
            c.state_bar[n_params + i] = v_bar;
          });
        });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_RULES_ADAM_H_
