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

RunFolder RunFolder::create(const fs::path& dir, const Recipe& recipe) {
  RunFolder run(dir);
  std::error_code error;
  // A folder without either holds nothing that was learned.
  if (fs::exists(run.checkpoint(), error) || fs::exists(run.best(), error)) {
    throw Error(Exit::kUsage,
                fmt::format("{} already holds a run: go on with it (--resume), "
                            "choose another folder (--out), or remove it",
                            dir.string()));
  }
  if (fs::exists(dir, error) && !fs::is_directory(dir, error)) {
    throw Error(
        Exit::kUsage,
        fmt::format("{} is a file; --out needs a folder", dir.string()));
  }
  fs::create_directories(dir, error);
  if (error) {
    throw Error(
        Exit::kResource,
        fmt::format(
            "cannot make the folder {}: {}", dir.string(), error.message()));
  }
  save_text(run.recipe(), to_toml(recipe));
  return run;
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
    throw Error(Exit::kUsage,
                fmt::format("{} was started with another recipe: it has "
                            "`{}`, {} has `{}`; start a new run with another "
                            "--out, or give the old value",
                            dir.string(),
                            before,
                            recipe.file.string(),
                            now));
  }
  save_text(run.recipe(), to_toml(recipe));
  return run;
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
