// Means with confidence intervals.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_STATISTICS_H_
#define FEWSTEP_HOST_STATISTICS_H_

#include <cmath>
#include <span>

namespace fewstep::host {

/// A mean and half the width of its 95 % confidence interval.
struct Interval {
  double mean = 0.0;
  double ci95 = 0.0;
};

/// Mean of `values` (one a task) and 1.96 s / sqrt(n), s the sample standard
/// deviation; ci95 is 0 for fewer than two values.
inline Interval interval_of(std::span<const float> values) {
  Interval i;
  const double n = static_cast<double>(values.size());
  if (values.empty()) return i;
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

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_STATISTICS_H_
