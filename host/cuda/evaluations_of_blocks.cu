// Evaluations, a task a block.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "kernel_of_tasks.h"

namespace fewstep::host {

const void* evaluations_of_blocks() {
  return reinterpret_cast<const void*>(&evaluations<BlockTeam>);
}

}  // namespace fewstep::host
