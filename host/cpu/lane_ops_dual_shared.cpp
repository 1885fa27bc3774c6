// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "lane_ops_impl.h"

namespace fewstep::host {

// Hessian-vector products at theta_0.
FEWSTEP_LANE_LAYERS(Dual<Lanes>, DualView<SharedView<Lanes>>);
FEWSTEP_LANE_LAYERS(Dual<Lanes>, TangentView<DualView<SharedView<Lanes>>>);

}  // namespace fewstep::host
