// Episodes of kLanes tasks, interleaved: one task a lane.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_LANE_BATCH_H_
#define FEWSTEP_HOST_CPU_LANE_BATCH_H_

#include <vector>

#include "fewstep/host/episode.h"
#include "fewstep/host/lanes.h"
#include "fewstep/inner_loop.h"

namespace fewstep::host {

/// One set (support or query) of kLanes tasks.
struct LaneSet {
  std::vector<Lanes> x, labels, targets;

  void resize(const EpisodeShape& shape, uint32_t n) {
    x.resize(size_t{n} * shape.n_in);
    labels.resize(shape.classification ? n : 0);
    targets.resize(shape.classification ? 0 : size_t{n} * shape.n_out);
  }

  void set(int lane,
           const std::vector<float>& lane_x,
           const std::vector<uint16_t>& lane_labels,
           const std::vector<float>& lane_targets) {
    for (size_t i = 0; i < x.size(); ++i) set_lane(&x[i], lane, lane_x[i]);
    for (size_t i = 0; i < labels.size(); ++i) {
      set_lane(&labels[i], lane, static_cast<float>(lane_labels[i]));
    }
    for (size_t i = 0; i < targets.size(); ++i) {
      set_lane(&targets[i], lane, lane_targets[i]);
    }
  }

  Batch<Lanes> batch(uint32_t n) const {
    return {x.data(),
            labels.empty() ? nullptr : labels.data(),
            targets.empty() ? nullptr : targets.data(),
            n};
  }
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CPU_LANE_BATCH_H_
