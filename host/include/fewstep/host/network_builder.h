// From a recipe's layers to the planned network every engine reads.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_NETWORK_BUILDER_H_
#define FEWSTEP_HOST_NETWORK_BUILDER_H_

#include <vector>

#include "fewstep/host/recipe.h"
#include "fewstep/network.h"

namespace fewstep::host {

/// A network and the layer records it points to. Moves, does not copy.
struct PlannedNetwork {
  std::vector<Layer> layers;
  Network network{};

  PlannedNetwork() = default;
  PlannedNetwork(PlannedNetwork&&) = default;
  PlannedNetwork& operator=(PlannedNetwork&&) = default;
  PlannedNetwork(const PlannedNetwork&) = delete;
  PlannedNetwork& operator=(const PlannedNetwork&) = delete;
};

/// Plans the recipe's network.
///
/// Errors: kUsage naming the layer's index, its line, what is wrong and the
/// shape it was given.
PlannedNetwork build_network(const Recipe& recipe);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_NETWORK_BUILDER_H_
