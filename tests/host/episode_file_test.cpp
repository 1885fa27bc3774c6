// Source `episodes`: file order, wrapping, and every refusal.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/episode_file.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "fewstep/host/npz.h"
#include "fewstep/host/sinusoid.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace fewstep::host {
namespace {

using testing::expect_error;
using testing::TempDir;

// Three tasks, two support and three query examples of [1, 2], two classes.
// Every value tells its place.
Npz labelled() {
  Npz npz;
  std::vector<float> support_x, query_x;
  for (int i = 0; i < 3 * 2 * 2; ++i)
    support_x.push_back(static_cast<float>(i));
  for (int i = 0; i < 3 * 3 * 2; ++i)
    query_x.push_back(static_cast<float>(100 + i));
  npz.set<float>("support_x", {3, 2, 2}, support_x);
  npz.set<float>("query_x", {3, 3, 2}, query_x);
  npz.set<int64_t>("support_y", {3, 2}, std::vector<int64_t>{0, 1, 1, 0, 0, 1});
  npz.set<uint8_t>(
      "query_y", {3, 3}, std::vector<uint8_t>{0, 0, 1, 1, 1, 0, 0, 1, 0});
  return npz;
}

Episode sample(const TaskSource& source, uint64_t iteration, uint32_t task) {
  Episode e;
  source.sample(Split::kTrain, 1, iteration, task, &e);
  return e;
}

TEST(EpisodeFile, GivesTheTasksInFileOrder) {
  const TempDir dir;
  labelled().save(dir / "x.npz");
  const EpisodeFile source({.path = dir / "x.npz", .tasks_per_iteration = 2});
  EXPECT_EQ(source.shape(), (EpisodeShape{2, 2, 3, 2, 2, true}));
  EXPECT_EQ(source.input_shape(), (InputShape{2, 1, 1}));
  EXPECT_EQ(source.n_tasks(Split::kTest), 3U);

  const Episode e = sample(source, 0, 1);
  EXPECT_EQ(e.support_x, (std::vector<float>{4, 5, 6, 7}));
  EXPECT_EQ(e.query_x, (std::vector<float>{106, 107, 108, 109, 110, 111}));
  EXPECT_EQ(e.support_labels, (std::vector<uint16_t>{1, 0}));
  EXPECT_EQ(e.query_labels, (std::vector<uint16_t>{1, 1, 0}));
  EXPECT_TRUE(e.support_targets.empty());
}

TEST(EpisodeFile, WrapsAround) {
  const TempDir dir;
  labelled().save(dir / "x.npz");
  const EpisodeFile source({.path = dir / "x.npz", .tasks_per_iteration = 2});
  // Iterations hold tasks 0 1 | 2 0 | 1 2 | 0 1 ...
  const float first[][2] = {{0, 4}, {8, 0}, {4, 8}, {0, 4}};
  for (uint64_t i = 0; i < 4; ++i) {
    for (uint32_t t = 0; t < 2; ++t)
      EXPECT_EQ(sample(source, i, t).support_x[0], first[i][t]);
  }
  EXPECT_EQ(sample(source, 0, 5).support_x[0], 8.0F);
  // (2^64 - 1) * 2 + 1 wraps in 64 bits; 2^64 - 1 = 0 mod 3.
  EXPECT_EQ(sample(source, ~0ULL, 1).support_x[0], 4.0F);
}

TEST(EpisodeFile, TakesTargetsAndShapesOfExamples) {
  const TempDir dir;
  struct {
    std::vector<uint64_t> x, y;
    InputShape input;
    uint32_t n_out;
  } cases[] = {{{1, 2}, {1, 2}, {1, 1, 1}, 1},
               {{1, 2, 6}, {1, 2, 1}, {6, 1, 1}, 1},
               {{1, 2, 2, 3}, {1, 2, 4}, {1, 2, 3}, 4},
               {{1, 2, 3, 2, 1}, {1, 2, 4}, {3, 2, 1}, 4}};
  for (const auto& c : cases) {
    const uint64_t n_in = uint64_t{c.input[0]} * c.input[1] * c.input[2];
    Npz npz;
    for (const std::string set : {"support", "query"}) {
      npz.set<double>(set + "_x", c.x, std::vector<double>(2 * n_in, 0.5));
      npz.set<float>(set + "_y", c.y, std::vector<float>(2 * c.n_out, 2.0F));
    }
    npz.save(dir / "x.npz");
    const EpisodeFile source({.path = dir / "x.npz"});
    EXPECT_EQ(source.input_shape(), c.input);
    EXPECT_EQ(
        source.shape(),
        (EpisodeShape{0, 2, 2, static_cast<uint32_t>(n_in), c.n_out, false}));
    EXPECT_EQ(sample(source, 0, 0).query_targets,
              std::vector<float>(2 * c.n_out, 2.0F));
    EXPECT_EQ(sample(source, 0, 0).query_x, std::vector<float>(2 * n_in, 0.5F));
  }
}

TEST(EpisodeFile, ReadsBackWhatSaveEpisodesWrote) {
  const TempDir dir;
  const Sinusoid curves({SinusoidFamily::kMetaSgd, 5, 7});
  std::vector<Episode> episodes(4);
  for (uint32_t t = 0; t < 4; ++t)
    curves.sample(Split::kTest, 1, 0, t, &episodes[t]);
  save_episodes(dir / "x.npz", episodes, curves.shape(), curves.input_shape());
  const EpisodeFile source({.path = dir / "x.npz"});
  EXPECT_EQ(source.shape(), curves.shape());
  for (uint32_t t = 0; t < 4; ++t) {
    const Episode e = sample(source, 0, t);
    EXPECT_EQ(e.support_x, episodes[t].support_x);
    EXPECT_EQ(e.query_x, episodes[t].query_x);
    EXPECT_EQ(e.support_targets, episodes[t].support_targets);
    EXPECT_EQ(e.query_targets, episodes[t].query_targets);
  }
}

TEST(EpisodeFile, ReadsBackLabelsAndImages) {
  const TempDir dir;
  const EpisodeShape shape{3, 3, 3, 6, 3, true};
  Episode e;
  e.resize(shape);
  for (size_t i = 0; i < e.support_x.size(); ++i)
    e.support_x[i] = static_cast<float>(i);
  e.support_labels = {2, 0, 1};
  save_episodes(dir / "x.npz", {&e, 1}, shape, {1, 2, 3});
  EXPECT_EQ(Npz::read(dir / "x.npz").at("support_x").shape,
            (std::vector<uint64_t>{1, 3, 1, 2, 3}));
  const EpisodeFile source({.path = dir / "x.npz"});
  EXPECT_EQ(source.input_shape(), (InputShape{1, 2, 3}));
  EXPECT_EQ(source.shape(), shape);
  EXPECT_EQ(sample(source, 0, 0).support_x, e.support_x);
  EXPECT_EQ(sample(source, 0, 0).support_labels, e.support_labels);
}

TEST(EpisodeFile, SaveRefusesWhatDoesNotFit) {
  const TempDir dir;
  const EpisodeShape shape{0, 2, 2, 1, 1, false};
  Episode e;
  e.resize(shape);
  expect_error(
      [&] {
        save_episodes(dir / "x.npz", {}, shape, {1, 1, 1});
      },
      Exit::kUsage,
      {"x.npz", "no episodes"});
  e.query_x.pop_back();
  expect_error(
      [&] {
        save_episodes(dir / "x.npz", {&e, 1}, shape, {1, 1, 1});
      },
      Exit::kUsage,
      {"x.npz"});
  EXPECT_FALSE(std::filesystem::exists(dir / "x.npz"));
}

struct BadFile {
  const char* name;
  std::function<void(Npz*)> spoil;
  const char* word;
  const char* other_word;
};
void PrintTo(const BadFile& b, std::ostream* os) { *os << b.name; }

class EpisodeFileRefuses : public ::testing::TestWithParam<BadFile> {};

TEST_P(EpisodeFileRefuses, NamingTheFileAndTheArray) {
  const TempDir dir;
  Npz npz = labelled();
  npz.save(dir / "x.npz");
  EXPECT_NO_THROW(EpisodeFile({.path = dir / "x.npz", .ways = 2}));
  GetParam().spoil(&npz);
  npz.save(dir / "x.npz");
  expect_error([&] { EpisodeFile({.path = dir / "x.npz", .ways = 2}); },
               Exit::kBadData,
               {"x.npz", GetParam().word, GetParam().other_word});
}

template <class T>
std::function<void(Npz*)> replace(const char* name,
                                  std::vector<uint64_t> shape,
                                  T value = T{}) {
  return [=](Npz* npz) {
    size_t n = 1;
    for (const uint64_t d : shape) n *= d;
    npz->set<T>(name, shape, std::vector<T>(n, value));
  };
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

INSTANTIATE_TEST_SUITE_P(
    ,
    EpisodeFileRefuses,
    ::testing::Values(BadFile{"MissingArray",
                              [](Npz* npz) {
                                Npz other;
                                other.set("support_x", npz->at("support_x"));
                                *npz = other;
                              },
                              "'support_y'",
                              "it has support_x"},
                      BadFile{"LabelTooHigh",
                              replace<int32_t>("query_y", {3, 3}, 2),
                              "'query_y'",
                              "label 2"},
                      BadFile{"NegativeLabel",
                              replace<int8_t>("support_y", {3, 2}, -1),
                              "'support_y'",
                              "label -1"},
                      BadFile{"NanInSupport",
                              replace<float>("support_x", {3, 2, 2}, kNan),
                              "'support_x'",
                              "nan"},
                      BadFile{"OverflowsFloat",
                              replace<double>("query_x", {3, 3, 2}, 1e300),
                              "'query_x'",
                              "inf"},
                      BadFile{"TasksDiffer",
                              [](Npz* npz) {
                                replace<float>("query_x", {2, 3, 2})(npz);
                                replace<int8_t>("query_y", {2, 3})(npz);
                              },
                              "3 tasks",
                              "2"},
                      BadFile{"ExamplesDiffer",
                              replace<float>("query_x", {3, 3, 1, 2}),
                              "query_x",
                              "agree"},
                      BadFile{"LabelsForOtherExamples",
                              replace<int8_t>("query_y", {3, 2}),
                              "'query_y'",
                              "query_x"},
                      BadFile{"OneKindEach",
                              replace<float>("query_y", {3, 3, 2}),
                              "one kind",
                              "query_y"},
                      BadFile{"LabelsOfThreeDimensions",
                              replace<int8_t>("query_y", {3, 3, 1}),
                              "'query_y'",
                              "labels"},
                      BadFile{"NoExampleDimension",
                              replace<float>("support_x", {3}),
                              "'support_x'",
                              "tasks"},
                      BadFile{"FourExampleDimensions",
                              replace<float>("support_x", {3, 2, 1, 1, 1, 2}),
                              "'support_x'",
                              "c, h, w"},
                      BadFile{"NoTasks",
                              replace<float>("support_x", {0, 2, 2}),
                              "'support_x'",
                              "empty"}),
    [](const auto& p) { return std::string(p.param.name); });

TEST(EpisodeFile, RefusesZeroTasksPerIteration) {
  expect_error([] { EpisodeFile({.path = "x.npz", .tasks_per_iteration = 0}); },
               Exit::kUsage,
               {"outer.tasks"});
}

}  // namespace
}  // namespace fewstep::host
