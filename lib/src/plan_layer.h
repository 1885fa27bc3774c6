// How a layer is planned, with and without context layers: for network.cpp and
// context.cpp, one of which every program links.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_SRC_PLAN_LAYER_H_
#define FEWSTEP_SRC_PLAN_LAYER_H_

#include "fewstep/network.h"

namespace fewstep {
namespace {

// Sizes stay far enough below 2^32 that a sum over kMaxLayers layers, or a
// product with a 16-bit count in 64 bits, cannot overflow (lib/FORMAT.md).
constexpr uint32_t kMaxValues = uint32_t{1} << 26;
constexpr uint16_t kMaxLayers = 0x7fff;

// a * b, or a value above kMaxValues when the product is.
__attribute__((noinline)) uint32_t product(uint32_t a, uint32_t b) {
  const uint64_t exact = uint64_t{a} * b;
  return exact > kMaxValues ? kMaxValues + 1 : static_cast<uint32_t>(exact);
}

__attribute__((noinline)) uint32_t volume(uint32_t c, uint32_t h, uint32_t w) {
  return product(product(c, h), w);
}

// Output edge of a window of `kernel` at `stride` over `n` padded values; 0
// when the window does not fit.
uint32_t windows(uint32_t n, uint32_t kernel, uint32_t stride) {
  return n < kernel ? 0 : (n - kernel) / stride + 1;
}

}  // namespace

// On an error `*layer` holds anything; the planner is as before.
template <bool with_context>
FEWSTEP_INLINE PlanError NetworkPlanner::derive_layer(const Layer& chosen,
                                                      Layer* layer) {
  Network& network = network_;
  if (network.n_layers == kMaxLayers) return PlanError::kLayers;
  const uint32_t n_in = network.n_out;
  if (n_in == 0) return PlanError::kNoInput;  // No layer gives 0 outputs.
  if (n_in > kMaxValues) return PlanError::kInputs;

  Layer& l = *layer;
  l = {};
  l.op = chosen.op;
  l.in_c = l.out_c = shape_[0];
  l.in_h = l.out_h = shape_[1];
  l.in_w = l.out_w = shape_[2];
  l.in_activation = network.out_activation;
  l.in_offset = network.out_offset;
  l.param_offset = network.n_params;
  l.tensor = network.n_tensors;
  // Parameters are one tensor [out_c][fan_in] and one [out_c], or none.
  uint32_t fan_in = 0;
  uint8_t activation = 0;  // The output is one's.
  switch (l.op) {
    case LayerOp::kDense:
      l.out_c = chosen.out_c;
      l.out_h = 1;
      l.out_w = 1;
      fan_in = n_in;
      break;
    case LayerOp::kConv2d:
    case LayerOp::kMaxPool: {
      const uint32_t kernel = l.kernel = chosen.kernel;
      const uint32_t stride = l.stride = chosen.stride;
      if (kernel == 0) return PlanError::kKernel;
      if (l.op == LayerOp::kConv2d) {
        if (stride == 0) return PlanError::kStride;
        if (chosen.pad >= kernel) return PlanError::kPad;
        l.pad = chosen.pad;
        l.out_c = chosen.out_c;
        fan_in = product(l.in_c, kernel * kernel);
      } else if (stride != kernel) {
        return PlanError::kPoolStride;
      }
      const uint32_t out_h = windows(l.in_h + 2U * l.pad, kernel, stride);
      const uint32_t out_w = windows(l.in_w + 2U * l.pad, kernel, stride);
      if (out_h == 0 || out_w == 0) return PlanError::kKernelTooBig;
      if ((out_h | out_w) > 0xffff) return PlanError::kOutputTooBig;
      l.out_h = static_cast<uint16_t>(out_h);
      l.out_w = static_cast<uint16_t>(out_w);
      break;
    }
    case LayerOp::kFlatten:
      if (n_in > 0xffff) return PlanError::kFlatten;
      l.out_c = static_cast<uint16_t>(n_in);
      l.in_place = 1;
      activation = l.in_activation;
      [[fallthrough]];
    case LayerOp::kGlobalAvgPool:
      l.out_h = 1;
      l.out_w = 1;
      break;
    case LayerOp::kGroupNorm:
    case LayerOp::kBatchNorm: {
      uint32_t sets = l.in_c;
      if (l.op == LayerOp::kGroupNorm) {
        sets = l.groups = chosen.groups;
        if (sets == 0 || l.in_c % sets != 0) return PlanError::kGroups;
      }
      if (sets > 0x7fff) return PlanError::kChannels;
      l.n_aux = static_cast<uint16_t>(2 * sets);
      fan_in = 1;
      break;
    }
    case LayerOp::kRelu:
    case LayerOp::kTanh:
      // In place unless the storage is the caller's, or the output of another
      // activation, whose own derivative would be lost.
      if (l.in_offset != kNetworkInput && l.in_activation == 0) l.in_place = 1;
      activation = static_cast<uint8_t>(l.op);
      break;
    case LayerOp::kContext:
      if constexpr (with_context) {
        if (l.in_h != 1 || l.in_w != 1) return PlanError::kNotFlat;
        l.groups = chosen.groups;
        if (l.groups == 0) return PlanError::kUnits;
        if (n_in + l.groups > 0xffff) return PlanError::kFlatten;
        l.out_c = static_cast<uint16_t>(n_in + l.groups);
        fan_in = 1;
        break;
      }
      [[fallthrough]];
    default: return PlanError::kUnknownLayer;
  }
  if (l.out_c == 0) return PlanError::kUnits;
  const uint32_t n_out = volume(l.out_c, l.out_h, l.out_w);
  if (n_out > kMaxValues) return PlanError::kOutputs;
  l.n_weights = product(l.out_c, fan_in);
  if (fan_in != 0) l.n_biases = l.out_c;
  if constexpr (with_context) {
    if (l.op == LayerOp::kContext) {  // Its second tensor is empty.
      l.n_weights = l.groups;
      l.n_biases = 0;
    }
  }
  const uint32_t n_params = network.n_params + l.n_weights + l.n_biases;
  if (n_params > kMaxValues) return PlanError::kParameters;
  uint32_t n_act = network.n_act;
  l.out_offset = l.in_offset;
  if (l.in_place == 0) {
    l.out_offset = n_act;
    n_act += n_out;
    if (n_act > kMaxValues) return PlanError::kActivations;
  }

  uint32_t* n_aux = &network.n_aux_example;
  if (l.op == LayerOp::kBatchNorm) {
    n_aux = &network.n_aux_batch;
    network.transductive = 1;
  }
  l.aux_offset = *n_aux;
  *n_aux += l.n_aux;
  if (fan_in != 0) {
    if (network.n_params == 0) network.first_param_layer = network.n_layers;
    network.n_tensors = static_cast<uint16_t>(network.n_tensors + 2);
  }
  network.n_params = n_params;
  network.n_adapted = n_params;
  network.n_act = n_act;
  network.n_out = n_out;
  network.out_offset = l.out_offset;
  network.out_activation = activation;
  ++network.n_layers;
  shape_[0] = l.out_c;
  shape_[1] = l.out_h;
  shape_[2] = l.out_w;
  return PlanError::kNone;
}

}  // namespace fewstep

#endif  // FEWSTEP_SRC_PLAN_LAYER_H_
