// The executor of one core: every parallel region is a loop.
//
// An executor runs the independent items of a kernel. `for_each` may run its
// items in any order or at once; what one item writes another may read only
// after `barrier()`. The other executors are block.h (CUDA threads) and, in
// tests/support, one that shuffles the items and one that checks the contract.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_EXECUTOR_SERIAL_H_
#define FEWSTEP_EXECUTOR_SERIAL_H_

#include "fewstep/config.h"

namespace fewstep {

struct SerialExecutor {
  /// body(i) for i in [0, n).
  template <class Body>
  FEWSTEP_INLINE void for_each(uint32_t n, const Body& body) const {
    for (uint32_t i = 0; i < n; ++i) body(i);
  }

  /// body(i, j) for i in [0, n_i), j in [0, n_j).
  template <class Body>
  FEWSTEP_INLINE void for_each(uint32_t n_i,
                               uint32_t n_j,
                               const Body& body) const {
    for (uint32_t i = 0; i < n_i; ++i) {
      for (uint32_t j = 0; j < n_j; ++j) body(i, j);
    }
  }

  /// Orders what items wrote before it against what items read after it.
  FEWSTEP_INLINE void barrier() const {}
};

}  // namespace fewstep

#endif  // FEWSTEP_EXECUTOR_SERIAL_H_
