// Parameters as a session reads them: what the capsule stores, or adapted ones.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_DEVICE_SRC_STORED_VIEW_H_
#define FEWSTEP_DEVICE_SRC_STORED_VIEW_H_

#include <stddef.h>

#include "fewstep/views.h"

namespace fewstep {

/// Weights whose storage is known at run time only, so that one instance of the
/// inner loop serves both; the kernels behind the table are typed.
struct StoredView {
  using Value = float;
  const void* data;
  bool f16;

  FEWSTEP_INLINE float operator()(uint32_t i) const {
    return f16 ? F16View::from(raw())(i) : PlainView<float>::from(raw())(i);
  }
  FEWSTEP_INLINE StoredView at(uint32_t offset) const {
    const size_t bytes = size_t{offset} << (f16 ? 1 : 2);
    return {static_cast<const uint8_t*>(data) + bytes, f16};
  }
  /// A tangent, which floats have not, stands for f16.
  FEWSTEP_INLINE RawView raw() const { return {data, f16 ? data : nullptr}; }
};

FEWSTEP_INLINE bool is_f16(const RawView& raw) {
  return raw.tangent != nullptr;
}

}  // namespace fewstep

#endif  // FEWSTEP_DEVICE_SRC_STORED_VIEW_H_
