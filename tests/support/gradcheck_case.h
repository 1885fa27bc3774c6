// gradcheck of a test network on one episode, over any set of operations.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_GRADCHECK_CASE_H_
#define FEWSTEP_TESTS_SUPPORT_GRADCHECK_CASE_H_

#include <string>
#include <vector>

#include "fewstep/host/gradcheck.h"
#include "fewstep/host/gradcheck_impl.h"
#include "support/test_network.h"
#include "support/test_rules.h"

namespace fewstep::testing {

using host::GradcheckResult;

constexpr uint32_t kSupport = 4;
constexpr uint32_t kQuery = 3;

inline std::string describe(const GradcheckResult& r) {
  return r.check + " of " + r.quantity + ": error " + std::to_string(r.error) +
         ", skipped " + std::to_string(r.n_skipped) + " of " +
         std::to_string(r.n_values + r.n_skipped);
}

/// Results at `net`'s own theta, phi and episode; `n_coordinates` as
/// GradcheckOptions has it.
template <class Ops>
std::vector<GradcheckResult> check(const Ops& ops,
                                   const TestNetwork& net,
                                   const Rule& rule,
                                   uint32_t steps,
                                   uint32_t n_coordinates,
                                   const std::vector<float>& weights = {},
                                   uint32_t phi_seed = 3,
                                   uint32_t inner_batch = 0) {
  const host::Episode episode = net.random_episode(6, kSupport, kQuery);
  const auto theta = net.random_theta(2);
  const auto phi = random_phi(rule, net.network, phi_seed);
  host::GradcheckOptions options;
  options.steps = steps;
  options.n_coordinates = n_coordinates;
  options.step_weights = weights;
  options.inner_batch = inner_batch;
  const std::vector<double> theta_double(theta.begin(), theta.end());
  const std::vector<double> phi_double(phi.begin(), phi.end());
  return host::Gradcheck<Ops>(ops,
                              net.network,
                              rule,
                              episode,
                              net.episode_shape(kSupport, kQuery),
                              theta_double,
                              phi_double,
                              options)
      .run();
}

template <class Ops>
std::vector<GradcheckResult> check(const Ops& ops,
                                   const TestNetwork& net,
                                   const TestRule& rule,
                                   uint32_t steps,
                                   uint32_t n_coordinates,
                                   const std::vector<float>& weights = {}) {
  return check(ops,
               net,
               rule.make(steps, net.network),
               steps,
               n_coordinates,
               weights,
               rule.phi_seed);
}

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_GRADCHECK_CASE_H_
