// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/run_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "fewstep/host/error.h"
#include "fewstep/host/file.h"

namespace fewstep::host {
namespace {

namespace fs = std::filesystem;

void save_text(const fs::path& path, const std::string& text) {
  const std::vector<uint8_t> bytes(text.begin(), text.end());
  save_file_atomically(path, bytes);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The key that changes with outer.iterations when nobody sets it.
constexpr std::string_view kAnnealing = "multi_step_iterations =";

// The recipe without what may change between stopping and going on.
std::string fixed_part(Recipe recipe) {
  recipe.outer.iterations = 0;
  const std::string init_from = recipe.run.init_from;
  recipe.run = RunRecipe();
  recipe.run.init_from = init_from;
  recipe.capsule = CapsuleRecipe();  // Only packing looks at it.
  return to_toml(recipe);
}

}  // namespace

RunFolder RunFolder::create(const fs::path& dir) {
  RunFolder run(dir);
  std::error_code error;
  // A folder without either holds nothing that was learned.
  if (run.has_checkpoint() || fs::exists(run.best(), error)) {
    throw Error(
        Exit::kUsage,
        fmt::format("{} already holds a run: {}choose another folder "
                    "(--out), or remove it",
                    dir.string(),
                    run.has_checkpoint() ? "go on with it (--resume), " : ""));
  }
  if (fs::exists(dir, error) && !fs::is_directory(dir, error)) {
    throw Error(
        Exit::kUsage,
        fmt::format("{} is a file; --out needs a folder", dir.string()));
  }
  return run;
}

void RunFolder::begin(const Recipe& recipe) const {
  std::error_code error;
  fs::create_directories(dir_, error);
  if (error) {
    throw Error(
        Exit::kResource,
        fmt::format(
            "cannot make the folder {}: {}", dir_.string(), error.message()));
  }
  save_text(this->recipe(), to_toml(recipe));
}

bool RunFolder::has_checkpoint() const {
  std::error_code ignored;
  return fs::exists(checkpoint(), ignored);
}

RunFolder RunFolder::open(const fs::path& dir) {
  RunFolder run(dir);
  std::error_code error;
  if (!fs::exists(run.recipe(), error)) {
    throw Error(Exit::kUsage,
                fmt::format("{} is not the folder of a run: it has no "
                            "recipe.toml",
                            dir.string()));
  }
  return run;
}

RunFolder RunFolder::resume(const fs::path& dir, const Recipe& recipe) {
  const RunFolder run = open(dir);
  const std::vector<std::string> was =
      lines_of(fixed_part(load_recipe(run.recipe())));
  const std::vector<std::string> is = lines_of(fixed_part(recipe));
  for (size_t i = 0; i < std::max(was.size(), is.size()); ++i) {
    const std::string before = i < was.size() ? was[i] : "(nothing)";
    const std::string now = i < is.size() ? is[i] : "(nothing)";
    if (before == now) continue;
    if (before.starts_with(kAnnealing) && now.starts_with(kAnnealing)) {
      const std::string value = before.substr(before.rfind(' ') + 1);
      throw Error(
          Exit::kUsage,
          fmt::format("{} was started with outer.{}, {} has {}: where this is "
                      "left out it is a tenth of outer.iterations; to go on, "
                      "keep the old value with --set "
                      "outer.multi_step_iterations={}",
                      dir.string(),
                      before,
                      recipe.file.string(),
                      now.substr(now.rfind(' ') + 1),
                      value));
    }
    throw Error(Exit::kUsage,
                fmt::format("{} was started with another recipe: it has "
                            "`{}`, {} has `{}`; start a new run with another "
                            "--out, or give the old value",
                            dir.string(),
                            before,
                            recipe.file.string(),
                            now));
  }
  std::error_code ignored;
  for (const fs::path& learned : {run.best(), run.capsule(recipe)}) {
    if (run.has_checkpoint() || !fs::exists(learned, ignored)) continue;
    throw Error(Exit::kUsage,
                fmt::format("{} has {} but no checkpoint.npz to go on from; {}",
                            dir.string(),
                            learned.filename().string(),
                            without_checkpoint(dir)));
  }
  return run;
}

std::string without_checkpoint(const fs::path& dir) {
  std::string text =
      "put back a copy of it, or start a new run in another folder (--out)";
  std::error_code ignored;
  const fs::path best = fs::absolute(dir / "best.npz", ignored);
  if (fs::exists(best, ignored)) {
    text += fmt::format(", from the best parameters so far with --set '{}{}'",
                        "run.init_from=",
                        best.string());
  }
  return text;
}

MetricsLog::MetricsLog(const fs::path& path, std::int64_t last_iteration)
    : path_(path) {
  std::string kept;
  std::error_code error;
  if (fs::exists(path, error)) {
    const std::vector<uint8_t> bytes = read_file(path);
    for (const std::string& line :
         lines_of(std::string(bytes.begin(), bytes.end()))) {
      const auto object = nlohmann::json::parse(line, nullptr, false);
      if (!object.is_object() || !object.contains("iteration") ||
          !object["iteration"].is_number_integer() ||
          object["iteration"].get<std::int64_t>() > last_iteration) {
        break;
      }
      kept += line + "\n";
    }
  }
  save_text(path, kept);
  file_.reset(std::fopen(path.c_str(), "ae"));
  if (!file_) {
    throw Error(
        Exit::kResource,
        fmt::format(
            "cannot write {}: {}", path.string(), std::strerror(errno)));
  }
}

void MetricsLog::append(std::int64_t iteration,
                        std::initializer_list<Metric> metrics) {
  nlohmann::ordered_json object;
  object["iteration"] = iteration;
  for (const Metric& metric : metrics) {
    std::visit([&](auto value) { object[std::string(metric.name)] = value; },
               metric.value);
  }
  const std::string line = object.dump() + "\n";
  if (std::fputs(line.c_str(), file_.get()) < 0 ||
      std::fflush(file_.get()) != 0) {
    throw Error(
        Exit::kResource,
        fmt::format(
            "cannot write {}: {}", path_.string(), std::strerror(errno)));
  }
}

}  // namespace fewstep::host
