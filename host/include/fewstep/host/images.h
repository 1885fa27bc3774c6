// Task source `images`: few-shot classification of class/.../image.png files
// in folders and zip archives.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_IMAGES_H_
#define FEWSTEP_HOST_IMAGES_H_

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "fewstep/host/task_source.h"

namespace fewstep::host {

/// Which classes go to which split: by counts, or by path when any list of
/// paths is not empty. Rotations follow their character.
struct ClassSplit {
  /// As a count: all classes that the other two splits leave.
  static constexpr uint32_t kRest = 0xffffffffU;

  /// Counts: the classes, sorted by name and shuffled with `seed`, are cut into
  /// train, validation, test, in this order. At most one count is kRest.
  uint32_t n_train = 0, n_validation = 0, n_test = 0;
  uint64_t seed = 0;

  /// Paths: a class belongs to the split with the longest listed path that is
  /// its name or a folder above it; to none if there is none.
  std::vector<std::string> train = {}, validation = {}, test = {};
};

struct ImagesOptions {
  /// Folders and zip files, as resolve_data_path() gives them. Zip files lying
  /// in a folder are read as if unpacked there.
  std::vector<std::filesystem::path> paths;
  uint32_t size = 28;      ///< Height and width in pixels, 1..1024.
  bool invert = false;     ///< 255 - v, for dark ink on light paper.
  bool rotations = false;  ///< 90, 180, 270 degrees are classes of their own.
  ClassSplit split;
  uint32_t ways = 5;      ///< Classes in an episode, 2..65535.
  uint32_t shots = 1;     ///< Support images of each class, >= 1.
  uint32_t queries = 15;  ///< Query images of each class, >= 1.
  uint32_t threads = 0;   ///< To decode with; 0: one for each core.
};

/// Exact area filter: output pixel (i, j) is the mean of `gray` over the box
/// [i h/size, (i+1) h/size) x [j w/size, (j+1) w/size), rounded to the nearest
/// integer, half up. gray [h][w], out [size][size]. All in integers:
/// O(h w + size^2), the same on every host.
void resize_area(std::span<const uint8_t> gray,
                 uint32_t h,
                 uint32_t w,
                 uint32_t size,
                 std::span<uint8_t> out);

/// A decoded image, [h][w] row by row.
struct GrayImage {
  uint32_t h = 0, w = 0;
  std::vector<uint8_t> pixels;
};

/// Decodes a PNG of any depth and colour to 8-bit gray: 16-bit samples scaled;
/// colour as (299 R + 587 G + 114 B) / 1000; alpha over white (paper). Gamma
/// and colour profiles are ignored, as few-shot papers do. At most 8192 pixels
/// a side.
///
/// @throws Error kBadData naming `name` when it is not a whole, intact PNG.
GrayImage decode_png(std::span<const uint8_t> png, const std::string& name);

/// Images of one channel, values v / 255 in [0, 1]. An image's class is the
/// folder that holds it; the full path of that folder inside its zip or below
/// its folder is the class's name. Hidden files, `__MACOSX` and what is not
/// .png are skipped. All images are decoded at construction and kept as
/// size * size bytes each.
///
/// An episode draws `ways` classes of the split and shots + queries images of
/// each, without replacement. Support is class-major (label 0's shots, then
/// label 1's), query too. Label i is the i-th class drawn.
class Images final : public TaskSource {
 public:
  /// @throws Error kBadData when a path is missing, no image is found, a file
  ///     cannot be decoded, lies in no class folder, or one class comes from
  ///     two paths; kUsage when an option is out of range, the split asks for
  ///     more classes than there are, names a path that holds none, or leaves a
  ///     split fewer classes than ways, or a class in use has fewer than shots
  ///     + queries images. The message names the file or class, and the remedy.
  explicit Images(const ImagesOptions& options);

  const EpisodeShape& shape() const override { return shape_; }
  InputShape input_shape() const override { return {1, size_, size_}; }
  void sample(Split split,
              uint64_t seed,
              uint64_t iteration,
              uint32_t task,
              Episode* out) const override;
  void check(Split split) const override;
  DrawingProgram drawing() const override;

  /// Images and classes found, whether used by a split or not.
  size_t n_images() const { return first_image_.back(); }
  size_t n_classes() const { return class_names_.size(); }
  /// Names, sorted.
  const std::vector<std::string>& class_names() const { return class_names_; }
  /// Classes of a split as indices into class_names(), before rotation: class
  /// number d in Episode::drawn is classes(split)[d / r] rotated
  /// counter-clockwise by d % r times 90 degrees, r = 4 with rotations, else 1.
  std::span<const uint32_t> classes(Split split) const {
    return splits_[static_cast<size_t>(split)];
  }
  /// Image `i` of class `c`: size * size gray values, unrotated; images of a
  /// class are sorted by path.
  std::span<const uint8_t> image(uint32_t c, uint32_t i) const;

 private:
  void load(const ImagesOptions& options);
  void split_by_count(const ClassSplit& split);
  void split_by_path(const ClassSplit& split);
  void check_splits() const;
  ImageSet image_set() const;

  EpisodeShape shape_{};
  uint32_t size_;
  uint32_t shots_, queries_;
  uint32_t n_rotations_;  // 1 or 4.
  std::vector<std::string> class_names_;
  std::vector<uint32_t> first_image_;  // [n_classes + 1]
  std::vector<uint8_t> pixels_;        // [n_images][size][size]
  std::vector<uint32_t> splits_[3];    // Indices of classes, by Split.
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_IMAGES_H_
