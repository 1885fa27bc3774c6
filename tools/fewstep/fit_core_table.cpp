// Fits a core's instructions to measured steps and writes core_table.h; run by
// tools/calibrate_core.sh.
//
//   fit_core_table NAME COMPILER < MEASUREMENTS > core_table.h
//
// MEASUREMENTS: lines "CAPSULE TILE INSTRUCTIONS". The coefficients minimize
// the sum of squared relative errors. Each network is also predicted from a fit
// to all the others, and both errors go to standard error.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/error.h"
#include "step_cost.h"

namespace {

using namespace fewstep;

struct Measurement {
  std::string capsule;
  uint32_t tile = 0;
  double instructions = 0;
  cli::CostTerms terms = {};
};

/// Where traces of single kernels, and networks that differ in one thing, put
/// the coefficients. Networks mix the terms too much to tell all of them apart;
/// the fit stays near these where it cannot.
constexpr cli::CostTerms kPrior = {
    // Dense.
    1.7,
    2.6,
    2.6,
    8,
    10,
    1.45,
    2.5,
    1.8,
    // Convolutions.
    2.0,
    10,
    2,
    4,
    15,
    10,
    2.4,
    12,
    3,
    2.3,
    2.8,
    8,
    5,
    // Other layers, losses, calls.
    7,
    63,
    60,
    50,
    45,
    8,
    180,
    250,
    150,
    300,
    1000,
    // Rules and step options.
    7.3,
    5,
    25,
    18,
    70,
    12,
    18,
    16,
    19,
    75,
    430,
    15,
    190,
    9,
    12,
    // Masks.
    20,
    8,
    40,
    150,
    25,
};
constexpr double kPriorWeight = 0.1;

/// argmin |A x - 1|^2 + |kPriorWeight (x / kPrior - 1)|^2, relative errors.
Eigen::VectorXd fit(const std::vector<Measurement>& points) {
  const Eigen::Index n = static_cast<Eigen::Index>(points.size());
  Eigen::MatrixXd a =
      Eigen::MatrixXd::Zero(n + cli::kCostTerms, cli::kCostTerms);
  Eigen::VectorXd b = Eigen::VectorXd::Ones(n + cli::kCostTerms);
  for (Eigen::Index i = 0; i < n; ++i) {
    for (int j = 0; j < cli::kCostTerms; ++j) {
      a(i, j) = points[i].terms[j] / points[i].instructions;
    }
  }
  for (int j = 0; j < cli::kCostTerms; ++j) {
    a(n + j, j) = kPriorWeight / kPrior[j];
    b[n + j] = kPriorWeight;
  }
  return a.completeOrthogonalDecomposition().solve(b);
}

double relative_error(const Measurement& p, const Eigen::VectorXd& x) {
  double sum = 0;
  for (int j = 0; j < cli::kCostTerms; ++j) sum += p.terms[j] * x[j];
  return sum / p.instructions - 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: fit_core_table NAME COMPILER < MEASUREMENTS\n";
    return 2;
  }
  std::vector<Measurement> points;
  for (Measurement p; std::cin >> p.capsule >> p.tile >> p.instructions;) {
    try {
      const host::CapsuleFile file = host::load_capsule(p.capsule);
      p.terms = cli::cost_terms(
          file.capsule, file.capsule.limits.support_max, p.tile);
    } catch (const host::Error& error) {
      std::cerr << "fit_core_table: " << error.what() << '\n';
      return 1;
    }
    points.push_back(p);
  }
  if (points.empty()) {
    std::cerr << "fit_core_table: no measurements\n";
    return 2;
  }
  const Eigen::VectorXd x = fit(points);
  double largest = 0;
  double largest_left_out = 0;
  for (const Measurement& p : points) {
    std::vector<Measurement> others;
    for (const Measurement& q : points) {
      if (q.capsule != p.capsule) others.push_back(q);
    }
    const double error = relative_error(p, x);
    const double left_out = relative_error(p, fit(others));
    largest = std::max(largest, std::abs(error));
    largest_left_out = std::max(largest_left_out, std::abs(left_out));
    std::cerr << fmt::format(
        "{:<40} tile {:>2} {:>9.0f} {:>+6.1f} % {:>+6.1f} % without it\n",
        p.capsule.substr(p.capsule.find_last_of('/') + 1),
        p.tile,
        p.instructions,
        100 * error,
        100 * left_out);
  }
  std::cerr << fmt::format("largest: {:.1f} %, {:.1f} % without it\n",
                           100 * largest,
                           100 * largest_left_out);

  std::string rows;
  for (int j = 0; j < cli::kCostTerms; ++j) {
    rows += fmt::format("      {:.3f},  // {}\n", x[j], cli::kCostTermNames[j]);
  }
  fmt::print(
      R"(// Instructions by core: written by tools/calibrate_core.sh; do not edit.
//
// {0} steps on {1}, {2}. Largest error {3:.1f} %; a network that is not among
// the measured ones: up to {4:.1f} %.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_CORE_TABLE_H_
#define FEWSTEP_TOOLS_CORE_TABLE_H_

#include <array>

#include "step_cost.h"

namespace fewstep::cli {{

struct CoreTable {{
  const char* name;
  double error;    ///< Largest relative error for a network left out.
  CostTerms cost;  ///< Instructions each.
}};
constexpr CoreTable kCortexM4f = {{
    "{1}",
    {5:.3f},
    {{{{
{6}    }}}},
}};
constexpr std::array<CoreTable, 1> kCoreTables = {{{{kCortexM4f}}}};

}}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_CORE_TABLE_H_
)",
      points.size(),
      argv[1],
      argv[2],
      100 * largest,
      100 * largest_left_out,
      largest_left_out,
      rows);
  return 0;
}
