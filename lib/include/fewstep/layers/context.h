// Context: parameters of its own behind a flat input, the same for every
// example (CAVIA: Zintgraf et al. 2019, section 3).
//
//   y = [x[0] .. x[n_in - 1], c[0] .. c[units - 1]]
//
// The layer above reads c as further inputs. Where nothing else adapts, a task
// is learned in `units` numbers, and a device keeps those alone in RAM.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_CONTEXT_H_
#define FEWSTEP_LAYERS_CONTEXT_H_

#include "fewstep/layers/tile.h"

namespace fewstep {

struct Context {
  static constexpr LayerOp kOp = LayerOp::kContext;

  /// out[e][i] = i < n_in ? in[e][i] : c[i - n_in]
  template <class W, class T, class E>
  static FEWSTEP_HD void forward(const E& e, const LayerCall<T>& c) {
    const W w = W::from(c.weights);
    const uint32_t n_in = c.layer->n_in();
    const uint32_t n_out = c.layer->n_out();
    T* const out = c.out;
    with_input(c, [&](const auto* in) {
      e.for_each(c.n, n_out, [=](uint32_t ex, uint32_t i) {
        out[ex * n_out + i] =
            i < n_in ? lift<T>(in[ex * n_in + i]) : T{w(i - n_in)};
      });
    });
  }

  /// grad c[j] += sum_e dL_dout[e][n_in + j], e ascending
  template <class W, class T, class E>
  static FEWSTEP_HD void weight_gradient(const E& e, const LayerCall<T>& c) {
    const uint32_t n_out = c.layer->n_out();
    add_sums<SumOf<W, T>>(e,
                          c.grad,
                          c.first,
                          c.out + c.layer->n_in(),
                          n_out,
                          c.layer->n_weights,
                          c.n);
  }

  /// dL_din[e][i] = dL_dout[e][i]
  template <class W, class T, class E>
  static FEWSTEP_HD void input_gradient(const E& e, const LayerCall<T>& c) {
    const uint32_t n_in = c.layer->n_in();
    const uint32_t n_out = c.layer->n_out();
    const uint8_t activation = c.layer->in_activation;
    const T* const out = c.out;
    T* const in = c.in;
    e.for_each(c.n, n_in, [=](uint32_t ex, uint32_t i) {
      store_delta(in + ex * n_in + i, activation, T{out[ex * n_out + i]});
    });
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_CONTEXT_H_
