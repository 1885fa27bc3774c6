// Task source `episodes`: explicit episodes from an NPZ file, in file order.
//
//     support_x [tasks, n, ...]  any dtype     query_x [tasks, m, ...]
//     support_y [tasks, n]       integers: class labels; or
//               [tasks, n, out]  floats: targets ([tasks, n] for out = 1)
//     query_y   likewise
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_EPISODE_FILE_H_
#define FEWSTEP_HOST_EPISODE_FILE_H_

#include <filesystem>
#include <span>
#include <vector>

#include "fewstep/host/task_source.h"

namespace fewstep::host {

struct EpisodeFileOptions {
  std::filesystem::path path;  ///< As resolve_data_path() gives it.

  /// Classes: labels must be below. 0 takes the highest label + 1.
  uint32_t ways = 0;

  /// Sample (iteration, task) is episode (iteration * tasks_per_iteration +
  /// task) mod n_tasks of the file; >= 1.
  uint32_t tasks_per_iteration = 1;
};

/// Seed and split are ignored: the file says which episodes there are. The
/// dimensions after the second are one example: none (1, 1, 1), one (c, 1, 1),
/// two (1, h, w), three (c, h, w).
class EpisodeFile final : public TaskSource {
 public:
  /// Reads the file whole.
  ///
  /// @throws Error kBadData when an array is missing, the shapes do not agree,
  ///     a label is not in 0..ways-1 or a value is not finite; kUsage when
  ///     tasks_per_iteration is 0.
  explicit EpisodeFile(const EpisodeFileOptions& options);

  const EpisodeShape& shape() const override { return shape_; }
  InputShape input_shape() const override { return input_; }
  void sample(Split split,
              uint64_t seed,
              uint64_t iteration,
              uint32_t task,
              Episode* out) const override;
  uint64_t n_tasks(Split) const override { return n_tasks_; }
  Split taken_from(Split) const override { return Split::kTrain; }

 private:
  EpisodeShape shape_{};
  InputShape input_{};
  uint64_t n_tasks_ = 0;
  uint32_t tasks_per_iteration_;
  std::vector<float> support_x_, query_x_;
  std::vector<float> support_targets_, query_targets_;
  std::vector<uint16_t> support_labels_, query_labels_;
};

/// Writes episodes in the layout above: examples [c, h, w], or [c] where h = w
/// = 1; labels as uint16. EpisodeFile reads the same episodes back, bit for
/// bit.
///
/// @throws Error kUsage when there are none or a length does not match
///     `shape`; kResource when the file cannot be written.
void save_episodes(const std::filesystem::path& path,
                   std::span<const Episode> episodes,
                   const EpisodeShape& shape,
                   const InputShape& input);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_EPISODE_FILE_H_
