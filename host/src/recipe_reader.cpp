// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "recipe_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <sstream>

#include "fewstep/host/error.h"
#include "fewstep/host/recipe.h"

namespace fewstep::host {
namespace {

// Levenshtein distance where exchanging two neighbours counts once: the usual
// typing errors are at distance 1.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1,
                                     std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1,
                          d[i][j - 1] + 1,
                          d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(Exit::kUsage, where + ": " + what);
}

std::string join(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

}  // namespace

std::string nearest(const std::string& word,
                    const std::vector<std::string>& candidates) {
  return *std::min_element(candidates.begin(),
                           candidates.end(),
                           [&](const std::string& a, const std::string& b) {
                             return edit_distance(word, a) <
                                    edit_distance(word, b);
                           });
}

std::string location(const toml::source_region& region) {
  const std::string source = region.path ? *region.path : std::string("recipe");
  if (source.starts_with(kOverrideOrigin) ||
      source.starts_with(kPresetOrigin) || region.begin.line == 0) {
    return source;
  }
  return fmt::format("{}:{}", source, region.begin.line);
}

std::string literal(const toml::node& node) {
  if (node.is_table()) return "a table";
  if (node.is_array()) {
    return fmt::format("an array of {} values", node.as_array()->size());
  }
  std::ostringstream text;
  node.visit([&](const auto& value) {
    if constexpr (toml::is_value<decltype(value)>) {
      text << toml::table{{"v", value}};
    }
  });
  std::string s = text.str();
  s = s.substr(std::min(s.size(), s.find('=') + 2));
  if (node.is_string()) return "the string " + s;
  return s;
}

TableReader::TableReader(const toml::table& table,
                         std::string path,
                         std::vector<std::string> keys,
                         std::string owner,
                         const KeyTable& all)
    : table_(table), path_(std::move(path)) {
  for (const auto& [key, value] : table) {
    const bool known =
        std::find(keys.begin(), keys.end(), key.str()) != keys.end();
    if (!known) unknown_key(key, keys, owner, all);
  }
}

void TableReader::unknown_key(const toml::key& key,
                              const std::vector<std::string>& keys,
                              const std::string& owner,
                              const KeyTable& all) const {
  const std::string name(key.str());
  std::string hint;
  for (const auto& [table, table_keys] : all) {
    if (std::find(table_keys.begin(), table_keys.end(), name) !=
        table_keys.end()) {
      hint = fmt::format("; {} belongs in {}", name, table);
      break;
    }
  }
  if (hint.empty()) {
    hint =
        fmt::format("; the nearest known key is {}", full(nearest(name, keys)));
  }
  const std::string scope = owner.empty() ? "" : " in " + owner;
  refuse(location(key.source()),
         fmt::format("unknown key {}{}{}", full(name), scope, hint));
}

std::string TableReader::full(std::string_view key) const {
  return join(path_, key);
}

void TableReader::fail(std::string_view key, const std::string& what) const {
  const toml::node* node = table_.get(key);
  refuse(location(node != nullptr ? node->source() : table_.source()),
         fmt::format("{}: {}", full(key), what));
}

void TableReader::missing(std::string_view key,
                          const std::string& expected) const {
  fail(key, fmt::format("is missing; give {}", expected));
}

void TableReader::wrong(std::string_view key,
                        const std::string& expected) const {
  fail(key,
       fmt::format("must be {}, not {}", expected, literal(*table_.get(key))));
}

std::string TableReader::quoted_list(const std::vector<std::string>& words) {
  return fmt::format("\"{}\"", fmt::join(words, "\", \""));
}

void TableReader::unknown_choice(std::string_view key,
                                 const std::string& value,
                                 const std::vector<std::string>& names) const {
  fail(key,
       fmt::format("\"{}\" is not known; the nearest is \"{}\" (one of {})",
                   value,
                   nearest(value, names),
                   quoted_list(names)));
}

std::int64_t TableReader::integer(std::string_view key,
                                  std::int64_t min,
                                  std::int64_t max,
                                  std::optional<std::int64_t> fallback) const {
  const std::string expected =
      max == INT64_MAX ? fmt::format("an integer >= {}", min)
                       : fmt::format("an integer from {} to {}", min, max);
  if (!has(key)) {
    if (fallback) return *fallback;
    missing(key, expected);
  }
  const toml::node& node = *table_.get(key);
  if (!node.is_integer()) wrong(key, expected);
  const std::int64_t value = node.as_integer()->get();
  if (value < min || value > max) wrong(key, expected);
  return value;
}

int TableReader::small(std::string_view key,
                       int min,
                       int max,
                       std::optional<int> fallback) const {
  std::optional<std::int64_t> wide;
  if (fallback) wide = *fallback;
  return static_cast<int>(integer(key, min, max, wide));
}

double TableReader::real(std::string_view key,
                         double min,
                         double max,
                         std::optional<double> fallback) const {
  const std::string expected =
      max >= 1e30 ? fmt::format("a number >= {}", min)
                  : fmt::format("a number from {} to {}", min, max);
  if (!has(key)) {
    if (fallback) return *fallback;
    missing(key, expected);
  }
  const toml::node& node = *table_.get(key);
  if (!node.is_number()) wrong(key, expected);
  const double value = *node.value<double>();
  if (!(value >= min && value <= max)) wrong(key, expected);
  check_float(key, value);
  return value;
}

// What is computed with is a float: a smaller number would silently be 0, and
// for some keys that means another thing.
void TableReader::check_float(std::string_view key, double value) const {
  constexpr double kLeast =
      static_cast<double>(std::numeric_limits<float>::min());
  if (value == 0.0 || std::abs(value) >= kLeast) return;
  fail(key,
       fmt::format("{} is too small for a float; use 0, or at least {:.3g}",
                   value,
                   kLeast));
}

bool TableReader::boolean(std::string_view key, bool fallback) const {
  if (!has(key)) return fallback;
  const toml::node& node = *table_.get(key);
  if (!node.is_boolean()) wrong(key, "true or false");
  return node.as_boolean()->get();
}

std::string TableReader::text(std::string_view key,
                              std::optional<std::string> fallback) const {
  if (!has(key)) {
    if (fallback) return *fallback;
    missing(key, "a string");
  }
  const toml::node& node = *table_.get(key);
  if (!node.is_string()) wrong(key, "a string");
  return node.as_string()->get();
}

std::vector<std::string> TableReader::texts(std::string_view key,
                                            bool required) const {
  const std::string expected = "a string or an array of strings";
  std::vector<std::string> all;
  if (has(key)) {
    const toml::node& node = *table_.get(key);
    if (node.is_string()) {
      all.push_back(node.as_string()->get());
    } else if (node.is_array()) {
      for (const toml::node& element : *node.as_array()) {
        if (!element.is_string()) {
          fail(key,
               fmt::format(
                   "must be {}; it holds {}", expected, literal(element)));
        }
        all.push_back(element.as_string()->get());
      }
    } else {
      wrong(key, expected);
    }
    for (const std::string& text : all) {
      if (text.empty()) fail(key, "holds an empty string");
    }
  }
  if (required && all.empty()) missing(key, expected);
  return all;
}

std::vector<double> TableReader::reals(std::string_view key,
                                       size_t n,
                                       double min,
                                       double max,
                                       std::vector<double> fallback) const {
  if (!has(key)) return fallback;
  const std::string expected =
      fmt::format("an array of {} numbers from {} to {}", n, min, max);
  const toml::node& node = *table_.get(key);
  if (!node.is_array() || node.as_array()->size() != n) wrong(key, expected);
  std::vector<double> values;
  for (const toml::node& element : *node.as_array()) {
    const double value =
        element.is_number() ? *element.value<double>() : std::nan("");
    if (!(value >= min && value <= max)) {
      fail(key,
           fmt::format("must be {}; it holds {}", expected, literal(element)));
    }
    values.push_back(value);
  }
  return values;
}

const toml::array& TableReader::array(std::string_view key) const {
  if (!has(key)) missing(key, "an array");
  const toml::node& node = *table_.get(key);
  if (!node.is_array()) wrong(key, "an array");
  return *node.as_array();
}

const toml::table& TableReader::table(std::string_view key) const {
  static const toml::table empty;
  if (!has(key)) return empty;
  const toml::node& node = *table_.get(key);
  if (!node.is_table()) wrong(key, "a table");
  return *node.as_table();
}

void apply_override(toml::table& root,
                    const std::string& text,
                    const std::string& origin) {
  const std::string where = origin + text;
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    refuse(where, "needs the form key.path=value");
  }
  const std::string path = text.substr(0, equals);
  const std::string value = text.substr(equals + 1);

  // A value that is not one TOML value is a string.
  toml::table parsed;
  try {
    parsed = toml::parse("v = " + value, where);
  } catch (const toml::parse_error&) {
    parsed.clear();
  }
  if (parsed.size() != 1) {
    std::string quoted = "v = \"";
    for (const char c : value) {
      if (c == '"' || c == '\\') quoted += '\\';
      quoted += c;
    }
    try {
      parsed = toml::parse(quoted + '"', where);
    } catch (const toml::parse_error&) {
      refuse(where, "the value is neither TOML nor text on one line");
    }
  }
  const toml::key key("v", parsed.begin()->first.source());
  // Moved, not copied: a copy forgets where it came from.
  toml::node& node = *parsed.get("v");

  std::vector<std::string> parts;
  std::istringstream stream(path);
  for (std::string part; std::getline(stream, part, '.');) {
    parts.push_back(part);
  }
  toml::node* at = &root;
  std::string walked;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string& part = parts[i];
    const bool last = i + 1 == parts.size();
    if (part.empty()) refuse(where, "the key has an empty part");
    if (toml::table* table = at->as_table()) {
      if (last) {
        table->insert_or_assign(toml::key(part, key.source()), std::move(node));
        return;
      }
      if (!table->contains(part)) {
        table->insert(toml::key(part, key.source()), toml::table{});
      }
      at = table->get(part);
    } else if (toml::array* array = at->as_array()) {
      const bool digits =
          part.size() < 6 && std::all_of(part.begin(), part.end(), [](char c) {
            return c >= '0' && c <= '9';
          });
      const size_t index = digits ? std::stoul(part) : array->size();
      if (index >= array->size()) {
        refuse(where,
               fmt::format("{} has elements 0 to {}, not {}",
                           walked,
                           std::ptrdiff_t(array->size()) - 1,
                           part));
      }
      if (last) {
        array->replace(array->cbegin() + std::ptrdiff_t(index),
                       std::move(node));
        return;
      }
      at = array->get(index);
    } else {
      refuse(where, fmt::format("{} is not a table", walked));
    }
    walked = join(walked, part);
  }
}

namespace {

void record(const toml::node& node,
            const std::string& path,
            std::map<std::string, std::string>* origins) {
  (*origins)[path] = location(node.source());
  if (const toml::array* array = node.as_array()) {
    for (size_t i = 0; i < array->size(); ++i) {
      record(*array->get(i), join(path, std::to_string(i)), origins);
    }
  }
  if (const toml::table* table = node.as_table()) {
    for (const auto& [key, value] : *table) {
      record(value, join(path, key.str()), origins);
    }
  }
}

}  // namespace

void record_origins(const toml::table& root,
                    std::map<std::string, std::string>* origins) {
  for (const auto& [key, value] : root) {
    record(value, std::string(key.str()), origins);
  }
}

}  // namespace fewstep::host
