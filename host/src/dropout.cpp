// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/dropout.h"

#include "fewstep/host/philox.h"

namespace fewstep::host {

DropoutPlan::DropoutPlan(const Network& network)
    : mask_(network.n_layers, kNone), below_(network.n_layers, kNone) {
  // The activation whose output is at hand, if it is one's.
  uint32_t last = kNone;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const Layer& l = network.layers[i];
    if (last != kNone && l.in_place == 0) {
      // It is read, and so not the network's output.
      if (mask_[last] == kNone) {
        mask_[last] = n_numbers_;
        n_numbers_ += (network.layers[last].n_out() + 3) / 4 * 4;
      }
      below_[i] = mask_[last];
    }
    if (l.op == LayerOp::kRelu || l.op == LayerOp::kTanh) {
      last = i;
    } else if (l.op != LayerOp::kFlatten) {
      last = kNone;
    }
  }
}

void draw_mask(const DropoutStream& stream,
               uint64_t first,
               uint32_t n,
               float rate,
               float scale,
               float* out) {
  Random random(stream.seed, stream.iteration, stream.task, Purpose::kDropout);
  random.skip(first);
  for (uint32_t i = 0; i < n; ++i) {
    out[i] = random.uniform() < rate ? 0.0F : scale;
  }
}

}  // namespace fewstep::host
