// Register tiles for GPUs: include before anything that runs a kernel.
//
// A thread of a GPU has up to 255 registers, and a block more threads than a
// small layer has rows of outputs: tiles of 16 sums, across examples, an item a
// position. Tests that prove the GPU's kernels on the host include this too.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_EXECUTOR_GPU_TILES_H_
#define FEWSTEP_EXECUTOR_GPU_TILES_H_

#include "fewstep/layers/tile.h"

namespace fewstep {

/// What TileShape of a GPU's number type derives from.
template <int rows, int cols>
struct GpuTileShape {
  static constexpr int kRows = rows;
  static constexpr int kCols = cols;
  static constexpr int kChannelCols = cols;
  static constexpr bool kExactCols = false;
  static constexpr uint32_t kChunkValues = 0;
  static constexpr bool kAcrossExamples = true;
  static constexpr bool kByPosition = true;
};

template <>
struct TileShape<float> : GpuTileShape<4, 4> {};
/// Eight sums of two registers each.
template <>
struct TileShape<Dual<float>> : GpuTileShape<4, 2> {};

}  // namespace fewstep

#endif  // FEWSTEP_EXECUTOR_GPU_TILES_H_
