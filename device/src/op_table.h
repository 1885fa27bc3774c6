// What an operation object holds, and the Ops that dispatches through a list of
// them (inner_loop.h).
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_DEVICE_SRC_OP_TABLE_H_
#define FEWSTEP_DEVICE_SRC_OP_TABLE_H_

#include "fewstep/capsule.h"
#include "fewstep/device/op_symbols.h"
#include "fewstep/executor/serial.h"
#include "fewstep/layers/layer.h"
#include "fewstep/losses/loss.h"
#include "fewstep/rules/rule.h"

namespace fewstep {

enum class OpKind : uint8_t { kLayer, kLoss, kRule };

/// A layer operation's kernels for one weight view.
struct LayerKernels {
  void (*forward)(const LayerCall<float>&);
  void (*weight_gradient)(const LayerCall<float>&);
  void (*input_gradient)(const LayerCall<float>&);
};

using LossKernel = void (*)(const LossCall<float>&);
using UpdateKernel = void (*)(const RuleCall<float>&,
                              RawView theta,
                              const StoredArray& phi);

}  // namespace fewstep

/// One operation. Constant data: the program's list of these is what keeps the
/// kernels linked.
struct fewstep_op {
  fewstep::OpKind kind;
  uint8_t code;  ///< LayerOp, LossOp or RuleOp.
  bool f16;      ///< Reads f16 initializations too.
  const fewstep::LayerKernels* layer_f32;
  const fewstep::LayerKernels* layer_f16;
  fewstep::LossKernel loss;
  fewstep::UpdateKernel update_f32;
  fewstep::UpdateKernel update_f16;
};

namespace fewstep {

/// The entry for `code`, or null.
inline const fewstep_op* find_op(const fewstep_op* const* list,
                                 OpKind kind,
                                 uint8_t code) {
  for (; *list != nullptr; ++list) {
    if ((*list)->kind == kind && (*list)->code == code) return *list;
  }
  return nullptr;
}

/// Ops over a program's list, which open() has checked to be complete.
struct TableOps {
  const fewstep_op* const* list;

  template <class W>
  const LayerKernels& kernels(LayerOp op) const {
    const fewstep_op* const found =
        find_op(list, OpKind::kLayer, static_cast<uint8_t>(op));
    return IsSame<W, F16View>::value ? *found->layer_f16 : *found->layer_f32;
  }
  template <class W>
  void forward(const SerialExecutor&,
               LayerOp op,
               const LayerCall<float>& c) const {
    kernels<W>(op).forward(c);
  }
  template <class W>
  void weight_gradient(const SerialExecutor&,
                       LayerOp op,
                       const LayerCall<float>& c) const {
    kernels<W>(op).weight_gradient(c);
  }
  template <class W>
  void input_gradient(const SerialExecutor&,
                      LayerOp op,
                      const LayerCall<float>& c) const {
    kernels<W>(op).input_gradient(c);
  }
  void loss(const SerialExecutor&, LossOp op, const LossCall<float>& c) const {
    find_op(list, OpKind::kLoss, static_cast<uint8_t>(op))->loss(c);
  }
  template <class W, class R>
  void update(const SerialExecutor&,
              const RuleCall<float>& c,
              const W& theta,
              const R& phi) const {
    const fewstep_op* const found =
        find_op(list, OpKind::kRule, static_cast<uint8_t>(c.rule->op));
    (IsSame<W, F16View>::value ? found->update_f16 : found->update_f32)(
        c, theta.raw(), phi);
  }
};

/// The kernels of operation L at view W.
template <class L, class W>
constexpr LayerKernels layer_kernels() {
  return {
      [](const LayerCall<float>& c) {
        L::template forward<W>(SerialExecutor(), c);
      },
      [](const LayerCall<float>& c) {
        L::template weight_gradient<W>(SerialExecutor(), c);
      },
      [](const LayerCall<float>& c) {
        L::template input_gradient<W>(SerialExecutor(), c);
      },
  };
}

/// One update of rule `Rule` with its quantities as stored.
template <class Rule, class W>
void update_stored(const RuleCall<float>& c,
                   RawView theta,
                   const StoredArray& phi) {
  const W w = W::from(theta);
  switch (phi.storage) {
    case Storage::kF32:
      Rule::update(SerialExecutor(),
                   c,
                   w,
                   PlainView<float>{static_cast<const float*>(phi.data)});
      break;
    case Storage::kF16:
      Rule::update(SerialExecutor(),
                   c,
                   w,
                   F16View{static_cast<const uint16_t*>(phi.data)});
      break;
    case Storage::kLog8:
      Rule::update(
          SerialExecutor(),
          c,
          w,
          Log8View{static_cast<const uint8_t*>(phi.data), phi.log8_exponent});
      break;
  }
}

}  // namespace fewstep

/// Defines the objects of a layer with parameters: `symbol` and `symbol_f16`.
#define FEWSTEP_DEFINE_LAYER(Operation, symbol)      \
  namespace fewstep {                                \
  static constexpr LayerKernels k##Operation##F32 =  \
      layer_kernels<Operation, PlainView<float>>();  \
  static constexpr LayerKernels k##Operation##F16 =  \
      layer_kernels<Operation, F16View>();           \
  }                                                  \
  extern "C" const fewstep_op symbol = {             \
      fewstep::OpKind::kLayer,                       \
      static_cast<uint8_t>(fewstep::Operation::kOp), \
      false,                                         \
      &fewstep::k##Operation##F32,                   \
      nullptr,                                       \
      nullptr,                                       \
      nullptr,                                       \
      nullptr};                                      \
  extern "C" const fewstep_op symbol##_f16 = {       \
      fewstep::OpKind::kLayer,                       \
      static_cast<uint8_t>(fewstep::Operation::kOp), \
      true,                                          \
      &fewstep::k##Operation##F32,                   \
      &fewstep::k##Operation##F16,                   \
      nullptr,                                       \
      nullptr,                                       \
      nullptr}

/// Defines the object of a layer without parameters, which no view concerns.
#define FEWSTEP_DEFINE_PLAIN_LAYER(Operation, symbol)   \
  namespace fewstep {                                   \
  static constexpr LayerKernels k##Operation##Kernels = \
      layer_kernels<Operation, PlainView<float>>();     \
  }                                                     \
  extern "C" const fewstep_op symbol = {                \
      fewstep::OpKind::kLayer,                          \
      static_cast<uint8_t>(fewstep::Operation::kOp),    \
      true,                                             \
      &fewstep::k##Operation##Kernels,                  \
      &fewstep::k##Operation##Kernels,                  \
      nullptr,                                          \
      nullptr,                                          \
      nullptr}

/// Defines the object of a loss.
#define FEWSTEP_DEFINE_LOSS(Operation, symbol)                 \
  extern "C" const fewstep_op symbol = {                       \
      fewstep::OpKind::kLoss,                                  \
      static_cast<uint8_t>(fewstep::Operation::kOp),           \
      true,                                                    \
      nullptr,                                                 \
      nullptr,                                                 \
      [](const fewstep::LossCall<float>& c) {                  \
        fewstep::Operation::run(fewstep::SerialExecutor(), c); \
      },                                                       \
      nullptr,                                                 \
      nullptr}

/// Defines the objects of a rule: `symbol` and `symbol_f16`.
#define FEWSTEP_DEFINE_RULE(Operation, symbol)                                \
  extern "C" const fewstep_op symbol = {                                      \
      fewstep::OpKind::kRule,                                                 \
      static_cast<uint8_t>(fewstep::Operation::kOp),                          \
      false,                                                                  \
      nullptr,                                                                \
      nullptr,                                                                \
      nullptr,                                                                \
      &fewstep::update_stored<fewstep::Operation, fewstep::PlainView<float>>, \
      nullptr};                                                               \
  extern "C" const fewstep_op symbol##_f16 = {                                \
      fewstep::OpKind::kRule,                                                 \
      static_cast<uint8_t>(fewstep::Operation::kOp),                          \
      true,                                                                   \
      nullptr,                                                                \
      nullptr,                                                                \
      nullptr,                                                                \
      &fewstep::update_stored<fewstep::Operation, fewstep::PlainView<float>>, \
      &fewstep::update_stored<fewstep::Operation, fewstep::F16View>}

#endif  // FEWSTEP_DEVICE_SRC_OP_TABLE_H_
