// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/gradcheck.h"

#include "fewstep/host/gradcheck_impl.h"

namespace fewstep::host {

std::vector<GradcheckResult> gradcheck(const Network& network,
                                       const Rule& rule,
                                       const Episode& episode,
                                       const EpisodeShape& shape,
                                       const std::vector<double>& theta,
                                       const std::vector<double>& phi,
                                       const GradcheckOptions& options) {
  return Gradcheck<AllOps>(
             AllOps(), network, rule, episode, shape, theta, phi, options)
      .run();
}

}  // namespace fewstep::host
