// A learned optimizer: an LSTM that turns each parameter's gradient into its
// step. One network, shared by all parameters, with a state of their own.
// (Andrychowicz et al. 2016, sections 2 and 2.1, and appendix A for the inputs;
// the loss as an input and the product of step size and direction are Ravi &
// Larochelle 2017's in spirit.)
//
// Of parameter i at step k, with H hidden units:
//
//   x = [p(g_i), p(loss), theta_i]                       kInputs values
//   z = b + W x + U h                                    4 H values
//   c' = sigmoid(z_f) c + sigmoid(z_i) tanh(z_c),  h' = sigmoid(z_o) tanh(c')
//   theta_{k+1, i} = theta_i - sigmoid(w_a h' + b_a) tanh(w_d h' + b_d)
//
//   p(g) = [log|g| / 10, sign g]  where |g| >= e^-10,  else  [-1, e^10 g]
//
// state_0 = 0. State: c [H], then h [H] of each parameter. phi, rows of z in
// the order i, f, o, c:
//
//   W [4H][kInputs], U [4H][H], b [4H], w_a [H], b_a, w_d [H], b_d
//
// Sums run ascending from the bias, over x first.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_RULES_LSTM_H_
#define FEWSTEP_RULES_LSTM_H_

#include "fewstep/layers/layer.h"
#include "fewstep/numerics/elementary.h"
#include "fewstep/rules/rule.h"
#include "fewstep/rules/shapes.h"

namespace fewstep {

/// p(x) and its derivative.
template <class T>
struct LstmFeatures {
  T value[2];
  T derivative[2];

  explicit FEWSTEP_INLINE LstmFeatures(const T& x) {
    const T edge = constant<T>(4.53999297e-5F);  // e^-10
    const T scale = constant<T>(22026.4658F);    // e^10
    const T zero = constant<T>(0.0F);
    const T one = constant<T>(1.0F);
    const T tenth = constant<T>(0.1F);
    const auto small =
        mask_and(mask_not(less_equal(edge, x)), mask_not(less_equal(x, -edge)));
    // Where x is small the logarithm is of something harmless, and nothing
    // depends on the sign of x.
    const T safe = select(small, one, x);
    const T size = abs(safe);
    value[0] = select(small, -one, log(size) * tenth);
    value[1] = select(small, x * scale, safe / size);
    derivative[0] = select(small, zero, tenth / safe);
    derivative[1] = select(small, scale, zero);
  }
};

/// The cell of one parameter, forward.
template <class T>
struct LstmCell {
  T x[LstmShape::kInputs];
  T gate[4][LstmShape::kMaxHidden];  ///< sigmoid of i, f, o; tanh of c.
  T c[LstmShape::kMaxHidden];        ///< c'
  T tanh_c[LstmShape::kMaxHidden];
  T h[LstmShape::kMaxHidden];  ///< h'
  T size, direction;           ///< Of the step.

  /// `state` [2H] of this parameter, null for zeros.
  template <class R>
  FEWSTEP_HD void run(const LstmShape& s, const R& phi, const T* state) {
    const uint32_t n = s.hidden;
    for (uint32_t u = 0; u < n; ++u) {
      for (uint32_t q = 0; q < 4; ++q) {
        const uint32_t row = q * n + u;
        T z = phi(s.biases() + row);
        for (uint32_t j = 0; j < LstmShape::kInputs; ++j) {
          z = fma(T{phi(row * LstmShape::kInputs + j)}, x[j], z);
        }
        if (state != nullptr) {
          for (uint32_t j = 0; j < n; ++j) {
            z = fma(T{phi(s.recurrent() + row * n + j)}, state[n + j], z);
          }
        }
        gate[q][u] = q == 3 ? tanh(z) : sigmoid(z);
      }
      const T candidate = gate[0][u] * gate[3][u];
      c[u] =
          state != nullptr ? fma(gate[1][u], state[u], candidate) : candidate;
      tanh_c[u] = tanh(c[u]);
      h[u] = gate[2][u] * tanh_c[u];
    }
    size = sigmoid(output(s, phi, s.size()));
    direction = tanh(output(s, phi, s.direction()));
  }

 private:
  // w h' + b, whose w starts at phi(at).
  template <class R>
  FEWSTEP_HD T output(const LstmShape& s, const R& phi, uint32_t at) const {
    T z = phi(at + s.hidden);
    for (uint32_t u = 0; u < s.hidden; ++u) z = fma(T{phi(at + u)}, h[u], z);
    return z;
  }
};

struct Lstm {
  static constexpr RuleOp kOp = RuleOp::kLstm;

  template <class W, class R, class T, class E>
  static FEWSTEP_HD void update(const E& e,
                                const RuleCall<T>& c,
                                const W& theta,
                                const R& phi) {
    const LstmShape s = {c.rule->options.hidden()};
    const uint32_t n = s.hidden;
    e.for_each(c.n, [&](uint32_t j) {
      const uint32_t i = c.begin + j;
      LstmCell<T> cell;
      set_inputs(c.grad[i], *c.loss, T{theta(i)}, &cell);
      const uint64_t at = uint64_t{i} * s.n_state();
      cell.run(s, phi, c.state != nullptr ? c.state + at : nullptr);
      if (c.next_state != nullptr) {
        for (uint32_t u = 0; u < n; ++u) {
          c.next_state[at + u] = cell.c[u];
          c.next_state[at + n + u] = cell.h[u];
        }
      }
      c.grad[i] = fma(-cell.size, cell.direction, T{theta(i)});
    });
  }

  /// Keeps n_scratch() values of each parameter in c.scratch; the derivatives
  /// of phi are then sums over parameters in the order of partial_sum.
  template <class W, class R, class T, class E>
  static FEWSTEP_HD void vjp(const E& e,
                             const RuleVjpCall<T>& c,
                             const W& theta,
                             const R& phi) {
    const LstmShape s = {c.rule->options.hidden()};
    const uint32_t n = s.hidden;
    const uint32_t n_params = c.network->n_adapted;
    e.for_each(n_params,
               [&](uint32_t i) { parameter_vjp(s, c, T{theta(i)}, phi, i); });
    e.barrier();

    // phi_bar[to] += sum over parameters of a(i) b(i), or of a(i) alone.
    const uint32_t size = s.n_scratch();
    const T* const kept = c.scratch;
    const auto product = [&](uint32_t to, uint32_t a, const auto& b) {
      c.phi_bar[to] =
          c.phi_bar[to] + partial_sum<T>(n_params, [&](uint32_t i, const T& t) {
            return fma(kept[uint64_t{i} * size + a], b(i), t);
          });
    };
    const auto sum = [&](T* to, uint32_t a) {
      *to = *to + partial_sum<T>(n_params, [&](uint32_t i, const T& t) {
        return t + kept[uint64_t{i} * size + a];
      });
    };
    const LstmFeatures<T> loss(*c.loss);
    e.for_each(s.rows(), LstmShape::kInputs, [&](uint32_t row, uint32_t j) {
      product(row * LstmShape::kInputs + j, row, [&](uint32_t i) {
        const T* const own = kept + uint64_t{i} * size + s.rows();
        if (j < 2) return own[j];
        return j < 4 ? loss.value[j - 2] : own[2];
      });
    });
    if (c.state != nullptr) {
      e.for_each(s.rows(), n, [&](uint32_t row, uint32_t j) {
        product(s.recurrent() + row * n + j, row, [&](uint32_t i) {
          return c.state[uint64_t{i} * s.n_state() + n + j];
        });
      });
    }
    e.for_each(s.rows(),
               [&](uint32_t row) { sum(c.phi_bar + s.biases() + row, row); });
    const uint32_t hidden_at = s.rows() + 3;
    e.for_each(2, n, [&](uint32_t output, uint32_t u) {
      product(
          (output == 0 ? s.size() : s.direction()) + u,
          hidden_at + n + 1 + output,
          [&](uint32_t i) { return kept[uint64_t{i} * size + hidden_at + u]; });
    });
    e.for_each(2, [&](uint32_t output) {
      sum(c.phi_bar + (output == 0 ? s.size() : s.direction()) + n,
          hidden_at + n + 1 + output);
    });
    e.for_each(1, [&](uint32_t) {
      *c.loss_bar = constant<T>(0.0F);
      sum(c.loss_bar, hidden_at + n);
    });
  }

 private:
  template <class T>
  static FEWSTEP_HD void set_inputs(const T& grad,
                                    const T& loss,
                                    const T& theta,
                                    LstmCell<T>* cell) {
    const LstmFeatures<T> g(grad);
    const LstmFeatures<T> l(loss);
    for (uint32_t j = 0; j < 2; ++j) {
      cell->x[j] = g.value[j];
      cell->x[2 + j] = l.value[j];
    }
    cell->x[4] = theta;
  }

  // The cell of parameter i backwards: theta_bar, grad_bar, state_bar, and what
  // the sums over parameters need.
  template <class T, class R>
  static FEWSTEP_HD void parameter_vjp(const LstmShape& s,
                                       const RuleVjpCall<T>& c,
                                       const T& theta,
                                       const R& phi,
                                       uint32_t i) {
    const uint32_t n = s.hidden;
    const T one = constant<T>(1.0F);
    const uint64_t at = uint64_t{i} * s.n_state();
    const T* const state = c.state != nullptr ? c.state + at : nullptr;
    T* const state_bar = c.state_bar + at;
    LstmCell<T> cell;
    set_inputs(c.grad[i], *c.loss, theta, &cell);
    cell.run(s, phi, state);

    const T lambda = c.theta_bar[i];
    const T size_bar = -(lambda * cell.direction);
    const T direction_bar = -(lambda * cell.size);
    const T size_z = size_bar * fma(-cell.size, cell.size, cell.size);
    const T direction_z =
        direction_bar * fma(-cell.direction, cell.direction, one);
    T* const z_bar = c.scratch + uint64_t{i} * s.n_scratch();
    for (uint32_t u = 0; u < n; ++u) {
      T h_bar = state_bar[n + u];
      h_bar = fma(T{phi(s.size() + u)}, size_z, h_bar);
      h_bar = fma(T{phi(s.direction() + u)}, direction_z, h_bar);
      const T in = cell.gate[0][u], forget = cell.gate[1][u];
      const T out = cell.gate[2][u], candidate = cell.gate[3][u];
      const T tanh_c = cell.tanh_c[u];
      const T c_bar = fma(h_bar * out, fma(-tanh_c, tanh_c, one), state_bar[u]);
      z_bar[u] = c_bar * candidate * fma(-in, in, in);
      z_bar[n + u] = state != nullptr
                         ? c_bar * state[u] * fma(-forget, forget, forget)
                         : constant<T>(0.0F);
      z_bar[2 * n + u] = h_bar * tanh_c * fma(-out, out, out);
      z_bar[3 * n + u] = c_bar * in * fma(-candidate, candidate, one);
      state_bar[u] = c_bar * forget;
    }
    for (uint32_t j = 0; j < n; ++j) {
      T sum = constant<T>(0.0F);
      for (uint32_t row = 0; row < s.rows(); ++row) {
        sum = fma(T{phi(s.recurrent() + row * n + j)}, z_bar[row], sum);
      }
      state_bar[n + j] = sum;
    }
    T x_bar[LstmShape::kInputs];
    for (uint32_t j = 0; j < LstmShape::kInputs; ++j) {
      x_bar[j] = constant<T>(0.0F);
      for (uint32_t row = 0; row < s.rows(); ++row) {
        x_bar[j] =
            fma(T{phi(row * LstmShape::kInputs + j)}, z_bar[row], x_bar[j]);
      }
    }
    const LstmFeatures<T> g(c.grad[i]);
    const LstmFeatures<T> l(*c.loss);
    c.grad_bar[i] = fma(x_bar[1], g.derivative[1], x_bar[0] * g.derivative[0]);
    c.theta_bar[i] = lambda + x_bar[4];

    T* const own = z_bar + s.rows();
    own[0] = cell.x[0];
    own[1] = cell.x[1];
    own[2] = cell.x[4];
    for (uint32_t u = 0; u < n; ++u) own[3 + u] = cell.h[u];
    own[3 + n] = fma(x_bar[3], l.derivative[1], x_bar[2] * l.derivative[0]);
    own[4 + n] = size_z;
    own[5 + n] = direction_z;
  }
};

}  // namespace fewstep

#endif  // FEWSTEP_RULES_LSTM_H_
