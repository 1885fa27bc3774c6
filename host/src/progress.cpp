// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string_view>

namespace fewstep::host {
namespace {

constexpr double kTerminalSeconds = 0.1;
constexpr double kPlainSeconds = 10.0;
constexpr double kRateSeconds = 1.0;  // The rate is averaged over about five.

double monotonic_seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

bool is_terminal(std::FILE* out) {
  const char* term = std::getenv("TERM");
  return isatty(fileno(out)) != 0 && term != nullptr &&
         std::string_view(term) != "dumb";
}

// A line longer than the terminal would wrap and not be overwritten.
size_t columns(std::FILE* out) {
  winsize size{};
  if (ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

std::string duration(double seconds) {
  if (!(seconds < 1e9)) return "unknown";
  const auto s = static_cast<std::int64_t>(std::ceil(seconds));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
}

Progress::Progress(const Options& options) : options_(options) {
  if (!options_.clock) options_.clock = monotonic_seconds;
  terminal_ = options_.terminal < 0 ? is_terminal(options_.out)
                                    : options_.terminal != 0;
  start_ = options_.clock();
  last_shown_ = start_;
  rate_time_ = start_;
  iteration_ = options_.first_iteration;
  rate_iteration_ = iteration_;
}

Progress::~Progress() { finish(); }

std::string Progress::line(double now) const {
  // Before the first estimate: the mean since the start.
  double rate = rate_;
  const double elapsed = now - start_;
  if (rate == 0.0 && elapsed > 0.0) {
    rate = static_cast<double>(iteration_ - options_.first_iteration) / elapsed;
  }
  const auto left = static_cast<double>(options_.n_iterations - iteration_);
  std::string text =
      fmt::format("iteration {}/{}  {:.0f} tasks/s  loss {:.4g}",
                  iteration_,
                  options_.n_iterations,
                  rate * static_cast<double>(options_.tasks_per_iteration),
                  loss_);
  if (!validation_.empty()) text += "  validation " + validation_;
  if (rate > 0.0 && left > 0.0) text += "  " + duration(left / rate) + " left";
  return text;
}

void Progress::show(const std::string& text, bool stays) {
  if (options_.quiet) return;
  if (!terminal_) {
    fmt::print(options_.out, "{}\n", text);
  } else if (stays) {
    fmt::print(options_.out, "\r{}\x1b[K\n", text);
    shown_ = false;
  } else {
    fmt::print(
        options_.out, "\r{}\x1b[K", text.substr(0, columns(options_.out) - 1));
    shown_ = true;
  }
  std::fflush(options_.out);
}

void Progress::update(std::int64_t iteration, double loss) {
  iteration_ = iteration;
  loss_ = loss;
  const double now = options_.clock();
  if (now - rate_time_ >= kRateSeconds) {
    const double recent =
        static_cast<double>(iteration - rate_iteration_) / (now - rate_time_);
    const double weight = rate_ == 0.0 ? 1.0 : 0.2;
    rate_ += weight * (recent - rate_);
    rate_time_ = now;
    rate_iteration_ = iteration;
  }
  if (now - last_shown_ < (terminal_ ? kTerminalSeconds : kPlainSeconds)) {
    return;
  }
  last_shown_ = now;
  show(line(now), false);
}

void Progress::validation(std::int64_t iteration, const std::string& result) {
  iteration_ = iteration;
  validation_ = result;
  // Validating is not training: leave its time out of the rate.
  const double now = options_.clock();
  rate_time_ = now;
  rate_iteration_ = iteration;
  show(fmt::format("validation at iteration {}: {}", iteration, result), true);
}

void Progress::note(const std::string& text) {
  if (options_.quiet) {
    fmt::print(options_.out, "{}\n", text);
  } else {
    show(text, true);
  }
}

void Progress::finish() {
  if (!shown_) return;
  shown_ = false;
  show(line(options_.clock()), true);
}

}  // namespace fewstep::host
