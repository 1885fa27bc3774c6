// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "messages.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <string_view>

#include "fewstep/host/error.h"
#include "fewstep/host/network_builder.h"

namespace fewstep::cli {

void warn_if_transductive(const host::Recipe& recipe) {
  if (host::build_network(recipe).network.transductive == 0) return;
  fmt::print(stderr,
             "fewstep: warning: the network has batch_norm: on a device each "
             "prediction depends on the examples predicted with it, one at a "
             "time is close to chance, and the whole support set must fit in "
             "memory; group_norm has none of these costs\n");
}

host::EngineKind engine_of(const std::string& name) {
  if (name == "cpu") return host::EngineKind::kCpu;
  if (name == "cuda") return host::EngineKind::kCuda;
  throw host::Error(host::Exit::kUsage,
                    fmt::format("--engine {}: there are cpu and cuda", name));
}

std::string is_seed(const std::string& text) {
  uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && stop == end) return "";
  return text + " is no whole number from 0 to 18446744073709551615";
}

std::string shell_word(const std::string& text) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
      "_-./=+:,@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) {
    return text;
  }
  std::string word = "'";
  for (const char c : text) {
    if (c == '\'') {
      word += "'\\''";
    } else {
      word += c;
    }
  }
  return word + "'";
}

}  // namespace fewstep::cli
