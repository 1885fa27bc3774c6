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

#define FEWSTEP_LANE_RULES(W)                                                 \
  template void LaneOps::update<W, SharedView<Lanes>>(                        \
      const SerialExecutor&,                                                  \
      const RuleCall<Lanes>&,                                                 \
      const W&,                                                               \
      const SharedView<Lanes>&) const;                                        \
  template void LaneOps::vjp<W, SharedView<Lanes>>(const SerialExecutor&,     \
                                                   const RuleVjpCall<Lanes>&, \
                                                   const W&,                  \
                                                   const SharedView<Lanes>&)  \
      const
FEWSTEP_LANE_RULES(SharedView<Lanes>);
FEWSTEP_LANE_RULES(PlainView<Lanes>);

}  // namespace fewstep::host
