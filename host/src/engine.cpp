// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/engine.h"

namespace fewstep::host {

std::unique_ptr<Engine> make_engine(EngineKind kind,
                                    const EngineConfig& config) {
  switch (kind) {
    case EngineKind::kCpu: return make_cpu_engine(config);
    case EngineKind::kCuda: return make_cuda_engine(config);
  }
  return make_cpu_engine(config);
}

}  // namespace fewstep::host
