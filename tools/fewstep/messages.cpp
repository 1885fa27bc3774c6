// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "messages.h"

#include <fmt/format.h>

#include "fewstep/host/error.h"
#include "fewstep/host/network_builder.h"

namespace fewstep::cli {

void warn_if_transductive(const host::Recipe& recipe) {
  if (host::build_network(recipe).network.transductive == 0) return;
  fmt::print(stderr,
             "fewstep: warning: the network has batch_norm: on a device each "
             "prediction depends on the examples predicted with it, one at a "
             "time is close to chance, and the whole support set must fit in "
             "memory; group_norm has none of these costs\n");
}

host::EngineKind engine_of(const std::string& name) {
  if (name == "cpu") return host::EngineKind::kCpu;
  if (name == "cuda") return host::EngineKind::kCuda;
  throw host::Error(host::Exit::kUsage,
                    fmt::format("--engine {}: there are cpu and cuda", name));
}

}  // namespace fewstep::cli
