// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "channel_network.h"

#include "fewstep/host/lanes.h"

namespace fewstep::host {
namespace {

constexpr uint32_t kWidth = static_cast<uint32_t>(kLanes);

uint32_t runs(uint32_t channels) { return (channels + kWidth - 1) / kWidth; }

}  // namespace

Network ChannelNetwork::network() const {
  Network n = shape_;
  n.layers = layers_.data();
  return n;
}

std::optional<ChannelNetwork> ChannelNetwork::make(const Network& network) {
  ChannelNetwork out;
  out.source_ = network;
  out.shape_ = network;
  Network& n = out.shape_;
  n.n_params = n.n_act = n.n_aux_batch = 0;
  if (network.n_aux_example != 0) return std::nullopt;  // group_norm
  // The shape that the storage has, which flatten does not change.
  uint32_t channels = network.in_c;
  uint32_t h = network.in_h;
  uint32_t w = network.in_w;
  uint32_t offset = kNetworkInput;
  double padded = 0;
  double useful = 0;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    Layer l = network.layers[i];
    const bool flat = l.in_h != h || l.in_w != w;
    const bool has_weights =
        l.op == LayerOp::kDense || l.op == LayerOp::kConv2d;
    const bool elementwise = l.op == LayerOp::kRelu || l.op == LayerOp::kTanh ||
                             l.op == LayerOp::kFlatten;
    if (i == 0 && !has_weights) return std::nullopt;
    if (l.op == LayerOp::kContext) return std::nullopt;
    if (flat && l.op != LayerOp::kDense && !elementwise) return std::nullopt;
    l.in_h = static_cast<uint16_t>(h);
    l.in_w = static_cast<uint16_t>(w);
    l.in_c = static_cast<uint16_t>(runs(channels));
    uint32_t out_channels = channels;
    if (elementwise) {
      l.out_h = l.in_h;
      l.out_w = l.in_w;
    }
    if (has_weights) {
      out_channels = l.out_c;
      if (l.op == LayerOp::kDense) {
        if (h != w || h > 0xff) return std::nullopt;
        l.op = LayerOp::kConv2d;
        l.kernel = static_cast<uint8_t>(h);
        l.stride = 1;
        l.pad = 0;
      }
      l.groups = static_cast<uint16_t>(out_channels);
      const uint32_t window = uint32_t{l.kernel} * l.kernel;
      const uint32_t taps = channels * window;
      const uint32_t out_runs = runs(out_channels);
      out.tensors_.push_back({l.param_offset, n.n_params, out_channels, taps});
      out.tensors_.push_back({l.param_offset + l.n_weights,
                              n.n_params + out_runs * taps,
                              out_channels,
                              1});
      if (i > network.first_param_layer) {
        out.transposed_.push_back({l.param_offset,
                                   out.n_transposed_,
                                   out_channels,
                                   channels,
                                   window});
        out.transposed_offset_.push_back(out.n_transposed_);
        out.n_transposed_ += out_channels * runs(channels) * window;
      } else {
        out.transposed_offset_.push_back(0);
      }
      const double macs = static_cast<double>(taps) * l.out_h * l.out_w;
      useful += macs * out_channels;
      padded += macs * out_runs * kWidth;
      l.n_weights = out_runs * taps;
      l.n_biases = out_runs;
    } else {
      out.transposed_offset_.push_back(0);
      if (l.op == LayerOp::kBatchNorm) {
        const uint32_t r = runs(channels);
        out.tensors_.push_back({l.param_offset, n.n_params, channels, 1});
        out.tensors_.push_back(
            {l.param_offset + l.n_weights, n.n_params + r, channels, 1});
        l.n_weights = l.n_biases = r;
        l.aux_offset = n.n_aux_batch;
        l.n_aux = static_cast<uint16_t>(2 * r);
        n.n_aux_batch += 2 * r;
      }
    }
    l.out_c = static_cast<uint16_t>(runs(out_channels));
    l.param_offset = n.n_params;
    n.n_params += l.n_params();
    l.in_offset = offset;
    l.out_offset = l.in_place != 0 ? offset : n.n_act;
    if (l.in_place == 0) n.n_act += l.n_out();
    offset = l.out_offset;
    channels = out_channels;
    h = l.out_h;
    w = l.out_w;
    out.layers_.push_back(l);
  }
  if (h != 1 || w != 1) return std::nullopt;
  n.n_out = runs(channels);
  n.out_offset = offset;
  out.utilization_ = useful / padded;
  return out;
}

void ChannelNetwork::pack(const float* theta, float* packed) const {
  for (const Tensor& t : tensors_) {
    const float* const from = theta + t.offset;
    float* const to = packed + size_t{t.packed_offset} * kWidth;
    const uint32_t n_rows = runs(t.rows) * kWidth;
    for (uint32_t r = 0; r < n_rows; ++r) {
      float* const run = to + size_t{r / kWidth} * t.cols * kWidth + r % kWidth;
      const float* const row = from + size_t{r} * t.cols;
      for (uint32_t c = 0; c < t.cols; ++c) {
        run[size_t{c} * kWidth] = r < t.rows ? row[c] : 0.0F;
      }
    }
  }
}

void ChannelNetwork::pack_transposed(const float* theta,
                                     float* transposed) const {
  for (const Transposed& t : transposed_) {
    const uint32_t n_channels = runs(t.channels) * kWidth;
    const float* from = theta + t.offset;
    float* to = transposed + size_t{t.packed_offset} * kWidth;
    for (uint32_t r = 0; r < t.rows; ++r) {
      for (uint32_t ch = 0; ch < n_channels; ++ch) {
        float* const run =
            to + size_t{ch / kWidth} * t.window * kWidth + ch % kWidth;
        for (uint32_t k = 0; k < t.window; ++k) {
          run[size_t{k} * kWidth] =
              ch < t.channels ? from[size_t{ch} * t.window + k] : 0.0F;
        }
      }
      from += size_t{t.channels} * t.window;
      to += size_t{n_channels} * t.window;
    }
  }
}

void ChannelNetwork::unpack(const float* packed,
                            size_t stride,
                            float* theta,
                            size_t theta_stride) const {
  for (const Tensor& t : tensors_) {
    const float* const from = packed + size_t{t.packed_offset} * stride;
    float* const to = theta + size_t{t.offset} * theta_stride;
    for (uint32_t r = 0; r < t.rows; ++r) {
      const float* const run =
          from + size_t{r / kWidth} * t.cols * stride + r % kWidth;
      float* const row = to + size_t{r} * t.cols * theta_stride;
      for (uint32_t c = 0; c < t.cols; ++c) {
        row[c * theta_stride] = run[c * stride];
      }
    }
  }
}

}  // namespace fewstep::host
