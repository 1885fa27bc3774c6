// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "step_cost.h"

#include <algorithm>

#include "core_table.h"
#include "fewstep/rules/shapes.h"
#include "fewstep/sparse_mask.h"

namespace fewstep::cli {
namespace {

enum Term {
  // Dense.
  kDenseTiles,
  kDenseColumns,
  kDenseRows,
  kDenseSingle,
  kDenseOutput,
  kDenseGradient,
  kDenseGradientRest,
  kDenseGradientPass,
  // Convolutions.
  kConvForward,
  kConvForwardRows,
  kConvForwardOther,
  kConvForwardOtherRows,
  kConvRun,
  kConvOutput,
  kConvGradient,
  kConvGradientRows,
  kConvGradientPass,
  kConvInput,
  kConvInputOther,
  kConvInputRows,
  kF16Weight,
  // Other layers, losses, calls.
  kRelu,
  kTanh,
  kNormForward,
  kNormBackward,
  kPool,
  kContext,
  kSoftmax,
  kCalls,
  kOtherCalls,
  kPass,
  kStep,
  // Rules and step options.
  kParameters,
  kRateF16,
  kRateLog8,
  kMomentum,
  kAdam,
  kMoment,
  kOnline,
  kLookupF32,
  kLookupF16,
  kLstmFunction,
  kLstmParameter,
  kTensorValue,
  kTensor,
  kDecay,
  kClip,
  // Masks.
  kMaskValue,
  kF16MaskValue,
  kMaskRun,
  kMaskPart,
  kMaskGather,
};

// Products of rows and columns: those in tiles of four by four, in strips of
// four beside them, and one by one in the corner (layers/tile.h).
struct Tiles {
  double whole, row_strips, col_strips, singles;

  Tiles(uint32_t rows, uint32_t cols) {
    const double r = rows & ~3U;
    const double c = cols & ~3U;
    whole = r * c;
    singles = (rows - r) * (cols - c);
    row_strips = (rows - r) * c;
    col_strips = r * (cols - c);
  }
};
uint32_t fours(uint32_t n) { return (n + 3) / 4; }

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
    "dense multiply-add, four outputs of four examples",
    "dense multiply-add, four outputs of one example",
    "dense multiply-add, one output of four examples",
    "dense multiply-add, one output of one example",
    "dense output",
    "dense gradient multiply-add, four by four weights",
    "dense gradient multiply-add, others",
    "dense gradient weight and pass",
    "conv2d forward multiply-add, 3x3",
    "conv2d forward multiply-add, 3x3, one filter",
    "conv2d forward multiply-add, others",
    "conv2d forward multiply-add, others, one filter",
    "conv2d forward row of a kernel, others",
    "conv2d output",
    "conv2d gradient multiply-add",
    "conv2d gradient multiply-add, one filter",
    "conv2d gradient weight and pass",
    "conv2d input gradient multiply-add, 3x3 at stride 2",
    "conv2d input gradient multiply-add, others",
    "conv2d input gradient multiply-add, one channel",
    "dense or conv2d weight read as f16",
    "relu value",
    "tanh value",
    "group_norm value forward",
    "group_norm value backward",
    "pooled value, forward or backward",
    "context or value beside it",
    "softmax value",
    "call of dense or conv2d",
    "call of another layer",
    "pass",
    "step",
    "parameter",
    "parameter's rate as f16",
    "parameter's rate as log8",
    "parameter under momentum",
    "parameter under adam",
    "learned moment of a parameter, first step",
    "parameter under online_meta_sgd",
    "value of a rule that is a network, f32",
    "value of a rule that is a network, f16",
    "sigmoid or tanh of the lstm rule",
    "parameter under lstm",
    "value in a tensor's mean",
    "mean of a tensor",
    "decayed parameter",
    "clipped parameter",
    "value of a split layer put together",
    "value of a split layer read as f16",
    "run of such values",
    "part of a split layer and example",
    "masked parameter at theta_0",
};

namespace {

// What a layer that runs whole adds for a pass over m examples: forward, weight
// gradient, input gradient.
struct Passes {
  bool forward, weight, input;
  bool f16;  // Weights are decoded as they are read.
};
void add_layer(const Layer& l, uint32_t m, const Passes& run, CostTerms* t) {
  CostTerms& terms = *t;
  const double n_in = l.n_in();
  const double n_out = l.n_out();
  switch (l.op) {
    case LayerOp::kDense: {
      const auto add_product = [&](uint32_t rows, double depth) {
        const Tiles tiles(rows, m);
        terms[kDenseOutput] += double(rows) * m;
        terms[kDenseTiles] += tiles.whole * depth;
        terms[kDenseColumns] += tiles.col_strips * depth;
        terms[kDenseRows] += tiles.row_strips * depth;
        terms[kDenseSingle] += tiles.singles * depth;
        // Once for four examples, or one beside them.
        if (run.f16) terms[kF16Weight] += rows * depth * (m / 4 + m % 4);
      };
      if (run.forward) add_product(l.n_out(), n_in);
      if (run.input) add_product(l.n_in(), n_out);
      if (run.weight) {
        const Tiles tiles(l.n_out(), l.n_in());
        terms[kDenseGradient] += tiles.whole * m;
        terms[kDenseGradientRest] +=
            (tiles.row_strips + tiles.col_strips + tiles.singles) * m;
        terms[kDenseGradientPass] += n_in * n_out;
      }
      break;
    }
    case LayerOp::kConv2d: {
      const double per_filter = taps(l) * l.in_c * m;
      const double per_channel = taps(l) * l.out_c * m;
      const double filters = l.out_c & ~3U;
      const double channels = l.in_c & ~3U;
      if (run.forward) {
        // Four outputs of a row at a time, or one.
        const bool tiled = l.kernel == 3 && l.out_w >= 4;
        terms[tiled ? kConvForward : kConvForwardOther] += per_filter * filters;
        terms[tiled ? kConvForwardRows : kConvForwardOtherRows] +=
            per_filter * (l.out_c - filters);
        terms[kConvOutput] += n_out * m;
        if (!tiled) {
          const double groups = l.out_c / 4 + l.out_c % 4;
          terms[kConvRun] +=
              double(l.out_h) * l.out_w * l.in_c * l.kernel * groups * m;
        }
        if (run.f16) {
          terms[kF16Weight] += per_filter * l.out_c / (tiled ? 4 : 1);
        }
      }
      if (run.weight) {
        terms[kConvGradient] += per_filter * filters;
        terms[kConvGradientRows] += per_filter * (l.out_c - filters);
        terms[kConvGradientPass] += l.n_weights;
      }
      if (run.input) {
        const bool strided = l.kernel == 3 && l.stride == 2;
        terms[strided ? kConvInput : kConvInputOther] += per_channel * channels;
        terms[kConvInputRows] += per_channel * (l.in_c - channels);
        terms[kConvOutput] += n_in * m;
        if (run.f16) terms[kF16Weight] += per_channel * l.in_c / 4;
      }
      break;
    }
    case LayerOp::kContext:
      terms[kContext] += (n_out + (run.input ? n_in : 0)) * m;
      break;
    case LayerOp::kRelu: terms[kRelu] += n_out * m; break;
    case LayerOp::kTanh: terms[kTanh] += n_out * m; break;
    case LayerOp::kGroupNorm:
      if (run.forward) terms[kNormForward] += n_out * m;
      if (run.weight) terms[kNormBackward] += n_out * m;
      if (run.input) terms[kNormBackward] += n_out * m;
      break;
    case LayerOp::kMaxPool:
    case LayerOp::kGlobalAvgPool:
      terms[kPool] += n_in * m * (run.input ? 2 : 1);
      break;
    case LayerOp::kFlatten:
    case LayerOp::kBatchNorm: break;
  }
}

// The same of a layer that a mask splits (sparse_mask.h). `later`: after
// theta_0, whose weights all lie in the capsule.
void add_split_layer(const Capsule& capsule,
                     const Layer& l,
                     uint32_t m,
                     bool first_pass,
                     bool later,
                     bool input,
                     CostTerms* t) {
  const Network& network = capsule.network;
  const bool f16 = capsule.init.storage == Storage::kF16;
  CostTerms& terms = *t;
  const double moves = first_pass ? 1 : 2;  // Of the gradient, there and back.
  if (!has_parts(l)) {
    const double n = l.n_params();
    terms[kMaskValue] += moves * n + (later ? n : 0) + (later && input ? n : 0);
    add_layer(l, m, {true, true, input, f16 && !later}, t);
    return;
  }
  add_layer(l, m, {!later, false, input && !later, f16}, t);
  const MaskedParts parts(l);
  // Parts are a few rows, or columns, of one example.
  const auto add_parts = [&](uint32_t n, double values, double runs) {
    terms[kMaskValue] += values;
    terms[kMaskRun] += runs;
    terms[kMaskPart] += double(fours(n)) * m;
  };
  const double weights = l.n_weights;
  if (f16 && later) {  // What the mask stops.
    const MaskTable mask(network);
    const double stopped =
        l.n_params() - mask.count(l.param_offset, l.n_params());
    terms[kF16MaskValue] += stopped * (input ? 2 : 1);
  }
  const uint32_t n_groups = fours(parts.n_rows);
  const uint32_t rows = gradient_rows(MaskTable(network), l);
  const double share = static_cast<double>(rows) / parts.n_rows;
  if (later) add_parts(parts.n_rows, l.n_params(), 2.0 * n_groups);
  add_parts(rows, moves * share * l.n_params(), moves * 2.0 * fours(rows));
  if (later && input) {
    const uint32_t n_columns = fours(parts.n_inputs);
    add_parts(parts.n_inputs, weights, double(n_columns) * parts.n_rows);
  }
  // Every example is a pass of its own.
  CostTerms products = {}, gradient = {};
  add_layer(l, 1, {later, false, later && input, false}, &products);
  add_layer(l, 1, {false, true, false, false}, &gradient);
  for (int j = 0; j < kCostTerms; ++j) {
    terms[j] += m * (products[j] + share * gradient[j]);
  }
}

// What the rule adds to what it takes for any parameter.
void add_rule(const Capsule& capsule, bool later, CostTerms* t) {
  CostTerms& terms = *t;
  const Network& network = capsule.network;
  const Rule& rule = capsule.rule;
  const Storage storage = capsule.rates.storage;
  const double n = network.n_adapted;
  // Of weights, which are never log8.
  const auto add_lookups = [&](double count) {
    terms[storage == Storage::kF16 ? kLookupF16 : kLookupF32] += count;
  };
  double decoded = 0;  // Rates and moments, of each parameter its own.
  switch (rule.op) {
    case RuleOp::kSgd:
    case RuleOp::kLslr: break;
    case RuleOp::kMetaSgd: decoded = n; break;
    case RuleOp::kMomentum:
    case RuleOp::kAdam:
      terms[rule.op == RuleOp::kAdam ? kAdam : kMomentum] += n;
      if (rule.options.layout() == RateLayout::kParameter) decoded += n;
      if (!later && rule.options.learned_moments()) {
        decoded += n_means(rule.op) * n;
        terms[kMoment] += n_means(rule.op) * n;
      }
      break;
    case RuleOp::kOnlineMetaSgd: terms[kOnline] += n; break;
    case RuleOp::kRateNet: {
      const RateNetShape s = rate_net_shape(network, rule.steps, rule.options);
      add_lookups(s.base() + s.n_out());
      terms[kTanh] += s.n_out();
      terms[kTensorValue] += 2 * n;
      terms[kTensor] += 2 * s.n_tensors;
      break;
    }
    case RuleOp::kLstm: {
      const LstmShape s = {rule.options.hidden()};
      const uint32_t inputs = LstmShape::kInputs + (later ? s.hidden : 0);
      add_lookups(n * (s.rows() * (inputs + 1.0) + 2.0 * (s.hidden + 1)));
      terms[kLstmFunction] += n * (5.0 * s.hidden + 2);
      terms[kLstmParameter] += n;
      break;
    }
  }
  if (storage == Storage::kF16) terms[kRateF16] += decoded;
  if (storage == Storage::kLog8) terms[kRateLog8] += decoded;
  if (rule.weight_decay != 0.0F) terms[kDecay] += n;
  if (rule.clip_norm != 0.0F) terms[kClip] += n;
}

}  // namespace

CostTerms cost_terms(const Capsule& capsule, uint32_t n, uint32_t tile) {
  const Network& network = capsule.network;
  const bool later = capsule.limits.steps > 1;
  CostTerms t = {};
  const uint32_t lowest = first_adapted_layer(network);
  bool first_pass = true;
  for (const uint32_t m : passes(n, tile)) {
    for (uint32_t i = 0; i < network.n_layers; ++i) {
      const Layer& l = network.layers[i];
      const bool input = i > lowest;
      const bool weight = network.adapts(i) && l.n_params() != 0;
      t[l.op == LayerOp::kDense || l.op == LayerOp::kConv2d ? kCalls
                                                            : kOtherCalls] +=
          1 + (weight ? 1 : 0) + (input && l.in_place == 0 ? 1 : 0);
      if (network.masked != 0 && MaskTable(network).splits(l)) {
        add_split_layer(capsule, l, m, first_pass, later, input, &t);
      } else {
        const bool f16 = capsule.init.storage == Storage::kF16 &&
                         (!later || !network.adapts(i));
        add_layer(l, m, {true, weight, input, f16}, &t);
      }
    }
    first_pass = false;
    t[kPass] += 1;
  }
  if (network.loss == LossOp::kSoftmaxCrossEntropy) {
    t[kSoftmax] += static_cast<double>(network.n_out) * n;
  }
  t[kParameters] = network.n_adapted;
  t[kStep] = 1;
  if (network.masked != 0 && !later) t[kMaskGather] = network.n_params;
  add_rule(capsule, later, &t);
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

std::vector<CoreCost> step_instructions(const Capsule& capsule,
                                        uint32_t n,
                                        uint32_t tile) {
  const Network& network = capsule.network;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    if (!is_measured(network.layers[i].op)) return {};
  }
  const CostTerms terms = cost_terms(capsule, n, tile);
  std::vector<CoreCost> costs;
  for (const CoreTable& core : kCoreTables) {
    double sum = 0;
    for (int j = 0; j < kCostTerms; ++j) sum += terms[j] * core.cost[j];
    costs.push_back({core.name, sum, core.error});
  }
  return costs;
}

}  // namespace fewstep::cli
