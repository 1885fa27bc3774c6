// What takes the place of cuda_device.cpp in a build without CUDA.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "cuda_plan.h"
#include "fewstep/host/engine.h"
#include "fewstep/host/error.h"

namespace fewstep::host {
namespace {

[[noreturn]] void refuse() {
  throw Error(Exit::kResource,
              "--engine cuda: this program was built without CUDA; build it "
              "where nvcc is found (-DFEWSTEP_CUDA=ON says why it is not), or "
              "use --engine cpu");
}

}  // namespace

DeviceLimits cuda_device_limits() { refuse(); }

std::unique_ptr<Engine> make_cuda_engine(const EngineConfig&) { refuse(); }

}  // namespace fewstep::host
