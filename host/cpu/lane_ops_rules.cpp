// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/ops.h"
#include "lane_ops.h"

namespace fewstep::host {

template <class T>
void LaneOps::loss(const SerialExecutor& e,
                   LossOp op,
                   const LossCall<T>& c) const {
  AllOps().loss(e, op, c);
}
template <class W, class R>
void LaneOps::update(const SerialExecutor& e,
                     const RuleCall<Lanes>& c,
                     const W& theta,
                     const R& phi) const {
  AllOps().template update<W, R>(e, c, theta, phi);
}
template <class W, class R>
void LaneOps::vjp(const SerialExecutor& e,
                  const RuleVjpCall<Lanes>& c,
                  const W& theta,
                  const R& phi) const {
  AllOps().template vjp<W, R>(e, c, theta, phi);
}

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
