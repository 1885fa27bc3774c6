// Files: whole reads, atomic writes, and where data is looked for.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_FILE_H_
#define FEWSTEP_HOST_FILE_H_

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace fewstep::host {

/// The bytes of `path`.
///
/// @throws Error kBadData, naming the file, when it cannot be opened or read.
std::vector<uint8_t> read_file(const std::filesystem::path& path);

/// `path` holds `bytes`, or what it held before: a reader never sees half a
/// file, and a crash or power cut at any moment leaves one of the two.
///
/// Writes `<path>.tmp-<pid>`, flushes it to the disk, renames it over `path`
/// and flushes the folder. The folder must exist. Of a symbolic link this is
/// done to what it points to.
///
/// @throws Error kUsage: `path` is a device or a pipe, and stays one. Error
///     kResource, naming the file and the system's reason (disk full,
///     file too large, not permitted). The temporary file is removed and what
///     `path` held is intact. Only if flushing the folder itself fails, `path`
///     already holds the new bytes. SIGXFSZ is held back meanwhile, so a
///     file-size limit comes out here too and does not end the process.
void save_file_atomically(const std::filesystem::path& path,
                          std::span<const uint8_t> bytes);

/// Where a recipe's `path` lies: an absolute one as it is; a relative one under
/// `recipe_dir`, else under the folder that $FEWSTEP_DATA names.
///
/// @throws Error kBadData when none of these exists, listing those tried.
std::filesystem::path resolve_data_path(
    const std::filesystem::path& path, const std::filesystem::path& recipe_dir);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_FILE_H_
