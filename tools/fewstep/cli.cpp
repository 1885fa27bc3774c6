// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "cli.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "commands.h"
#include "fewstep/config.h"
#include "fewstep/host/recipe.h"

namespace fewstep::cli {
namespace {

static_assert(kExitResource == static_cast<int>(host::Exit::kResource));

int complain(host::Exit exit, const std::string& message) {
  fmt::print(stderr, "fewstep: {}\n", message);
  return static_cast<int>(exit);
}

// The chosen command, or the whole program when there is none.
const CLI::App& chosen(const CLI::App& app) {
  const auto subcommands = app.get_subcommands();
  return subcommands.empty() ? app : *subcommands.front();
}

// What CLI11 says of a refused argument, in our words, with the nearest known
// command or option.
std::string explain(const CLI::App& app,
                    const CLI::ParseError& error,
                    const std::vector<std::string>& arguments) {
  std::vector<std::string> commands;
  for (const CLI::App* command : app.get_subcommands({})) {
    commands.push_back(command->get_name());
  }
  if (arguments.empty()) {
    return fmt::format("give a command: {}", fmt::join(commands, ", "));
  }
  const CLI::App& command = chosen(app);
  if (&command == &app && !arguments[0].starts_with('-')) {
    return fmt::format("unknown command {}; the nearest is {}",
                       arguments[0],
                       host::nearest(arguments[0], commands));
  }
  std::vector<std::string> options;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      options.push_back("--" + name);
    }
  }
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (!argument.starts_with("--")) continue;
    const std::string name = argument.substr(0, argument.find('='));
    if (std::find(options.begin(), options.end(), name) == options.end()) {
      return fmt::format("unknown option {}; the nearest is {}",
                         name,
                         host::nearest(name, options));
    }
  }
  return error.what();
}

}  // namespace

CLI::App* add_command(CLI::App& app,
                      const std::string& name,
                      const std::string& description) {
  return app.add_subcommand(name, description);
}

int run(int argc, char** argv) noexcept try {
  CLI::App app("Meta-train on a workstation, adapt on the device.", "fewstep");
  app.set_version_flag("--version",
                       fmt::format("fewstep {}.{}.{}",
                                   FEWSTEP_VERSION_MAJOR,
                                   FEWSTEP_VERSION_MINOR,
                                   FEWSTEP_VERSION_PATCH));
  app.require_subcommand(1);
  app.footer(
      "Exit status: 0 done, 1 internal error, 2 usage or recipe error, 3 bad\n"
      "data or capsule, 4 numeric failure, 5 resource missing, 130 "
      "interrupted.");
  Command command;
  add_train(app, &command);
  add_eval(app, &command);
  add_adapt(app, &command);
  add_pack(app, &command);
  add_export(app, &command);
  add_inspect(app, &command);
  add_gradcheck(app, &command);
  add_presets(app, &command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help, --version
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0),
                                             argv + argc);
    const CLI::App& at = chosen(app);
    return complain(host::Exit::kUsage,
                    fmt::format("{}\nRun `fewstep {}--help`.",
                                explain(app, e, arguments),
                                &at == &app ? "" : at.get_name() + " "));
  }
  const host::Exit exit = command();
  // Results that did not reach their file are no results.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    return complain(
        host::Exit::kResource,
        fmt::format("cannot write the output: {}", std::strerror(errno)));
  }
  return static_cast<int>(exit);
} catch (const host::Error& e) {
  std::fflush(stdout);
  return complain(e.exit(), e.what());
} catch (const std::bad_alloc&) {
  return complain(host::Exit::kResource,
                  "out of memory; use fewer threads (run.threads) or smaller "
                  "data");
} catch (const std::exception& e) {
  return complain(host::Exit::kInternal,
                  fmt::format("internal error: {}; please report this with "
                              "the command and the recipe",
                              e.what()));
}

}  // namespace fewstep::cli
