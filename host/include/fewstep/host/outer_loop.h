// The outer loop on an engine: iterations that leave everything learned where
// the engine computes.
//
// On the CPU that is OuterState itself; on a GPU parameters and moments stay in
// its memory, and come to the host when state() is asked for.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_OUTER_LOOP_H_
#define FEWSTEP_HOST_OUTER_LOOP_H_

#include <cstdint>

#include "fewstep/host/engine.h"
#include "fewstep/host/optimizer.h"

namespace fewstep::host {

/// Every member may throw what the engine's may; what was learned is not to be
/// used then.
class OuterLoop {
 public:
  virtual ~OuterLoop() = default;

  /// One iteration on outer.tasks tasks: the meta-gradient of
  /// scheduled_objective(), freeze_phi(), outer_step() and project_phi(). The
  /// step is taken whatever n_dropped is.
  virtual MetaStep iterate() = 0;

  /// Engine::evaluate() of what is learned so far.
  virtual TaskScores evaluate(Split split, uint32_t n_tasks) = 0;

  /// What is learned so far. `best` and `losses` are the caller's: they
  /// stay what the caller makes them.
  virtual OuterState& state() = 0;

  /// state().iteration, at no cost.
  virtual int64_t iteration() const = 0;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_OUTER_LOOP_H_
