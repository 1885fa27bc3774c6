// Typed reading of TOML tables with messages for people.
//
// A TableReader knows the keys its table may have, refuses all others at once,
// and reads values with their type and range. Every refusal is an
// Error(kUsage) of the form "<file>:<line>: <key>: <what is wrong>".
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_SRC_RECIPE_READER_H_
#define FEWSTEP_HOST_SRC_RECIPE_READER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

namespace fewstep::host {

struct NetworkRecipe;
struct Recipe;

/// Keys of every table of a recipe, to say where a misplaced one belongs.
using KeyTable = std::map<std::string, std::vector<std::string>>;

/// Any finite float: the largest value of a number without a natural limit.
constexpr double kAny = 1e38;

/// Named values of a key.
template <class E>
using Choices = std::span<const std::pair<const char*, E>>;

class TableReader {
 public:
  /// @param path   Dotted path of the table, "" for the recipe itself.
  /// @param keys   The keys this table may have.
  /// @param owner  Said of refused keys instead of the path, e.g.
  ///               "task of source \"sinusoid\""; "" for the path.
  /// @param all    Keys of the other tables.
  ///
  /// Throws for the first key that is not among `keys`.
  TableReader(const toml::table& table,
              std::string path,
              std::vector<std::string> keys,
              std::string owner,
              const KeyTable& all);

  bool has(std::string_view key) const { return table_.contains(key); }
  bool is_text(std::string_view key) const {
    return has(key) && table_.get(key)->is_string();
  }
  bool is_array(std::string_view key) const {
    return has(key) && table_.get(key)->is_array();
  }

  // Without a fallback the key is required. Ranges are inclusive.
  std::int64_t integer(std::string_view key,
                       std::int64_t min,
                       std::int64_t max,
                       std::optional<std::int64_t> fallback = {}) const;
  int small(std::string_view key,
            int min,
            int max,
            std::optional<int> fallback = {}) const;
  double real(std::string_view key,
              double min,
              double max,
              std::optional<double> fallback = {}) const;
  bool boolean(std::string_view key, bool fallback) const;
  std::string text(std::string_view key,
                   std::optional<std::string> fallback = {}) const;
  /// A string or an array of strings; `required` means at least one.
  std::vector<std::string> texts(std::string_view key, bool required) const;
  /// An array of exactly `n` numbers; `fallback` when absent.
  std::vector<double> reals(std::string_view key,
                            size_t n,
                            double min,
                            double max,
                            std::vector<double> fallback) const;
  const toml::array& array(std::string_view key) const;
  /// An empty table when absent.
  const toml::table& table(std::string_view key) const;

  /// One of named values.
  template <class E>
  E choice(std::string_view key,
           std::span<const std::pair<const char*, E>> choices,
           std::optional<E> fallback = {}) const {
    if (!has(key)) {
      if (fallback) return *fallback;
      missing(key, quoted_names(choices));
    }
    const std::string value = text(key);
    for (const auto& [name, e] : choices) {
      if (value == name) return e;
    }
    unknown_choice(key, value, names(choices));
  }

  /// Refuses the value of `key` (or its absence).
  [[noreturn]] void fail(std::string_view key, const std::string& what) const;
  /// `table.key`.
  std::string full(std::string_view key) const;

 private:
  template <class E>
  static std::vector<std::string> names(
      std::span<const std::pair<const char*, E>> choices) {
    std::vector<std::string> all;
    for (const auto& choice : choices) all.emplace_back(choice.first);
    return all;
  }
  template <class E>
  static std::string quoted_names(
      std::span<const std::pair<const char*, E>> choices) {
    return "one of " + quoted_list(names(choices));
  }
  static std::string quoted_list(const std::vector<std::string>& words);
  [[noreturn]] void unknown_choice(std::string_view key,
                                   const std::string& value,
                                   const std::vector<std::string>& names) const;
  [[noreturn]] void unknown_key(const toml::key& key,
                                const std::vector<std::string>& keys,
                                const std::string& owner,
                                const KeyTable& all) const;
  [[noreturn]] void missing(std::string_view key,
                            const std::string& expected) const;
  void check_float(std::string_view key, double value) const;
  [[noreturn]] void wrong(std::string_view key,
                          const std::string& expected) const;

  const toml::table& table_;
  std::string path_;
};

/// "file.toml:7", or "--set a.b=c" or "preset x: a.b=c" for what these set.
std::string location(const toml::source_region& region);

/// The value as a message shows it: a short TOML literal.
std::string literal(const toml::node& node);

/// What location() begins with for values of the command line, and of presets.
constexpr std::string_view kOverrideOrigin = "--set ";
constexpr std::string_view kPresetOrigin = "preset ";

/// Applies "a.b=value" to `root`; `origin` begins with one of the above. Throws
/// Error(kUsage) when it cannot.
void apply_override(toml::table& root,
                    const std::string& text,
                    const std::string& origin = std::string(kOverrideOrigin));

/// Sets the axes of the preset that an override names, over those of the file;
/// other overrides come after.
void apply_preset_of_command_line(toml::table& root,
                                  const std::vector<std::string>& overrides);
/// Sets the axes of the preset that `root` names, where it lacks them.
void apply_preset_of_file(toml::table& root);

/// Throws Error(kUsage): "<where key was set>: <key>: <what>".
[[noreturn]] void refuse(const Recipe& recipe,
                         const std::string& key,
                         const std::string& what);

/// Examples, classes and units are 16-bit.
constexpr int kMaxCount = 65535;

/// [network]
void read_network(const TableReader& r, NetworkRecipe* network);

/// [inner], after [network].
void read_inner(const TableReader& r, Recipe* recipe);

/// [outer], after [inner].
void read_outer(const TableReader& r, Recipe* recipe);

/// Records location() of every key and array element below `root`, by path.
void record_origins(const toml::table& root,
                    std::map<std::string, std::string>* origins);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_SRC_RECIPE_READER_H_
