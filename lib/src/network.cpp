// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/network.h"

#include "fewstep/rules/rule.h"

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

// On an error `*layer` holds anything; the planner is as before.
PlanError NetworkPlanner::derive(const Layer& chosen, Layer* layer) {
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
    default: return PlanError::kUnknownLayer;
  }
  if (l.out_c == 0) return PlanError::kUnits;
  const uint32_t n_out = volume(l.out_c, l.out_h, l.out_w);
  if (n_out > kMaxValues) return PlanError::kOutputs;
  l.n_weights = product(l.out_c, fan_in);
  if (fan_in != 0) l.n_biases = l.out_c;
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
      total += forward;
      below = false;
    }
  }
  return total;
}

}  // namespace fewstep
