// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "lane_ops_impl.h"

namespace fewstep::host {

// Hessian-vector products at later steps.
FEWSTEP_LANE_LAYERS(Dual<Lanes>, DualView<PlainView<Lanes>>);
FEWSTEP_LANE_LAYERS(Dual<Lanes>, TangentView<DualView<PlainView<Lanes>>>);

}  // namespace fewstep::host
