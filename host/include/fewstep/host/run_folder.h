// The folder of one training run, and its log.
//
//     <dir>/recipe.toml       the resolved recipe: every default written out
//     <dir>/metrics.jsonl     one JSON object a line, flushed line by line
//     <dir>/checkpoint.npz    everything needed to go on
//     <dir>/best.npz          the parameters that validated best
//     <dir>/<name>.capsule    what ships
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_RUN_FOLDER_H_
#define FEWSTEP_HOST_RUN_FOLDER_H_

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "fewstep/host/recipe.h"

namespace fewstep::host {

class RunFolder {
 public:
  /// The folder of a new run, which begin() makes. One in which nothing was
  /// learned yet is used again.
  ///
  /// Errors: kUsage when `dir` holds a checkpoint or best parameters (resume,
  /// or choose another folder) or is a file.
  static RunFolder create(const std::filesystem::path& dir);

  /// Opens the folder of an existing run.
  ///
  /// Errors: kUsage when `dir` holds no recipe.toml.
  static RunFolder open(const std::filesystem::path& dir);

  /// As open(), to go on with `recipe`, which must be the run's own except for
  /// what may change in between: outer.iterations, and all of [run] but
  /// init_from.
  ///
  /// Errors: kUsage naming the first line that differs, or when something was
  /// learned but there is no checkpoint.
  static RunFolder resume(const std::filesystem::path& dir,
                          const Recipe& recipe);

  /// Makes the folder where there is none and writes the recipe.
  ///
  /// Errors: kResource when it cannot be written.
  void begin(const Recipe& recipe) const;

  bool has_checkpoint() const;
  const std::filesystem::path& dir() const { return dir_; }
  std::filesystem::path recipe() const { return dir_ / "recipe.toml"; }
  std::filesystem::path metrics() const { return dir_ / "metrics.jsonl"; }
  std::filesystem::path checkpoint() const { return dir_ / "checkpoint.npz"; }
  std::filesystem::path best() const { return dir_ / "best.npz"; }
  std::filesystem::path capsule(const Recipe& recipe) const {
    return dir_ / (recipe.name + ".capsule");
  }

 private:
  explicit RunFolder(std::filesystem::path dir) : dir_(std::move(dir)) {}
  std::filesystem::path dir_;
};

/// What to do without the checkpoint of the run in `dir`, for messages.
std::string without_checkpoint(const std::filesystem::path& dir);

/// One value of a line of metrics.jsonl. NaN and infinities become null, which
/// is all JSON has for them.
struct Metric {
  std::string_view name;
  std::variant<double, std::int64_t, std::string_view> value;
};

/// Appends to metrics.jsonl.
class MetricsLog {
 public:
  /// Opens `path`. Lines there are kept as far as iteration `last_iteration`
  /// (0 for a new run): a run killed after its last checkpoint repeats some
  /// iterations, and a line may be half written.
  ///
  /// Errors: kResource.
  MetricsLog(const std::filesystem::path& path, std::int64_t last_iteration);

  /// Writes {"iteration": iteration, ...} and flushes.
  ///
  /// Errors: kResource (disk full).
  void append(std::int64_t iteration, std::initializer_list<Metric> metrics);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_RUN_FOLDER_H_
