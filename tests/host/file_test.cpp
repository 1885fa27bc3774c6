// Atomic writes under the failures a machine really has.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/file.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <fstream>
#include <string>
#include <vector>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace fewstep::host {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempDir;

size_t n_files(const fs::path& folder) {
  return static_cast<size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(File, WritesAndReadsBack) {
  const TempDir dir;
  for (const size_t n : {0, 1, 65535, 65536, 65537, 1000000}) {
    std::vector<uint8_t> bytes(n);
    for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(i * 7);
    save_file_atomically(dir / "x", bytes);
    EXPECT_EQ(read_file(dir / "x"), bytes) << n;
  }
  EXPECT_EQ(n_files(dir.path()), 1U);  // No temporary is left.
}

TEST(File, WritesToABareNameInTheWorkingFolder) {
  const TempDir dir;
  const fs::path before = fs::current_path();
  fs::current_path(dir.path());
  save_file_atomically("x", std::vector<uint8_t>{1, 2, 3});
  fs::current_path(before);
  EXPECT_EQ(read_file(dir / "x").size(), 3U);
}

// What a full disk looks like, without filling one.
TEST(File, KeepsTheOldFileWhenTheNewOneHitsTheSizeLimit) {
  const TempDir dir;
  const std::vector<uint8_t> old = {1, 2, 3};
  save_file_atomically(dir / "x", old);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 4096;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error(
      [&] { save_file_atomically(dir / "x", std::vector<uint8_t>(100000)); },
      Exit::kResource,
      {"/x: cannot write", "too large", "ulimit"});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);

  EXPECT_EQ(read_file(dir / "x"), old);
  EXPECT_EQ(n_files(dir.path()), 1U);
}

TEST(File, NamesAFolderThatIsNotThere) {
  const TempDir dir;
  expect_error(
      [&] { save_file_atomically(dir / "no/x", std::vector<uint8_t>{1}); },
      Exit::kResource,
      {"/no/x", "No such file", "create the folder"});
}

TEST(File, KeepsAFolderThatIsInTheWay) {
  const TempDir dir;
  fs::create_directories(dir / "x/y");
  expect_error(
      [&] { save_file_atomically(dir / "x", std::vector<uint8_t>{1}); },
      Exit::kResource,
      {"/x"});
  EXPECT_TRUE(fs::is_directory(dir / "x/y"));
  EXPECT_EQ(n_files(dir.path()), 1U);
}

TEST(File, FollowsALink) {
  const TempDir dir;
  fs::create_directories(dir / "there");
  save_file_atomically(dir / "there/x", std::vector<uint8_t>{1});
  fs::create_symlink("there/x", dir / "x");
  save_file_atomically(dir / "x", std::vector<uint8_t>{2, 3});
  EXPECT_TRUE(fs::is_symlink(dir / "x"));
  EXPECT_FALSE(fs::is_symlink(dir / "there/x"));
  EXPECT_EQ(read_file(dir / "there/x"), (std::vector<uint8_t>{2, 3}));
  // One that points nowhere yet, too.
  fs::create_symlink("there/y", dir / "y");
  save_file_atomically(dir / "y", std::vector<uint8_t>{4});
  EXPECT_TRUE(fs::is_symlink(dir / "y"));
  EXPECT_EQ(read_file(dir / "there/y"), std::vector<uint8_t>{4});
}

TEST(File, LeavesAPipeAPipe) {
  const TempDir dir;
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  expect_error(
      [&] { save_file_atomically(dir / "pipe", std::vector<uint8_t>{1}); },
      Exit::kUsage,
      {"/pipe is no file but a device or a pipe"});
  EXPECT_TRUE(fs::is_fifo(dir / "pipe"));
}

TEST(File, SaysWhyItCannotRead) {
  const TempDir dir;
  expect_error([&] { read_file(dir / "none"); },
               Exit::kBadData,
               {"/none", "No such file"});
  expect_error(
      [&] { read_file(dir.path()); }, Exit::kBadData, {"Is a directory"});
}

class DataPath : public ::testing::Test {
 protected:
  DataPath() {
    fs::create_directories(dir_ / "recipes/a");
    fs::create_directories(dir_ / "data/a");
    fs::create_directories(dir_ / "data/b");
    unsetenv("FEWSTEP_DATA");
  }
  ~DataPath() override { unsetenv("FEWSTEP_DATA"); }

  const TempDir dir_;
  const fs::path recipes_ = dir_ / "recipes";
};

TEST_F(DataPath, PrefersTheRecipesFolderThenFewstepData) {
  setenv("FEWSTEP_DATA", (dir_ / "data").c_str(), 1);
  EXPECT_EQ(resolve_data_path("a", recipes_), recipes_ / "a");
  EXPECT_EQ(resolve_data_path("b", recipes_), dir_ / "data/b");
  EXPECT_EQ(resolve_data_path(dir_ / "data/a", recipes_), dir_ / "data/a");
}

TEST_F(DataPath, ListsWhereItLooked) {
  const std::string beside = (recipes_ / "c").string();
  expect_error([&] { resolve_data_path("c", recipes_); },
               Exit::kBadData,
               {beside.c_str(), "$FEWSTEP_DATA is not set"});
  setenv("FEWSTEP_DATA", (dir_ / "data").c_str(), 1);
  const std::string under = (dir_ / "data/c").string();
  expect_error([&] { resolve_data_path("c", recipes_); },
               Exit::kBadData,
               {beside.c_str(), under.c_str()});
  expect_error([&] { resolve_data_path("/no/such/path", recipes_); },
               Exit::kBadData,
               {"/no/such/path"});
}

}  // namespace
}  // namespace fewstep::host
