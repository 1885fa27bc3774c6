// From a recipe's layers to the planned network every engine reads.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_NETWORK_BUILDER_H_
#define FEWSTEP_HOST_NETWORK_BUILDER_H_

#include <string>
#include <vector>

#include "fewstep/host/recipe.h"
#include "fewstep/network.h"

namespace fewstep::host {

/// A network and the arrays it points to. Moves, does not copy.
struct PlannedNetwork {
  std::vector<Layer> layers;
  std::vector<uint32_t> adapted;
  Network network{};

  PlannedNetwork() = default;
  PlannedNetwork(PlannedNetwork&&) = default;
  PlannedNetwork& operator=(PlannedNetwork&&) = default;
  PlannedNetwork(const PlannedNetwork&) = delete;
  PlannedNetwork& operator=(const PlannedNetwork&) = delete;
};

/// Plans the recipe's network and what adapts of it.
///
/// Errors: kUsage naming the layer's index, its line, what is wrong and the
/// shape it was given; or what is wrong with inner.adapt.
PlannedNetwork build_network(const Recipe& recipe);

/// What people call the layers: the operation and how manieth of its kind it
/// is, e.g. conv2d1, relu1, conv2d2, relu2, dense1.
std::vector<std::string> layer_names(const std::vector<LayerOp>& layers);
std::vector<std::string> layer_names(const Network& network);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_NETWORK_BUILDER_H_
