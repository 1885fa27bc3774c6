// What the threads that draw an iteration's episodes do: a task a thread draws
// the numbers (drawing.h, the source the host draws by), a pixel a thread
// fetches the images.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_EPISODE_PROGRAM_H_
#define FEWSTEP_HOST_CUDA_EPISODE_PROGRAM_H_

#include <cstdint>

#include "fewstep/host/drawing.h"

namespace fewstep::host {

/// Which episodes: what changes from one launch to the next, in device memory.
struct EpisodeKey {
  uint64_t seed, iteration;
  uint32_t first;  ///< Task 0 of the launch is this one of the iteration.
  Split split;
};

/// Where episodes lie, by task; what a source does not have is null.
struct EpisodeBuffers {
  float* support_x;          ///< [tasks][n_support][n_in]
  float* query_x;            ///< [tasks][n_query][n_in]
  float* support_targets;    ///< [tasks][n_support][n_out]
  float* query_targets;      ///< [tasks][n_query][n_out]
  uint16_t* support_labels;  ///< [tasks][n_support]
  uint16_t* query_labels;    ///< [tasks][n_query]
};

/// A launch that draws the episodes of `n_tasks` tasks.
struct DrawingLaunch {
  DrawingProgram program;
  EpisodeBuffers to;
  const EpisodeKey* key;
  uint32_t* drawn;  ///< images: [tasks][ImageSet::n_drawn()]
  uint32_t n_support, n_query;
  uint32_t inner_batch;  ///< Order of training tasks' support (minibatch.h).
  uint32_t n_tasks;

  FEWSTEP_HD uint32_t inner_batch_of(Split split) const {
    return split == Split::kTrain ? inner_batch : 0;
  }
};

/// The numbers of each task: a sinusoid's episode, or which images are in it.
template <class E>
FEWSTEP_HD void draw_episodes(const E& e, const DrawingLaunch& l) {
  const EpisodeKey key = *l.key;
  e.for_each(l.n_tasks, [&](uint32_t t) {
    const RandomStream random(
        key.seed, key.iteration, key.first + t, episode_purpose(key.split));
    if (l.program.kind == DrawingProgram::Kind::kImages) {
      const ImageSet& set = l.program.images;
      draw_images(
          set, key.split, random, l.drawn + uint64_t{t} * set.n_drawn());
    } else {
      const uint64_t s = uint64_t{t} * l.n_support;
      const uint64_t q = uint64_t{t} * l.n_query;
      draw_sinusoid(l.program.family,
                    random,
                    {l.to.support_x + s,
                     l.to.support_targets + s,
                     l.n_support,
                     l.inner_batch_of(key.split)},
                    {l.to.query_x + q, l.to.query_targets + q, l.n_query});
    }
  });
}

/// Pixels and labels of what draw_episodes() drew, in the order of
/// Images::sample(): support before query, class by class; or the support set
/// in that of its minibatches.
template <class E>
FEWSTEP_HD void fetch_images(const E& e, const DrawingLaunch& l) {
  const ImageSet& set = l.program.images;
  const Split split = l.key->split;
  const Minibatches minibatches(l.n_support, l.inner_batch_of(split));
  const uint32_t n_examples = l.n_support + l.n_query;
  const uint32_t n_pixels = set.n_pixels();
  e.for_each(l.n_tasks * n_examples, n_pixels, [&](uint32_t i, uint32_t pixel) {
    const uint32_t t = i / n_examples;
    const uint32_t example = i % n_examples;
    const bool is_support = example < l.n_support;
    const uint32_t k = is_support ? example : example - l.n_support;
    const uint32_t of_way = is_support ? set.shots : set.queries;
    const uint32_t way = k / of_way;
    const TurnedImage image =
        image_of(set,
                 split,
                 l.drawn + uint64_t{t} * set.n_drawn(),
                 way,
                 is_support ? k % of_way : set.shots + k % of_way);
    const PixelOrder order = pixel_order(set.size, image.quarters);
    const int32_t y = static_cast<int32_t>(pixel / set.size);
    const int32_t x = static_cast<int32_t>(pixel % set.size);
    const uint64_t row =
        is_support ? uint64_t{t} * l.n_support + minibatches.place_of(k)
                   : uint64_t{t} * l.n_query + k;
    (is_support ? l.to.support_x : l.to.query_x)[row * n_pixels + pixel] =
        unit_value(
            image.pixels[order.start + y * order.row + x * order.column]);
    if (pixel == 0) {
      (is_support ? l.to.support_labels : l.to.query_labels)[row] =
          static_cast<uint16_t>(way);
    }
  });
}

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_EPISODE_PROGRAM_H_
