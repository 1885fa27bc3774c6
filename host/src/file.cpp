// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>

#include "fewstep/host/error.h"

namespace fewstep::host {

namespace {

// Closes on scope exit; close() reports errors where they matter.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int close() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

// While it lives, a write beyond the file size limit gives EFBIG in this thread
// and not the signal that would end the process.
class HoldFileSizeSignal {
 public:
  HoldFileSizeSignal() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  }
  HoldFileSizeSignal(const HoldFileSizeSignal&) = delete;
  HoldFileSizeSignal& operator=(const HoldFileSizeSignal&) = delete;
  ~HoldFileSizeSignal() {
    // One that was held before is not ours to take away.
    if (sigismember(&before_, SIGXFSZ) == 0) {
      const timespec now = {0, 0};
      while (sigtimedwait(&signals_, nullptr, &now) > 0) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t signals_;
  sigset_t before_;
};

[[noreturn]] void fail_read(const std::filesystem::path& path, int error) {
  throw Error(
      Exit::kBadData,
      fmt::format("{}: cannot read: {}", path.string(), std::strerror(error)));
}

// What to do about the errors a person meets when saving.
const char* remedy(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT: return "; free some disk space or write elsewhere";
    case EFBIG: return "; raise the file size limit (ulimit -f)";
    case ENOENT: return "; create the folder first";
    case EACCES:
    case EPERM:
    case EROFS: return "; write to a folder of yours";
    default: return "";
  }
}

// The file that `name` stands for: a link stays one, and what it points to is
// replaced. Devices and pipes would be replaced by a file, and are refused.
std::filesystem::path target_of(const std::filesystem::path& name) {
  std::error_code ignored;
  const std::filesystem::file_status status =
      std::filesystem::status(name, ignored);
  if (std::filesystem::exists(status) &&
      !std::filesystem::is_regular_file(status) &&
      !std::filesystem::is_directory(status)) {
    throw Error(Exit::kUsage,
                fmt::format("{} is no file but a device or a pipe; give the "
                            "name of a file",
                            name.string()));
  }
  std::filesystem::path path = name;
  constexpr int kMostLinks = 40;
  for (int i = 0; i < kMostLinks && std::filesystem::is_symlink(path, ignored);
       ++i) {
    const std::filesystem::path to =
        std::filesystem::read_symlink(path, ignored);
    path = to.is_absolute() ? to : path.parent_path() / to;
  }
  return path;
}

}  // namespace

std::vector<uint8_t> read_file(const std::filesystem::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail_read(path, errno);
  struct stat info;
  if (::fstat(file.get(), &info) != 0) fail_read(path, errno);

  // The size is a hint only: pipes have none and files grow.
  std::vector<uint8_t> bytes(info.st_size > 0 ? info.st_size + 1 : 1 << 16);
  size_t n = 0;
  for (;;) {
    if (n == bytes.size()) bytes.resize(2 * n);
    const ssize_t got = ::read(file.get(), bytes.data() + n, bytes.size() - n);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_read(path, errno);
    if (got == 0) break;
    n += got;
  }
  bytes.resize(n);
  return bytes;
}

void save_file_atomically(const std::filesystem::path& name,
                          std::span<const uint8_t> bytes) {
  const std::filesystem::path path = target_of(name);
  const std::string temporary =
      fmt::format("{}.tmp-{}", path.string(), getpid());
  const auto fail = [&](int error, bool remove) {
    if (remove) ::unlink(temporary.c_str());
    throw Error(Exit::kResource,
                fmt::format("{}: cannot write: {}{}",
                            path.string(),
                            std::strerror(error),
                            remedy(error)));
  };

  const HoldFileSizeSignal hold;
  Descriptor file(::open(
      temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (file.get() < 0) fail(errno, false);
  while (!bytes.empty()) {
    const ssize_t put = ::write(file.get(), bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail(errno, true);
    bytes = bytes.subspan(put);
  }
  if (::fsync(file.get()) != 0) fail(errno, true);
  if (file.close() != 0) fail(errno, true);
  if (::rename(temporary.c_str(), path.c_str()) != 0) fail(errno, true);

  // Without this the rename itself may be lost in a power cut.
  const std::filesystem::path parent = path.parent_path();
  Descriptor folder(::open(parent.empty() ? "." : parent.c_str(),
                           O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0) fail(errno, false);
  // Some network file systems cannot flush a folder and say EINVAL.
  if (::fsync(folder.get()) != 0 && errno != EINVAL) fail(errno, false);
}

std::filesystem::path resolve_data_path(
    const std::filesystem::path& path,
    const std::filesystem::path& recipe_dir) {
  std::error_code ignored;
  if (path.empty()) {
    throw Error(Exit::kBadData,
                "a path of the recipe is empty; name a file or a folder");
  }
  if (path.is_absolute()) {
    if (std::filesystem::exists(path, ignored)) return path;
    throw Error(Exit::kBadData,
                fmt::format("{}: no such file or folder; mend the path in the "
                            "recipe",
                            path.string()));
  }
  const std::filesystem::path beside = recipe_dir / path;
  if (std::filesystem::exists(beside, ignored)) return beside;
  const char* data = std::getenv("FEWSTEP_DATA");
  if (data == nullptr || *data == '\0')
    throw Error(Exit::kBadData,
                fmt::format("{}: not found; looked for {} ($FEWSTEP_DATA is "
                            "not set); put the data there or set FEWSTEP_DATA "
                            "to the folder that holds it",
                            path.string(),
                            beside.string()));
  const std::filesystem::path under = std::filesystem::path(data) / path;
  if (std::filesystem::exists(under, ignored)) return under;
  throw Error(Exit::kBadData,
              fmt::format("{}: not found; looked for {} and {}; put the data "
                          "there or set FEWSTEP_DATA to the folder that holds "
                          "it",
                          path.string(),
                          beside.string(),
                          under.string()));
}

}  // namespace fewstep::host
