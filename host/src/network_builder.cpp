// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/network_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "fewstep/adapted.h"
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
  const uint16_t outputs = static_cast<uint16_t>(recipe.outputs);
  (layer.op == LayerOp::kContext ? layer.groups : layer.out_c) = outputs;
  return layer;
}

[[noreturn]] void refuse_adapt(const Recipe& recipe, const std::string& what) {
  throw Error(
      Exit::kUsage,
      fmt::format("{}: inner.adapt: {}", recipe.where("inner.adapt"), what));
}

// Names with parameters, as a message lists them.
std::string choices(const Network& network,
                    const std::vector<std::string>& names) {
  std::string all;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    if (network.layers[i].n_params() == 0) continue;
    all += (all.empty() ? "\"" : ", \"") + names[i] + "\"";
  }
  return all;
}

// Network::adapted before plan_adapted(): kFrozen or 0.
std::vector<uint32_t> choose_adapted(const Recipe& recipe,
                                     const Network& network) {
  const InnerRecipe& inner = recipe.inner;
  std::vector<uint32_t> adapted(network.n_layers, kFrozen);
  if (inner.adapt == Adapt::kLayers) {
    const std::vector<std::string> names = layer_names(network);
    for (const std::string& name : inner.layers) {
      const auto found = std::find(names.begin(), names.end(), name);
      const auto i = static_cast<size_t>(found - names.begin());
      if (found == names.end()) {
        refuse_adapt(recipe,
                     fmt::format("the network has no layer \"{}\"; those with "
                                 "parameters are {}",
                                 name,
                                 choices(network, names)));
      }
      if (network.layers[i].n_params() == 0) {
        refuse_adapt(recipe,
                     fmt::format("\"{}\" has no parameters; layers that have "
                                 "are {}",
                                 name,
                                 choices(network, names)));
      }
      adapted[i] = 0;
    }
    return adapted;
  }
  if (inner.adapt == Adapt::kContext) {
    if (!has_context(network)) {
      refuse_adapt(recipe,
                   "the network has no context layer; put {op = \"context\", "
                   "units = 4} below the layer that is to read it");
    }
    for (uint32_t i = 0; i < network.n_layers; ++i) {
      if (network.layers[i].op == LayerOp::kContext) adapted[i] = 0;
    }
    return adapted;
  }
  uint32_t head = network.n_layers - 1U;
  while (network.layers[head].n_params() == 0) --head;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    if (inner.adapt == Adapt::kAll || inner.adapt == Adapt::kSparse ||
        (i == head) == (inner.adapt == Adapt::kHead)) {
      adapted[i] = 0;
    }
  }
  return adapted;
}

// A context starts at 0 and only adaptation moves it.
void check_contexts(const Recipe& recipe,
                    const Network& network,
                    const std::vector<uint32_t>& adapted) {
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    if (network.layers[i].op == LayerOp::kContext && adapted[i] == kFrozen) {
      refuse_adapt(recipe,
                   fmt::format("\"{}\" would not adapt and stay at 0, where "
                               "nothing reads anything from it; let it adapt, "
                               "or leave it out of the network",
                               layer_names(network)[i]));
    }
  }
}

}  // namespace

std::vector<std::string> layer_names(const std::vector<LayerOp>& layers) {
  std::map<LayerOp, int> count;
  std::vector<std::string> names;
  for (const LayerOp op : layers) {
    names.push_back(fmt::format("{}{}", to_string(op), ++count[op]));
  }
  return names;
}

std::vector<std::string> layer_names(const Network& network) {
  std::vector<LayerOp> layers;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    layers.push_back(network.layers[i].op);
  }
  return layer_names(layers);
}

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
  planned.adapted = choose_adapted(recipe, planned.network);
  check_contexts(recipe, planned.network, planned.adapted);
  if (plan_adapted(planned.adapted.data(), &planned.network) != Status::kOk) {
    refuse_adapt(recipe,
                 "no parameter would adapt: the network has one layer with "
                 "parameters, which is its head");
  }
  return planned;
}

}  // namespace fewstep::host
