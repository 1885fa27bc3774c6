// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "lane_ops_impl.h"

namespace fewstep::host {

// Losses and rules.
template void LaneOps::loss<Lanes>(const SerialExecutor&,
                                   LossOp,
                                   const LossCall<Lanes>&) const;
template void LaneOps::loss<Dual<Lanes>>(const SerialExecutor&,
                                         LossOp,
                                         const LossCall<Dual<Lanes>>&) const;
template void LaneOps::update<SharedView<Lanes>, SharedView<Lanes>>(
    const SerialExecutor&,
    const RuleCall<Lanes>&,
    const SharedView<Lanes>&,
    const SharedView<Lanes>&) const;
template void LaneOps::update<PlainView<Lanes>, SharedView<Lanes>>(
    const SerialExecutor&,
    const RuleCall<Lanes>&,
    const PlainView<Lanes>&,
    const SharedView<Lanes>&) const;
void LaneOps::vjp(const SerialExecutor& e,
                  const RuleVjpCall<Lanes>& c,
                  const SharedView<Lanes>& phi) const {
  AllOps().vjp(e, c, phi);
}

}  // namespace fewstep::host
