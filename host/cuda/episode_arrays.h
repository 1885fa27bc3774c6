// Episodes of several tasks as one run of memory: each array of all tasks after
// the other. The same on the host and on a GPU.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_EPISODE_ARRAYS_H_
#define FEWSTEP_HOST_CUDA_EPISODE_ARRAYS_H_

#include <cstdint>
#include <cstring>
#include <vector>

#include "episode_program.h"
#include "fewstep/host/episode.h"

namespace fewstep::host {

class EpisodeArrays {
 public:
  EpisodeArrays(const EpisodeShape& shape, uint32_t n_tasks)
      : shape_(shape), n_tasks_(n_tasks) {}

  uint64_t bytes() const { return at(6); }

  /// The arrays in the memory at `base`.
  EpisodeBuffers in(void* base) const {
    EpisodeBuffers b = {};
    b.support_x = floats(base, 0);
    b.query_x = floats(base, 1);
    if (shape_.classification) {
      b.support_labels = labels(base, 4);
      b.query_labels = labels(base, 5);
    } else {
      b.support_targets = floats(base, 2);
      b.query_targets = floats(base, 3);
    }
    return b;
  }

  /// Writes `e` as task t.
  void store(void* base, uint32_t t, const Episode& e) const {
    put(base, 0, t, e.support_x);
    put(base, 1, t, e.query_x);
    put(base, 2, t, e.support_targets);
    put(base, 3, t, e.query_targets);
    put(base, 4, t, e.support_labels);
    put(base, 5, t, e.query_labels);
  }

 private:
  // Bytes of one task's array i.
  uint64_t size(int i) const {
    const uint64_t n = i % 2 == 0 ? shape_.n_support : shape_.n_query;
    if (i < 2) return n * shape_.n_in * sizeof(float);
    if (i < 4) {
      return shape_.classification ? 0 : n * shape_.n_out * sizeof(float);
    }
    return shape_.classification ? n * sizeof(uint16_t) : 0;
  }
  // Where array i begins, in bytes: the arrays of floats come first.
  uint64_t at(int i) const {
    uint64_t offset = 0;
    for (int k = 0; k < i; ++k) offset += n_tasks_ * size(k);
    return offset;
  }
  char* array(void* base, int i) const {
    return static_cast<char*>(base) + at(i);
  }
  float* floats(void* base, int i) const {
    return reinterpret_cast<float*>(array(base, i));
  }
  uint16_t* labels(void* base, int i) const {
    return reinterpret_cast<uint16_t*>(array(base, i));
  }
  template <class V>
  void put(void* base, int i, uint32_t t, const std::vector<V>& values) const {
    if (values.empty()) return;
    std::memcpy(array(base, i) + t * size(i), values.data(), size(i));
  }

  EpisodeShape shape_;
  uint64_t n_tasks_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_EPISODE_ARRAYS_H_
