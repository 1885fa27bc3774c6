// Means with confidence intervals.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_STATISTICS_H_
#define FEWSTEP_HOST_STATISTICS_H_

#include <cmath>
#include <limits>
#include <span>
#include <string>

namespace fewstep::host {

/// A mean and half the width of its 95 % confidence interval; NaN what too few
/// values do not tell.
struct Interval {
  double mean = 0.0;
  double ci95 = 0.0;
};

/// Mean of `values` (one a task) and 1.96 s / sqrt(n), s the sample standard
/// deviation. The mean of no values is NaN, and so is ci95 of fewer than two.
inline Interval interval_of(std::span<const float> values) {
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  const double n = static_cast<double>(values.size());
  if (values.empty()) return {kUnknown, kUnknown};
  Interval i;
  i.ci95 = kUnknown;
  for (const float v : values) i.mean += static_cast<double>(v);
  i.mean /= n;
  if (values.size() < 2) return i;
  double sum = 0.0;
  for (const float v : values) {
    const double d = static_cast<double>(v) - i.mean;
    sum += d * d;
  }
  i.ci95 = 1.96 * std::sqrt(sum / (n - 1.0) / n);
  return i;
}

/// ci95 in text, "0.0125" with 4 decimals; "n/a" where it is unknown.
std::string half_width(double ci95, int decimals);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_STATISTICS_H_
