// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/images.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <exception>
#include <iterator>
#include <mutex>
#include <numeric>
#include <string_view>
#include <thread>
#include <utility>

#include "fewstep/host/error.h"
#include "fewstep/host/file.h"
#include "zip_reader.h"

namespace fewstep::host {

namespace {

namespace fs = std::filesystem;

// unit_value() of each byte.
struct UnitScale {
  float of[256];
  constexpr UnitScale() : of() {
    for (int v = 0; v < 256; ++v) of[v] = unit_value(static_cast<uint8_t>(v));
  }
};
constexpr UnitScale kUnit;

bool has_extension(std::string_view name, std::string_view extension) {
  if (name.size() <= extension.size()) return false;
  return std::equal(
      extension.rbegin(), extension.rend(), name.rbegin(), [](char e, char c) {
        return e == std::tolower(static_cast<unsigned char>(c));
      });
}

// Any part of the path is what an operating system leaves behind, not data.
bool is_hidden(std::string_view path) {
  while (!path.empty()) {
    const std::string_view part = path.substr(0, path.find('/'));
    if (part == "__MACOSX" ||
        (part.starts_with('.') && part != ".." && part != "."))
      return true;
    path.remove_prefix(std::min(path.size(), part.size() + 1));
  }
  return false;
}

std::string_view without_leading_dots(std::string_view path) {
  while (path.starts_with("./") || path.starts_with('/'))
    path.remove_prefix(path.starts_with('/') ? 1 : 2);
  return path;
}

// An image as found, in the order of finding.
struct Found {
  std::string class_name;
  std::string file_name;
  size_t origin;  // Index into Collector::origins_.
};

// Takes encoded images, decodes them in parallel and keeps the pixels.
class Collector {
 public:
  explicit Collector(const ImagesOptions& options) : options_(options) {}

  // Reads everything below a folder or in a zip.
  void add_path(const fs::path& path) {
    std::error_code error;
    if (!fs::exists(path, error))
      throw Error(Exit::kBadData,
                  fmt::format("{}: no such file or folder; mend task.path",
                              path.string()));
    if (fs::is_directory(path, error))
      add_folder(path);
    else
      add_zip(path, "");
  }

  // Decodes what is waiting.
  void flush() {
    const size_t n_pixels = size_t{options_.size} * options_.size;
    const size_t first = found_.size() - waiting_.size();
    pixels_.resize(found_.size() * n_pixels);
    std::atomic<size_t> next = 0;
    std::mutex mutex;
    size_t failed = waiting_.size();  // The first image that failed.
    std::exception_ptr failure;
    const auto work = [&] {
      for (;;) {
        const size_t i = next.fetch_add(1);
        if (i >= waiting_.size()) return;
        try {
          decode(i, {pixels_.data() + (first + i) * n_pixels, n_pixels});
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (i < failed) {
            failed = i;
            failure = std::current_exception();
          }
          return;
        }
      }
    };
    {
      std::vector<std::jthread> threads;
      for (size_t t = 1; t < std::min<size_t>(n_threads(), waiting_.size());
           ++t)
        threads.emplace_back(work);
      work();
    }
    if (failure) std::rethrow_exception(failure);
    waiting_.clear();
    waiting_bytes_ = 0;
  }

  const std::vector<Found>& found() const { return found_; }
  const std::vector<uint8_t>& pixels() const { return pixels_; }
  const std::string& origin(size_t i) const { return origins_[i]; }

 private:
  // What is read before it is decoded; bounds the memory for encoded images.
  static constexpr size_t kBatchBytes = size_t{64} << 20;

  struct Waiting {
    std::string name;  // For messages.
    std::vector<uint8_t> png;
  };

  size_t n_threads() const {
    if (options_.threads != 0) return options_.threads;
    return std::max(1U, std::thread::hardware_concurrency());
  }

  void add_folder(const fs::path& folder) {
    std::vector<std::string> pngs, zips;
    try {
      for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        const std::string below =
            entry.path().lexically_relative(folder).generic_string();
        if (is_hidden(below) || !entry.is_regular_file()) continue;
        if (has_extension(below, ".png")) pngs.push_back(below);
        if (has_extension(below, ".zip")) zips.push_back(below);
      }
    } catch (const fs::filesystem_error& e) {
      throw Error(Exit::kBadData,
                  fmt::format("{}: cannot read the folder: {}",
                              folder.string(),
                              e.code().message()));
    }
    // Whatever order the file system has, the first error is the same.
    std::sort(pngs.begin(), pngs.end());
    std::sort(zips.begin(), zips.end());
    origins_.push_back(folder.string());
    for (const std::string& png : pngs)
      add_image(png, (folder / png).string(), read_file(folder / png));
    for (const std::string& zip : zips)
      add_zip(folder / zip, fs::path(zip).parent_path().generic_string());
  }

  // Members are named as if the zip were unpacked in the folder `prefix`.
  void add_zip(const fs::path& path, const std::string& prefix) {
    origins_.push_back(path.string());
    ZipReader zip(path);
    std::string member;
    while (zip.next(&member)) {
      const std::string_view inside = without_leading_dots(member);
      if (is_hidden(inside) || !has_extension(inside, ".png")) continue;
      add_image(prefix.empty() ? std::string(inside)
                               : fmt::format("{}/{}", prefix, inside),
                fmt::format("{}: {}", path.string(), member),
                zip.read());
    }
  }

  void add_image(const std::string& path,
                 std::string name,
                 std::vector<uint8_t> png) {
    const size_t slash = path.rfind('/');
    if (slash == path.npos)
      throw Error(Exit::kBadData,
                  fmt::format("{}: lies in no class folder; images have to be "
                              "class/.../image.png",
                              name));
    found_.push_back(
        {path.substr(0, slash), path.substr(slash + 1), origins_.size() - 1});
    waiting_bytes_ += png.size();
    waiting_.push_back({std::move(name), std::move(png)});
    if (waiting_bytes_ >= kBatchBytes) flush();
  }

  void decode(size_t i, std::span<uint8_t> out) const {
    const GrayImage image = decode_png(waiting_[i].png, waiting_[i].name);
    resize_area(image.pixels, image.h, image.w, options_.size, out);
    if (!options_.invert) return;
    for (uint8_t& v : out) v = static_cast<uint8_t>(255 - v);
  }

  const ImagesOptions& options_;
  std::vector<std::string> origins_;
  std::vector<Found> found_;
  std::vector<uint8_t> pixels_;  // [found_][size][size]; the last ones waiting.
  std::vector<Waiting> waiting_;
  size_t waiting_bytes_ = 0;
};

void check_range(const char* key, uint64_t value, uint64_t lo, uint64_t hi) {
  if (value >= lo && value <= hi) return;
  throw Error(
      Exit::kUsage,
      fmt::format("task.{} is {}; it has to be {} to {}", key, value, lo, hi));
}

// Whether `prefix`, without a slash at its end, is `name` or a folder above.
bool is_above(std::string_view prefix, std::string_view name) {
  return name.starts_with(prefix) &&
         (name.size() == prefix.size() || name[prefix.size()] == '/');
}

// Copies an image [size][size], turned and scaled to [0, 1].
void write_turned(const TurnedImage& image, uint32_t size, float* out) {
  const PixelOrder order = pixel_order(size, image.quarters);
  const int32_t n = static_cast<int32_t>(size);
  for (int32_t y = 0; y < n; ++y) {
    const uint8_t* in = image.pixels + (order.start + y * order.row);
    for (int32_t x = 0; x < n; ++x) *out++ = kUnit.of[in[x * order.column]];
  }
}

}  // namespace

Images::Images(const ImagesOptions& options)
    : size_(options.size),
      shots_(options.shots),
      queries_(options.queries),
      n_rotations_(options.rotations ? 4 : 1) {
  check_range("size", options.size, 1, 1024);
  check_range("ways", options.ways, 2, 65535);
  check_range("shots", options.shots, 1, 65535);
  check_range("queries", options.queries, 1, 65535);
  check_range("ways * (shots + queries)",
              uint64_t{options.ways} * (shots_ + queries_),
              1,
              1U << 24);
  shape_ = {.ways = options.ways,
            .n_support = options.ways * options.shots,
            .n_query = options.ways * options.queries,
            .n_in = options.size * options.size,
            .n_out = options.ways,
            .classification = true};
  load(options);
  const ClassSplit& split = options.split;
  if (split.train.empty() && split.validation.empty() && split.test.empty())
    split_by_count(split);
  else
    split_by_path(split);
  check_splits();
}

void Images::load(const ImagesOptions& options) {
  Collector all(options);
  std::string paths;
  for (const fs::path& path : options.paths) {
    all.add_path(path);
    paths += (paths.empty() ? "" : ", ") + path.string();
  }
  all.flush();
  const std::vector<Found>& found = all.found();
  if (found.empty())
    throw Error(Exit::kBadData,
                fmt::format("{}: no image found; task.path has to name folders "
                            "or zip files with class/.../image.png",
                            paths.empty() ? "task.path" : paths));

  // Sorted, so that nothing depends on the order in a file system or archive.
  std::vector<size_t> order(found.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (const int c = found[a].class_name.compare(found[b].class_name); c != 0)
      return c < 0;
    return found[a].file_name < found[b].file_name;
  });
  const size_t n_pixels = shape_.n_in;
  pixels_.resize(found.size() * n_pixels);
  const Found* last = nullptr;
  for (size_t i = 0; i < order.size(); ++i) {
    const Found& f = found[order[i]];
    if (last == nullptr || last->class_name != f.class_name) {
      class_names_.push_back(f.class_name);
      first_image_.push_back(static_cast<uint32_t>(i));
    } else if (last->origin != f.origin) {
      throw Error(Exit::kBadData,
                  fmt::format("class {} is both in {} and in {}; rename one or "
                              "name only one of them in task.path",
                              f.class_name,
                              all.origin(last->origin),
                              all.origin(f.origin)));
    }
    last = &f;
    std::copy_n(
        all.pixels().begin() + static_cast<ptrdiff_t>(order[i] * n_pixels),
        n_pixels,
        pixels_.begin() + static_cast<ptrdiff_t>(i * n_pixels));
  }
  first_image_.push_back(static_cast<uint32_t>(order.size()));
}

void Images::split_by_count(const ClassSplit& split) {
  const uint32_t wanted[3] = {split.n_train, split.n_validation, split.n_test};
  uint64_t sum = 0;
  int n_rests = 0;
  for (const uint32_t n : wanted) {
    if (n == ClassSplit::kRest)
      ++n_rests;
    else
      sum += n;
  }
  if (sum == 0 && n_rests == 0)
    throw Error(Exit::kUsage,
                "task.split says nothing; give the number of classes, or lists "
                "of paths, for train, validation and test");
  if (n_rests > 1)
    throw Error(Exit::kUsage,
                "task.split: only one of train, validation and test can be "
                "the rest");
  if (sum > n_classes())
    throw Error(Exit::kUsage,
                fmt::format("task.split asks for {} classes (train, validation "
                            "and test together); only {} were found",
                            sum,
                            n_classes()));

  std::vector<uint32_t> order(n_classes());
  std::iota(order.begin(), order.end(), 0U);
  Random(split.seed, 0, 0, Purpose::kClassSplit).shuffle(order);
  auto from = order.begin();
  for (size_t s = 0; s < 3; ++s) {
    const uint64_t n =
        wanted[s] == ClassSplit::kRest ? n_classes() - sum : wanted[s];
    const auto to = from + static_cast<ptrdiff_t>(n);
    splits_[s].assign(from, to);
    from = to;
  }
}

void Images::split_by_path(const ClassSplit& split) {
  struct Prefix {
    std::string path;
    size_t split;
    bool used;
  };
  std::vector<Prefix> prefixes;
  const std::vector<std::string>* lists[3] = {
      &split.train, &split.validation, &split.test};
  for (size_t s = 0; s < 3; ++s) {
    for (const std::string& listed : *lists[s]) {
      std::string_view path = without_leading_dots(listed);
      while (path.ends_with('/')) path.remove_suffix(1);
      const auto same =
          std::find_if(prefixes.begin(), prefixes.end(), [&](const Prefix& p) {
            return p.path == path;
          });
      if (same != prefixes.end())
        throw Error(Exit::kUsage,
                    fmt::format("task.split lists path '{}' twice; a class has "
                                "one split",
                                listed));
      prefixes.push_back({std::string(path), s, false});
    }
  }
  // Longest first: the nearest folder decides.
  std::stable_sort(
      prefixes.begin(), prefixes.end(), [](const Prefix& a, const Prefix& b) {
        return a.path.size() > b.path.size();
      });
  for (uint32_t c = 0; c < n_classes(); ++c) {
    for (Prefix& p : prefixes) {
      if (!is_above(p.path, class_names_[c])) continue;
      p.used = true;
      splits_[p.split].push_back(c);
      break;
    }
  }
  for (const Prefix& p : prefixes) {
    if (!p.used)
      throw Error(Exit::kUsage,
                  fmt::format("task.split.{}: no class lies at or below '{}' "
                              "(the first class found is '{}')",
                              to_string(static_cast<Split>(p.split)),
                              p.path,
                              class_names_[0]));
  }
}

void Images::check_splits() const {
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    if (classes(split).empty()) continue;
    const uint64_t n = uint64_t{n_rotations_} * classes(split).size();
    if (n < shape_.ways)
      throw Error(Exit::kUsage,
                  fmt::format("task.ways is {} but the {} split has {} "
                              "{}{}; lower ways or enlarge the split",
                              shape_.ways,
                              to_string(split),
                              n,
                              n == 1 ? "class" : "classes",
                              n_rotations_ == 1 ? "" : ", counting rotations"));
    for (const uint32_t c : classes(split)) {
      const uint32_t n_there = first_image_[c + 1] - first_image_[c];
      if (n_there < size_t{shots_} + queries_)
        throw Error(Exit::kUsage,
                    fmt::format("class {} has {} images; task.shots + "
                                "task.queries is {} + {}: lower them, or leave "
                                "the class out (of the lists of task.split, or "
                                "of the data)",
                                class_names_[c],
                                n_there,
                                shots_,
                                queries_));
    }
  }
}

void Images::check(Split split) const {
  if (classes(split).empty())
    throw Error(
        Exit::kUsage,
        fmt::format("the {} split has no classes; give some in "
                    "task.split.{}{}",
                    to_string(split),
                    to_string(split),
                    split == Split::kValidation ? ", or leave validation out: "
                                                  "run.validate_every = 0"
                                                : ""));
}

std::span<const uint8_t> Images::image(uint32_t c, uint32_t i) const {
  return {pixels_.data() + (size_t{first_image_[c]} + i) * shape_.n_in,
          shape_.n_in};
}

ImageSet Images::image_set() const {
  ImageSet set = {};
  set.pixels = pixels_.data();
  set.first_image = first_image_.data();
  for (size_t s = 0; s < 3; ++s) {
    set.classes[s] = splits_[s].data();
    set.n_classes[s] = static_cast<uint32_t>(splits_[s].size());
  }
  set.n_all_classes = static_cast<uint32_t>(n_classes());
  set.n_images = first_image_.back();
  set.size = size_;
  set.n_rotations = n_rotations_;
  set.ways = shape_.ways;
  set.shots = shots_;
  set.queries = queries_;
  return set;
}

DrawingProgram Images::drawing() const {
  DrawingProgram program;
  program.kind = DrawingProgram::Kind::kImages;
  program.images = image_set();
  return program;
}

void Images::sample(Split split,
                    uint64_t seed,
                    uint64_t iteration,
                    uint32_t task,
                    Episode* out) const {
  check(split);
  const ImageSet set = image_set();
  out->resize(shape_);
  out->drawn.resize(set.n_drawn());
  draw_images(set,
              split,
              RandomStream(seed, iteration, task, episode_purpose(split)),
              out->drawn.data());
  float* support = out->support_x.data();
  float* query = out->query_x.data();
  for (uint32_t way = 0; way < set.ways; ++way) {
    for (uint32_t i = 0; i < set.n_each(); ++i) {
      float*& to = i < shots_ ? support : query;
      write_turned(image_of(set, split, out->drawn.data(), way, i), size_, to);
      to += shape_.n_in;
    }
    std::fill_n(out->support_labels.begin() + size_t{way} * shots_,
                shots_,
                static_cast<uint16_t>(way));
    std::fill_n(out->query_labels.begin() + size_t{way} * queries_,
                queries_,
                static_cast<uint16_t>(way));
  }
}

}  // namespace fewstep::host
