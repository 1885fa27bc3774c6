// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "channel_ops.h"
#include "fewstep/ops.h"

namespace fewstep::host {

void ChannelOps::float_update(const SerialExecutor& e,
                              const RuleCall<float>& c,
                              const PlainView<float>& theta,
                              const PlainView<float>& phi) {
  AllOps().update(e, c, theta, phi);
}

void ChannelOps::vjp(const SerialExecutor& e,
                     const RuleVjpCall<float>& c,
                     const PlainView<float>& theta,
                     const PlainView<float>& phi) const {
  AllOps().vjp(e, c, theta, phi);
}

}  // namespace fewstep::host
