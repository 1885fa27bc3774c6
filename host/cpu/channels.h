// Channels: how the kernels of lib/ work on runs of channels of one task.
//
// Large networks run one task a worker, with kLanes consecutive channels in a
// register: activations are arrays [example][run of channels][y][x], and the
// padding lanes of the last run hold zeros that nobody reads. Sums over
// channels take the single ones with Packing::channel, in their order, so the
// bits are those of every other engine.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_CHANNELS_H_
#define FEWSTEP_HOST_CPU_CHANNELS_H_

#include "fewstep/host/lanes.h"
#include "fewstep/layers/tile.h"
#include "fewstep/numerics/dual.h"

namespace fewstep {

template <>
struct Packing<Channels> {
  static constexpr uint32_t kChannels = kLanes;
  static FEWSTEP_INLINE Channels channel(const Channels* at, uint32_t i) {
    return channel(reinterpret_cast<const float*>(at), i);
  }
  /// Of the network's input, a plain array.
  static FEWSTEP_INLINE Channels channel(const float* at, uint32_t i) {
    return Number<Channels>::constant(at[i]);
  }
};
template <>
struct Packing<Dual<Channels>> {
  static constexpr uint32_t kChannels = kLanes;
  static FEWSTEP_INLINE Dual<Channels> channel(const Dual<Channels>* at,
                                               uint32_t i) {
    return {Packing<Channels>::channel(&at->value, i),
            Packing<Channels>::channel(&at->tangent, i)};
  }
  static FEWSTEP_INLINE Channels channel(const float* at, uint32_t i) {
    return Packing<Channels>::channel(at, i);
  }
};

// For the operations that never see the network's input (ChannelNetwork).
template <>
struct Lift<Channels, float> {
  static FEWSTEP_INLINE Channels of(float x) { return constant<Channels>(x); }
};
template <>
struct Lift<Dual<Channels>, float> {
  static FEWSTEP_INLINE Dual<Channels> of(float x) {
    return constant<Dual<Channels>>(x);
  }
};

// Rows are runs of output channels, columns examples, whose factors are
// broadcast from memory; weight gradients take 4,096 runs of deltas at a time.
#if defined(__AVX512F__)  // 32 registers.
template <>
struct TileShape<Channels> : SimdTileShape<4, 5, 4, 4096> {};
template <>
struct TileShape<Dual<Channels>> : SimdTileShape<2, 5, 4, 4096> {};
template <>
struct TangentTileShape<Channels> : SimdTileShape<4, 5, 4, 4096> {};
#else  // 16 registers.
template <>
struct TileShape<Channels> : SimdTileShape<2, 5, 4, 4096> {};
template <>
struct TileShape<Dual<Channels>> : SimdTileShape<1, 5, 4, 4096> {};
template <>
struct TangentTileShape<Channels> : SimdTileShape<2, 5, 4, 4096> {};
#endif

}  // namespace fewstep

#endif  // FEWSTEP_HOST_CPU_CHANNELS_H_
