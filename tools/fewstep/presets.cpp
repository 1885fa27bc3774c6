// fewstep presets: the published methods by name, and what each one sets.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/presets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "commands.h"

namespace fewstep::cli {
namespace {

host::Exit run_presets() {
  for (const host::Preset& preset : host::presets()) {
    fmt::print("{}  ({})\n    {}\n",
               preset.name,
               preset.source,
               fmt::join(preset.settings, ", "));
  }
  fmt::print(
      "\nWrite preset = \"NAME\" at the top of a recipe, whose own keys win, "
      "or "
      "train it with\n--set preset=NAME, which sets these keys over the "
      "recipe's; further --set win.\n");
  return host::Exit::kOk;
}

}  // namespace

void add_presets(CLI::App& app, Command* run) {
  CLI::App* command =
      add_command(app,
                  "presets",
                  "List the published methods by name and what each one sets");
  command->callback([run] { *run = [] { return run_presets(); }; });
}

}  // namespace fewstep::cli
