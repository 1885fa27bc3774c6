// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/network_builder.h"

#include <fmt/format.h>

#include "fewstep/host/error.h"

namespace fewstep::host {
namespace {

std::string layer_key(size_t i) { return fmt::format("network.layers.{}", i); }

// Ranges were checked when the recipe was read.
Layer chosen_fields(const LayerRecipe& recipe) {
  Layer layer{};
  layer.op = recipe.op;
  layer.kernel = static_cast<uint8_t>(recipe.kernel);
  layer.stride = static_cast<uint8_t>(recipe.stride);
  layer.pad = static_cast<uint8_t>(recipe.pad);
  layer.groups = static_cast<uint16_t>(recipe.groups);
  layer.out_c = static_cast<uint16_t>(recipe.outputs);
  return layer;
}

}  // namespace

PlannedNetwork build_network(const Recipe& recipe) {
  const NetworkRecipe& chosen = recipe.network;
  uint16_t shape[3];
  for (int i = 0; i < 3; ++i) shape[i] = static_cast<uint16_t>(chosen.input[i]);
  PlannedNetwork planned;
  NetworkPlanner planner(shape[0], shape[1], shape[2], &planned.network);

  planned.layers.reserve(chosen.layers.size());
  for (size_t i = 0; i < chosen.layers.size(); ++i) {
    Layer layer = chosen_fields(chosen.layers[i]);
    if (planner.add(&layer) != Status::kOk) {
      throw Error(Exit::kUsage,
                  fmt::format("{}: {} ({}): {}; its input is {}x{}x{} "
                              "(channels x height x width)",
                              recipe.where(layer_key(i)),
                              layer_key(i),
                              to_string(layer.op),
                              planner.error(),
                              shape[0],
                              shape[1],
                              shape[2]));
    }
    shape[0] = layer.out_c;
    shape[1] = layer.out_h;
    shape[2] = layer.out_w;
    planned.layers.push_back(layer);
  }
  if (planner.finish(planned.layers.data(), chosen.loss) != Status::kOk) {
    throw Error(Exit::kUsage,
                fmt::format("{}: network.layers: {}",
                            recipe.where("network.layers"),
                            planner.error()));
  }
  return planned;
}

}  // namespace fewstep::host
