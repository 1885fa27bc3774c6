// How the built-in sources draw an episode: the source that Sinusoid and Images
// run on the host, and the GPU's kernels on the device.
//
//   draw_sinusoid   a curve and its points
//   draw_images     which classes, and which images of each
//   ImageSet        the images, and where an episode's pixels come from
//   DrawingProgram  which of them a source is, for the GPU engine
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_DRAWING_H_
#define FEWSTEP_HOST_DRAWING_H_

#include <cstdint>

#include "fewstep/host/minibatch.h"
#include "fewstep/host/philox_stream.h"
#include "fewstep/numerics/elementary.h"

namespace fewstep::host {

/// Which tasks: to learn from, to choose by, to report.
enum class Split : uint8_t { kTrain, kValidation, kTest };

/// The random stream of a task: never shared between splits.
FEWSTEP_HD constexpr Purpose episode_purpose(Split split) {
  return split == Split::kValidation ? Purpose::kValidationEpisode
         : split == Split::kTest     ? Purpose::kTestEpisode
                                     : Purpose::kTrainEpisode;
}

/// The families differ in difficulty and must never be mixed in a comparison.
enum class SinusoidFamily : uint8_t {
  kMaml,     ///< y = A sin(x - phase); A in [0.1, 5], phase in [0, pi]
  kMetaSgd,  ///< y = A sin(omega x + b); the same, and omega in [0.8, 1.2]
};

/// Points of a set of examples.
struct Points {
  float* x;
  float* y;
  uint32_t n;
  uint32_t inner_batch = 0;  ///< In the order of such minibatches.
};

/// A curve of the family, and points on it.
FEWSTEP_HD inline void draw_sinusoid(SinusoidFamily family,
                                     RandomStream random,
                                     const Points& support,
                                     const Points& query) {
  constexpr float kPi = 0x1.921fb6p+1F;
  const bool frequencies = family == SinusoidFamily::kMetaSgd;
  const float amplitude = random.uniform(0.1F, 5.0F);
  const float phase = random.uniform(0.0F, kPi);
  const float omega = frequencies ? random.uniform(0.8F, 1.2F) : 1.0F;
  const float offset = frequencies ? phase : -phase;
  const auto draw = [&](const Points& p) {
    const Minibatches order(p.n, p.inner_batch);
    for (uint32_t k = 0; k < p.n; ++k) {
      p.x[order.place_of(k)] = random.uniform(-5.0F, 5.0F);
    }
    // Apart, a loop that the compiler vectorizes.
    for (uint32_t k = 0; k < p.n; ++k) {
      p.y[k] = amplitude * fewstep::sin(fma(omega, p.x[k], offset));
    }
  };
  draw(support);
  draw(query);
}

/// Images and their classes; non-owning. Where it lies is where it is used:
/// the GPU's has pointers of the GPU.
struct ImageSet {
  const uint8_t* pixels;        ///< [n_images][size][size]
  const uint32_t* first_image;  ///< [classes + 1], of each class.
  const uint32_t* classes[3];   ///< Of each Split, before rotation.
  uint32_t n_classes[3];
  uint32_t n_all_classes;  ///< first_image has one more.
  uint32_t n_images;
  uint32_t size;  ///< Height and width.
  uint32_t
      n_rotations;  ///< 1 or 4: rotated by 90 degrees, classes of their own.
  uint32_t ways, shots, queries;

  /// Images of a class in an episode.
  FEWSTEP_HD uint32_t n_each() const { return shots + queries; }
  /// What an episode draws: [ways] classes, then [ways][n_each()] images.
  FEWSTEP_HD uint32_t n_drawn() const { return ways * (1 + n_each()); }
  FEWSTEP_HD uint32_t n_pixels() const { return size * size; }
};

/// Writes the n_drawn() numbers of an episode: classes of the split, counting
/// rotations, then for each class its images.
FEWSTEP_HD inline void draw_images(const ImageSet& set,
                                   Split split,
                                   RandomStream random,
                                   uint32_t* drawn) {
  const uint32_t s = static_cast<uint32_t>(split);
  random.distinct(set.n_classes[s] * set.n_rotations, set.ways, drawn);
  for (uint32_t way = 0; way < set.ways; ++way) {
    const uint32_t c = set.classes[s][drawn[way] / set.n_rotations];
    random.distinct(set.first_image[c + 1] - set.first_image[c],
                    set.n_each(),
                    drawn + set.ways + way * set.n_each());
  }
}

/// An image of an episode: its pixels, unrotated, and how they are turned.
struct TurnedImage {
  const uint8_t* pixels;
  uint32_t quarters;  ///< Counter-clockwise, 90 degrees each.
};

/// Image `i` < n_each() of way `way` of the episode that drew `drawn`.
FEWSTEP_HD inline TurnedImage image_of(const ImageSet& set,
                                       Split split,
                                       const uint32_t* drawn,
                                       uint32_t way,
                                       uint32_t i) {
  const uint32_t c =
      set.classes[static_cast<uint32_t>(split)][drawn[way] / set.n_rotations];
  const uint64_t image =
      uint64_t{set.first_image[c]} + drawn[set.ways + way * set.n_each() + i];
  return {set.pixels + image * set.n_pixels(), drawn[way] % set.n_rotations};
}

/// Where pixel (y, x) of a turned image lies: start + y row + x column.
struct PixelOrder {
  int32_t start, row, column;
};
FEWSTEP_HD inline PixelOrder pixel_order(uint32_t size, uint32_t quarters) {
  const int32_t n = static_cast<int32_t>(size);
  switch (quarters) {
    case 1: return {n - 1, -1, n};
    case 2: return {n * n - 1, -n, -1};
    case 3: return {n * (n - 1), 1, -n};
    default: return {0, n, 1};
  }
}

/// A pixel as the network sees it: in [0, 1].
FEWSTEP_HD constexpr float unit_value(uint8_t v) {
  return static_cast<float>(v) / 255.0F;
}

/// Which of the above draws a source's episodes.
struct DrawingProgram {
  enum class Kind : uint8_t {
    kOnHost,  ///< None: TaskSource::sample() alone knows.
    kSinusoid,
    kImages,
  };
  Kind kind = Kind::kOnHost;
  SinusoidFamily family = SinusoidFamily::kMaml;
  ImageSet images = {};
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_DRAWING_H_
