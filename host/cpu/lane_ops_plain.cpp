// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "lane_ops_impl.h"

namespace fewstep::host {

// Later steps and the query set: every task has parameters of its own.
FEWSTEP_LANE_LAYERS(Lanes, PlainView<Lanes>);

}  // namespace fewstep::host
