// Warnings that several commands share.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_MESSAGES_H_
#define FEWSTEP_TOOLS_MESSAGES_H_

#include "fewstep/host/recipe.h"

namespace fewstep::cli {

/// Says on stderr what batch_norm means for firmware.
void warn_if_transductive(const host::Recipe& recipe);

}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_MESSAGES_H_
