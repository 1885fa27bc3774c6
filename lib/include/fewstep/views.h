// Weight views: how a kernel reads a parameter.
//
// A view is a small value with `operator()(i)`, the parameter i as the number
// type it stands for, and `at(offset)`, the view that starts there. Kernels
// are templates over the view, so step 0 reads theta_0 where the capsule (or
// the trainer) keeps it, and nothing is copied or decoded twice.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_VIEWS_H_
#define FEWSTEP_VIEWS_H_

#include "fewstep/numerics/dual.h"
#include "fewstep/numerics/half.h"
#include "fewstep/numerics/log8.h"
#include "fewstep/numerics/real.h"

namespace fewstep {

/// A view without its type, as it travels through a table of operations; only
/// the view that made it may read it again (View::from).
struct RawView {
  const void* value;
  const void* tangent;  ///< DualView only, else as the table of operations
                        ///< likes: typed kernels do not look at it.
};

/// T stored as T: adapted parameters everywhere, and f32 capsules.
template <class T>
struct PlainView {
  using Value = T;
  const T* data;
  FEWSTEP_INLINE T operator()(uint32_t i) const { return data[i]; }
  FEWSTEP_INLINE PlainView at(uint32_t offset) const { return {data + offset}; }
  FEWSTEP_INLINE RawView raw() const { return {data, nullptr}; }
  static FEWSTEP_INLINE PlainView from(RawView r) {
    return {static_cast<const T*>(r.value)};
  }
};

/// float stored as IEEE binary16, decoded exactly.
struct F16View {
  using Value = float;
  const uint16_t* data;
  FEWSTEP_INLINE float operator()(uint32_t i) const {
    return float_from_half(data[i]);
  }
  FEWSTEP_INLINE F16View at(uint32_t offset) const { return {data + offset}; }
  FEWSTEP_INLINE RawView raw() const { return {data, nullptr}; }
  static FEWSTEP_INLINE F16View from(RawView r) {
    return {static_cast<const uint16_t*>(r.value)};
  }
};

/// float stored as sign and logarithm (rates).
struct Log8View {
  using Value = float;
  const uint8_t* data;
  int16_t exponent;
  FEWSTEP_INLINE float operator()(uint32_t i) const {
    return log8_decode(data[i], exponent);
  }
};

/// One float for every lane of T: theta_0, which all tasks share.
template <class T>
struct SharedView {
  using Value = T;
  const float* data;
  FEWSTEP_INLINE T operator()(uint32_t i) const { return constant<T>(data[i]); }
  FEWSTEP_INLINE SharedView at(uint32_t offset) const {
    return {data + offset};
  }
  FEWSTEP_INLINE RawView raw() const { return {data, nullptr}; }
  static FEWSTEP_INLINE SharedView from(RawView r) {
    return {static_cast<const float*>(r.value)};
  }
};

/// value + eps tangent, from a view and an array: the point and the direction
/// of a Hessian-vector product.
template <class View>
struct DualView {
  using T = typename View::Value;
  using Value = Dual<T>;
  View value;
  const T* tangent;
  FEWSTEP_INLINE Value operator()(uint32_t i) const {
    return Value{value(i), tangent[i]};
  }
  FEWSTEP_INLINE DualView at(uint32_t offset) const {
    return {value.at(offset), tangent + offset};
  }
  FEWSTEP_INLINE RawView raw() const { return {value.raw().value, tangent}; }
  static FEWSTEP_INLINE DualView from(RawView r) {
    return {View::from({r.value, nullptr}), static_cast<const T*>(r.tangent)};
  }
};

/// A view of dual numbers that asks a kernel for the tangents of its sums
/// alone: their values are known already, and are left as they are
/// (layers/tile.h).
template <class View>
struct TangentView {
  using Value = typename View::Value;
  View view;
  FEWSTEP_INLINE Value operator()(uint32_t i) const { return view(i); }
  FEWSTEP_INLINE TangentView at(uint32_t offset) const {
    return {view.at(offset)};
  }
  FEWSTEP_INLINE RawView raw() const { return view.raw(); }
  static FEWSTEP_INLINE TangentView from(RawView r) { return {View::from(r)}; }
};

}  // namespace fewstep

#endif  // FEWSTEP_VIEWS_H_
