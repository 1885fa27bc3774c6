// The outer step: the norm by one block, then an element a thread.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/executor/block.h"
#include "grid_executor.h"
#include "kernels.h"

namespace fewstep::host {
namespace {

__global__ void __launch_bounds__(kPartials)
    prepare(const __grid_constant__ OuterArrays<float> a) {
  prepare_outer_step(BlockExecutor(), a);
}

__global__ void __launch_bounds__(kGridThreads)
    step(const __grid_constant__ OuterArrays<float> a) {
  take_outer_step(GridExecutor(), a);
}

}  // namespace

const void* outer_preparation() {
  return reinterpret_cast<const void*>(&prepare);
}
const void* outer_step_of_elements() {
  return reinterpret_cast<const void*>(&step);
}

}  // namespace fewstep::host
