// Where tasks come from. Start here to add a task source: derive from
// TaskSource, draw from Random(seed, iteration, task, ...) and nothing else. A
// GPU then gets its episodes by upload; drawing.h lets it draw them itself.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_TASK_SOURCE_H_
#define FEWSTEP_HOST_TASK_SOURCE_H_

#include <cstdint>

#include "fewstep/host/drawing.h"
#include "fewstep/host/episode.h"
#include "fewstep/host/philox.h"

namespace fewstep::host {

/// "train", "validation" or "test".
constexpr const char* to_string(Split split) {
  switch (split) {
    case Split::kTrain: return "train";
    case Split::kValidation: return "validation";
    case Split::kTest: return "test";
  }
  return "unknown split";
}

/// A family of tasks. Immutable once built: every member may be called from
/// any number of threads at once.
class TaskSource {
 public:
  TaskSource() = default;
  TaskSource(const TaskSource&) = delete;
  TaskSource& operator=(const TaskSource&) = delete;
  virtual ~TaskSource() = default;

  /// Sizes of every episode, whatever its split.
  virtual const EpisodeShape& shape() const = 0;

  /// Shape of one example (c, h, w).
  virtual InputShape input_shape() const = 0;

  /// `*out` is task `task` of iteration `iteration`: a function of these
  /// arguments alone, the same on every host and for any number of threads.
  ///
  /// Every value is finite and every label below shape().ways. Allocates only
  /// when a vector of `*out` is shorter than it has to be, so a reused episode
  /// costs no allocation.
  ///
  /// @throws Error kUsage when the split has no tasks; see check().
  virtual void sample(Split split,
                      uint64_t seed,
                      uint64_t iteration,
                      uint32_t task,
                      Episode* out) const = 0;

  /// Returns if `split` has tasks; to be called before a long run.
  ///
  /// @throws Error kUsage, saying which setting of the recipe is missing.
  virtual void check(Split split) const { static_cast<void>(split); }

  /// How a GPU can draw the same episodes itself; what it points to lives as
  /// long as the source. By default it cannot: they are drawn on the host.
  virtual DrawingProgram drawing() const { return {}; }

  /// Distinct tasks of `split`; 0 when they are drawn and do not run out. Task
  /// n of n is task 0 again, which tells an evaluation nothing new: what
  /// averages over tasks takes no more than these (see tasks_of()).
  virtual uint64_t n_tasks(Split split) const {
    static_cast<void>(split);
    return 0;
  }

  /// The split whose tasks `split` gets: itself, or another one where it has
  /// none of its own.
  virtual Split taken_from(Split split) const { return split; }
};

/// `wanted` tasks of `split`, or as many as there are.
inline uint32_t tasks_of(const TaskSource& source,
                         Split split,
                         uint32_t wanted) {
  const uint64_t n = source.n_tasks(split);
  return n == 0 || n > wanted ? wanted : static_cast<uint32_t>(n);
}

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_TASK_SOURCE_H_
