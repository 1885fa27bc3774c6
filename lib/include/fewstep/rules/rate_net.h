// A learned network that sets the rates of each step from how the task looks
// (ALFA: Baik et al. 2020, section 3.2), one rate, and if asked one decay, per
// parameter tensor.
//
// With L tensors, loss and gradient at theta_k, and H hidden units:
//
//   x  = [mean g of tensor 0 .. L-1, mean theta of tensor 0 .. L-1, loss]
//   o  = tanh(W3 relu(W2 relu(W1 x + b1) + b2) + b3)   L values, 2L with decay
//   alpha_t = base[t][k] (1 + o_t)
//   beta_t  = decay[t][k] (1 + o_{L+t})                0 without decay
//   theta_{k+1} = (1 - beta_t) theta - alpha_t g       of tensor t
//
// With W3 = b3 = 0 this is lslr with rates base. ALFA's outputs are not
// bounded; here a rate is at most twice its base: without the tanh a task whose
// loss grows gets larger rates, and diverges (the sinusoid recipes did at
// once). phi:
//
//   W1 [H][2L+1], b1 [H], W2 [H][H], b2 [H], W3 [n_o][H], b3 [n_o],
//   base [L][K], decay [L][K] (with decay)
//
// Dense sums run ascending from the bias, those over a tensor in the order of
// partial_sum.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_RULES_RATE_NET_H_
#define FEWSTEP_RULES_RATE_NET_H_

#include "fewstep/layers/layer.h"
#include "fewstep/numerics/elementary.h"
#include "fewstep/rules/rule.h"
#include "fewstep/rules/shapes.h"

namespace fewstep {

struct RateNet {
  static constexpr RuleOp kOp = RuleOp::kRateNet;

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void update(const E& e,
                                const RuleCall<T>& c,
                                const W& theta,
                                const R& phi) {
    const RateNetShape s =
        rate_net_shape(*c.network, c.rule->steps, c.rule->options);
    run(e, s, *c.network, c.grad, *c.loss, theta, phi, c.scratch);
    const T* const out = c.scratch + s.out();
    for_each_tensor(
        *c.network, [&](uint32_t tensor, uint32_t begin, uint32_t n) {
          const T rate = scaled(s, phi, out, tensor, c.step);
          const T keep = kept(s, phi, out, tensor, c.step);
          e.for_each(n, [&](uint32_t j) {
            const uint32_t i = begin + j;
            const T from = s.decay ? keep * T{theta(i)} : T{theta(i)};
            c.grad[i] = fma(-rate, c.grad[i], from);
          });
        });
  }

  /// c.scratch: 2 n_values().
  template <class W, class R, class T, class E>
  static FEWSTEP_HD void vjp(const E& e,
                             const RuleVjpCall<T>& c,
                             const W& theta,
                             const R& phi) {
    const RateNetShape s =
        rate_net_shape(*c.network, c.rule->steps, c.rule->options);
    const Network& network = *c.network;
    T* const v = c.scratch;
    T* const bar = c.scratch + s.n_values();
    run(e, s, network, c.grad, *c.loss, theta, phi, v);
    const T* const out = v + s.out();

    // d/d(outputs), base and decay.
    for_each_tensor(network, [&](uint32_t tensor, uint32_t begin, uint32_t n) {
      e.for_each(s.decay ? 2 : 1, [&](uint32_t kind) {
        const T sum = partial_sum<T>(n, [&](uint32_t j, const T& t) {
          const uint32_t i = begin + j;
          const T factor = kind == 0 ? c.grad[i] : T{theta(i)};
          return fma(factor, c.theta_bar[i], t);
        });
        const uint32_t o = kind * s.n_tensors + tensor;
        const uint32_t at = s.base() + o * s.steps + c.step;
        const T slope = fma(-out[o], out[o], constant<T>(1.0F));
        bar[s.out() + o] = -(sum * T{phi(at)}) * slope;
        c.phi_bar[at] = fma(-sum, constant<T>(1.0F) + out[o], c.phi_bar[at]);
      });
    });
    e.barrier();
    dense_vjp(e,
              phi,
              s.w3(),
              s.hidden,
              s.n_out(),
              v + s.h2(),
              true,
              bar + s.out(),
              bar + s.h2(),
              c.phi_bar);
    dense_vjp(e,
              phi,
              s.w2(),
              s.hidden,
              s.hidden,
              v + s.h1(),
              true,
              bar + s.h2(),
              bar + s.h1(),
              c.phi_bar);
    dense_vjp(
        e, phi, 0, s.n_in(), s.hidden, v, false, bar + s.h1(), bar, c.phi_bar);

    for_each_tensor(network, [&](uint32_t tensor, uint32_t begin, uint32_t n) {
      const T rate = scaled(s, phi, out, tensor, c.step);
      const T keep = kept(s, phi, out, tensor, c.step);
      const T count = constant<T>(static_cast<float>(n));
      const T of_grad = bar[tensor] / count;
      const T of_theta = bar[s.n_tensors + tensor] / count;
      e.for_each(n, [&](uint32_t j) {
        const uint32_t i = begin + j;
        const T lambda = c.theta_bar[i];
        c.grad_bar[i] = fma(-rate, lambda, of_grad);
        c.theta_bar[i] = fma(keep, lambda, of_theta);
      });
    });
    e.for_each(1, [&](uint32_t) { *c.loss_bar = bar[2 * s.n_tensors]; });
  }

 private:
  // alpha of a tensor.
  template <class T, class R>
  static FEWSTEP_INLINE T scaled(const RateNetShape& s,
                                 const R& phi,
                                 const T* out,
                                 uint32_t tensor,
                                 uint32_t step) {
    const T base = phi(s.base() + tensor * s.steps + step);
    return fma(base, out[tensor], base);
  }

  // 1 - beta of a tensor.
  template <class T, class R>
  static FEWSTEP_INLINE T kept(const RateNetShape& s,
                               const R& phi,
                               const T* out,
                               uint32_t tensor,
                               uint32_t step) {
    const T one = constant<T>(1.0F);
    return s.decay ? one - scaled(s, phi, out, s.n_tensors + tensor, step)
                   : one;
  }

  // v = inputs, both hidden layers and outputs. Ends with a barrier.
  template <class E, class T, class W, class R>
  static FEWSTEP_HD void run(const E& e,
                             const RateNetShape& s,
                             const Network& network,
                             const T* grad,
                             const T& loss,
                             const W& theta,
                             const R& phi,
                             T* v) {
    for_each_tensor(network, [&](uint32_t tensor, uint32_t begin, uint32_t n) {
      e.for_each(2, [&](uint32_t kind) {
        const T sum = partial_sum<T>(n, [&](uint32_t j, const T& t) {
          const uint32_t i = begin + j;
          return t + (kind == 0 ? grad[i] : T{theta(i)});
        });
        // Of a context's second tensor, which is empty, it is 0.
        v[kind * s.n_tensors + tensor] =
            sum / constant<T>(static_cast<float>(n != 0 ? n : 1));
      });
    });
    e.for_each(1, [&](uint32_t) { v[2 * s.n_tensors] = loss; });
    e.barrier();
    dense(e, phi, 0, s.n_in(), s.hidden, v, true, v + s.h1());
    dense(e, phi, s.w2(), s.hidden, s.hidden, v + s.h1(), true, v + s.h2());
    dense(e, phi, s.w3(), s.hidden, s.n_out(), v + s.h2(), false, v + s.out());
  }

  // out = relu or tanh of W in + b; W [n_out][n_in], then b, at phi(at).
  template <class E, class T, class R>
  static FEWSTEP_HD void dense(const E& e,
                               const R& phi,
                               uint32_t at,
                               uint32_t n_in,
                               uint32_t n_out,
                               const T* in,
                               bool rectify,
                               T* out) {
    e.for_each(n_out, [&](uint32_t o) {
      T z = phi(at + n_out * n_in + o);
      for (uint32_t i = 0; i < n_in; ++i) {
        z = fma(T{phi(at + o * n_in + i)}, in[i], z);
      }
      out[o] = rectify ? relu(z) : tanh(z);
    });
    e.barrier();
  }

  // Of that layer: phi_bar += ..., in_bar = ... (through the relu that made
  // `in`, if one did), from out_bar, the derivative before its own relu.
  template <class E, class T, class R>
  static FEWSTEP_HD void dense_vjp(const E& e,
                                   const R& phi,
                                   uint32_t at,
                                   uint32_t n_in,
                                   uint32_t n_out,
                                   const T* in,
                                   bool rectified,
                                   const T* out_bar,
                                   T* in_bar,
                                   T* phi_bar) {
    e.for_each(n_out, n_in, [&](uint32_t o, uint32_t i) {
      T* const to = phi_bar + at + o * n_in + i;
      *to = fma(out_bar[o], in[i], *to);
    });
    e.for_each(n_out, [&](uint32_t o) {
      T* const to = phi_bar + at + n_out * n_in + o;
      *to = *to + out_bar[o];
    });
    e.for_each(n_in, [&](uint32_t i) {
      T sum = constant<T>(0.0F);
      for (uint32_t o = 0; o < n_out; ++o) {
        sum = fma(T{phi(at + o * n_in + i)}, out_bar[o], sum);
      }
      in_bar[i] = rectified ? relu_delta(in[i], sum) : sum;
    });
    e.barrier();
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_RULES_RATE_NET_H_
