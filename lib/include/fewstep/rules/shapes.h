// Sizes of the rules that are networks, lstm.h and rate_net.h: where the parts
// of phi start, and how much state and scratch memory they take.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_RULES_SHAPES_H_
#define FEWSTEP_RULES_SHAPES_H_

#include "fewstep/config.h"

namespace fewstep {

/// Bound of the learned values of a rule that is a network.
constexpr uint32_t kMaxLearnedValues = uint32_t{1} << 26U;

/// lstm.h
struct LstmShape {
  static constexpr uint32_t kInputs = 5;
  /// Bound of H: a kernel keeps some arrays of this length on its stack.
  static constexpr uint32_t kMaxHidden = 20;

  uint32_t hidden;  ///< H

  FEWSTEP_HD constexpr uint32_t rows() const { return 4 * hidden; }
  FEWSTEP_HD constexpr uint32_t recurrent() const { return rows() * kInputs; }
  FEWSTEP_HD constexpr uint32_t biases() const {
    return recurrent() + rows() * hidden;
  }
  FEWSTEP_HD constexpr uint32_t size() const { return biases() + rows(); }
  FEWSTEP_HD constexpr uint32_t direction() const {
    return size() + hidden + 1;
  }
  FEWSTEP_HD constexpr uint32_t n_phi() const {
    return direction() + hidden + 1;
  }
  /// Values of state of a parameter.
  FEWSTEP_HD constexpr uint32_t n_state() const { return 2 * hidden; }
  /// Values that vjp keeps of a parameter: dL/dz, the inputs that are its own,
  /// h', and the derivatives with respect to the loss and to both outputs.
  FEWSTEP_HD constexpr uint32_t n_scratch() const { return 5 * hidden + 6; }
};

/// rate_net.h
struct RateNetShape {
  uint32_t n_tensors;  ///< L
  uint32_t steps;      ///< K
  uint32_t hidden;     ///< H
  bool decay;

  FEWSTEP_HD constexpr uint32_t n_in() const { return 2 * n_tensors + 1; }
  FEWSTEP_HD constexpr uint32_t n_out() const {
    return decay ? 2 * n_tensors : n_tensors;
  }
  FEWSTEP_HD constexpr uint32_t b1() const { return hidden * n_in(); }
  FEWSTEP_HD constexpr uint32_t w2() const { return b1() + hidden; }
  FEWSTEP_HD constexpr uint32_t b2() const { return w2() + hidden * hidden; }
  FEWSTEP_HD constexpr uint32_t w3() const { return b2() + hidden; }
  FEWSTEP_HD constexpr uint32_t b3() const { return w3() + n_out() * hidden; }
  FEWSTEP_HD constexpr uint32_t base() const { return b3() + n_out(); }
  FEWSTEP_HD constexpr uint64_t n_phi() const {
    return base() + uint64_t{n_out()} * steps;
  }
  // Scratch: the values of each layer, then (vjp) their derivatives.
  FEWSTEP_HD constexpr uint32_t h1() const { return n_in(); }
  FEWSTEP_HD constexpr uint32_t h2() const { return h1() + hidden; }
  FEWSTEP_HD constexpr uint32_t out() const { return h2() + hidden; }
  FEWSTEP_HD constexpr uint32_t n_values() const { return out() + n_out(); }
};

}  // namespace fewstep

#endif  // FEWSTEP_RULES_SHAPES_H_
