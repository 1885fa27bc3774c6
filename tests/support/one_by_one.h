// What engines are compared with: MetaGradient<float> on one task after
// another.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_ONE_BY_ONE_H_
#define FEWSTEP_TESTS_SUPPORT_ONE_BY_ONE_H_

#include "fewstep/executor/serial.h"
#include "fewstep/host/meta_gradient.h"
#include "fewstep/host/minibatch_order.h"
#include "fewstep/ops.h"
#include "support/engine_problem.h"

namespace fewstep::testing {

/// One task after another at float, summed in task order.
inline Result one_by_one(const Problem& s,
                         uint64_t iteration,
                         uint32_t n_tasks) {
  const host::EpisodeShape& shape = s.source.shape();
  Result r;
  r.d_theta.assign(s.theta.size(), 0.0F);
  r.d_phi.assign(s.phi.size(), 0.0F);
  uint32_t n_used = 0;
  for (uint32_t t = 0; t < n_tasks; ++t) {
    host::Episode e;
    s.source.sample(host::Split::kTrain, 11, iteration, t, &e);
    host::MinibatchOrder(shape, s.objective.inner_batch)
        .apply(host::Split::kTrain, &e);
    host::MetaGradient<float> m(
        s.net.network, s.rule, s.objective, shape.n_support, shape.n_query);
    m.run(SerialExecutor(),
          AllOps(),
          PlainView<float>{s.theta.data()},
          PlainView<float>{s.phi.data()},
          support_of(e, shape.n_support),
          query_of(e, shape.n_query));
    bool finite = is_finite(m.query_loss());
    for (const float g : m.theta_bar()) finite = finite && is_finite(g);
    for (const float g : m.phi_bar()) finite = finite && is_finite(g);
    if (!finite) {
      ++r.step.n_dropped;
      continue;
    }
    ++n_used;
    r.step.query_loss += static_cast<double>(m.query_loss());
    r.step.support_loss += static_cast<double>(m.support_loss(0));
    for (size_t i = 0; i < r.d_theta.size(); ++i) {
      r.d_theta[i] += m.theta_bar()[i];
    }
    for (size_t i = 0; i < r.d_phi.size(); ++i) r.d_phi[i] += m.phi_bar()[i];
  }
  if (n_used == 0) return r;
  r.step.query_loss /= n_used;
  r.step.support_loss /= n_used;
  for (float& g : r.d_theta) g /= static_cast<float>(n_used);
  for (float& g : r.d_phi) g /= static_cast<float>(n_used);
  return r;
}

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_ONE_BY_ONE_H_
