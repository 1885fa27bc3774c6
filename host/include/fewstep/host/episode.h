// An episode: the support and query sets of one task.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_EPISODE_H_
#define FEWSTEP_HOST_EPISODE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fewstep::host {

/// The sizes every episode of a source has.
struct EpisodeShape {
  uint32_t ways;        ///< Classes in an episode; 0 for regression.
  uint32_t n_support;   ///< Examples to adapt on.
  uint32_t n_query;     ///< Examples to judge on.
  uint32_t n_in;        ///< Values of one example.
  uint32_t n_out;       ///< Outputs of the network: ways, or targets' length.
  bool classification;  ///< Labels, else targets.

  bool operator==(const EpisodeShape&) const = default;
};

/// Shape of one example, in CHW order; c * h * w = n_in.
using InputShape = std::array<uint32_t, 3>;

/// One task. Examples are rows; labels are filled for classification, targets
/// for regression, and the other pair is empty.
struct Episode {
  std::vector<float> support_x;          ///< [n_support][n_in]
  std::vector<float> query_x;            ///< [n_query][n_in]
  std::vector<uint16_t> support_labels;  ///< [n_support], < ways
  std::vector<uint16_t> query_labels;    ///< [n_query], < ways
  std::vector<float> support_targets;    ///< [n_support][n_out]
  std::vector<float> query_targets;      ///< [n_query][n_out]

  /// What the source drew: for `images` the classes [ways], then the images of
  /// each within its class [ways][shots + queries]; else empty.
  std::vector<uint32_t> drawn;

  /// Gives every vector its length; allocates only where one grows.
  void resize(const EpisodeShape& shape) {
    const size_t n_s = shape.n_support, n_q = shape.n_query;
    support_x.resize(n_s * shape.n_in);
    query_x.resize(n_q * shape.n_in);
    support_labels.resize(shape.classification ? n_s : 0);
    query_labels.resize(shape.classification ? n_q : 0);
    support_targets.resize(shape.classification ? 0 : n_s * shape.n_out);
    query_targets.resize(shape.classification ? 0 : n_q * shape.n_out);
  }
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_EPISODE_H_
