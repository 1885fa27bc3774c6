// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "zip_reader.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "fewstep/host/error.h"

namespace fewstep::host {

ZipReader::ZipReader(const std::filesystem::path& path)
    : path_(path), archive_(archive_read_new()) {
  if (archive_ == nullptr) throw std::bad_alloc();
  archive* const a = archive_.get();
  struct stat info;
  if (stat(path.c_str(), &info) != 0)
    throw Error(
        Exit::kBadData,
        fmt::format(
            "{}: cannot read: {}", path.string(), std::strerror(errno)));
  if (S_ISDIR(info.st_mode)) {
    throw Error(Exit::kBadData,
                fmt::format("{}: is a folder; give the name of a file in it",
                            path.string()));
  }
  if (archive_read_support_format_zip_seekable(a) != ARCHIVE_OK ||
      archive_read_open_filename(a, path.c_str(), 1 << 18) != ARCHIVE_OK)
    fail("");
}

bool ZipReader::next(std::string* name) {
  for (;;) {
    const int status = archive_read_next_header(archive_.get(), &entry_);
    if (status == ARCHIVE_EOF) return false;
    // A warning is a name that the current locale cannot show.
    if (status != ARCHIVE_OK && status != ARCHIVE_WARN) fail("");
    if (archive_entry_filetype(entry_) == AE_IFDIR) continue;
    const char* path = archive_entry_pathname_utf8(entry_);
    if (path == nullptr) path = archive_entry_pathname(entry_);
    if (path == nullptr) fail("a member whose name is unreadable");
    name_ = path;
    *name = name_;
    return true;
  }
}

std::vector<uint8_t> ZipReader::read() {
  const int64_t size = archive_entry_size_is_set(entry_) != 0
                           ? archive_entry_size(entry_)
                           : int64_t{0};
  // A size in a header is trusted with no more than 16 MiB before the data
  // come. One byte more than needed makes libarchive compare the CRC-32.
  constexpr int64_t kTrusted = int64_t{1} << 24;
  std::vector<uint8_t> bytes(
      static_cast<size_t>(std::clamp(size, int64_t{0}, kTrusted)) + 1);
  size_t n = 0;
  for (;;) {
    if (n == bytes.size()) bytes.resize(2 * n);
    const la_ssize_t got =
        archive_read_data(archive_.get(), bytes.data() + n, bytes.size() - n);
    if (got < 0) fail(name_);  // A wrong CRC-32 is ARCHIVE_WARN, below 0 too.
    if (got == 0) break;
    n += static_cast<size_t>(got);
  }
  bytes.resize(n);
  if (size > 0 && n != static_cast<size_t>(size)) fail(name_);
  return bytes;
}

void ZipReader::fail(const std::string& member) const {
  const char* reason = archive_error_string(archive_.get());
  throw Error(Exit::kBadData,
              fmt::format("{}{}{}: {}; the zip file is damaged or incomplete: "
                          "copy or write it again",
                          path_.string(),
                          member.empty() ? "" : ": ",
                          member,
                          reason == nullptr ? "ends early" : reason));
}

}  // namespace fewstep::host
