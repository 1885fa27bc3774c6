// [network]: reading it.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <string>
#include <vector>

#include "fewstep/host/error.h"
#include "fewstep/host/recipe.h"
#include "recipe_reader.h"

namespace fewstep::host {
namespace {

constexpr std::pair<const char*, LayerOp> kLayers[] = {
    {"dense", LayerOp::kDense},
    {"conv2d", LayerOp::kConv2d},
    {"relu", LayerOp::kRelu},
    {"tanh", LayerOp::kTanh},
    {"max_pool", LayerOp::kMaxPool},
    {"global_avg_pool", LayerOp::kGlobalAvgPool},
    {"flatten", LayerOp::kFlatten},
    {"group_norm", LayerOp::kGroupNorm},
    {"batch_norm", LayerOp::kBatchNorm},
    {"context", LayerOp::kContext}};
constexpr std::pair<const char*, LossOp> kLosses[] = {
    {"softmax_cross_entropy", LossOp::kSoftmaxCrossEntropy},
    {"mean_squared_error", LossOp::kMeanSquaredError}};

LayerRecipe read_layer(const toml::node& node, size_t index) {
  const std::string path = fmt::format("network.layers.{}", index);
  const toml::table* table = node.as_table();
  if (table == nullptr || !table->contains("op")) {
    throw Error(Exit::kUsage,
                fmt::format("{}: {} must be a table with an operation, e.g. "
                            "{{op = \"relu\"}}",
                            location(node.source()),
                            path));
  }
  static const std::vector<std::string> any_key = {
      "op", "units", "filters", "kernel", "stride", "pad", "groups"};
  LayerRecipe layer;
  // The operation first: it says which keys there may be.
  layer.op = TableReader(*table, path, any_key, "", {})
                 .choice("op", Choices<LayerOp>(kLayers));
  std::vector<std::string> known = {"op"};
  switch (layer.op) {
    case LayerOp::kDense:
    case LayerOp::kContext: known = {"op", "units"}; break;
    case LayerOp::kConv2d:
      known = {"op", "filters", "kernel", "stride", "pad"};
      break;
    case LayerOp::kMaxPool: known = {"op", "kernel", "stride"}; break;
    case LayerOp::kGroupNorm: known = {"op", "groups"}; break;
    case LayerOp::kRelu:
    case LayerOp::kTanh:
    case LayerOp::kGlobalAvgPool:
    case LayerOp::kFlatten:
    case LayerOp::kBatchNorm: break;
  }
  const TableReader r(*table, path, known, to_string(layer.op), {});
  if (layer.op == LayerOp::kDense || layer.op == LayerOp::kContext) {
    layer.outputs = r.small("units", 1, kMaxCount);
  } else if (layer.op == LayerOp::kConv2d) {
    layer.outputs = r.small("filters", 1, kMaxCount);
    layer.kernel = r.small("kernel", 1, 255);
    layer.stride = r.small("stride", 1, 255, 1);
    layer.pad = r.small("pad", 0, 254, 0);
  } else if (layer.op == LayerOp::kMaxPool) {
    layer.kernel = r.small("kernel", 1, 255, 2);
    layer.stride = r.small("stride", 1, 255, layer.kernel);
  } else if (layer.op == LayerOp::kGroupNorm) {
    layer.groups = r.small("groups", 1, 32767);
  }
  return layer;
}

}  // namespace

void read_network(const TableReader& r, NetworkRecipe* network) {
  if (!r.has("input")) {
    r.fail("input",
           "is missing; give the shape of one example as [channels, height, "
           "width], e.g. [1, 28, 28], or [n, 1, 1] for n values");
  }
  const std::vector<double> shape = r.reals("input", 3, 1, kMaxCount, {});
  for (size_t i = 0; i < 3; ++i) {
    network->input[i] = static_cast<int>(shape[i]);
    if (network->input[i] != shape[i]) {
      r.fail("input", "must be an array of 3 integers");
    }
  }
  const toml::array& layers = r.array("layers");
  if (layers.empty()) r.fail("layers", "is empty; give at least one layer");
  for (size_t i = 0; i < layers.size(); ++i) {
    network->layers.push_back(read_layer(*layers.get(i), i));
  }
  network->loss = r.choice("loss", Choices<LossOp>(kLosses));
}

}  // namespace fewstep::host
