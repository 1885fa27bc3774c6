/* The linkable operations, by symbol: for C and C++.
 *
 * An operation with parameters comes twice: for capsules whose initialization
 * is f32, and (_f16) for those stored as f16 as well.
 *
 * SPDX-FileCopyrightText: The fewstep authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef FEWSTEP_DEVICE_OP_SYMBOLS_H_
#define FEWSTEP_DEVICE_OP_SYMBOLS_H_

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque: the kernels of one operation. */
typedef struct fewstep_op fewstep_op;

extern const fewstep_op fewstep_op_dense, fewstep_op_dense_f16;
extern const fewstep_op fewstep_op_conv2d, fewstep_op_conv2d_f16;
extern const fewstep_op fewstep_op_relu;
extern const fewstep_op fewstep_op_tanh;
extern const fewstep_op fewstep_op_max_pool;
extern const fewstep_op fewstep_op_global_avg_pool;
extern const fewstep_op fewstep_op_flatten;
extern const fewstep_op fewstep_op_group_norm, fewstep_op_group_norm_f16;
extern const fewstep_op fewstep_op_batch_norm, fewstep_op_batch_norm_f16;
extern const fewstep_op fewstep_op_context, fewstep_op_context_f16;
extern const fewstep_op fewstep_op_softmax_cross_entropy;
extern const fewstep_op fewstep_op_mean_squared_error;
extern const fewstep_op fewstep_op_sgd, fewstep_op_sgd_f16;
extern const fewstep_op fewstep_op_lslr, fewstep_op_lslr_f16;
extern const fewstep_op fewstep_op_meta_sgd, fewstep_op_meta_sgd_f16;
extern const fewstep_op fewstep_op_momentum, fewstep_op_momentum_f16;
extern const fewstep_op fewstep_op_adam, fewstep_op_adam_f16;
/* Part of the parameters adapt, weight decay, clipping: all storages. */
extern const fewstep_op fewstep_op_step_options;
/* Single parameters adapt: a mask. Brings step_options. */
extern const fewstep_op fewstep_op_sparse_mask;
extern const fewstep_op fewstep_op_rate_net, fewstep_op_rate_net_f16;
extern const fewstep_op fewstep_op_lstm, fewstep_op_lstm_f16;
extern const fewstep_op fewstep_op_online_meta_sgd;
extern const fewstep_op fewstep_op_online_meta_sgd_f16;

#ifdef __cplusplus
}
#endif

#endif /* FEWSTEP_DEVICE_OP_SYMBOLS_H_ */
