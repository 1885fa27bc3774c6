// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/statistics.h"

#include <fmt/format.h>

namespace fewstep::host {

std::string half_width(double ci95, int decimals) {
  return std::isnan(ci95) ? "n/a" : fmt::format("{:.{}f}", ci95, decimals);
}

}  // namespace fewstep::host
