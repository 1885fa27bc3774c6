// Ctrl-C as a request: long work asks now and then and ends cleanly.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_INTERRUPT_H_
#define FEWSTEP_TOOLS_INTERRUPT_H_

namespace fewstep::cli {

/// From now on the first SIGINT or SIGTERM sets a flag; the second ends the
/// process at once, as without this.
void watch_interrupts();

/// Whether one has come.
bool interrupted();

}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_INTERRUPT_H_
