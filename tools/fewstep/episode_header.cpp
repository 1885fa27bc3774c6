// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "episode_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <vector>

namespace fewstep::cli {
namespace {

std::string literal(float value) { return fmt::format("{:a}F", value); }
std::string literal(uint16_t value) { return fmt::format("{}", value); }

template <class T>
std::string array(const std::string& type,
                  const std::string& name,
                  const std::vector<T>& values) {
  std::string text =
      fmt::format("static const {} {}[{}] = {{", type, name, values.size());
  size_t column = 80;
  for (const T value : values) {
    const std::string item = literal(value) + ",";
    if (column + 1 + item.size() > 80) {
      text += "\n   ";
      column = 3;
    }
    text += " " + item;
    column += 1 + item.size();
  }
  return text + "\n};\n";
}

}  // namespace

std::string episode_header(const std::string& name,
                           const std::string& source,
                           const host::Episode& episode,
                           const host::EpisodeShape& shape) {
  std::string macro = name;
  std::transform(
      macro.begin(), macro.end(), macro.begin(), [](unsigned char c) {
        return static_cast<char>(std::toupper(c));
      });
  std::string text = fmt::format(
      "/* An episode as C arrays: a support set to adapt on, a query set to\n"
      " * judge by.\n *\n"
      " * Written by `fewstep export` from {0}; do not edit.\n"
      " * Include it in one source file: the arrays are static.\n */\n"
      "#ifndef FEWSTEP_EXPORT_{1}_H_\n#define FEWSTEP_EXPORT_{1}_H_\n\n"
      "#include <stdint.h>\n\n"
      "#define {1}_N_SUPPORT {2}U\n#define {1}_N_QUERY {3}U\n"
      "#define {1}_N_IN {4}U\n#define {1}_N_OUT {5}U\n"
      "#define {1}_HAS_LABELS {6}\n\n",
      source,
      macro,
      shape.n_support,
      shape.n_query,
      shape.n_in,
      shape.n_out,
      shape.classification ? 1 : 0);
  text += array("float", name + "_support_x", episode.support_x);
  text += array("float", name + "_query_x", episode.query_x);
  if (shape.classification) {
    text += array("uint16_t", name + "_support_labels", episode.support_labels);
    text += array("uint16_t", name + "_query_labels", episode.query_labels);
  } else {
    text += array("float", name + "_support_targets", episode.support_targets);
    text += array("float", name + "_query_targets", episode.query_targets);
  }
  return text + fmt::format("\n#endif /* FEWSTEP_EXPORT_{}_H_ */\n", macro);
}

}  // namespace fewstep::cli
