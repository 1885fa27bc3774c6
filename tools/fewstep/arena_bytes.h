// What a capsule asks of a device's memory, by tile.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_ARENA_BYTES_H_
#define FEWSTEP_TOOLS_ARENA_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fewstep/capsule.h"

namespace fewstep::cli {

struct ArenaSize {
  uint32_t tile;  ///< Examples taken at a time.
  size_t bytes;   ///< required_bytes() with it and default options.
};

/// For the capsule's limits: tiles 1, 2, 4 and the whole support set, smallest
/// first, each once; the whole set alone for transductive networks.
///
/// Errors: kBadData when no arena can be that large.
std::vector<ArenaSize> arena_sizes(const Capsule& capsule);

}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_ARENA_BYTES_H_
