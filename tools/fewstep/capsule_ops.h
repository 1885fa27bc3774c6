// The operations a capsule needs, by symbol.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_CAPSULE_OPS_H_
#define FEWSTEP_TOOLS_CAPSULE_OPS_H_

#include <string>
#include <vector>

#include "fewstep/capsule.h"

namespace fewstep::cli {

/// Names of the objects in fewstep/device/op_symbols.h that `capsule` needs,
/// each once: layers in order of appearance, the loss, the rule.
std::vector<std::string> op_symbols(const Capsule& capsule);

}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_CAPSULE_OPS_H_
