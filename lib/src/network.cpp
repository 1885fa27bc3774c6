// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/network.h"

#include "fewstep/rules/rule.h"

namespace fewstep {
namespace {

// Sizes stay far enough below 2^32 that a sum over kMaxLayers layers, or a
// product with a 16-bit count in 64 bits, cannot overflow (lib/FORMAT.md).
constexpr uint64_t kMaxValues = uint64_t{1} << 26;
constexpr uint16_t kMaxLayers = 0x7fff;

// Output edge of a window of `kernel` at `stride` over `n` padded values; 0
// when the window does not fit.
uint32_t windows(uint32_t n, uint32_t kernel, uint32_t stride) {
  return n < kernel ? 0 : (n - kernel) / stride + 1;
}

bool is_activation(LayerOp op) {
  return op == LayerOp::kRelu || op == LayerOp::kTanh;
}

}  // namespace

NetworkPlanner::NetworkPlanner(uint16_t c, uint16_t h, uint16_t w)
    : in_{c, h, w}, shape_{c, h, w} {}

Status NetworkPlanner::refuse(const char* why) {
  error_ = why;
  return Status::kBadArgument;
}

Status NetworkPlanner::add(Layer* layer) {
  if (layer == nullptr) return refuse("no layer given");
  if (in_[0] == 0 || in_[1] == 0 || in_[2] == 0) {
    return refuse("the input shape has a zero");
  }
  if (n_layers_ == kMaxLayers) return refuse("too many layers");
  const uint64_t n_in = uint64_t{shape_[0]} * shape_[1] * shape_[2];
  if (n_in > kMaxValues) return refuse("a layer has more than 2^26 inputs");

  Layer l = {};
  l.op = layer->op;
  l.in_c = shape_[0];
  l.in_h = shape_[1];
  l.in_w = shape_[2];
  l.out_c = l.in_c;
  l.out_h = l.in_h;
  l.out_w = l.in_w;
  uint64_t n_weights = 0;
  uint64_t n_biases = 0;
  uint32_t n_aux = 0;
  switch (l.op) {
    case LayerOp::kDense:
      if (layer->out_c == 0) return refuse("dense needs units >= 1");
      l.out_c = layer->out_c;
      l.out_h = 1;
      l.out_w = 1;
      n_weights = n_in * l.out_c;
      n_biases = l.out_c;
      break;
    case LayerOp::kConv2d: {
      if (layer->out_c == 0) return refuse("conv2d needs filters >= 1");
      if (layer->kernel == 0) return refuse("conv2d needs kernel >= 1");
      if (layer->stride == 0) return refuse("conv2d needs stride >= 1");
      if (layer->pad >= layer->kernel) {
        return refuse("conv2d needs pad < kernel");
      }
      const uint32_t oh =
          windows(l.in_h + 2U * layer->pad, layer->kernel, layer->stride);
      const uint32_t ow =
          windows(l.in_w + 2U * layer->pad, layer->kernel, layer->stride);
      if (oh == 0 || ow == 0)
        return refuse("conv2d's kernel exceeds its input");
      if (oh > 0xffff || ow > 0xffff)
        return refuse("conv2d's output is too big");
      l.kernel = layer->kernel;
      l.stride = layer->stride;
      l.pad = layer->pad;
      l.out_c = layer->out_c;
      l.out_h = static_cast<uint16_t>(oh);
      l.out_w = static_cast<uint16_t>(ow);
      n_weights = uint64_t{l.out_c} * l.in_c * l.kernel * l.kernel;
      n_biases = l.out_c;
      break;
    }
    case LayerOp::kMaxPool: {
      if (layer->kernel == 0) return refuse("max_pool needs kernel >= 1");
      if (layer->stride != layer->kernel) {
        return refuse("max_pool needs stride = kernel");
      }
      const uint32_t oh = windows(l.in_h, layer->kernel, layer->stride);
      const uint32_t ow = windows(l.in_w, layer->kernel, layer->stride);
      if (oh == 0 || ow == 0) {
        return refuse("max_pool's kernel exceeds its input");
      }
      l.kernel = layer->kernel;
      l.stride = layer->stride;
      l.out_h = static_cast<uint16_t>(oh);
      l.out_w = static_cast<uint16_t>(ow);
      break;
    }
    case LayerOp::kGlobalAvgPool:
      l.out_h = 1;
      l.out_w = 1;
      break;
    case LayerOp::kFlatten:
      if (n_in > 0xffff) return refuse("flatten gives more than 65535 values");
      l.out_c = static_cast<uint16_t>(n_in);
      l.out_h = 1;
      l.out_w = 1;
      break;
    case LayerOp::kGroupNorm:
      if (layer->groups == 0 || l.in_c % layer->groups != 0) {
        return refuse("group_norm needs groups that divide the channels");
      }
      if (layer->groups > 0x7fff)
        return refuse("group_norm has too many groups");
      l.groups = layer->groups;
      n_weights = l.in_c;
      n_biases = l.in_c;
      n_aux = 2U * l.groups;
      break;
    case LayerOp::kBatchNorm:
      if (l.in_c > 0x7fff) return refuse("batch_norm has too many channels");
      n_weights = l.in_c;
      n_biases = l.in_c;
      n_aux = 2U * l.in_c;
      break;
    case LayerOp::kRelu:
    case LayerOp::kTanh: break;
    default: return refuse("unknown operation");
  }
  const uint64_t n_out = uint64_t{l.out_c} * l.out_h * l.out_w;
  if (n_out > kMaxValues) return refuse("a layer has more than 2^26 outputs");
  if (n_params_ + n_weights + n_biases > kMaxValues) {
    return refuse("the network has more than 2^26 parameters");
  }

  // Where the output lives.
  uint8_t activation = 0;
  l.in_offset = offset_;
  l.in_activation = activation_;
  if (l.op == LayerOp::kFlatten) {
    l.in_place = 1;
    activation = activation_;
  } else if (is_activation(l.op)) {
    // In place unless the storage is the caller's, or the output of another
    // activation, whose own derivative would be lost.
    l.in_place = offset_ != kNetworkInput && activation_ == 0 ? 1 : 0;
    activation = static_cast<uint8_t>(l.op);
  }
  if (l.in_place != 0) {
    l.out_offset = offset_;
  } else {
    if (n_act_ + n_out > kMaxValues) {
      return refuse("the network has more than 2^26 activations");
    }
    l.out_offset = n_act_;
    n_act_ += static_cast<uint32_t>(n_out);
  }
  l.param_offset = n_params_;
  l.n_weights = static_cast<uint32_t>(n_weights);
  l.n_biases = static_cast<uint32_t>(n_biases);
  l.n_aux = static_cast<uint16_t>(n_aux);
  l.tensor = n_tensors_;
  if (l.op == LayerOp::kBatchNorm) {
    l.aux_offset = n_aux_batch_;
    n_aux_batch_ += n_aux;
    transductive_ = 1;
  } else {
    l.aux_offset = n_aux_example_;
    n_aux_example_ += n_aux;
  }
  if (l.n_params() != 0) {
    if (n_params_ == 0) first_param_layer_ = n_layers_;
    n_params_ += l.n_params();
    n_tensors_ = static_cast<uint16_t>(n_tensors_ + 2);
  }
  shape_[0] = l.out_c;
  shape_[1] = l.out_h;
  shape_[2] = l.out_w;
  offset_ = l.out_offset;
  activation_ = activation;
  ++n_layers_;
  error_ = "";
  *layer = l;
  return Status::kOk;
}

Status NetworkPlanner::finish(const Layer* layers,
                              LossOp loss,
                              Network* network) {
  if (layers == nullptr || network == nullptr) return refuse("null pointer");
  if (n_params_ == 0) return refuse("the network has no parameters");
  const uint32_t n_out = uint32_t{shape_[0]} * shape_[1] * shape_[2];
  if (loss != LossOp::kSoftmaxCrossEntropy &&
      loss != LossOp::kMeanSquaredError) {
    return refuse("unknown loss");
  }
  if (loss == LossOp::kSoftmaxCrossEntropy && (n_out < 2 || n_out > 0xffff)) {
    return refuse("softmax_cross_entropy needs 2 to 65535 outputs");
  }
  error_ = "";
  network->layers = layers;
  network->n_layers = n_layers_;
  network->loss = loss;
  network->out_activation = activation_;
  network->transductive = transductive_;
  network->first_param_layer = first_param_layer_;
  network->in_c = in_[0];
  network->in_h = in_[1];
  network->in_w = in_[2];
  network->n_tensors = n_tensors_;
  network->n_in = uint32_t{in_[0]} * in_[1] * in_[2];
  network->n_out = n_out;
  network->n_params = n_params_;
  network->n_act = n_act_;
  network->n_aux_example = n_aux_example_;
  network->n_aux_batch = n_aux_batch_;
  network->out_offset = offset_;
  return Status::kOk;
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
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const Layer& l = network.layers[i];
    uint64_t forward = 0;
    if (l.op == LayerOp::kDense) forward = l.n_weights;
    if (l.op == LayerOp::kConv2d) {
      forward = uint64_t{l.out_c} * l.in_c *
                valid_taps(l.in_h, l.out_h, l.kernel, l.stride, l.pad) *
                valid_taps(l.in_w, l.out_w, l.kernel, l.stride, l.pad);
    }
    total += forward * (i == network.first_param_layer ? 2 : 3);
  }
  return total;
}

}  // namespace fewstep
