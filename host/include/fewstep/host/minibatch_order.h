// Episodes in the order of their minibatches.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_MINIBATCH_ORDER_H_
#define FEWSTEP_HOST_MINIBATCH_ORDER_H_

#include <cstdint>

#include "fewstep/host/drawing.h"
#include "fewstep/host/episode.h"
#include "fewstep/host/minibatch.h"

namespace fewstep::host {

/// What a worker does to each episode that it has drawn for an engine.
class MinibatchOrder {
 public:
  /// `inner_batch` as Objective has it.
  MinibatchOrder(const EpisodeShape& shape, uint32_t inner_batch)
      : shape_(shape), minibatches_(shape.n_support, inner_batch) {}

  /// Puts the support set of a training task in the order of its minibatches
  /// (Episode::drawn stays in that of the source); other splits keep theirs.
  /// Allocates the first time only.
  void apply(Split split, Episode* episode);

 private:
  EpisodeShape shape_;
  Minibatches minibatches_;
  Episode spare_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_MINIBATCH_ORDER_H_
