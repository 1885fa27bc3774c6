// The operations a program links.
//
// A program names what its networks use and pays for nothing else:
//
//   session.open(capsule, Ops<Dense, Relu, Mse, MetaSgd>::list, arena);
//
// Each name stands for an object in the archive that carries the kernels of
// that operation; no kernel is compiled into user code. The header that
// `fewstep export` writes holds the list its capsule needs.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_DEVICE_OPS_H_
#define FEWSTEP_DEVICE_OPS_H_

#include "fewstep/device/op_symbols.h"

namespace fewstep {

using Op = ::fewstep_op;

struct Dense;
struct Conv2d;
struct Relu;
struct Tanh;
struct MaxPool;
struct GlobalAvgPool;
struct Flatten;
struct GroupNorm;
struct BatchNorm;
struct Context;
struct SoftmaxCrossEntropy;
struct MeanSquaredError;
struct Sgd;
struct Lslr;
struct MetaSgd;
struct Momentum;
struct Adam;
/// Part of the parameters adapt, weight decay, clipping.
struct StepOptions;
/// Single parameters adapt: a mask. Brings StepOptions.
struct SparseMask;
struct RateNet;
struct Lstm;
struct OnlineMetaSgd;

using Mse = MeanSquaredError;

/// The objects behind a name: for capsules with an f32 initialization, and for
/// those with an f16 one (which need the f32 kernels as well, after step 0).
template <class Operation>
struct Linked;

#define FEWSTEP_LINKED(Operation, f32_symbol, f16_symbol) \
  template <>                                             \
  struct Linked<Operation> {                              \
    static constexpr const Op* f32 = &f32_symbol;         \
    static constexpr const Op* f16 = &f16_symbol;         \
  }
FEWSTEP_LINKED(Dense, fewstep_op_dense, fewstep_op_dense_f16);
FEWSTEP_LINKED(Conv2d, fewstep_op_conv2d, fewstep_op_conv2d_f16);
FEWSTEP_LINKED(Relu, fewstep_op_relu, fewstep_op_relu);
FEWSTEP_LINKED(Tanh, fewstep_op_tanh, fewstep_op_tanh);
FEWSTEP_LINKED(MaxPool, fewstep_op_max_pool, fewstep_op_max_pool);
FEWSTEP_LINKED(GlobalAvgPool,
               fewstep_op_global_avg_pool,
               fewstep_op_global_avg_pool);
FEWSTEP_LINKED(Flatten, fewstep_op_flatten, fewstep_op_flatten);
FEWSTEP_LINKED(GroupNorm, fewstep_op_group_norm, fewstep_op_group_norm_f16);
FEWSTEP_LINKED(BatchNorm, fewstep_op_batch_norm, fewstep_op_batch_norm_f16);
FEWSTEP_LINKED(Context, fewstep_op_context, fewstep_op_context_f16);
FEWSTEP_LINKED(SoftmaxCrossEntropy,
               fewstep_op_softmax_cross_entropy,
               fewstep_op_softmax_cross_entropy);
FEWSTEP_LINKED(MeanSquaredError,
               fewstep_op_mean_squared_error,
               fewstep_op_mean_squared_error);
FEWSTEP_LINKED(Sgd, fewstep_op_sgd, fewstep_op_sgd_f16);
FEWSTEP_LINKED(Lslr, fewstep_op_lslr, fewstep_op_lslr_f16);
FEWSTEP_LINKED(MetaSgd, fewstep_op_meta_sgd, fewstep_op_meta_sgd_f16);
FEWSTEP_LINKED(Momentum, fewstep_op_momentum, fewstep_op_momentum_f16);
FEWSTEP_LINKED(Adam, fewstep_op_adam, fewstep_op_adam_f16);
FEWSTEP_LINKED(StepOptions, fewstep_op_step_options, fewstep_op_step_options);
FEWSTEP_LINKED(SparseMask, fewstep_op_sparse_mask, fewstep_op_sparse_mask);
FEWSTEP_LINKED(RateNet, fewstep_op_rate_net, fewstep_op_rate_net_f16);
FEWSTEP_LINKED(Lstm, fewstep_op_lstm, fewstep_op_lstm_f16);
FEWSTEP_LINKED(OnlineMetaSgd,
               fewstep_op_online_meta_sgd,
               fewstep_op_online_meta_sgd_f16);
#undef FEWSTEP_LINKED

/// A null-terminated list of operations, for f32 initializations.
template <class... Operation>
struct Ops {
  static constexpr const Op* list[] = {Linked<Operation>::f32..., nullptr};
};

/// The same for f16 initializations (f32 ones run too).
template <class... Operation>
struct OpsF16 {
  static constexpr const Op* list[] = {Linked<Operation>::f16..., nullptr};
};

}  // namespace fewstep

#endif  // FEWSTEP_DEVICE_OPS_H_
