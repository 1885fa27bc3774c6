// What the host refuses to write, and what it says about files.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/capsule_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "fewstep/host/error.h"
#include "fewstep/host/file.h"
#include "support/expect_error.h"
#include "support/small_capsule.h"
#include "support/temp_dir.h"

namespace fewstep::host {
namespace {

using testing::expect_error;
using testing::small_classifier;
using testing::small_regressor;
using testing::SmallCapsule;
using testing::smallest_capsule;
using testing::TempDir;

struct Refused {
  const char* name;
  Exit exit;
  std::vector<const char*> words;
  std::function<void(CapsuleContents&)> change;
};
void PrintTo(const Refused& r, std::ostream* os) { *os << r.name; }

class CapsuleWriterRefuses : public ::testing::TestWithParam<Refused> {};

TEST_P(CapsuleWriterRefuses, AndSaysWhy) {
  SmallCapsule small = small_classifier();
  encode_capsule(small.contents);  // Without the change it is fine.
  GetParam().change(small.contents);
  for (const char* word : GetParam().words) {
    expect_error(
        [&] { encode_capsule(small.contents); }, GetParam().exit, {word});
  }
}

INSTANTIATE_TEST_SUITE_P(
    What,
    CapsuleWriterRefuses,
    ::testing::Values(
        Refused{"WeightBeyondF16",
                Exit::kUsage,
                {"layer 0 (conv2d)", "weight[1]", "65520", "init = \"f32\""},
                [](CapsuleContents& c) { c.theta[1] = 65520.0F; }},
        Refused{"BiasBeyondF16",
                Exit::kUsage,
                {"layer 0 (conv2d)", "bias[1]", "init = \"f32\""},
                [](CapsuleContents& c) { c.theta[19] = -1e6F; }},
        Refused{"RateBeyondF16",
                Exit::kUsage,
                {"rate 3", "rates = \"f32\""},
                [](CapsuleContents& c) {
                  c.rate_storage = Storage::kF16;
                  c.phi[3] = 7e4F;
                }},
        Refused{"NanParameter",
                Exit::kNumeric,
                {"theta[2]", "nan"},
                [](CapsuleContents& c) {
                  c.theta[2] = std::numeric_limits<float>::quiet_NaN();
                }},
        Refused{"InfiniteRate",
                Exit::kNumeric,
                {"phi[0]", "inf"},
                [](CapsuleContents& c) {
                  c.phi[0] = std::numeric_limits<float>::infinity();
                }},
        Refused{"NoSupport",
                Exit::kUsage,
                {"support_max", "1 to 65535"},
                [](CapsuleContents& c) { c.limits.support_max = 0; }},
        Refused{"TooManySteps",
                Exit::kUsage,
                {"steps", "70000"},
                [](CapsuleContents& c) { c.limits.steps = 70000; }},
        Refused{"GoldenLargerThanTheLimit",
                Exit::kUsage,
                {"golden", "support", "1 to 2"},
                [](CapsuleContents& c) { c.limits.support_max = 2; }},
        Refused{"GoldenLabel",
                Exit::kInternal,
                {"label 3"},
                [](CapsuleContents& c) { c.golden->support_labels[0] = 3; }},
        Refused{"ThetaOfAnotherNetwork",
                Exit::kInternal,
                {"theta"},
                [](CapsuleContents& c) { c.theta.pop_back(); }},
        Refused{"RatesOfAnotherRule",
                Exit::kInternal,
                {"phi"},
                [](CapsuleContents& c) { c.phi.push_back(0.1F); }},
        Refused{"InitializationAsLog8",
                Exit::kInternal,
                {"log8"},
                [](CapsuleContents& c) { c.init_storage = Storage::kLog8; }},
        Refused{"NoNetwork",
                Exit::kInternal,
                {"network"},
                [](CapsuleContents& c) { c.network = {}; }}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(CapsuleWriter, RefusesLayersNoPlannerWrote) {
  SmallCapsule small = small_classifier();
  small.layers[3].in_offset += 1;
  expect_error([&] { encode_capsule(small.contents); },
               Exit::kInternal,
               {"kBadCapsule"});
}

TEST(CapsuleWriter, AllStoragesDecodeWithinTheirError) {
  SmallCapsule small = small_regressor();
  CapsuleContents& c = small.contents;
  c.phi[1] = -c.phi[1];
  c.phi[2] = 0.0F;
  for (const Storage init : {Storage::kF32, Storage::kF16}) {
    for (const Storage rates : {Storage::kF32, Storage::kF16, Storage::kLog8}) {
      c.init_storage = init;
      c.rate_storage = rates;
      const CapsuleBytes file = encode_capsule(c);
      Capsule capsule;
      ASSERT_EQ(read_capsule(file.data(), file.size(), &capsule), Status::kOk);
      EXPECT_EQ(decode_init(capsule), c.theta);  // Exact in f16 by choice.
      const std::vector<float> decoded = decode_rates(capsule);
      const float error = rates == Storage::kLog8 ? 0.0433F : 0.0F;
      for (size_t i = 0; i < decoded.size(); ++i) {
        EXPECT_NEAR(decoded[i], c.phi[i], error * std::abs(c.phi[i])) << i;
      }
    }
  }
}

TEST(CapsuleFile, SavedCapsuleLoadsAndMoves) {
  const TempDir folder;
  const auto path = folder / "a.capsule";
  const CapsuleBytes bytes = encode_capsule(small_classifier().contents);
  save_file_atomically(path, bytes);
  CapsuleFile file = load_capsule(path);
  EXPECT_EQ(file.bytes, bytes);
  const CapsuleFile moved = std::move(file);
  EXPECT_EQ(static_cast<const void*>(moved.capsule.network.layers),
            moved.bytes.data() + 64 + 6 * 16 + 16);
}

TEST(CapsuleFile, MissingIsNamed) {
  const TempDir folder;
  const std::string path = folder / "none.capsule";
  expect_error([&] { load_capsule(path); },
               Exit::kBadData,
               {path.c_str(), "No such file"});
}

TEST(CapsuleFile, FolderIsNotACapsule) {
  const TempDir folder;
  expect_error([&] { load_capsule(folder.path()); },
               Exit::kBadData,
               {folder.path().c_str(), "directory"});
}

TEST(CapsuleFile, UnusableIsNamedWithStatusAndRemedy) {
  const TempDir folder;
  const std::string path = folder / "bad.capsule";
  const CapsuleBytes good = encode_capsule(smallest_capsule().contents);
  const auto expect = [&](const CapsuleBytes& bytes,
                          std::initializer_list<const char*> words) {
    save_file_atomically(path, bytes);
    expect_error([&] { load_capsule(path); }, Exit::kBadData, {path.c_str()});
    expect_error([&] { load_capsule(path); }, Exit::kBadData, words);
  };
  expect({}, {"kBadMagic", "fewstep train"});
  CapsuleBytes cut = good;
  cut.pop_back();
  expect(cut, {"kBadChecksum", "copy it again"});
  CapsuleBytes other = good;
  other[4] = 9;
  expect(other, {"kBadVersion", "pack it again"});
}

}  // namespace
}  // namespace fewstep::host
