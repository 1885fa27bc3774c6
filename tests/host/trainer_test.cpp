// Runs of the trainer: what they validate on, what they keep, what they refuse,
// and that stopping and going on leaves no trace.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/trainer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "fewstep/host/episode_file.h"
#include "fewstep/host/run_folder.h"
#include "fewstep/host/sinusoid.h"
#include "fewstep/host/task_factory.h"
#include "fewstep/host/validation.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace fewstep {
namespace {

using ::fewstep::testing::expect_error;
using host::Recipe;
using host::TrainOptions;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

constexpr const char* kRest = R"(
[network]
input = [1, 1, 1]
layers = [{op = "dense", units = 8}, {op = "relu"}, {op = "dense", units = 1}]
loss = "mean_squared_error"
[inner]
rule = "meta_sgd"
rate = 0.01
[outer]
tasks = 4
iterations = 20
[run]
validate_every = 10
threads = 1
)";

std::string sinusoids() {
  return std::string(
             "name = \"tiny\"\n[task]\nsource = \"sinusoid\"\n"
             "family = \"maml\"\nshots = 5\nqueries = 5\n") +
         kRest;
}

std::string episodes() {
  return std::string(
             "name = \"tiny\"\n[task]\nsource = \"episodes\"\n"
             "path = \"train.npz\"\nvalidation_path = \"v.npz\"\n") +
         kRest;
}

std::string read(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

class Trainer : public ::testing::Test {
 protected:
  // `n` tasks, of which the first `n_bad` have a target whose square overflows.
  void write_episodes(const std::string& name, uint32_t n, uint32_t n_bad) {
    const host::Sinusoid source({});
    std::vector<host::Episode> tasks(n);
    for (uint32_t i = 0; i < n; ++i) {
      source.sample(host::Split::kTest, 7, 0, i, &tasks[i]);
      if (i < n_bad) tasks[i].query_targets[0] = 1e30F;
    }
    host::save_episodes(dir_ / name, tasks, source.shape(), {1, 1, 1});
  }

  Recipe recipe(const std::string& text,
                const std::vector<std::string>& overrides = {}) {
    return host::parse_recipe(text, dir_ / "r.toml", overrides);
  }

  host::TrainResult train(const Recipe& recipe, bool resume = false) {
    TrainOptions options;
    options.resume = resume;
    options.quiet = true;
    return host::train(recipe, dir_ / "run", options);
  }

  // Until `iterations` are done.
  void train_and_stop(const Recipe& recipe, int iterations) {
    TrainOptions options;
    options.quiet = true;
    int n = 0;
    options.should_stop = [&] { return n++ == iterations; };
    EXPECT_TRUE(host::train(recipe, dir_ / "run", options).interrupted);
  }

  nlohmann::json last_metrics() {
    std::ifstream stream(dir_ / "run/metrics.jsonl");
    std::string line, last;
    while (std::getline(stream, line)) last = line;
    return nlohmann::json::parse(last);
  }

  testing::TempDir dir_;
};

TEST(Validation, LeavesOutWhatDiverged) {
  host::TaskScores scores;
  scores.loss = {1.0F, kInfinity, 3.0F, std::nanf("")};
  host::Validation v = host::summary_of(scores);
  EXPECT_EQ(v.loss.mean, 2.0);
  EXPECT_NEAR(v.loss.ci95, 1.96, 1e-12);
  EXPECT_EQ(v.n_tasks, 4U);
  EXPECT_EQ(v.n_diverged, 2U);
  EXPECT_EQ(to_string(v), "loss 2.0000 +- 1.9600, 2 of 4 tasks (2 diverged)");
  scores.accuracy = {0.25F, 1.0F, 0.75F, 1.0F};
  v = host::summary_of(scores);
  EXPECT_EQ(v.accuracy.mean, 0.5);
  EXPECT_EQ(v.score(), 0.5F);
  scores.loss = {kInfinity};
  scores.accuracy = {1.0F};
  v = host::summary_of(scores);
  EXPECT_TRUE(v.all_diverged());
  EXPECT_EQ(to_string(v), "all 1 tasks diverged");
}

TEST(Validation, OneTaskHasNoInterval) {
  host::TaskScores scores;
  scores.loss = {1.5F};
  EXPECT_EQ(to_string(host::summary_of(scores)), "loss 1.5000 +- n/a, 1 tasks");
}

TEST(Validation, FewerDivergedTasksAreBetterThanABetterMean) {
  const auto of = [](double loss, uint32_t n_diverged) {
    host::Validation v;
    v.loss.mean = loss;
    v.n_tasks = 5;
    v.n_diverged = n_diverged;
    return v;
  };
  host::BestValidation best;
  EXPECT_FALSE(is_better(of(0.1, 5), best));
  EXPECT_TRUE(is_better(of(9.0, 4), best));
  best = {-1.0F, 10, 2};
  EXPECT_TRUE(is_better(of(9.0, 1), best));
  EXPECT_FALSE(is_better(of(0.1, 3), best));
  EXPECT_TRUE(is_better(of(0.9, 2), best));
  EXPECT_FALSE(is_better(of(1.0, 2), best));
  EXPECT_FALSE(is_better(of(0.0, 5), best));
}

TEST_F(Trainer, KeepsTheBestThoughOneTaskDiverges) {
  write_episodes("train.npz", 6, 0);
  write_episodes("v.npz", 4, 1);
  const Recipe r = recipe(episodes());
  train(r);
  EXPECT_TRUE(std::filesystem::exists(dir_ / "run/best.npz"));
  const auto metrics = last_metrics();
  EXPECT_EQ(metrics["validation_diverged"], 1);
  EXPECT_TRUE(metrics["validation_loss"].is_number());
  const host::OuterState state =
      host::load_state(dir_ / "run/checkpoint.npz", r);
  EXPECT_EQ(state.best.n_diverged, 1);
  EXPECT_GE(state.best.iteration, 10);
}

TEST_F(Trainer, SaysThatThereIsNoBest) {
  write_episodes("train.npz", 6, 0);
  write_episodes("v.npz", 4, 4);
  const Recipe r = recipe(episodes());
  ::testing::internal::CaptureStderr();
  EXPECT_TRUE(train(r).written);
  const std::string err = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(err,
              HasSubstr("warning: all 4 validation tasks diverged at iteration "
                        "10; there are no best parameters yet"));
  EXPECT_THAT(err, HasSubstr("the capsule has the last ones"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "run/best.npz"));
  const host::OuterState state =
      host::load_state(dir_ / "run/checkpoint.npz", r);
  EXPECT_EQ(state.best.iteration, -1);
  EXPECT_EQ(state.best.n_diverged, 4);
}

TEST_F(Trainer, ValidatesOnEachEpisodeOnce) {
  write_episodes("train.npz", 6, 0);
  write_episodes("v.npz", 3, 0);
  const Recipe r = recipe(episodes(), {"run.validate_tasks=200"});
  train(r);
  EXPECT_EQ(last_metrics()["validation_tasks"], 3);
  // Drawn tasks do not run out.
  std::filesystem::remove_all(dir_ / "run");
  train(recipe(sinusoids(), {"run.validate_tasks=200"}));
  EXPECT_EQ(last_metrics()["validation_tasks"], 200);
}

TEST_F(Trainer, KnowsTheEpisodesOfEachSplit) {
  write_episodes("train.npz", 6, 0);
  write_episodes("v.npz", 3, 0);
  using host::Split;
  const auto source = host::make_task_source(recipe(episodes()));
  EXPECT_EQ(source->n_tasks(Split::kTrain), 6U);
  EXPECT_EQ(source->n_tasks(Split::kValidation), 3U);
  EXPECT_EQ(source->n_tasks(Split::kTest), 6U);
  EXPECT_EQ(source->taken_from(Split::kValidation), Split::kValidation);
  EXPECT_EQ(source->taken_from(Split::kTest), Split::kTrain);
  EXPECT_EQ(host::tasks_of(*source, Split::kValidation, 200), 3U);
  EXPECT_EQ(host::tasks_of(*source, Split::kValidation, 2), 2U);
  const auto drawn = host::make_task_source(recipe(sinusoids()));
  EXPECT_EQ(drawn->n_tasks(Split::kTest), 0U);
  EXPECT_EQ(drawn->taken_from(Split::kTest), Split::kTest);
}

TEST_F(Trainer, SaysThatValidationIsOnWhatIsTrainedOn) {
  write_episodes("train.npz", 6, 0);
  ::testing::internal::CaptureStderr();
  train(recipe(episodes(), {"task.validation_path="}));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("no task.validation_path"));
}

TEST_F(Trainer, RefusesFewerIterationsThanAreDone) {
  train(recipe(sinusoids()));
  const std::string before = read(dir_ / "run/recipe.toml");
  expect_error(
      [&] { train(recipe(sinusoids(), {"outer.iterations=10"}), true); },
      host::Exit::kUsage,
      {"has done 20 iterations", "give 20 or more"});
  EXPECT_EQ(read(dir_ / "run/recipe.toml"), before);
  EXPECT_TRUE(train(recipe(sinusoids()), true).written);
}

TEST_F(Trainer, NamesTheScheduleThatFollowsFromTheIterations) {
  const std::vector<std::string> multi = {"inner.steps=2",
                                          "outer.multi_step=true"};
  train(recipe(sinusoids(), multi));
  std::vector<std::string> more = {multi[0], multi[1], "outer.iterations=40"};
  expect_error(
      [&] { train(recipe(sinusoids(), more), true); },
      host::Exit::kUsage,
      {"a tenth of outer.iterations", "--set outer.multi_step_iterations=2"});
  more.push_back("outer.multi_step_iterations=2");
  EXPECT_EQ(train(recipe(sinusoids(), more), true).iterations, 40);
}

TEST_F(Trainer, DoesNotStartAnewOverWhatWasLearned) {
  const Recipe r = recipe(sinusoids());
  train(r);
  std::filesystem::remove(dir_ / "run/checkpoint.npz");
  const std::string best = read(dir_ / "run/best.npz");
  expect_error([&] { train(r, true); },
               host::Exit::kUsage,
               {"has best.npz but no checkpoint.npz", "run.init_from="});
  EXPECT_EQ(read(dir_ / "run/best.npz"), best);
  std::filesystem::remove(dir_ / "run/best.npz");
  expect_error([&] { train(r, true); },
               host::Exit::kUsage,
               {"has tiny.capsule but no checkpoint.npz"});
  // Nothing learned: it may start, and says so.
  std::filesystem::remove(dir_ / "run/tiny.capsule");
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(train(r, true).iterations, 20);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("no checkpoint yet"));
}

TEST_F(Trainer, SaysWhatToDoWithoutTheCheckpoint) {
  const Recipe r = recipe(sinusoids());
  train(r);
  std::ofstream(dir_ / "run/checkpoint.npz", std::ios::binary) << "PK\3\4 no";
  expect_error([&] { train(r, true); },
               host::Exit::kBadData,
               {"checkpoint.npz: the checkpoint is damaged",
                "another folder (--out)",
                "run/best.npz'"});
}

TEST_F(Trainer, LeavesNothingWhereItCannotStart) {
  std::ofstream(dir_ / "bad.npz") << "no arrays";
  expect_error([&] { train(recipe(sinusoids(), {"run.init_from=bad.npz"})); },
               host::Exit::kBadData,
               {"bad.npz"});
  EXPECT_FALSE(std::filesystem::exists(dir_ / "run"));
}

std::string divergence(const std::function<void()>& call) {
  try {
    call();
  } catch (const host::Error& e) {
    EXPECT_EQ(e.exit(), host::Exit::kNumeric) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return "";
}

TEST_F(Trainer, AdvisesOnDivergenceWhatCanHelp) {
  write_episodes("train.npz", 6, 6);
  write_episodes("v.npz", 3, 0);
  const auto advice = [&](const std::vector<std::string>& overrides) {
    return divergence([&] { train(recipe(episodes(), overrides)); });
  };
  // No step of the outer loop was taken yet, and there is no checkpoint.
  std::string text = advice({});
  EXPECT_THAT(text, HasSubstr("iteration 0: 4 of 4 tasks"));
  EXPECT_THAT(text, HasSubstr("Lower inner.rate, or set inner.clip_norm"));
  EXPECT_THAT(text, Not(HasSubstr("outer.")));
  EXPECT_THAT(text, Not(HasSubstr("checkpoint")));
  EXPECT_THAT(advice({"inner.clip_norm=1"}),
              HasSubstr("Lower inner.rate or inner.clip_norm"));

  // A step that leads astray.
  write_episodes("train.npz", 6, 0);
  const std::string astray = "outer.rate=1e30";
  text = advice({astray});
  EXPECT_THAT(text, HasSubstr("iteration 1: "));
  EXPECT_THAT(text, HasSubstr("lower outer.rate or set outer.clip_norm"));
  EXPECT_THAT(text, Not(HasSubstr("checkpoint")));
  text = advice({astray, "outer.clip_norm=1", "run.checkpoint_every=1"});
  EXPECT_THAT(text, HasSubstr("lower outer.rate"));
  EXPECT_THAT(text, Not(HasSubstr("outer.clip_norm")));
  EXPECT_THAT(text, HasSubstr("the checkpoint of iteration 1 is intact"));
}

TEST_F(Trainer, GoesOnWithTheSameBytesAfterAStop) {
  const Recipe r = recipe(sinusoids(), {"outer.iterations=250"});
  std::vector<std::string> files = {
      "checkpoint.npz", "best.npz", "metrics.jsonl", "tiny.capsule"};
  train(r);
  std::vector<std::string> whole;
  for (const std::string& f : files) whole.push_back(read(dir_ / "run" / f));
  std::filesystem::remove_all(dir_ / "run");
  train_and_stop(r, 137);
  EXPECT_TRUE(train(r, true).written);
  for (size_t i = 0; i < files.size(); ++i) {
    EXPECT_TRUE(read(dir_ / "run" / files[i]) == whole[i]) << files[i];
  }
}

// Killed, that is, between two checkpoints, and before the first one.
TEST_F(Trainer, GoesOnFromItsFirstBest) {
  const Recipe r = recipe(
      sinusoids(), {"run.validate_every=5", "run.checkpoint_every=1000"});
  TrainOptions options;
  options.quiet = true;
  int n = 0;
  options.should_stop = [&]() -> bool {
    if (n++ == 7) throw std::runtime_error("killed");
    return false;
  };
  EXPECT_THROW(host::train(r, dir_ / "run", options), std::runtime_error);
  EXPECT_TRUE(std::filesystem::exists(dir_ / "run/best.npz"));
  train(r, true);
  std::vector<std::string> resumed;
  const std::vector<std::string> names = {
      "checkpoint.npz", "best.npz", "metrics.jsonl", "tiny.capsule"};
  for (const std::string& name : names) {
    resumed.push_back(read(dir_ / "run" / name));
  }
  std::filesystem::remove_all(dir_ / "run");
  train(r);
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_TRUE(resumed[i] == read(dir_ / "run" / names[i])) << names[i];
  }
}

TEST_F(Trainer, ChoosesTheSameBestAfterAStop) {
  write_episodes("train.npz", 6, 0);
  write_episodes("v.npz", 4, 1);
  const Recipe r = recipe(episodes(), {"run.validate_every=3"});
  train(r);
  const std::string whole = read(dir_ / "run/checkpoint.npz");
  std::filesystem::remove_all(dir_ / "run");
  train_and_stop(r, 7);
  train(r, true);
  EXPECT_TRUE(read(dir_ / "run/checkpoint.npz") == whole);
}

}  // namespace
}  // namespace fewstep
