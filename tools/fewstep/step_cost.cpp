// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "step_cost.h"

#include <algorithm>

#include "core_table.h"

namespace fewstep::cli {
namespace {

enum Term {
  kDenseTiles,
  kDenseRest,
  kDenseGradient,
  kDenseGradientPass,
  kConvForward,
  kConvGradient,
  kConvInput,
  kConvStrided,
  kRelu,
  kTanh,
  kSoftmax,
  kNorm,
  kPool,
  kParameters,
  kCalls,
};

double whole(uint32_t n) { return n & ~3U; }

// Valid taps of a convolution, all outputs of one channel pair.
double taps(const Layer& l) {
  const auto axis = [&](uint32_t n_in, uint32_t n_out) {
    double sum = 0;
    for (uint32_t o = 0; o < n_out; ++o) {
      for (uint32_t k = 0; k < l.kernel; ++k) {
        const uint32_t i = o * l.stride + k;
        if (i >= l.pad && i < n_in + l.pad) ++sum;
      }
    }
    return sum;
  };
  return axis(l.in_h, l.out_h) * axis(l.in_w, l.out_w);
}

// Examples of each pass.
std::vector<uint32_t> passes(uint32_t n, uint32_t tile) {
  std::vector<uint32_t> sizes;
  for (uint32_t done = 0; done < n; done += sizes.back()) {
    sizes.push_back(std::min(tile, n - done));
  }
  return sizes;
}

uint32_t first_adapted_layer(const Network& network) {
  uint32_t i = 0;
  while (!network.adapts(i)) ++i;
  return i;
}

bool is_measured(LayerOp op) { return op != LayerOp::kBatchNorm; }

uint64_t bytes_of(Storage storage) {
  switch (storage) {
    case Storage::kF32: return 4;
    case Storage::kF16: return 2;
    case Storage::kLog8: return 1;
  }
  return 4;
}

}  // namespace

const std::array<const char*, kCostTerms> kCostTermNames = {
    "dense multiply-add in a tile of four examples",
    "dense multiply-add beside those tiles",
    "dense gradient multiply-add",
    "dense gradient weight and pass",
    "conv2d forward multiply-add",
    "conv2d gradient multiply-add",
    "conv2d input gradient multiply-add, 3x3 at stride 2",
    "conv2d input gradient multiply-add, others",
    "relu value",
    "tanh value",
    "softmax value",
    "group_norm value",
    "pooled value",
    "parameter",
    "layer and pass",
};

CostTerms cost_terms(const Network& network, uint32_t n, uint32_t tile) {
  CostTerms t = {};
  const uint32_t lowest = first_adapted_layer(network);
  for (const uint32_t m : passes(n, tile)) {
    for (uint32_t i = 0; i < network.n_layers; ++i) {
      const Layer& l = network.layers[i];
      const double n_in = l.n_in();
      const double n_out = l.n_out();
      const bool input = i > lowest;
      const bool weight = network.adapts(i);
      t[kCalls] += 1;
      switch (l.op) {
        case LayerOp::kDense: {
          const double forward = whole(l.n_out()) * whole(m) * n_in;
          const double backward = whole(l.n_in()) * whole(m) * n_out;
          t[kDenseTiles] += forward + (input ? backward : 0);
          t[kDenseRest] += n_in * n_out * m * (input ? 2 : 1) - forward -
                           (input ? backward : 0);
          if (weight) {
            t[kDenseGradient] += n_in * n_out * m;
            t[kDenseGradientPass] += n_in * n_out;
          }
          break;
        }
        case LayerOp::kConv2d: {
          const double macs = taps(l) * l.in_c * l.out_c * m;
          t[kConvForward] += macs;
          if (weight) t[kConvGradient] += macs;
          const bool strided = l.kernel == 3 && l.stride == 2;
          if (input) t[strided ? kConvInput : kConvStrided] += macs;
          break;
        }
        case LayerOp::kContext:  // A copy there and back.
        case LayerOp::kRelu: t[kRelu] += n_out * m; break;
        case LayerOp::kTanh: t[kTanh] += n_out * m; break;
        case LayerOp::kGroupNorm: t[kNorm] += n_out * m; break;
        case LayerOp::kMaxPool:
        case LayerOp::kGlobalAvgPool: t[kPool] += n_in * m; break;
        case LayerOp::kFlatten:
        case LayerOp::kBatchNorm: break;
      }
    }
  }
  if (network.loss == LossOp::kSoftmaxCrossEntropy) {
    t[kSoftmax] += static_cast<double>(network.n_out) * n;
  }
  t[kParameters] = network.n_adapted;
  return t;
}

uint64_t bytes_touched(const Capsule& capsule, uint32_t n, uint32_t tile) {
  const Network& network = capsule.network;
  const uint64_t stored = bytes_of(capsule.init.storage);
  const uint32_t lowest = first_adapted_layer(network);
  uint64_t bytes = 0;
  bool first = true;
  for (const uint32_t m : passes(n, tile)) {
    for (uint32_t i = 0; i < network.n_layers; ++i) {
      const Layer& l = network.layers[i];
      if (l.op == LayerOp::kFlatten) continue;
      const uint64_t in = uint64_t{4} * l.n_in() * m;
      const uint64_t out = uint64_t{4} * l.n_out() * m;
      const uint64_t weights = stored * l.n_params();
      bytes += in + weights + out;
      if (network.adapts(i)) {
        bytes += in + out + uint64_t{first ? 4U : 8U} * l.n_params();
      }
      // Activations in place have their derivative taken by the layer above.
      if (i > lowest && l.in_place == 0) {
        bytes += out + weights + 2 * in;
      }
    }
    bytes += uint64_t{4} * network.n_out * m * 3;  // The loss.
    first = false;
  }
  // The rule, and the check for finite parameters.
  bytes += uint64_t{network.n_adapted} * (12 + stored) +
           uint64_t{capsule.rule.n_phi} * bytes_of(capsule.rates.storage);
  return bytes;
}

std::vector<CoreCost> step_instructions(const Network& network,
                                        uint32_t n,
                                        uint32_t tile) {
  if (network.masked != 0) return {};
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    if (!is_measured(network.layers[i].op)) return {};
  }
  const CostTerms terms = cost_terms(network, n, tile);
  std::vector<CoreCost> costs;
  for (const CoreTable& core : kCoreTables) {
    double sum = 0;
    for (int j = 0; j < kCostTerms; ++j) sum += terms[j] * core.cost[j];
    costs.push_back({core.name, sum, core.error});
  }
  return costs;
}

}  // namespace fewstep::cli
