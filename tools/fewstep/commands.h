// The commands. Each file of this folder named after a command holds one
// add_<command>(), which declares its arguments and stores in `*run` what to do
// when it was chosen.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_COMMANDS_H_
#define FEWSTEP_TOOLS_COMMANDS_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "fewstep/host/error.h"

namespace fewstep::cli {

/// Does the chosen command's work. Results go to stdout, everything else to
/// stderr; failures are host::Error.
using Command = std::function<host::Exit()>;

/// A new command of `app`. Not inline: what makes a CLI::App compiles all of
/// CLI11, in every file that does.
CLI::App* add_command(CLI::App& app,
                      const std::string& name,
                      const std::string& description);

void add_train(CLI::App& app, Command* run);
void add_eval(CLI::App& app, Command* run);
void add_adapt(CLI::App& app, Command* run);
void add_pack(CLI::App& app, Command* run);
void add_export(CLI::App& app, Command* run);
void add_inspect(CLI::App& app, Command* run);
void add_gradcheck(CLI::App& app, Command* run);
void add_presets(CLI::App& app, Command* run);

}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_COMMANDS_H_
