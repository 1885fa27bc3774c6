// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/network.h"

#include "fewstep/rules/rule.h"
#include "fewstep/sparse_mask.h"
#include "plan_layer.h"

namespace fewstep {
NetworkPlanner::NetworkPlanner(uint16_t c,
                               uint16_t h,
                               uint16_t w,
                               Network* network)
    : shape_{c, h, w}, network_(*network) {
  network_ = {};
  network_.in_c = c;
  network_.in_h = h;
  network_.in_w = w;
  network_.n_in = volume(c, h, w);
  network_.n_out = network_.n_in;
  network_.out_offset = kNetworkInput;
}

Status NetworkPlanner::add(Layer* layer) {
  Layer derived;
  error_ =
      layer == nullptr ? PlanError::kNullPointer : derive(*layer, &derived);
  if (error_ != PlanError::kNone) return Status::kBadArgument;
  *layer = derived;
  return Status::kOk;
}

Status NetworkPlanner::add_stored(const Layer& layer) {
  Layer derived;
  if (derive(layer, &derived) != PlanError::kNone) return Status::kBadArgument;
  // A Layer has no padding.
  const uint8_t* const a = reinterpret_cast<const uint8_t*>(&layer);
  const uint8_t* const b = reinterpret_cast<const uint8_t*>(&derived);
  for (size_t i = 0; i < sizeof derived; ++i) {
    if (a[i] != b[i]) return Status::kBadArgument;
  }
  return Status::kOk;
}

// What programs link that have no context layers; context.cpp has the other.
__attribute__((weak)) PlanError NetworkPlanner::derive(const Layer& chosen,
                                                       Layer* layer) {
  return derive_layer<false>(chosen, layer);
}

Status NetworkPlanner::finish(const Layer* layers, LossOp loss) {
  const uint32_t n_out = network_.n_out;
  error_ = PlanError::kNone;
  if (layers == nullptr) {
    error_ = PlanError::kNullPointer;
  } else if (network_.n_params == 0) {
    error_ = PlanError::kNoParameters;
  } else if (loss == LossOp::kSoftmaxCrossEntropy) {
    if (n_out < 2 || n_out > 0xffff) error_ = PlanError::kClasses;
  } else if (loss != LossOp::kMeanSquaredError) {
    error_ = PlanError::kUnknownLoss;
  }
  if (error_ != PlanError::kNone) return Status::kBadArgument;
  network_.layers = layers;
  network_.loss = loss;
  return Status::kOk;
}

const char* to_string(PlanError error) {
  switch (error) {
    case PlanError::kNone: return "";
    case PlanError::kNullPointer: return "null pointer";
    case PlanError::kNoInput: return "the input shape has a zero";
    case PlanError::kLayers: return "too many layers";
    case PlanError::kUnknownLayer: return "unknown operation";
    case PlanError::kUnits: return "needs 1 or more units or filters";
    case PlanError::kKernel: return "needs kernel >= 1";
    case PlanError::kStride: return "needs stride >= 1";
    case PlanError::kPoolStride: return "needs stride = kernel";
    case PlanError::kPad: return "needs pad < kernel";
    case PlanError::kKernelTooBig: return "the kernel exceeds its input";
    case PlanError::kOutputTooBig: return "the output's edge exceeds 65535";
    case PlanError::kGroups: return "needs groups that divide the channels";
    case PlanError::kChannels: return "has too many groups or channels";
    case PlanError::kInputs: return "has more than 2^26 inputs";
    case PlanError::kOutputs: return "has more than 2^26 outputs";
    case PlanError::kFlatten: return "gives more than 65535 values";
    case PlanError::kNotFlat:
      return "appends to a vector: needs a flat input, such as flatten or "
             "dense gives, and no channels by height by width";
    case PlanError::kParameters:
      return "the network has more than 2^26 parameters";
    case PlanError::kActivations:
      return "the network has more than 2^26 activations";
    case PlanError::kNoParameters: return "the network has no parameters";
    case PlanError::kUnknownLoss: return "unknown loss";
    case PlanError::kClasses:
      return "softmax_cross_entropy needs 2 to 65535 outputs";
  }
  return "unknown error";
}

const char* to_string(LayerOp op) {
  switch (op) {
    case LayerOp::kDense: return "dense";
    case LayerOp::kConv2d: return "conv2d";
    case LayerOp::kRelu: return "relu";
    case LayerOp::kTanh: return "tanh";
    case LayerOp::kMaxPool: return "max_pool";
    case LayerOp::kGlobalAvgPool: return "global_avg_pool";
    case LayerOp::kFlatten: return "flatten";
    case LayerOp::kGroupNorm: return "group_norm";
    case LayerOp::kBatchNorm: return "batch_norm";
    case LayerOp::kContext: return "context";
  }
  return "unknown operation";
}

const char* to_string(LossOp op) {
  switch (op) {
    case LossOp::kSoftmaxCrossEntropy: return "softmax_cross_entropy";
    case LossOp::kMeanSquaredError: return "mean_squared_error";
  }
  return "unknown loss";
}

const char* to_string(RuleOp op) {
  switch (op) {
    case RuleOp::kSgd: return "sgd";
    case RuleOp::kLslr: return "lslr";
    case RuleOp::kMetaSgd: return "meta_sgd";
    case RuleOp::kMomentum: return "momentum";
    case RuleOp::kAdam: return "adam";
    case RuleOp::kRateNet: return "rate_net";
    case RuleOp::kLstm: return "lstm";
    case RuleOp::kOnlineMetaSgd: return "online_meta_sgd";
  }
  return "unknown rule";
}

namespace {

// Taps of a convolution along one axis: sum over outputs of the kernel
// positions that fall on the input and not on the padding.
uint64_t valid_taps(uint32_t n_in,
                    uint32_t n_out,
                    uint32_t kernel,
                    uint32_t stride,
                    uint32_t pad) {
  uint64_t taps = 0;
  for (uint32_t o = 0; o < n_out; ++o) {
    for (uint32_t k = 0; k < kernel; ++k) {
      const uint32_t i = o * stride + k;
      if (i >= pad && i < n_in + pad) ++taps;
    }
  }
  return taps;
}

}  // namespace

uint64_t multiply_adds_per_example(const Network& network) {
  uint64_t total = 0;
  bool below = true;  // Below all that adapts: no gradient flows.
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const Layer& l = network.layers[i];
    uint64_t forward = 0;
    if (l.op == LayerOp::kDense) forward = l.n_weights;
    if (l.op == LayerOp::kConv2d) {
      forward = uint64_t{l.out_c} * l.in_c *
                valid_taps(l.in_h, l.out_h, l.kernel, l.stride, l.pad) *
                valid_taps(l.in_w, l.out_w, l.kernel, l.stride, l.pad);
    }
    total += forward;
    if (!below) total += forward;
    if (network.adapts(i)) {
      const bool some = network.masked != 0 && forward != 0;
      total += some ? forward / l.out_c * gradient_rows(MaskTable(network), l)
                    : forward;
      below = false;
    }
  }
  return total;
}

}  // namespace fewstep
