// What a step costs a device: arithmetic, memory traffic, and instructions on
// the cores that were measured.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_STEP_COST_H_
#define FEWSTEP_TOOLS_STEP_COST_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "fewstep/capsule.h"

namespace fewstep::cli {

/// What instructions are spent on, in the order of a core's coefficients
/// (core_table.h): instructions = sum of count * coefficient.
constexpr int kCostTerms = 52;
extern const std::array<const char*, kCostTerms> kCostTermNames;
using CostTerms = std::array<double, kCostTerms>;

/// The counts of one step on `n` examples, `tile` at a time: of a capsule for
/// several steps one after the first, which has the rule's state and of a mask
/// the parameters to read.
CostTerms cost_terms(const Capsule& capsule, uint32_t n, uint32_t tile);

/// Bytes that layers, loss and rule read and write in such a step: each array
/// once by every call that uses it. Parameters as stored.
uint64_t bytes_touched(const Capsule& capsule, uint32_t n, uint32_t tile);

/// Instructions of a step on a core.
struct CoreCost {
  std::string core;
  double instructions;
  double error;  ///< Largest relative error of networks left out of the fit.
};

/// For every core in the table, of the step cost_terms() counts; empty when the
/// network has an operation that was not measured (batch_norm).
std::vector<CoreCost> step_instructions(const Capsule& capsule,
                                        uint32_t n,
                                        uint32_t tile);

}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_STEP_COST_H_
