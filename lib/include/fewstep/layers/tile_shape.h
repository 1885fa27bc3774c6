// What a register tile of dense and conv2d holds: how many sums, and of what.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_TILE_SHAPE_H_
#define FEWSTEP_LAYERS_TILE_SHAPE_H_

#include "fewstep/numerics/dual.h"
#include "fewstep/views.h"

namespace fewstep {

/// Tile size by number type. Sixteen accumulators fit Cortex-M4F's 32
/// single-precision registers; types with other register files specialize it.
///
/// kExactCols: what is left of the columns is a tile of its own width, not
/// strips of one; faster, and kCols times the code.
/// kChunkValues: values of dL_dout that a weight gradient takes in one pass; 0:
/// all of the tile's examples.
/// kAcrossExamples: what shares a convolution's tile is the same position of
/// several examples; else neighbours in one (conv2d_rows.h).
/// kByPosition: an item of such a convolution is one position, not a row of
/// them: for executors with more threads than rows (executor/gpu_tiles.h).
template <class T>
struct TileShape {
  static constexpr int kRows = 4;
  static constexpr int kCols = 4;
  static constexpr int kChannelCols = 4;  ///< Where columns are channels.
  static constexpr bool kExactCols = false;
  static constexpr uint32_t kChunkValues = 0;
  static constexpr bool kAcrossExamples = false;
  static constexpr bool kByPosition = false;
};
template <class T>
struct TileShape<Dual<T>> {
  static constexpr int kRows = 2;
  static constexpr int kCols = 2;
  static constexpr int kChannelCols = 2;
  static constexpr bool kExactCols = false;
  static constexpr uint32_t kChunkValues = 0;
  static constexpr bool kAcrossExamples = true;
  static constexpr bool kByPosition = false;
};

/// What TileShape of a SIMD type derives from: whole tiles whatever the number
/// of columns, across examples.
template <int rows, int cols, int channel_cols, uint32_t chunk_values>
struct SimdTileShape {
  static constexpr int kRows = rows;
  static constexpr int kCols = cols;
  static constexpr int kChannelCols = channel_cols;
  static constexpr bool kExactCols = true;
  static constexpr uint32_t kChunkValues = chunk_values;
  static constexpr bool kAcrossExamples = true;
  static constexpr bool kByPosition = false;
};

/// TileShape of sums of the tangents of Dual<T> alone: half the registers.
template <class T>
struct TangentTileShape : TileShape<Dual<T>> {};

/// What a kernel that reads weights through view W keeps of a sum of Ts: all of
/// it, or of dual numbers their tangent, which takes two multiply-adds a term
/// instead of three. Either has the same bits.
template <class W, class T>
struct SumOf {
  using Type = T;
  using Shape = TileShape<T>;
};
template <class View, class T>
struct SumOf<TangentView<View>, Dual<T>> {
  using Type = T;
  using Shape = TangentTileShape<T>;
};

/// x as a Sum: itself, or its tangent.
template <class Sum, class T>
FEWSTEP_INLINE Sum as_sum(const T& x) {
  return x;
}
template <class Sum>
FEWSTEP_INLINE Sum as_sum(const Dual<Sum>& x) {
  return x.tangent;
}

/// *at = sum, or its tangent alone.
template <class T, class Sum>
FEWSTEP_INLINE void put_sum(T* at, const Sum& sum) {
  *at = sum;
}
template <class Sum>
FEWSTEP_INLINE void put_sum(Dual<Sum>* at, const Sum& sum) {
  at->tangent = sum;
}

/// Where sums go that are not merely written to an array: put(i, sum i). They
/// start at +0.
template <class Put>
struct SumsTo {
  Put put;
  uint32_t i;
  FEWSTEP_INLINE SumsTo operator+(uint32_t n) const { return {put, i + n}; }
};
template <class Put>
FEWSTEP_INLINE SumsTo<Put> sums_to(const Put& put) {
  return {put, 0};
}
template <class Put, class Sum>
FEWSTEP_INLINE void put_sum(const SumsTo<Put>& to, const Sum& sum) {
  to.put(to.i, sum);
}

/// What a sum that goes to *at starts from.
template <class Sum, class T>
FEWSTEP_INLINE Sum start_sum(const T* at, bool first) {
  return first ? constant<Sum>(0.0F) : as_sum<Sum>(*at);
}
template <class Sum, class Put>
FEWSTEP_INLINE Sum start_sum(const SumsTo<Put>&, bool) {
  return constant<Sum>(0.0F);
}

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_TILE_SHAPE_H_
