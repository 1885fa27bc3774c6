// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/minibatch_order.h"

#include <algorithm>

namespace fewstep::host {

void MinibatchOrder::apply(Split split, Episode* episode) {
  if (minibatches_.count == 1 || split != Split::kTrain) return;
  spare_.resize(shape_);
  const auto put = [&](auto* rows, auto* spare, size_t length) {
    if (rows->empty()) return;
    for (uint32_t i = 0; i < shape_.n_support; ++i) {
      std::copy_n(rows->data() + i * length,
                  length,
                  spare->data() + minibatches_.place_of(i) * length);
    }
    rows->swap(*spare);
  };
  put(&episode->support_x, &spare_.support_x, shape_.n_in);
  put(&episode->support_labels, &spare_.support_labels, 1);
  put(&episode->support_targets, &spare_.support_targets, shape_.n_out);
}

}  // namespace fewstep::host
