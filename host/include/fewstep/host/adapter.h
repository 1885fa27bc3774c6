// One firmware session on the host, with memory of its own: what `eval`,
// `adapt` and the golden episode run.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_ADAPTER_H_
#define FEWSTEP_HOST_ADAPTER_H_

#include <cstdint>
#include <vector>

#include "fewstep/device/session.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/episode.h"

namespace fewstep::host {

/// How the queries of an episode came out.
struct Score {
  float loss = 0.0F;      ///< Mean over the query set.
  float accuracy = 0.0F;  ///< Share right; classification.
};

class Adapter {
 public:
  /// Opens a session on `file`, which must outlive it.
  ///
  /// @param steps          0: the capsule's.
  /// @param one_at_a_time  Predict and score each query alone.
  ///
  /// @throws Error  kBadData: the capsule is not for episodes of this shape, or
  ///                does not open. kUsage: more steps than the rule has rates.
  Adapter(const CapsuleFile& file,
          const EpisodeShape& shape,
          uint32_t steps,
          bool one_at_a_time);

  /// Starts over at theta_0 and adapts to the support set. False: diverged, and
  /// the session is at theta_0.
  bool adapt(const Episode& episode);

  /// Scores the queries at the current parameters; outputs() are theirs. A loss
  /// that is not finite is NaN.
  Score score(const Episode& episode);

  /// Mean loss of the support set at the current parameters; NaN if it is not
  /// finite.
  float support_loss(const Episode& episode);

  /// Back to theta_0.
  void reset();

  const std::vector<float>& outputs() const { return outputs_; }
  const AdaptReport& report() const { return report_; }
  const Session& session() const { return session_; }

 private:
  SupportSet support(const Episode& episode) const;
  float loss(const SupportSet& set);

  EpisodeShape shape_;
  uint32_t steps_;
  uint32_t n_together_;  // Queries predicted at a time.
  CapsuleBytes arena_;
  Session session_;
  AdaptReport report_ = {};
  std::vector<float> outputs_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_ADAPTER_H_
