// Warnings and options that several commands share.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_MESSAGES_H_
#define FEWSTEP_TOOLS_MESSAGES_H_

#include <string>

#include "fewstep/host/engine.h"
#include "fewstep/host/recipe.h"

namespace fewstep::cli {

/// Says on stderr what batch_norm means for firmware.
void warn_if_transductive(const host::Recipe& recipe);

/// What `--engine name` asks for.
///
/// @throws Error kUsage: no such engine.
host::EngineKind engine_of(const std::string& name);

}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_MESSAGES_H_
