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
#include "stored_view.h"

namespace fewstep {

enum class OpKind : uint8_t { kLayer, kLoss, kRule, kStepOptions, kSparseMask };

/// A layer operation's kernels for one weight view, by pass.
enum Pass : uint32_t { kForward, kWeightGradient, kInputGradient };
struct LayerKernels {
  void (*run[3])(const LayerCall<float>&);
};

using LossKernel = void (*)(const LossCall<float>&);

/// A rule's update by storage of theta_0, and whether a capsule's rule is one
/// of this operation: what it knows of its own sizes.
struct RuleKernels {
  void (*update[2])(const RuleCall<float>&,
                    RawView theta,
                    const StoredArray& phi);
  bool (*fits)(const Rule& rule, const Network& network);
};

}  // namespace fewstep

/// One operation. Constant data: the program's list of these is what keeps the
/// kernels linked.
struct fewstep_op {
  fewstep::OpKind kind;
  uint8_t code;  ///< LayerOp, LossOp or RuleOp.
  bool f16;      ///< Reads f16 initializations too.
  union {
    const fewstep::LayerKernels* layer[2];  ///< f32, f16.
    fewstep::LossKernel loss;
    fewstep::RuleKernels rule;
  };

  constexpr fewstep_op(fewstep::LayerOp op,
                       const fewstep::LayerKernels* f32,
                       const fewstep::LayerKernels* f16_kernels)
      : kind(fewstep::OpKind::kLayer),
        code(static_cast<uint8_t>(op)),
        f16(f16_kernels != nullptr),
        layer{f32, f16_kernels} {}
  constexpr fewstep_op(fewstep::LossOp op, fewstep::LossKernel kernel)
      : kind(fewstep::OpKind::kLoss),
        code(static_cast<uint8_t>(op)),
        f16(true),
        loss(kernel) {}
  constexpr fewstep_op(fewstep::RuleOp op, const fewstep::RuleKernels& kernels)
      : kind(fewstep::OpKind::kRule),
        code(static_cast<uint8_t>(op)),
        f16(kernels.update[1] != nullptr),
        rule(kernels) {}
  /// Of no kernel: what it links is other functions (ops/step_options.cpp).
  explicit constexpr fewstep_op(fewstep::OpKind op_kind)
      : kind(op_kind), code(0), f16(true), layer{nullptr, nullptr} {}
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

  void run(Pass pass, const LayerCall<float>& c) const {
    const fewstep_op* const found =
        find_op(list, OpKind::kLayer, static_cast<uint8_t>(c.layer->op));
    found->layer[is_f16(c.weights) ? 1 : 0]->run[pass](c);
  }
  template <class W>
  void forward(const SerialExecutor&,
               LayerOp,
               const LayerCall<float>& c) const {
    run(kForward, c);
  }
  template <class W>
  void weight_gradient(const SerialExecutor&,
                       LayerOp,
                       const LayerCall<float>& c) const {
    run(kWeightGradient, c);
  }
  template <class W>
  void input_gradient(const SerialExecutor&,
                      LayerOp,
                      const LayerCall<float>& c) const {
    run(kInputGradient, c);
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
    found->rule.update[theta.f16 ? 1 : 0](c, {theta.data, nullptr}, phi);
  }
};

/// The kernels of operation L at view W. A weight gradient reads no weights:
/// all views share one.
template <class L, class W>
constexpr LayerKernels layer_kernels() {
  return {{
      [](const LayerCall<float>& c) {
        L::template forward<W>(SerialExecutor(), c);
      },
      [](const LayerCall<float>& c) {
        L::template weight_gradient<PlainView<float>>(SerialExecutor(), c);
      },
      [](const LayerCall<float>& c) {
        L::template input_gradient<W>(SerialExecutor(), c);
      },
  }};
}

/// One update of a rule that reads a learned quantity for every parameter:
/// one loop for each storage.
template <class Rule, class W>
void update_by_parameter(const RuleCall<float>& c,
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

/// An array whose storage is looked at for every value.
struct StoredValues {
  using Value = float;
  const StoredArray& array;

  __attribute__((noinline)) float operator()(uint32_t i) const {
    switch (array.storage) {
      case Storage::kF32: return static_cast<const float*>(array.data)[i];
      case Storage::kF16:
        return F16View{static_cast<const uint16_t*>(array.data)}(i);
      case Storage::kLog8: break;
    }
    return Log8View{static_cast<const uint8_t*>(array.data),
                    array.log8_exponent}(i);
  }
};

/// One update of a rule that reads few learned quantities (one, or one a
/// tensor): one loop for all storages.
template <class Rule, class W>
void update_by_tensor(const RuleCall<float>& c,
                      RawView theta,
                      const StoredArray& phi) {
  Rule::update(SerialExecutor(), c, W::from(theta), StoredValues{phi});
}

/// RuleKernels::fits of Operation.
template <class Operation>
bool rule_fits(const Rule& rule, const Network& network) {
  return matches(rule,
                 make_rule(Operation::kOp, rule.steps, network, rule.options));
}

}  // namespace fewstep

/// Defines the objects of a layer with parameters: `symbol` and `symbol_f16`.
#define FEWSTEP_DEFINE_LAYER(Operation, symbol)                                \
  namespace fewstep {                                                          \
  static constexpr LayerKernels k##Operation##F32 =                            \
      layer_kernels<Operation, PlainView<float>>();                            \
  static constexpr LayerKernels k##Operation##F16 =                            \
      layer_kernels<Operation, F16View>();                                     \
  }                                                                            \
  extern "C" constexpr fewstep_op symbol = {                                   \
      fewstep::Operation::kOp, &fewstep::k##Operation##F32, nullptr};          \
  extern "C" constexpr fewstep_op symbol##_f16 = {fewstep::Operation::kOp,     \
                                                  &fewstep::k##Operation##F32, \
                                                  &fewstep::k##Operation##F16}

/// Defines the object of a layer without parameters, which no view concerns.
#define FEWSTEP_DEFINE_PLAIN_LAYER(Operation, symbol)                        \
  namespace fewstep {                                                        \
  static constexpr LayerKernels k##Operation##Kernels =                      \
      layer_kernels<Operation, PlainView<float>>();                          \
  }                                                                          \
  extern "C" constexpr fewstep_op symbol = {fewstep::Operation::kOp,         \
                                            &fewstep::k##Operation##Kernels, \
                                            &fewstep::k##Operation##Kernels}

/// Defines the object of a loss.
#define FEWSTEP_DEFINE_LOSS(Operation, symbol)                         \
  extern "C" constexpr fewstep_op symbol = {                           \
      fewstep::Operation::kOp, [](const fewstep::LossCall<float>& c) { \
        fewstep::Operation::run(fewstep::SerialExecutor(), c);         \
      }}

/// Defines the objects of a rule: `symbol` and `symbol_f16`. `update` is
/// update_by_parameter or update_by_tensor.
#define FEWSTEP_DEFINE_RULE(Operation, symbol, update)                   \
  extern "C" constexpr fewstep_op symbol = {                             \
      fewstep::Operation::kOp,                                           \
      {{&fewstep::update<fewstep::Operation, fewstep::PlainView<float>>, \
        nullptr},                                                        \
       &fewstep::rule_fits<fewstep::Operation>}};                        \
  extern "C" constexpr fewstep_op symbol##_f16 = {                       \
      fewstep::Operation::kOp,                                           \
      {{&fewstep::update<fewstep::Operation, fewstep::PlainView<float>>, \
        &fewstep::update<fewstep::Operation, fewstep::F16View>},         \
       &fewstep::rule_fits<fewstep::Operation>}}

#endif  // FEWSTEP_DEVICE_SRC_OP_TABLE_H_
