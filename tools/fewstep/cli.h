// The command line behind main().
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_CLI_H_
#define FEWSTEP_TOOLS_CLI_H_

namespace fewstep::cli {

/// host::Exit::kResource, for main.cpp, which includes nothing else.
constexpr int kExitResource = 5;

/// Parses the arguments, runs the command and reports errors on stderr.
/// Returns the exit status of the process; throws nothing.
int run(int argc, char** argv) noexcept;

}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_CLI_H_
