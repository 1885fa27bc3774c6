// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "arena_bytes.h"

#include <fmt/format.h>

#include "fewstep/device/session.h"
#include "fewstep/host/error.h"

namespace fewstep::cli {

std::vector<ArenaSize> arena_sizes(const Capsule& capsule) {
  const uint32_t full = capsule.limits.support_max;
  std::vector<ArenaSize> sizes;
  for (const uint32_t tile : {uint32_t{1}, uint32_t{2}, uint32_t{4}, full}) {
    const bool whole = tile == full;
    if (tile > full || (capsule.network.transductive != 0 && !whole)) continue;
    if (!sizes.empty() && sizes.back().tile >= tile) continue;
    SessionOptions options;
    options.tile = tile;
    ArenaSize size{tile, 0};
    const Status status = required_bytes(capsule, options, &size.bytes);
    if (status != Status::kOk) {
      throw host::Error(host::Exit::kBadData,
                        fmt::format("no arena holds {} examples at a time ({})",
                                    tile,
                                    to_string(status)));
    }
    sizes.push_back(size);
  }
  return sizes;
}

}  // namespace fewstep::cli
