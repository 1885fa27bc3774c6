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

/// A check of an option: a whole number from 0 to 2^64 - 1, as seeds are.
std::string is_seed(const std::string& text);

/// `text` as one word of a shell's command line.
std::string shell_word(const std::string& text);

}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_MESSAGES_H_
