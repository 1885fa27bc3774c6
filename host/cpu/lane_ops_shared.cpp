// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "lane_ops_impl.h"

namespace fewstep::host {

// Step 0: all tasks share theta_0.
FEWSTEP_LANE_LAYERS(Lanes, SharedView<Lanes>);

}  // namespace fewstep::host
