// The `fewstep` command as a user meets it: exit statuses, messages, files.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fewstep/capsule.h"
#include "fewstep/host/episode_file.h"
#include "fewstep/host/npz.h"
#include "fewstep/host/sinusoid.h"
#include "support/temp_dir.h"

namespace fewstep {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kRecipe = R"(name = "tiny"
[task]
source = "sinusoid"
family = "maml"
shots = 5
queries = 5
[network]
input = [1, 1, 1]
layers = [{op = "dense", units = 8}, {op = "relu"}, {op = "dense", units = 1}]
loss = "mean_squared_error"
[inner]
rule = "meta_sgd"
steps = 2
rate = 0.01
[outer]
tasks = 4
iterations = 20
[run]
validate_every = 10
validate_tasks = 20
checkpoint_every = 5
threads = 1
)";

struct Outcome {
  int exit;
  std::string out, err;
};

std::string read(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

class Cli : public ::testing::Test {
 protected:
  Cli() { write("tiny.toml", kRecipe); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name, std::ios::binary) << text;
  }

  // `prefix` runs first in the same shell, e.g. "ulimit -f 1;".
  Outcome run(const std::string& arguments, const std::string& prefix = "") {
    const std::string command = "cd '" + dir_.path().string() + "'; " + prefix +
                                " '" FEWSTEP_TOOL "' " + arguments +
                                " >out 2>err";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            read(dir_ / "out"),
            read(dir_ / "err")};
  }

  void train() {
    const Outcome o = run("train tiny.toml --out run --quiet");
    ASSERT_EQ(o.exit, 0) << o.err;
  }

  // Three, and a recipe of them. `n_bad` have a target whose square overflows.
  void write_episodes(uint32_t n_bad = 0) {
    host::Sinusoid source({});
    std::vector<host::Episode> episodes(3);
    for (uint32_t i = 0; i < 3; ++i) {
      source.sample(host::Split::kTest, 7, 0, i, &episodes[i]);
      if (i < n_bad) episodes[i].query_targets[0] = 1e30F;
    }
    host::save_episodes(dir_ / "e.npz", episodes, source.shape(), {1, 1, 1});
    std::string recipe = kRecipe;
    const size_t begin = recipe.find("source =");
    recipe.replace(begin,
                   recipe.find("[network]") - begin,
                   "source = \"episodes\"\npath = \"e.npz\"\n");
    write("ep.toml", recipe);
  }

  testing::TempDir dir_;
};

TEST_F(Cli, NamesTheNearestCommand) {
  const Outcome o = run("trian");
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("unknown command trian; the nearest is train"));
}

TEST_F(Cli, NamesTheNearestOption) {
  const Outcome o = run("train tiny.toml --rseume");
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err,
              HasSubstr("unknown option --rseume; the nearest is --resume"));
}

TEST_F(Cli, WantsACommand) {
  const Outcome o = run("");
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("give a command: train, eval"));
}

TEST_F(Cli, HelpsAndStatesItsVersion) {
  EXPECT_EQ(run("--help").exit, 0);
  EXPECT_THAT(run("train --help").out, HasSubstr("RECIPE.toml"));
  EXPECT_THAT(run("--version").out, StartsWith("fewstep "));
}

TEST_F(Cli, NamesFileLineAndKeyOfARecipeError) {
  write("bad.toml", std::string(kRecipe) + "validate_evry = 3\n");
  const Outcome o = run("train bad.toml");
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err,
              HasSubstr("bad.toml:23: unknown key run.validate_evry; "
                        "the nearest known key is run.validate_every"));
}

TEST_F(Cli, SaysThatDataIsMissing) {
  write("images.toml", R"([task]
source = "images"
path = "nowhere.zip"
split = {train = 5}
ways = 5
shots = 1
queries = 1
[network]
input = [1, 28, 28]
layers = [{op = "dense", units = 5}]
loss = "softmax_cross_entropy"
[inner]
rule = "sgd"
rate = 0.1
[outer]
tasks = 1
iterations = 1
)");
  const Outcome o = run("train images.toml --out run");
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("images.toml:3: task.path"));
  EXPECT_THAT(o.err, HasSubstr("nowhere.zip"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "run"));
}

TEST_F(Cli, RefusesWhatIsNoCapsule) {
  write("x.capsule", "not a capsule, whatever its name says");
  for (const char* command : {"inspect x.capsule",
                              "export x.capsule -o x.h",
                              "eval x.capsule --recipe tiny.toml"}) {
    const Outcome o = run(command);
    EXPECT_EQ(o.exit, 3) << command;
    EXPECT_THAT(o.err, HasSubstr("x.capsule"));
  }
}

// Where there is no GPU, or none that this build knows: CUDA_VISIBLE_DEVICES
// hides those there are.
constexpr const char* kNoGpu = "CUDA_VISIBLE_DEVICES=";

TEST_F(Cli, RefusesCudaWithoutAGpu) {
  const Outcome o = run("train tiny.toml --out run --engine cuda", kNoGpu);
  EXPECT_EQ(o.exit, 5);
  EXPECT_THAT(o.err, HasSubstr("--engine cuda: "));
  EXPECT_THAT(o.err, HasSubstr("use --engine cpu"));
  // Nothing that would be in the way of doing so.
  EXPECT_FALSE(std::filesystem::exists(dir_ / "run"));
  train();
}

TEST_F(Cli, KeepsTheRunWhenCudaIsRefused) {
  train();
  std::map<std::string, std::string> before;
  for (const auto& entry : std::filesystem::directory_iterator(dir_ / "run")) {
    before[entry.path().filename()] = read(entry.path());
  }
  EXPECT_EQ(before.count("checkpoint.npz"), 1U);
  const Outcome o =
      run("train tiny.toml --out run --resume --engine cuda --quiet --set "
          "outer.iterations=40",
          kNoGpu);
  EXPECT_EQ(o.exit, 5);
  for (const auto& [name, content] : before) {
    EXPECT_EQ(read(dir_ / "run" / name), content) << name;
  }
}

TEST_F(Cli, KnowsTwoEngines) {
  const Outcome o = run("train tiny.toml --out run --engine gpu");
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("--engine gpu: there are cpu and cuda"));
  EXPECT_EQ(run("train tiny.toml --out run --engine cpu --quiet").exit, 0);
  const Outcome eval =
      run("eval run/tiny.capsule --recipe tiny.toml --engine gpu");
  EXPECT_EQ(eval.exit, 2);
  EXPECT_THAT(eval.err, HasSubstr("--engine gpu: there are cpu and cuda"));
}

TEST_F(Cli, SeveralGpusAreForTheCudaEngine) {
  const Outcome o = run("train tiny.toml --out run --gpus 2");
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("--gpus is for --engine cuda"));
  EXPECT_EQ(run("train tiny.toml --out run --engine cuda --gpus 0").exit, 2);
  EXPECT_EQ(
      run("train tiny.toml --out run --engine cuda --gpus 2", kNoGpu).exit, 5);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "run"));
}

TEST_F(Cli, RefusesToEvaluateOnAGpuThatIsNotThere) {
  train();
  const Outcome o =
      run("eval run/tiny.capsule --recipe tiny.toml --engine cuda", kNoGpu);
  EXPECT_EQ(o.exit, 5);
  EXPECT_THAT(o.err, HasSubstr("use --engine cpu"));
}

TEST_F(Cli, ShowsHowAGpuWouldBeUsed) {
  train();
  const auto inspect = [&](const std::string& options) {
    return run("inspect run/tiny.capsule " + options, kNoGpu);
  };
  EXPECT_THAT(inspect("--engine cuda").out, HasSubstr("h200, 132"));
  const Outcome o = inspect("--engine cuda --device a100 --tasks 4096 --json");
  const auto plan = nlohmann::json::parse(o.out)["cuda"];
  EXPECT_EQ(plan["device"], "a100");
  EXPECT_EQ(plan["tasks"], 4096);
  EXPECT_EQ(plan["wave"], 4096);
  EXPECT_EQ(plan["scratch"][0]["memory"], "shared");
  EXPECT_EQ(inspect("--engine cuda --device b17").exit, 2);
  EXPECT_EQ(inspect("--engine cpu").exit, 2);
  const Outcome large =
      inspect("--engine cuda --device orin --tasks 1000000000");
  EXPECT_EQ(large.exit, 5);
  EXPECT_THAT(large.err, HasSubstr("are missing; lower outer.tasks"));
}

TEST_F(Cli, ReportsAFullDiskAndKeepsTheCheckpoint) {
  train();
  const std::string before = read(dir_ / "run/checkpoint.npz");
  // No file above 512 bytes: the checkpoint does not fit.
  const Outcome o = run(
      "train tiny.toml --out run --resume --quiet --set outer.iterations=40 "
      "--set run.validate_every=0",
      "ulimit -f 2;");
  EXPECT_EQ(o.exit, 5) << o.err;
  EXPECT_THAT(o.err, HasSubstr("checkpoint.npz"));
  EXPECT_EQ(read(dir_ / "run/checkpoint.npz"), before);
}

TEST_F(Cli, ProtectsAnEarlierRun) {
  train();
  const Outcome again = run("train tiny.toml --out run --quiet");
  EXPECT_EQ(again.exit, 2);
  EXPECT_THAT(again.err, HasSubstr("already holds a run"));
  const Outcome other =
      run("train tiny.toml --out run --quiet --resume --set inner.rate=0.1");
  EXPECT_EQ(other.exit, 2);
  EXPECT_THAT(other.err, HasSubstr("`rate = 0.01`"));
}

TEST_F(Cli, TrainsInspectsAndEvaluates) {
  train();
  const auto inspected =
      nlohmann::json::parse(run("inspect run/tiny.capsule --json").out);
  EXPECT_EQ(inspected["parameters"], 25);
  EXPECT_EQ(inspected["rule"]["op"], "meta_sgd");
  EXPECT_EQ(inspected["arena"].size(), 4U);
  EXPECT_EQ(inspected["provenance"]["recipe"], "tiny");
  EXPECT_EQ(run("inspect run/tiny.capsule").exit, 0);

  const Outcome eval =
      run("eval run/tiny.capsule --recipe tiny.toml --tasks 50 --json");
  const auto scores = nlohmann::json::parse(eval.out);
  EXPECT_EQ(scores["tasks"], 50);
  EXPECT_EQ(scores["transductive"], false);
  EXPECT_GT(scores["loss"]["ci95"], 0.0);
  EXPECT_GT(scores["loss_before"]["mean"], 0.0);
}

TEST_F(Cli, TrainsAMask) {
  train();
  // Logits move by 1e-3 a step; after 10 down from 0.005 a parameter stays.
  const Outcome o =
      run("train tiny.toml --out mask --quiet --set inner.adapt=sparse "
          "--set inner.mask_start=0.005 --set run.keep=last");
  ASSERT_EQ(o.exit, 0) << o.err;
  const auto json =
      nlohmann::json::parse(run("inspect mask/tiny.capsule --json").out);
  const auto all =
      nlohmann::json::parse(run("inspect run/tiny.capsule --json").out);
  EXPECT_EQ(json["mask"], true);
  EXPECT_EQ(all["mask"], false);
  const int n_adapted = json["adapted_parameters"];
  EXPECT_GT(n_adapted, 0);
  EXPECT_LT(n_adapted, 25);
  EXPECT_EQ(json["rule"]["values"], n_adapted);
  EXPECT_EQ(json["layers"][0]["adapted_parameters"].get<int>() +
                json["layers"][2]["adapted_parameters"].get<int>(),
            n_adapted);
  EXPECT_EQ(json["arena_saved"].get<int>(),
            all["arena"][0]["bytes"].get<int>() -
                json["arena"][0]["bytes"].get<int>());
  EXPECT_THAT(run("inspect mask/tiny.capsule").out,
              HasSubstr(std::to_string(n_adapted) + " of 25 parameters"));
  EXPECT_EQ(run("inspect mask/tiny.capsule --engine cuda").exit, 0);
  EXPECT_EQ(run("eval mask/tiny.capsule --recipe tiny.toml --tasks 9").exit, 0);
  ASSERT_EQ(run("export mask/tiny.capsule -o mask.h").exit, 0);
  EXPECT_THAT(read(dir_ / "mask.h"), HasSubstr("fewstep_op_sparse_mask"));
  // What is exported as arrays is where a recipe may start.
  ASSERT_EQ(run("export mask/tiny.capsule -o mask.npz").exit, 0);
  const host::Npz npz = host::Npz::read(dir_ / "mask.npz");
  EXPECT_EQ(npz.floats("rate").size(), 2U * 25);
  const Outcome again =
      run("train tiny.toml --out again --quiet --set inner.adapt=sparse "
          "--set run.init_from=mask.npz --set run.keep=last");
  EXPECT_EQ(again.exit, 0) << again.err;
  EXPECT_EQ(
      nlohmann::json::parse(
          run("inspect again/tiny.capsule --json").out)["adapted_parameters"],
      n_adapted);
}

TEST_F(Cli, TrainsAHeadWithDecayAndClipping) {
  train();
  const Outcome o =
      run("train tiny.toml --out head --quiet --set inner.adapt=head "
          "--set inner.weight_decay=0.001 --set inner.clip_norm=10");
  ASSERT_EQ(o.exit, 0) << o.err;
  const auto json =
      nlohmann::json::parse(run("inspect head/tiny.capsule --json").out);
  const auto all =
      nlohmann::json::parse(run("inspect run/tiny.capsule --json").out);
  EXPECT_EQ(json["parameters"], 25);
  EXPECT_EQ(json["adapted_parameters"], 9);
  EXPECT_EQ(json["rule"]["values"], 9);
  EXPECT_EQ(json["layers"][0]["name"], "dense1");
  EXPECT_EQ(json["layers"][0]["adapts"], false);
  EXPECT_EQ(json["layers"][2]["name"], "dense2");
  EXPECT_EQ(json["layers"][2]["adapts"], true);
  EXPECT_FLOAT_EQ(json["weight_decay"], 0.001F);
  EXPECT_EQ(json["clip_norm"], 10.0);
  // Two steps: two vectors of what adapts.
  EXPECT_EQ(all["arena"][0]["bytes"].get<int>() -
                json["arena"][0]["bytes"].get<int>(),
            2 * 4 * (25 - 9));
  const std::string text = run("inspect head/tiny.capsule").out;
  EXPECT_THAT(text, HasSubstr("dense2: 9 of 25 parameters"));
  EXPECT_THAT(text, HasSubstr("saves 128 bytes of arena"));
  ASSERT_EQ(run("export head/tiny.capsule -o head.h").exit, 0);
  EXPECT_THAT(read(dir_ / "head.h"), HasSubstr("fewstep_op_step_options"));
  ASSERT_EQ(run("export run/tiny.capsule -o all.h").exit, 0);
  EXPECT_THAT(read(dir_ / "all.h"), Not(HasSubstr("fewstep_op_step_options")));
  EXPECT_EQ(run("eval head/tiny.capsule --recipe tiny.toml --tasks 20").exit,
            0);
}

TEST_F(Cli, AdaptsToEpisodesAndDumps) {
  train();
  write_episodes();
  const Outcome o =
      run("adapt run/tiny.capsule --episodes e.npz --json --dump d.npz");
  ASSERT_EQ(o.exit, 0) << o.err;
  const auto json = nlohmann::json::parse(o.out);
  ASSERT_EQ(json["tasks"].size(), 3U);
  const host::Npz dump = host::Npz::read(dir_ / "d.npz");
  const auto theta = dump.get<float>("theta");
  ASSERT_EQ(theta.size(), 3U * 25);
  const uint64_t hash = parameter_hash(theta.data(), 25);
  char text[17];
  std::snprintf(
      text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
  EXPECT_EQ(json["tasks"][0]["parameter_hash"], text);
  EXPECT_EQ(dump.at("outputs").shape, (std::vector<uint64_t>{3, 10, 1}));
}

// Each episode counts once, however many are asked for.
TEST_F(Cli, DoesNotCountAnEpisodeTwice) {
  train();
  write_episodes();
  const std::string eval = "eval run/tiny.capsule --recipe ep.toml ";
  const Outcome all = run(eval + "--json");
  ASSERT_EQ(all.exit, 0) << all.err;
  auto json = nlohmann::json::parse(all.out);
  EXPECT_EQ(json["tasks"], 3);
  EXPECT_EQ(json["split"], "train");
  EXPECT_THAT(all.err, HasSubstr("warning: the recipe has no task.test_path"));
  const Outcome more = run(eval + "--tasks 4");
  EXPECT_EQ(more.exit, 2);
  EXPECT_THAT(more.err, HasSubstr("--tasks 4: task.path has 3 episodes"));
  EXPECT_EQ(more.out, "");
  const std::string test = eval + "--set task.test_path=e.npz ";
  const Outcome own = run(test);
  EXPECT_EQ(own.err, "");
  EXPECT_THAT(own.out, HasSubstr("\n3 test tasks, +- is"));
  EXPECT_THAT(run(test + "--tasks 4").err,
              HasSubstr("--tasks 4: task.test_path has 3 episodes"));
  // Nor do the other commands.
  const Outcome adapt =
      run("adapt run/tiny.capsule --episodes e.npz --tasks 4");
  EXPECT_EQ(adapt.exit, 2);
  EXPECT_THAT(adapt.err, HasSubstr("--tasks 4: e.npz has 3 episodes"));
  const Outcome exported = run("export ep.toml -o x.npz --tasks 4");
  EXPECT_EQ(exported.exit, 2);
  EXPECT_THAT(exported.err, HasSubstr("the recipe has 3 test tasks"));

  // What one task tells.
  const Outcome one = run(test + "--tasks 1");
  EXPECT_THAT(one.out, HasSubstr("+-     n/a"));
  EXPECT_THAT(one.out, HasSubstr("\n1 test task, too few for a"));
  json = nlohmann::json::parse(run(test + "--tasks 1 --json").out);
  EXPECT_TRUE(json["loss"]["mean"].is_number());
  EXPECT_TRUE(json["loss"]["ci95"].is_null());
}

TEST_F(Cli, CountsWhatDivergedApart) {
  train();
  write_episodes(1);
  const Outcome o = run("eval run/tiny.capsule --recipe ep.toml");
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("\n2 of 3 training tasks, +- is"));
  EXPECT_THAT(o.out, HasSubstr("1 of 3 tasks diverged and is left out"));
}

TEST_F(Cli, SaysWhyThereAreNoBestParameters) {
  write_episodes();
  ASSERT_EQ(run("train ep.toml --out run --quiet").exit, 0);
  std::filesystem::rename(dir_ / "e.npz", dir_ / "good.npz");
  write_episodes(3);
  const std::string train =
      "train ep.toml --out none --quiet --set task.path=good.npz --set "
      "task.validation_path=e.npz ";
  ASSERT_EQ(run(train).exit, 0);
  const Outcome none = run("pack none -o a.capsule");
  EXPECT_EQ(none.exit, 3);
  EXPECT_THAT(none.err, HasSubstr("in every validation all tasks diverged"));
  EXPECT_THAT(none.err, Not(HasSubstr("has not been validated")));
  // The way out that it names.
  ASSERT_EQ(run(train + "--resume --set run.keep=last").exit, 0);
  EXPECT_EQ(run("pack none -o a.capsule").exit, 0);

  std::filesystem::remove(dir_ / "run/best.npz");
  EXPECT_THAT(run("pack run -o a.capsule").err, HasSubstr("were removed"));
}

TEST_F(Cli, PacksARunAgain) {
  train();
  ASSERT_EQ(run("pack run -o a.capsule").exit, 0);
  EXPECT_EQ(read(dir_ / "a.capsule"), read(dir_ / "run/tiny.capsule"));
  ASSERT_EQ(run("pack run -o b.capsule --init f16 --rates log8").exit, 0);
  EXPECT_LT(read(dir_ / "b.capsule").size(), read(dir_ / "a.capsule").size());
  EXPECT_EQ(run("pack run -o c.capsule --init f99").exit, 2);
  EXPECT_EQ(run("pack nowhere -o c.capsule").exit, 2);
}

// Nothing but packing looks at [capsule]: a run goes on with another one, and
// is packed with another one.
TEST_F(Cli, ARunThatDoesNotFitF16IsStillToBeHad) {
  host::Npz start;
  std::vector<float> theta(25, 0.0F);
  theta.back() = 1e5F;
  start.set<float>("theta", {25}, theta);
  start.save(dir_ / "start.npz");
  const std::string train =
      "train tiny.toml --out run --quiet --set run.init_from=start.npz --set "
      "outer.rate=0 --set capsule.init=";
  const Outcome full = run(train + "f16");
  EXPECT_EQ(full.exit, 2);
  EXPECT_THAT(full.err, HasSubstr("pack a finished run with --init f32"));
  ASSERT_EQ(run("pack run -o a.capsule --init f32").exit, 0);
  const Outcome on = run(train + "f32 --resume");
  EXPECT_EQ(on.exit, 0) << on.err;
  EXPECT_EQ(read(dir_ / "a.capsule"), read(dir_ / "run/tiny.capsule"));
}

TEST_F(Cli, RefusesNumbersThatAreNone) {
  train();
  for (const char* seed : {"-1", "99999999999999999999", "1.5", "x"}) {
    const Outcome o = run(std::string("eval run/tiny.capsule --recipe "
                                      "tiny.toml --tasks 5 --seed ") +
                          seed);
    EXPECT_EQ(o.exit, 2) << seed;
    EXPECT_THAT(o.err, HasSubstr("no whole number from 0 to 18446744"));
  }
  EXPECT_EQ(run("eval run/tiny.capsule --recipe tiny.toml --tasks 5 --seed "
                "18446744073709551615")
                .exit,
            0);
  const Outcome none = run("adapt run/tiny.capsule --episodes e.npz --tasks 0");
  EXPECT_EQ(none.exit, 2);
  EXPECT_THAT(none.err, HasSubstr("not in range 1 to"));
}

TEST_F(Cli, ExportsAHeaderForCAndCxx) {
  train();
  ASSERT_EQ(run("pack run -o b.capsule --init f16 --rates log8").exit, 0);
  for (const char* name : {"run/tiny.capsule", "b.capsule"}) {
    ASSERT_EQ(run(std::string("export ") + name + " -o 5-shot.h").exit, 0);
    const std::string text = read(dir_ / "5-shot.h");
    EXPECT_THAT(text, HasSubstr("CAPSULE_5_SHOT_ARENA_BYTES"));
    write("use.c",
          "#include \"5-shot.h\"\n"
          "const void* a = capsule_5_shot_capsule;\n"
          "const fewstep_op* const* b = capsule_5_shot_ops;\n");
    for (const char* language :
         {"c -std=c99", "c -std=c11", "c++ -std=c++17"}) {
      const std::string command =
          std::string("cd '") + dir_.path().string() +
          "' && '" FEWSTEP_CC "' -x " + language +
          " -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I '" FEWSTEP_INCLUDE
          "' use.c";
      EXPECT_EQ(std::system(command.c_str()), 0) << command;
    }
  }
  EXPECT_THAT(read(dir_ / "5-shot.h"),
              HasSubstr("#define CAPSULE_5_SHOT_SELFTEST_BYTES "));
  EXPECT_THAT(read(dir_ / "5-shot.h"), HasSubstr("&fewstep_op_dense_f16,"));
  EXPECT_THAT(read(dir_ / "5-shot.h"), HasSubstr("&fewstep_op_meta_sgd_f16,"));

  ASSERT_EQ(run("export run/tiny.capsule -o x.npz").exit, 0);
  const host::Npz npz = host::Npz::read(dir_ / "x.npz");
  EXPECT_EQ(npz.get<float>("theta").size(), 25U);
  EXPECT_EQ(npz.get<float>("rate").size(), 25U);
  EXPECT_EQ(run("export run/tiny.capsule -o x.txt").exit, 2);
}

TEST_F(Cli, ChecksGradients) {
  const Outcome o = run("gradcheck tiny.toml --set inner.steps=1");
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("tangent"));
}

TEST_F(Cli, ListsPresetsAndTrainsOne) {
  const Outcome o = run("presets");
  EXPECT_EQ(o.exit, 0);
  EXPECT_THAT(o.out,
              HasSubstr("reptile  (Nichol et al. 2018: set inner.batch, "));
  EXPECT_THAT(o.out, HasSubstr("outer.method=reptile"));
  ASSERT_EQ(run("train tiny.toml --out run --quiet --set preset=reptile").exit,
            0);
  const std::string resolved = read(dir_ / "run/recipe.toml");
  EXPECT_THAT(resolved, HasSubstr("method = \"reptile\""));
  EXPECT_THAT(resolved, HasSubstr("rule = \"sgd\""));
  const Outcome check = run("gradcheck tiny.toml --set preset=reptile");
  EXPECT_EQ(check.exit, 2);
  EXPECT_THAT(check.err, HasSubstr("reptile takes no derivative"));
}

TEST_F(Cli, StopsCleanlyAndGoesOn) {
  const Outcome o = run(
      "train tiny.toml --out \"it's a run\" --quiet --set "
      "outer.iterations=100000000",
      "timeout --foreground -s INT 2");  // Else the group gets a second one.
  EXPECT_EQ(o.exit, 124);  // What `timeout` makes of a command it stopped.
  EXPECT_THAT(o.err,
              HasSubstr("go on with: fewstep train tiny.toml --out "
                        "'it'\\''s a run' --set outer.iterations=100000000 "
                        "--resume"));
  EXPECT_TRUE(std::filesystem::exists(dir_ / "it's a run/checkpoint.npz"));
}

}  // namespace
}  // namespace fewstep
