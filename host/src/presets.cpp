// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/presets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <initializer_list>

#include "fewstep/host/error.h"
#include "fewstep/host/recipe.h"
#include "recipe_reader.h"

namespace fewstep::host {
namespace {

// The axes of a method: rule, whether its rates are learned, order, outer
// method, multi-step loss, what adapts.
std::vector<std::string> axes(const char* rule,
                              bool learn_rate,
                              int order,
                              const char* method,
                              bool multi_step,
                              const char* adapt = "all") {
  return {fmt::format("inner.rule={}", rule),
          fmt::format("inner.learn_rate={}", learn_rate),
          fmt::format("inner.order={}", order),
          fmt::format("outer.method={}", method),
          fmt::format("outer.multi_step={}", multi_step),
          fmt::format("inner.adapt={}", adapt)};
}

std::vector<std::string> with(std::vector<std::string> settings,
                              std::initializer_list<const char*> more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

const Preset* find(const std::string& name) {
  for (const Preset& preset : presets()) {
    if (name == preset.name) return &preset;
  }
  return nullptr;
}

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const Preset& preset : presets()) all.emplace_back(preset.name);
  return all;
}

// The preset that `root` names, or null.
const Preset* preset_of(const toml::table& root) {
  const toml::node* node = root.get("preset");
  if (node == nullptr) return nullptr;
  const std::string expected =
      fmt::format("\"{}\"", fmt::join(names(), "\", \""));
  if (!node->is_string()) {
    throw Error(Exit::kUsage,
                fmt::format("{}: preset: must be one of {}, not {}",
                            location(node->source()),
                            expected,
                            literal(*node)));
  }
  const std::string name = node->as_string()->get();
  const Preset* const preset = find(name);
  if (preset == nullptr) {
    throw Error(Exit::kUsage,
                fmt::format("{}: preset: \"{}\" is not known; the nearest is "
                            "\"{}\" (one of {})",
                            location(node->source()),
                            name,
                            nearest(name, names()),
                            expected));
  }
  return preset;
}

// Whether `root` holds the value of "table.key".
bool holds(const toml::table& root, const std::string& path) {
  const size_t dot = path.find('.');
  const toml::node* node = root.get(path.substr(0, dot));
  if (node == nullptr) return false;
  if (dot == std::string::npos) return true;
  const toml::table* table = node->as_table();
  // What is no table is refused later, with a message of its own.
  return table == nullptr || table->contains(path.substr(dot + 1));
}

void set(const Preset& preset, const std::string& setting, toml::table* root) {
  apply_override(
      *root, setting, fmt::format("{}{}: ", kPresetOrigin, preset.name));
}

}  // namespace

std::span<const Preset> presets() {
  static const std::vector<Preset> all = {
      {"maml", "Finn et al. 2017", axes("sgd", false, 2, "gradient", false)},
      {"fomaml",
       "Finn et al. 2017, first order",
       axes("sgd", false, 1, "gradient", false)},
      {"anil",
       "Raghu et al. 2020: the head adapts",
       axes("sgd", false, 2, "gradient", false, "head")},
      {"boil",
       "Oh et al. 2021: all but the head adapts",
       axes("sgd", false, 2, "gradient", false, "body")},
      {"sparse_maml",
       "von Oswald et al. 2021: a learned mask says what adapts",
       axes("sgd", false, 2, "gradient", false, "sparse")},
      {"reptile",
       "Nichol et al. 2018: set inner.batch, and more shots than at test time",
       axes("sgd", false, 1, "reptile", false)},
      {"meta_sgd",
       "Li et al. 2017",
       axes("meta_sgd", true, 2, "gradient", false)},
      {"maml_lslr",
       "Antoniou et al. 2019, its learned rates alone",
       axes("lslr", true, 2, "gradient", false)},
      {"maml_plus_plus",
       "Antoniou et al. 2019",
       with(axes("lslr", true, 2, "gradient", true),
            {"outer.schedule=cosine"})},
      {"cavia",
       "Zintgraf et al. 2019: context layers adapt",
       axes("sgd", false, 2, "gradient", false, "context")},
      {"alfa",
       "Baik et al. 2020: a network sets rates and decays",
       with(axes("rate_net", true, 2, "gradient", false),
            {"inner.decay=true"})},
      {"meta_sgd_online",
       "meta_sgd whose rates follow the task (Baydin et al. 2018)",
       with(axes("meta_sgd", true, 2, "gradient", false),
            {"inner.rate_adaptation=true"})},
      {"meta_momentum",
       "momentum with learned rates, one a parameter, beta and first mean",
       with(axes("momentum", true, 2, "gradient", false),
            {"inner.rate_layout=parameter",
             "inner.learn_beta=true",
             "inner.learn_moments=true"})},
      {"meta_adam",
       "Adam with learned rates, one a parameter, betas and first moments",
       with(axes("adam", true, 2, "gradient", false),
            {"inner.rate_layout=parameter",
             "inner.learn_beta=true",
             "inner.learn_moments=true"})},
      {"meta_lstm",
       "an LSTM makes the steps (Andrychowicz et al. 2016), and first order "
       "as in Ravi & Larochelle 2017",
       axes("lstm", true, 1, "gradient", false)},
  };
  return all;
}

void apply_preset_of_command_line(toml::table& root,
                                  const std::vector<std::string>& overrides) {
  for (const std::string& text : overrides) {
    if (text.starts_with("preset=")) apply_override(root, text);
  }
  const toml::node* node = root.get("preset");
  if (node == nullptr ||
      !location(node->source()).starts_with(kOverrideOrigin)) {
    return;
  }
  const Preset& preset = *preset_of(root);
  for (const std::string& setting : preset.settings) {
    set(preset, setting, &root);
  }
}

void apply_preset_of_file(toml::table& root) {
  const Preset* const preset = preset_of(root);
  if (preset == nullptr) return;
  for (const std::string& setting : preset->settings) {
    if (!holds(root, setting.substr(0, setting.find('=')))) {
      set(*preset, setting, &root);
    }
  }
}

}  // namespace fewstep::host
