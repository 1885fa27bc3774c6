// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "capsule_ops.h"

#include <algorithm>

namespace fewstep::cli {
namespace {

bool has_parameters(LayerOp op) {
  return op == LayerOp::kDense || op == LayerOp::kConv2d ||
         op == LayerOp::kGroupNorm || op == LayerOp::kBatchNorm ||
         op == LayerOp::kContext;
}

}  // namespace

std::vector<std::string> op_symbols(const Capsule& capsule) {
  const Network& network = capsule.network;
  // Kernels that read parameters come with and without f16 decoding.
  const std::string f16 = capsule.init.storage == Storage::kF16 ? "_f16" : "";
  std::vector<std::string> symbols;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const LayerOp op = network.layers[i].op;
    std::string symbol = std::string("fewstep_op_") + to_string(op);
    if (has_parameters(op)) symbol += f16;
    if (std::find(symbols.begin(), symbols.end(), symbol) == symbols.end()) {
      symbols.push_back(symbol);
    }
  }
  symbols.push_back(std::string("fewstep_op_") + to_string(network.loss));
  symbols.push_back(std::string("fewstep_op_") + to_string(capsule.rule.op) +
                    f16);
  if (network.adapted != nullptr || capsule.rule.has_step_options()) {
    symbols.push_back("fewstep_op_step_options");
  }
  if (network.masked != 0) symbols.push_back("fewstep_op_sparse_mask");
  return symbols;
}

}  // namespace fewstep::cli
