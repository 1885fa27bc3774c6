// What the library's messages need of {fmt}, for machines without it: every
// {...} becomes the next argument, whatever stands between the braces. For
// gpu_check.sh, which nobody reads messages of but when something failed.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_GPU_CHECK_FMT_FORMAT_H_
#define FEWSTEP_TOOLS_GPU_CHECK_FMT_FORMAT_H_

#include <algorithm>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fmt {

template <class... Args>
std::string format(std::string_view text, const Args&... args) {
  std::vector<std::string> values;
  const auto add = [&](const auto& arg) {
    std::ostringstream out;
    out << arg;
    values.push_back(out.str());
  };
  (add(args), ...);
  std::string result;
  size_t next = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool twice = i + 1 < text.size() && text[i + 1] == text[i];
    if ((text[i] == '{' || text[i] == '}') && twice) {
      result += text[i++];
    } else if (text[i] == '{') {
      i = std::min(text.find('}', i), text.size() - 1);
      if (next < values.size()) result += values[next++];
    } else {
      result += text[i];
    }
  }
  return result;
}

template <class Out, class... Args>
Out format_to(Out out, std::string_view text, const Args&... args) {
  const std::string result = format(text, args...);
  return std::copy(result.begin(), result.end(), out);
}

template <class Range>
std::string join(const Range& range, std::string_view separator) {
  std::ostringstream out;
  bool first = true;
  for (const auto& value : range) {
    if (!std::exchange(first, false)) out << separator;
    out << value;
  }
  return out.str();
}

}  // namespace fmt

#endif  // FEWSTEP_TOOLS_GPU_CHECK_FMT_FORMAT_H_
