// What a person sees while training runs.
//
// On a terminal one line is rewritten in place; elsewhere a plain line appears
// every ten seconds and at every validation.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_PROGRESS_H_
#define FEWSTEP_HOST_PROGRESS_H_

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

namespace fewstep::host {

class Progress {
 public:
  struct Options {
    std::FILE* out = stderr;
    std::int64_t n_iterations = 0;
    std::int64_t first_iteration = 0;  ///< Done before this process started.
    std::int64_t tasks_per_iteration = 1;
    bool quiet = false;  ///< Shows nothing but notes.
    /// Seconds from any fixed moment; empty: a monotonic clock. For tests.
    std::function<double()> clock;
    /// -1: look whether `out` is a terminal; else 0 or 1.
    int terminal = -1;
  };

  explicit Progress(const Options& options);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `iteration` iterations are done; the last one's mean query loss was
  /// `loss`. Cheap: writes at most ten times a second on a terminal, else every
  /// ten seconds.
  void update(std::int64_t iteration, double loss);

  /// A validation gave e.g. "loss 0.83 +- 0.02, accuracy 95.1 %": shown in the
  /// progress line from now on, and on a line of its own.
  void validation(std::int64_t iteration, const std::string& result);

  /// A line of its own, e.g. a warning.
  void note(const std::string& text);

  /// Leaves the last state on screen. Called by the destructor.
  void finish();

 private:
  std::string line(double now) const;
  void show(const std::string& text, bool stays);

  Options options_;
  bool terminal_ = false;
  bool shown_ = false;  // A line without an end is on the terminal.
  double start_ = 0.0;
  double last_shown_ = 0.0;
  double rate_ = 0.0;  // Iterations a second, recent.
  double rate_time_ = 0.0;
  std::int64_t rate_iteration_ = 0;
  std::int64_t iteration_ = 0;
  double loss_ = 0.0;
  std::string validation_;
};

/// "45 s", "12 min 5 s", "3 h 20 min".
std::string duration(double seconds);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_PROGRESS_H_
