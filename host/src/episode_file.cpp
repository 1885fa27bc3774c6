// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/episode_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "fewstep/host/error.h"
#include "fewstep/host/npz.h"
#include "fewstep/numerics/real.h"

namespace fewstep::host {

namespace {

constexpr uint64_t kMaxLength = 0x7fffffffU;  // Of any dimension or product.

// Reads and checks the arrays of one file.
class Loader {
 public:
  explicit Loader(const std::filesystem::path& path)
      : path_(path.string()), npz_(Npz::read(path)) {}

  // What the examples and the answers of `set` ("support" or "query") say about
  // the shape.
  struct Shapes {
    uint64_t n_tasks, n_examples, n_out;
    InputShape input;
    bool classification;
  };

  Shapes shapes(std::string_view set) const {
    const std::string x_name = fmt::format("{}_x", set);
    const std::string y_name = fmt::format("{}_y", set);
    const NpyArray& x = npz_.at(x_name);
    const NpyArray& y = npz_.at(y_name);
    check_lengths(x_name, x);
    check_lengths(y_name, y);
    if (x.shape.size() < 2 || x.shape.size() > 5)
      fail(x_name,
           x,
           "has to be [tasks, examples, ...], an example having at "
           "most the three dimensions c, h, w");
    const bool labels = !is_float(y.dtype);
    if (labels && y.shape.size() != 2)
      fail(y_name,
           y,
           "has to be [tasks, examples] for labels; targets have to "
           "be of a float type");
    if (!labels && y.shape.size() != 2 && y.shape.size() != 3)
      fail(y_name, y, "has to be [tasks, examples, outputs]");
    if (y.shape[0] != x.shape[0] || y.shape[1] != x.shape[1])
      fail(y_name,
           y,
           fmt::format(
               "has to begin like {} ({})", x_name, fmt::join(x.shape, ", ")));
    const auto at = [&](size_t i) { return static_cast<uint32_t>(x.shape[i]); };
    InputShape input{1, 1, 1};
    if (x.shape.size() == 3) input = {at(2), 1, 1};
    if (x.shape.size() == 4) input = {1, at(2), at(3)};
    if (x.shape.size() == 5) input = {at(2), at(3), at(4)};
    return {x.shape[0],
            x.shape[1],
            y.shape.size() == 3 ? y.shape[2] : 1,
            input,
            labels};
  }

  std::vector<float> finite(const std::string& name) const {
    std::vector<float> values = npz_.floats(name);
    const auto bad = std::find_if_not(
        values.begin(), values.end(), [](float v) { return is_finite(v); });
    if (bad != values.end())
      fail(name,
           npz_.at(name),
           fmt::format("has {} at flat index {}; every value has to be a "
                       "finite 32-bit float",
                       *bad,
                       bad - values.begin()));
    return values;
  }

  // Labels, each below `ways`, or below 65536 when `ways` is 0.
  std::vector<uint16_t> labels(const std::string& name, uint32_t ways) const {
    const std::vector<int64_t> wide = npz_.integers(name);
    const int64_t limit = ways == 0 ? 65536 : ways;
    std::vector<uint16_t> narrow(wide.size());
    for (size_t i = 0; i < wide.size(); ++i) {
      if (wide[i] < 0 || wide[i] >= limit)
        fail(name,
             npz_.at(name),
             fmt::format("has label {} at flat index {}; labels have to be 0 "
                         "to {}",
                         wide[i],
                         i,
                         limit - 1));
      narrow[i] = static_cast<uint16_t>(wide[i]);
    }
    return narrow;
  }

  [[noreturn]] void fail(const std::string& name,
                         const NpyArray& array,
                         const std::string& why) const {
    throw Error(Exit::kBadData,
                fmt::format("{}: array '{}' of shape ({}) {}",
                            path_,
                            name,
                            fmt::join(array.shape, ", "),
                            why));
  }
  [[noreturn]] void fail(const std::string& why) const {
    throw Error(Exit::kBadData, path_ + ": " + why);
  }

 private:
  void check_lengths(const std::string& name, const NpyArray& array) const {
    uint64_t product = 1;
    for (size_t i = 0; i < array.shape.size(); ++i) {
      if (array.shape[i] == 0) fail(name, array, "is empty");
      // One task at a time: its values are indexed with 32 bits.
      if (i > 0) product *= array.shape[i];
      if (array.shape[i] > kMaxLength || product > kMaxLength)
        fail(name, array, "is too large; split it into several files");
    }
  }

  std::string path_;
  Npz npz_;
};

template <class T>
void copy_row(const std::vector<T>& all, uint64_t row, std::vector<T>* out) {
  std::copy_n(all.begin() + static_cast<ptrdiff_t>(row * out->size()),
              out->size(),
              out->begin());
}

}  // namespace

EpisodeFile::EpisodeFile(const EpisodeFileOptions& options)
    : tasks_per_iteration_(options.tasks_per_iteration) {
  if (tasks_per_iteration_ == 0)
    throw Error(Exit::kUsage, "outer.tasks is 0; it has to be at least 1");
  if (options.ways > 65535)
    throw Error(Exit::kUsage,
                fmt::format("task.ways is {}; at most 65535 classes are "
                            "possible",
                            options.ways));
  const Loader file(options.path);
  const Loader::Shapes support = file.shapes("support");
  const Loader::Shapes query = file.shapes("query");
  if (support.n_tasks != query.n_tasks)
    file.fail(
        fmt::format("support_x has {} tasks and query_x {}; each task "
                    "needs both",
                    support.n_tasks,
                    query.n_tasks));
  if (support.input != query.input)
    file.fail(
        fmt::format("an example of support_x is [{}] and of query_x [{}]; "
                    "they have to agree",
                    fmt::join(support.input, ", "),
                    fmt::join(query.input, ", ")));
  if (support.classification != query.classification ||
      support.n_out != query.n_out)
    file.fail(
        "support_y and query_y have to be of one kind: labels (integers) "
        "or targets (floats) with the same number of outputs");

  n_tasks_ = support.n_tasks;
  input_ = support.input;
  support_x_ = file.finite("support_x");
  query_x_ = file.finite("query_x");
  uint32_t ways = 0;
  if (support.classification) {
    support_labels_ = file.labels("support_y", options.ways);
    query_labels_ = file.labels("query_y", options.ways);
    ways = options.ways;
    if (ways == 0)
      ways =
          1U +
          std::max(
              *std::max_element(support_labels_.begin(), support_labels_.end()),
              *std::max_element(query_labels_.begin(), query_labels_.end()));
  } else {
    support_targets_ = file.finite("support_y");
    query_targets_ = file.finite("query_y");
  }
  shape_ = {.ways = ways,
            .n_support = static_cast<uint32_t>(support.n_examples),
            .n_query = static_cast<uint32_t>(query.n_examples),
            .n_in = input_[0] * input_[1] * input_[2],
            .n_out = support.classification
                         ? ways
                         : static_cast<uint32_t>(support.n_out),
            .classification = support.classification};
}

void EpisodeFile::sample(Split split,
                         uint64_t seed,
                         uint64_t iteration,
                         uint32_t task,
                         Episode* out) const {
  static_cast<void>(split);
  static_cast<void>(seed);
  // Reduced first, so that no iteration overflows the product.
  const uint64_t row =
      (iteration % n_tasks_ * tasks_per_iteration_ + task) % n_tasks_;
  out->resize(shape_);
  out->drawn.clear();
  copy_row(support_x_, row, &out->support_x);
  copy_row(query_x_, row, &out->query_x);
  copy_row(support_labels_, row, &out->support_labels);
  copy_row(query_labels_, row, &out->query_labels);
  copy_row(support_targets_, row, &out->support_targets);
  copy_row(query_targets_, row, &out->query_targets);
}

void save_episodes(const std::filesystem::path& path,
                   std::span<const Episode> episodes,
                   const EpisodeShape& shape,
                   const InputShape& input) {
  if (episodes.empty())
    throw Error(Exit::kUsage,
                path.string() + ": there are no episodes to save");
  Episode expected;
  expected.resize(shape);
  for (const Episode& e : episodes) {
    if (e.support_x.size() != expected.support_x.size() ||
        e.query_x.size() != expected.query_x.size() ||
        e.support_labels.size() != expected.support_labels.size() ||
        e.query_labels.size() != expected.query_labels.size() ||
        e.support_targets.size() != expected.support_targets.size() ||
        e.query_targets.size() != expected.query_targets.size() ||
        uint64_t{input[0]} * input[1] * input[2] != shape.n_in)
      throw Error(Exit::kUsage,
                  path.string() +
                      ": the episodes do not all have the shape "
                      "they are saved with");
  }

  Npz npz;
  npz.set_origin(path.string());
  const auto add = [&](std::string_view name,
                       auto member,
                       std::vector<uint64_t> dimensions) {
    using T = typename std::remove_reference_t<decltype(episodes[0].*
                                                        member)>::value_type;
    std::vector<T> all;
    for (const Episode& e : episodes)
      all.insert(all.end(), (e.*member).begin(), (e.*member).end());
    dimensions.insert(dimensions.begin(), episodes.size());
    npz.set<T>(name, std::move(dimensions), all);
  };
  const auto add_set =
      [&](uint64_t n, std::string_view set, auto x, auto labels, auto targets) {
        std::vector<uint64_t> dimensions{n, input[0]};
        if (input[1] != 1 || input[2] != 1)
          dimensions.insert(dimensions.end(), {input[1], input[2]});
        add(fmt::format("{}_x", set), x, dimensions);
        if (shape.classification)
          add(fmt::format("{}_y", set), labels, {n});
        else
          add(fmt::format("{}_y", set), targets, {n, shape.n_out});
      };
  add_set(shape.n_support,
          "support",
          &Episode::support_x,
          &Episode::support_labels,
          &Episode::support_targets);
  add_set(shape.n_query,
          "query",
          &Episode::query_x,
          &Episode::query_labels,
          &Episode::query_targets);
  npz.save(path);
}

}  // namespace fewstep::host
