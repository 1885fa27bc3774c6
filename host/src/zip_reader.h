// Members of a zip file, one after the other, each checked by its CRC-32.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_SRC_ZIP_READER_H_
#define FEWSTEP_HOST_SRC_ZIP_READER_H_

#include <archive.h>
#include <archive_entry.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace fewstep::host {

/// Reads the zip at `path` in the order of its bytes. Needs the central
/// directory at its end, so a truncated file is refused at once.
class ZipReader {
 public:
  /// @throws Error kBadData naming the file.
  explicit ZipReader(const std::filesystem::path& path);

  /// Goes to the next member that is a file; false after the last. `*name` is
  /// its path inside the zip.
  bool next(std::string* name);

  /// The current member, unpacked; once per member.
  std::vector<uint8_t> read();

 private:
  struct Free {
    void operator()(archive* a) const { archive_read_free(a); }
  };
  [[noreturn]] void fail(const std::string& member) const;

  std::filesystem::path path_;
  std::unique_ptr<archive, Free> archive_;
  archive_entry* entry_ = nullptr;  // Belongs to archive_.
  std::string name_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_SRC_ZIP_READER_H_
