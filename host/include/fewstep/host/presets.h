// Presets: the published methods by name, as choices on a recipe's axes.
//
// A method is no code of its own: it is a rule, an order, what adapts, and how
// the outer loop weighs and moves. `preset = "maml_plus_plus"` at the top of a
// recipe sets those axes; keys that the recipe gives itself win. `--set
// preset=...` also sets them over the recipe's own, and further `--set`s win.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_PRESETS_H_
#define FEWSTEP_HOST_PRESETS_H_

#include <span>
#include <string>
#include <vector>

namespace fewstep::host {

/// A method of the literature.
struct Preset {
  const char* name;
  const char* source;  ///< Paper.
  /// What it sets: "inner.rule=sgd" each, every axis named, so that no
  /// preset depends on what a recipe says about another one's axes.
  std::vector<std::string> settings;
};

/// All presets, in the order of the documentation.
std::span<const Preset> presets();

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_PRESETS_H_
