// A network as Channels sees it, and its parameters in that layout.
//
// Start here for the layout. Layers count runs of kLanes channels instead of
// channels; a dense layer becomes the convolution whose window is its whole
// input, which sums the same products in the same order. Parameters are stored
// one tensor after another with the runs of output channels outermost:
//
//   conv2d      [runs of out_c][in_c][ky][kx], bias [runs of out_c]
//   batch_norm  gamma [runs], beta [runs]
//
// and once more, for input gradients, with the runs over input channels:
//
//   conv2d      [out_c][runs of in_c][ky][kx]
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_CHANNEL_NETWORK_H_
#define FEWSTEP_HOST_CPU_CHANNEL_NETWORK_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "fewstep/network.h"

namespace fewstep::host {

class ChannelNetwork {
 public:
  /// nullopt where the layout does not apply: group_norm (its sums run across
  /// channels) or a context (which is in runs of its own), a first layer
  /// without weights, a dense layer on a plane that is
  /// not square, a flattened plane that anything but an activation or dense
  /// reads, outputs with a plane.
  static std::optional<ChannelNetwork> make(const Network& network);

  /// Offsets and sizes in runs of channels; conv2d's Layer::groups is the
  /// number of output channels. Valid while this object lives.
  Network network() const;
  /// The network it was made from: the layers are those of `make`'s argument.
  const Network& source() const { return source_; }

  /// Runs that hold parameters, of network().n_params and of the input-gradient
  /// copies.
  uint32_t n_params() const { return shape_.n_params; }
  uint32_t n_transposed() const { return n_transposed_; }
  /// First run of layer l's input-gradient copy.
  uint32_t transposed_offset(const Layer* l) const {
    return transposed_offset_[static_cast<size_t>(l - layers_.data())];
  }

  /// Share of the multiply-adds that are not padding lanes', in (0, 1].
  double utilization() const { return utilization_; }

  /// packed [n_params()][kLanes] and transposed [n_transposed()][kLanes] from
  /// theta [P].
  void pack(const float* theta, float* packed) const;
  void pack_transposed(const float* theta, float* transposed) const;
  /// The inverse of pack: theta[i * theta_stride] from runs that are `stride`
  /// floats apart.
  void unpack(const float* packed,
              size_t stride,
              float* theta,
              size_t theta_stride) const;

 private:
  ChannelNetwork() = default;

  // A tensor of [rows][cols], `rows` being output channels.
  struct Tensor {
    uint32_t offset;         // Of theta.
    uint32_t packed_offset;  // In runs.
    uint32_t rows, cols;
  };
  // Weights [rows][channels][window] to be packed over channels.
  struct Transposed {
    uint32_t offset;
    uint32_t packed_offset;
    uint32_t rows, channels, window;
  };

  Network source_;
  Network shape_;  // `layers` is set by network().
  std::vector<Layer> layers_;
  std::vector<uint32_t> transposed_offset_;
  std::vector<Tensor> tensors_;
  std::vector<Transposed> transposed_;
  uint32_t n_transposed_ = 0;
  double utilization_ = 1;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CPU_CHANNEL_NETWORK_H_
