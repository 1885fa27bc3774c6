// A step of gradient descent, of one parameter.
//
// Apart from rules/sgd.h, whose rules these are, for kernels that take the step
// as they write the gradient (layers/tile.h).
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_DESCENT_H_
#define FEWSTEP_DESCENT_H_

#include "fewstep/numerics/real.h"

namespace fewstep {

/// theta - rate g
template <class T>
FEWSTEP_INLINE T descended(const T& theta, const T& rate, const T& g) {
  return fma(-rate, g, theta);
}

/// g_bar of that, where theta_bar is the bar of what it gives.
template <class T>
FEWSTEP_INLINE T descent_bar(const T& rate, const T& theta_bar) {
  return -(rate * theta_bar);
}

}  // namespace fewstep

#endif  // FEWSTEP_DESCENT_H_
