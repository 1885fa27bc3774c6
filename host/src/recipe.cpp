// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "fewstep/host/dropout.h"
#include "fewstep/host/error.h"
#include "fewstep/host/file.h"
#include "fewstep/host/network_builder.h"
#include "fewstep/host/presets.h"
#include "fewstep/host/rule_values.h"
#include "recipe_reader.h"

namespace fewstep::host {
namespace {

namespace fs = std::filesystem;

constexpr std::pair<const char*, TaskKind> kSources[] = {
    {"images", TaskKind::kImages},
    {"sinusoid", TaskKind::kSinusoid},
    {"episodes", TaskKind::kEpisodes}};
constexpr std::pair<const char*, SinusoidFamily> kFamilies[] = {
    {"maml", SinusoidFamily::kMaml}, {"meta_sgd", SinusoidFamily::kMetaSgd}};
constexpr std::pair<const char*, Storage> kInitStorages[] = {
    {"f32", Storage::kF32}, {"f16", Storage::kF16}};
constexpr std::pair<const char*, Storage> kRateStorages[] = {
    {"f32", Storage::kF32}, {"f16", Storage::kF16}, {"log8", Storage::kLog8}};
constexpr std::pair<const char*, Keep> kKeeps[] = {{"best", Keep::kBest},
                                                   {"last", Keep::kLast}};

// Every table's keys. Those of [task] depend on its source, those of a layer
// on its operation.
const KeyTable& keys() {
  static const KeyTable all = {
      {"the top level",
       {"name",
        "seed",
        "preset",
        "task",
        "network",
        "inner",
        "outer",
        "capsule",
        "run"}},
      {"[network]", {"input", "layers", "loss"}},
      {"[inner]",
       {"rule",          "steps", "batch",           "rate",      "learn_rate",
        "order",         "adapt", "weight_decay",    "clip_norm", "mask_start",
        "rate_layout",   "beta",  "betas",           "eps",       "learn_beta",
        "learn_moments", "rms",   "rate_adaptation", "rate_beta", "hidden",
        "decay"}},
      {"[outer]",
       {"optimizer",
        "rate",
        "rule_rate",
        "mask_rate",
        "schedule",
        "min_rate",
        "tasks",
        "iterations",
        "method",
        "multi_step",
        "multi_step_iterations",
        "order_annealing",
        "clip_norm",
        "weight_decay",
        "dropout",
        "betas",
        "eps"}},
      {"[capsule]",
       {"init", "rates", "support_max", "predict_max", "steps", "golden"}},
      {"[run]",
       {"validate_every",
        "validate_tasks",
        "threads",
        "checkpoint_every",
        "init_from",
        "keep"}},
      {"[task] of source \"images\"",
       {"source",
        "path",
        "size",
        "invert",
        "rotations",
        "split",
        "ways",
        "shots",
        "queries"}},
      {"[task] of source \"sinusoid\"",
       {"source", "family", "shots", "queries"}},
      {"[task] of source \"episodes\"",
       {"source", "path", "validation_path", "test_path"}},
      {"task.split", {"train", "validation", "test", "seed"}},
  };
  return all;
}

fs::path recipe_folder(const Recipe& recipe) {
  return fs::absolute(recipe.file).parent_path();
}

TableReader reader(const toml::table& table,
                   const std::string& path,
                   const std::string& name) {
  return TableReader(table, path, keys().at(name), "", keys());
}

// The absolute path of a file that is there; else as written, so that work
// which needs no data can go on.
std::string resolve(const Recipe& recipe, const std::string& path) {
  if (path.empty()) return path;
  try {
    return fs::absolute(resolve_data_path(path, recipe_folder(recipe)))
        .lexically_normal()
        .string();
  } catch (const Error&) {
    return path;
  }
}

// A count of classes; "rest" takes what the other splits leave.
uint32_t read_classes(const TableReader& r, const char* key, int min) {
  if (!r.has(key) && min == 0) return 0;
  if (!r.has(key) || r.is_text(key)) {
    if (r.has(key) && r.text(key) == "rest") return ClassSplit::kRest;
    r.fail(key,
           "must be a number of classes, \"rest\", or a list of their paths "
           "in the data, [\"alphabet/character01\", ..]");
  }
  return static_cast<uint32_t>(r.small(key, min, 10000000));
}

void read_split(const TableReader& task, ClassSplit* split) {
  if (!task.has("split")) {
    task.fail("split",
              "is missing; give the classes to train, validate and test on, "
              "e.g. split = {train = 1100, validation = 100, test = \"rest\", "
              "seed = 1}, or lists of paths instead of the counts");
  }
  const TableReader r = reader(task.table("split"), "task.split", "task.split");
  if (r.is_array("train")) {
    split->train = r.texts("train", true);
    split->validation = r.texts("validation", false);
    split->test = r.texts("test", false);
    if (r.has("seed")) {
      r.fail("seed", "shuffles classes; a split by path takes none");
    }
    return;
  }
  split->n_train = read_classes(r, "train", 1);
  split->n_validation = read_classes(r, "validation", 0);
  split->n_test = read_classes(r, "test", 0);
  const int n_rest = (split->n_train == ClassSplit::kRest) +
                     (split->n_validation == ClassSplit::kRest) +
                     (split->n_test == ClassSplit::kRest);
  if (n_rest > 1) task.fail("split", "at most one count may be \"rest\"");
  split->seed = static_cast<std::uint64_t>(r.integer("seed", 0, INT64_MAX, 1));
}

void read_task(const toml::table& table, Recipe* recipe) {
  TaskRecipe* task = &recipe->task;
  // The source first: it says which keys there may be.
  if (!table.contains("source")) {
    throw Error(Exit::kUsage,
                fmt::format("{}: task.source is missing; give one of "
                            "\"images\", \"sinusoid\", \"episodes\"",
                            location(table.source())));
  }
  std::vector<std::string> present;
  for (const auto& [key, value] : table) present.emplace_back(key.str());
  task->source = TableReader(table, "task", present, "", keys())
                     .choice("source", Choices<TaskKind>(kSources));
  const std::string name =
      fmt::format("[task] of source \"{}\"", to_string(task->source));
  const TableReader r(table, "task", keys().at(name), name, keys());

  if (task->source == TaskKind::kEpisodes) {
    task->path = {resolve(*recipe, r.text("path"))};
    task->validation_path = resolve(*recipe, r.text("validation_path", ""));
    task->test_path = resolve(*recipe, r.text("test_path", ""));
    return;
  }
  task->shots = r.small("shots", 1, kMaxCount);
  task->queries = r.small("queries", 1, kMaxCount);
  if (task->source == TaskKind::kSinusoid) {
    task->family = r.choice("family", Choices<SinusoidFamily>(kFamilies));
    return;
  }
  for (const std::string& path : r.texts("path", true)) {
    task->path.push_back(resolve(*recipe, path));
  }
  task->size = r.small("size", 1, 1024, 28);
  task->invert = r.boolean("invert", false);
  task->rotations = r.boolean("rotations", false);
  task->ways = r.small("ways", 2, kMaxCount);
  read_split(r, &task->split);
  for (const char* key : {"shots", "queries"}) {
    const int count = key[0] == 's' ? task->shots : task->queries;
    if (std::int64_t{task->ways} * count > kMaxCount) {
      r.fail(key,
             fmt::format("{} ways x {} {} are more than {} examples",
                         task->ways,
                         count,
                         key,
                         kMaxCount));
    }
  }
}

void read_capsule(const toml::table& table, Recipe* recipe) {
  CapsuleRecipe* capsule = &recipe->capsule;
  const TableReader r = reader(table, "capsule", "[capsule]");
  capsule->init = r.choice(
      "init", Choices<Storage>(kInitStorages), std::optional(Storage::kF32));
  capsule->rates = r.choice(
      "rates", Choices<Storage>(kRateStorages), std::optional(Storage::kF32));
  const RuleOp rule = recipe->inner.rule;
  if (capsule->rates == Storage::kLog8 &&
      (rule == RuleOp::kRateNet || rule == RuleOp::kLstm)) {
    r.fail("rates",
           fmt::format("log8 is for rates, and {} has the weights of a "
                       "network: use \"f16\" or \"f32\"",
                       to_string(rule)));
  }
  capsule->support_max = r.small("support_max", 0, kMaxCount, 0);
  capsule->predict_max = r.small("predict_max", 0, kMaxCount, 0);
  capsule->steps = r.small("steps", 1, 1000, recipe->inner.steps);
  const bool lslr = rule == RuleOp::kLslr || rule == RuleOp::kRateNet;
  if ((lslr || recipe->inner.rate_layout == RateLayout::kTensorStep) &&
      capsule->steps > recipe->inner.steps) {
    r.fail("steps",
           fmt::format("{} learns rates for inner.steps = {} and no more",
                       lslr ? to_string(rule) : "rate_layout = \"tensor_step\"",
                       recipe->inner.steps));
  }
  capsule->golden = r.boolean("golden", true);
}

void read_run(const toml::table& table, Recipe* recipe) {
  RunRecipe* run = &recipe->run;
  const TableReader r = reader(table, "run", "[run]");
  run->validate_every = r.integer("validate_every", 0, INT64_MAX, 1000);
  run->validate_tasks = r.small("validate_tasks", 2, 100000000, 200);
  run->threads = r.small("threads", 0, 4096, 0);
  run->checkpoint_every = r.integer("checkpoint_every", 0, INT64_MAX, 1000);
  run->init_from = resolve(*recipe, r.text("init_from", ""));
  run->keep =
      r.choice("keep", Choices<Keep>(kKeeps), std::optional(Keep::kBest));
  if (run->keep == Keep::kBest && run->validate_every == 0 && r.has("keep")) {
    r.fail("keep", "\"best\" needs run.validate_every >= 1");
  }
  if (run->validate_every == 0) run->keep = Keep::kLast;
}

// What no single table can tell.
void check_whole(const Recipe& recipe) {
  const PlannedNetwork planned = build_network(recipe);
  const Network& network = planned.network;
  if (recipe.outer.method == OuterMethod::kReptile &&
      network.adapted != nullptr && recipe.run.init_from.empty()) {
    refuse(recipe,
           "inner.adapt",
           "reptile moves the initialization to where adaptation ends, so what "
           "is frozen would keep its random values: adapt \"all\", start from "
           "a trained network (run.init_from), or use outer.method = "
           "\"gradient\"");
  }
  if (build_rule(recipe.inner, network).n_phi == 0) {
    refuse(recipe,
           "inner.adapt",
           fmt::format("{} looks at all tensors at once: the layers that adapt "
                       "must follow one another",
                       to_string(recipe.inner.rule)));
  }
  if (recipe.outer.dropout != 0.0 && DropoutPlan(network).n_numbers() == 0) {
    refuse(recipe,
           "outer.dropout",
           "there is nothing to leave out: the network has no relu or tanh "
           "below another layer");
  }
  const TaskRecipe& task = recipe.task;
  const bool classes = network.loss == LossOp::kSoftmaxCrossEntropy;
  const std::string last =
      fmt::format("network.layers.{}", recipe.network.layers.size() - 1);
  const int* input = recipe.network.input;
  if (task.source == TaskKind::kImages) {
    if (!classes) {
      refuse(recipe,
             "network.loss",
             "images are classified: use \"softmax_cross_entropy\"");
    }
    if (network.n_out != static_cast<uint32_t>(task.ways)) {
      refuse(recipe,
             last,
             fmt::format("the network has {} outputs but task.ways = {}; end "
                         "it with {{op = \"dense\", units = {}}}",
                         network.n_out,
                         task.ways,
                         task.ways));
    }
    if (input[0] != 1 || input[1] != task.size || input[2] != task.size) {
      refuse(recipe,
             "network.input",
             fmt::format("is [{}, {}, {}] but task.size = {} gives grey "
                         "images of shape [1, {}, {}]",
                         input[0],
                         input[1],
                         input[2],
                         task.size,
                         task.size,
                         task.size));
    }
  } else if (task.source == TaskKind::kSinusoid) {
    if (classes) {
      refuse(recipe,
             "network.loss",
             "a sinusoid is a regression: use \"mean_squared_error\"");
    }
    if (network.n_in != 1 || network.n_out != 1) {
      refuse(recipe,
             network.n_in != 1 ? "network.input" : last,
             fmt::format("a sinusoid maps 1 value to 1 value, this network {} "
                         "to {}",
                         network.n_in,
                         network.n_out));
    }
  }
}

}  // namespace

void refuse(const Recipe& recipe,
            const std::string& key,
            const std::string& what) {
  throw Error(Exit::kUsage,
              fmt::format("{}: {}: {}", recipe.where(key), key, what));
}

std::string Recipe::where(const std::string& key) const {
  const auto found = origins.find(key);
  return found == origins.end() ? file.string() : found->second;
}

Recipe parse_recipe(const std::string& text,
                    const fs::path& file,
                    const std::vector<std::string>& overrides) {
  toml::table root;
  try {
    root = toml::parse(text, file.string());
  } catch (const toml::parse_error& e) {
    throw Error(
        Exit::kUsage,
        fmt::format("{}: not TOML: {}", location(e.source()), e.description()));
  }
  apply_preset_of_command_line(root, overrides);
  for (const std::string& override_text : overrides) {
    apply_override(root, override_text);
  }
  apply_preset_of_file(root);
  const TableReader r = reader(root, "", "the top level");
  Recipe recipe;
  recipe.file = file;
  record_origins(root, &recipe.origins);
  recipe.name = r.text("name", file.stem().string());
  if (recipe.name.empty() || recipe.name.front() == '.' ||
      recipe.name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP"
                                    "QRSTUVWXYZ0123456789._-") !=
          std::string::npos) {
    r.fail("name",
           fmt::format("\"{}\" cannot name files; use letters, digits and . _ "
                       "-, not starting with a dot",
                       recipe.name));
  }
  recipe.seed = static_cast<std::uint64_t>(r.integer("seed", 0, INT64_MAX, 1));
  for (const char* key : {"task", "network", "inner", "outer"}) {
    if (!r.has(key)) r.fail(key, fmt::format("is missing; add [{}]", key));
  }
  read_task(r.table("task"), &recipe);
  read_network(reader(r.table("network"), "network", "[network]"),
               &recipe.network);
  read_inner(reader(r.table("inner"), "inner", "[inner]"), &recipe);
  read_outer(reader(r.table("outer"), "outer", "[outer]"), &recipe);
  read_capsule(r.table("capsule"), &recipe);
  read_run(r.table("run"), &recipe);
  check_whole(recipe);
  return recipe;
}

Recipe load_recipe(const fs::path& file,
                   const std::vector<std::string>& overrides) {
  std::ifstream stream(file, std::ios::binary);
  std::stringstream text;
  if (stream) text << stream.rdbuf();
  if (!stream || fs::is_directory(file)) {
    throw Error(Exit::kUsage,
                fmt::format("{}: cannot read this recipe", file.string()));
  }
  return parse_recipe(text.str(), file, overrides);
}

fs::path require_path(const Recipe& recipe,
                      const std::string& key,
                      const std::string& path) {
  try {
    return resolve_data_path(path, recipe_folder(recipe));
  } catch (const Error& e) {
    throw Error(e.exit(),
                fmt::format("{}: {}: {}", recipe.where(key), key, e.what()));
  }
}

}  // namespace fewstep::host
