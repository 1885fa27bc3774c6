// Small capsules, an episode for each, and painted arenas: what the tests of
// the firmware library adapt.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_DEVICE_CASE_H_
#define FEWSTEP_TESTS_SUPPORT_DEVICE_CASE_H_

#include <array>
#include <cstdint>
#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "fewstep/device/every_op.h"
#include "fewstep/device/session.h"
#include "support/small_capsule.h"

namespace fewstep::testing {

/// A way to make a capsule, by name.
struct NamedCapsule {
  const char* name;
  SmallCapsule (*make)();
};
inline void PrintTo(const NamedCapsule& c, std::ostream* os) { *os << c.name; }

/// For INSTANTIATE_TEST_SUITE_P.
inline constexpr auto kCapsuleName = [](const auto& row) {
  return std::string(row.param.name);
};

/// Classifier with batch norm: transductive, f32, one rate.
inline SmallCapsule small_batch_norm() {
  SmallCapsule small = make_small_capsule(
      {1, 4, 4},
      {{.op = LayerOp::kConv2d, .out_c = 2, .kernel = 3, .stride = 1, .pad = 1},
       {.op = LayerOp::kBatchNorm},
       {.op = LayerOp::kRelu},
       {.op = LayerOp::kGlobalAvgPool},
       {.op = LayerOp::kDense, .out_c = 3}},
      LossOp::kSoftmaxCrossEntropy,
      RuleOp::kSgd,
      2);
  add_golden(small, 3, 2);
  return small;
}

/// Starts with an activation of the input, ends with one of the output; two
/// outputs; f16 initialization and rates.
inline SmallCapsule small_mixed() {
  SmallCapsule small = make_small_capsule(
      {2, 3, 3},
      {{.op = LayerOp::kTanh},
       {.op = LayerOp::kConv2d, .out_c = 4, .kernel = 2, .stride = 1, .pad = 0},
       {.op = LayerOp::kRelu},
       {.op = LayerOp::kGroupNorm, .groups = 2},
       {.op = LayerOp::kFlatten},
       {.op = LayerOp::kDense, .out_c = 2},
       {.op = LayerOp::kTanh}},
      LossOp::kMeanSquaredError,
      RuleOp::kLslr,
      3);
  small.contents.init_storage = Storage::kF16;
  small.contents.rate_storage = Storage::kF16;
  return small;
}

inline const auto kDeviceCapsules =
    ::testing::Values(NamedCapsule{"classifier", small_classifier},
                      NamedCapsule{"regressor", small_regressor},
                      NamedCapsule{"batch_norm", small_batch_norm},
                      NamedCapsule{"mixed", small_mixed},
                      NamedCapsule{"momentum", small_momentum},
                      NamedCapsule{"adam", small_adam},
                      NamedCapsule{"head", small_head},
                      NamedCapsule{"pieces", small_pieces},
                      NamedCapsule{"body", small_body},
                      NamedCapsule{"decay", small_decay},
                      NamedCapsule{"adam_ends", small_adam_ends},
                      NamedCapsule{"context", small_context},
                      NamedCapsule{"online", small_online},
                      NamedCapsule{"masked", small_masked},
                      NamedCapsule{"masked_means", small_masked_means},
                      NamedCapsule{"rate_net", small_rate_net},
                      NamedCapsule{"lstm", small_lstm});

/// Examples for a network, in buffers of exactly their size.
struct DeviceEpisode {
  uint32_t n;
  std::vector<float> x;
  std::vector<uint16_t> labels;
  std::vector<float> targets;

  SupportSet set() const {
    return {x.data(),
            labels.empty() ? nullptr : labels.data(),
            targets.empty() ? nullptr : targets.data(),
            n};
  }
};

inline DeviceEpisode make_device_episode(const Network& network,
                                         uint32_t n,
                                         uint32_t seed = 11) {
  DeviceEpisode e = {n, small_values(size_t{n} * network.n_in, seed), {}, {}};
  if (network.loss == LossOp::kSoftmaxCrossEntropy) {
    for (uint32_t i = 0; i < n; ++i) {
      e.labels.push_back(static_cast<uint16_t>((i + seed) % network.n_out));
    }
  } else {
    e.targets = small_values(size_t{n} * network.n_out, seed + 1);
  }
  return e;
}

/// A capsule in memory, verified.
struct LoadedCapsule {
  explicit LoadedCapsule(const SmallCapsule& small)
      : bytes(encode_capsule(small.contents)) {
    if (read(bytes, &capsule) != Status::kOk) {
      throw std::logic_error("the small capsule is refused");
    }
  }
  LoadedCapsule(const LoadedCapsule&) = delete;
  LoadedCapsule& operator=(const LoadedCapsule&) = delete;

  Bytes view() const { return {bytes.data(), bytes.size()}; }

  CapsuleBytes bytes;
  Capsule capsule = {};
};

/// `n_bytes` of arena in the middle of painted memory.
class PaintedArena {
 public:
  explicit PaintedArena(size_t n_bytes)
      : n_bytes_(n_bytes), memory_(n_bytes + 2 * kMargin, kPaint) {}

  Arena arena() { return {memory_.data() + kMargin, n_bytes_}; }
  size_t size() const { return n_bytes_; }
  const CapsuleBytes& memory() const { return memory_; }

  /// No byte before or behind the arena was written.
  bool margins_intact() const {
    for (size_t i = 0; i < kMargin; ++i) {
      if (memory_[i] != kPaint) return false;
      if (memory_[kMargin + n_bytes_ + i] != kPaint) return false;
    }
    return true;
  }

  /// One past the last byte of the arena that was written.
  size_t touched_bytes() const {
    size_t n = n_bytes_;
    while (n > 0 && memory_[kMargin + n - 1] == kPaint) --n;
    return n;
  }

 private:
  static constexpr size_t kMargin = 256;
  static constexpr uint8_t kPaint = 0xa5;
  size_t n_bytes_;
  CapsuleBytes memory_;
};

inline size_t bytes_for(const Capsule& capsule, const SessionOptions& options) {
  size_t n = 0;
  if (required_bytes(capsule, options, &n) != Status::kOk) {
    throw std::logic_error("required_bytes refused the options");
  }
  return n;
}

/// A capsule, an arena of exactly the bytes `options` need, and a session open
/// on them.
struct OpenSession {
  explicit OpenSession(const SmallCapsule& small,
                       const SessionOptions& options = {},
                       size_t extra_bytes = 0)
      : loaded(small), arena(bytes_for(loaded.capsule, options) + extra_bytes) {
    const Status status =
        session.open(loaded.view(), EveryOp::list, arena.arena(), options);
    if (status != Status::kOk) throw std::logic_error(to_string(status));
  }

  const Network& network() const { return loaded.capsule.network; }

  LoadedCapsule loaded;
  PaintedArena arena;
  Session session;
};

/// Everything a caller can see of an idle session.
struct Observed {
  bool open;
  uint64_t hash;
  uint32_t tile;
  float last_loss;
  size_t high_water;
  std::vector<float> parameters;

  explicit Observed(const Session& s)
      : open(s.is_open()),
        hash(s.hash()),
        tile(s.tile()),
        last_loss(s.last_loss()),
        high_water(s.high_water_bytes()) {
    for (uint32_t i = 0; open && i < s.capsule().network.n_params; ++i) {
      parameters.push_back(s.parameter(i));
    }
  }
  bool operator==(const Observed&) const = default;
};

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_DEVICE_CASE_H_
