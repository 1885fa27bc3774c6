// An episode as a C header: what ports/examples/adapt.cpp adapts to.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TOOLS_EPISODE_HEADER_H_
#define FEWSTEP_TOOLS_EPISODE_HEADER_H_

#include <string>

#include "fewstep/host/episode.h"

namespace fewstep::cli {

/// The text of a header, valid C99 and C++17, that defines for `name` =
/// "episode"
///
///   EPISODE_N_SUPPORT, EPISODE_N_QUERY, EPISODE_N_IN, EPISODE_N_OUT
///   EPISODE_HAS_LABELS                       1: classes, 0: targets
///   episode_support_x, episode_query_x       [n][n_in]
///   episode_support_labels, episode_query_labels     [n], or
///   episode_support_targets, episode_query_targets   [n][n_out]
///
/// Floats are written as hexadecimal literals: the same bits.
///
/// @param name    Lower-case C identifier.
/// @param source  Where the episode came from, for the reader.
std::string episode_header(const std::string& name,
                           const std::string& source,
                           const host::Episode& episode,
                           const host::EpisodeShape& shape);

}  // namespace fewstep::cli

#endif  // FEWSTEP_TOOLS_EPISODE_HEADER_H_
