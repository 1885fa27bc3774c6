// The planner that knows of context layers; apart from network.cpp so that
// firmware links it only when it names context among its operations.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "plan_layer.h"

namespace fewstep {

PlanError NetworkPlanner::derive(const Layer& chosen, Layer* layer) {
  return derive_layer<true>(chosen, layer);
}

bool has_context(const Network& network) {
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    if (network.layers[i].op == LayerOp::kContext) return true;
  }
  return false;
}

}  // namespace fewstep
