// Episodes of the built-in sources: a task a thread draws, a pixel a thread
// fetches.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "grid_executor.h"
#include "kernels.h"

namespace fewstep::host {
namespace {

__global__ void __launch_bounds__(kDrawingThreads)
    draw(const __grid_constant__ DrawingLaunch l) {
  draw_episodes(GridExecutor(), l);
}

__global__ void __launch_bounds__(kGridThreads)
    fetch(const __grid_constant__ DrawingLaunch l) {
  fetch_images(GridExecutor(), l);
}

}  // namespace

const void* episode_drawing() { return reinterpret_cast<const void*>(&draw); }
const void* image_fetching() { return reinterpret_cast<const void*>(&fetch); }

}  // namespace fewstep::host
