// Tiny valid capsules, and tools to take capsules apart and make wrong ones
// whose checksums hold.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_SMALL_CAPSULE_H_
#define FEWSTEP_TESTS_SUPPORT_SMALL_CAPSULE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fewstep/adapted.h"
#include "fewstep/capsule_format.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/sparse_mask.h"

namespace fewstep::testing {

using host::CapsuleBytes;
using host::CapsuleContents;

/// Contents and the layer records they point to. Moves, does not copy.
struct SmallCapsule {
  SmallCapsule() = default;
  SmallCapsule(SmallCapsule&&) = default;
  SmallCapsule& operator=(SmallCapsule&&) = default;

  std::vector<Layer> layers;
  std::vector<uint32_t> adapted;
  CapsuleContents contents;
};

/// One layer as an author states it.
struct LayerChoice {
  LayerOp op;
  uint16_t out_c = 0;
  uint8_t kernel = 0;
  uint8_t stride = 0;
  uint8_t pad = 0;
  uint16_t groups = 0;
};

/// Numbers in [-1, 1) that f16 holds exactly, from a fixed sequence.
inline std::vector<float> small_values(size_t n, uint32_t seed) {
  std::vector<float> values(n);
  for (float& v : values) {
    seed = seed * 1664525U + 1013904223U;
    v = static_cast<float>(static_cast<int>(seed >> 24) - 128) / 128.0F;
  }
  return values;
}

/// Plans `choices`, and fills theta, phi (positive, below 0.3) and limits.
inline SmallCapsule make_small_capsule(std::initializer_list<uint16_t> shape,
                                       std::initializer_list<LayerChoice> list,
                                       LossOp loss,
                                       RuleOp rule,
                                       uint16_t steps,
                                       RuleOptions options = {}) {
  SmallCapsule small;
  const uint16_t* in = shape.begin();
  CapsuleContents& c = small.contents;
  NetworkPlanner planner(in[0], in[1], in[2], &c.network);
  for (const LayerChoice& choice : list) {
    Layer layer = {};
    layer.op = choice.op;
    layer.out_c = choice.out_c;
    layer.kernel = choice.kernel;
    layer.stride = choice.stride;
    layer.pad = choice.pad;
    layer.groups = choice.groups;
    if (planner.add(&layer) != Status::kOk) {
      throw std::logic_error(planner.error());
    }
    small.layers.push_back(layer);
  }
  if (planner.finish(small.layers.data(), loss) != Status::kOk) {
    throw std::logic_error(planner.error());
  }
  c.theta = small_values(c.network.n_params, 1);
  c.rule = make_rule(rule, steps, c.network, options);
  c.phi = small_values(c.rule.n_phi, 2);
  for (float& rate : c.phi) rate = (rate + 1.125F) / 8.0F;
  c.limits = {5, 4, steps};
  return small;
}

/// Lets these layers adapt and no other.
inline void adapt_layers(SmallCapsule& small, const std::vector<size_t>& list) {
  CapsuleContents& c = small.contents;
  small.adapted.assign(small.layers.size(), kFrozen);
  for (const size_t i : list) small.adapted.at(i) = 0;
  if (plan_adapted(small.adapted.data(), &c.network) != Status::kOk) {
    throw std::logic_error("nothing adapts");
  }
  const Rule before = c.rule;
  c.rule = make_rule(before.op, before.steps, c.network, before.options);
  c.rule.weight_decay = before.weight_decay;
  c.rule.clip_norm = before.clip_norm;
  c.phi.resize(c.rule.n_phi);
}

/// Lets those parameters adapt for which adapts(i), and no other.
template <class Adapts>
void adapt_parameters(SmallCapsule& small, const Adapts& adapts) {
  CapsuleContents& c = small.contents;
  std::vector<MaskWord> words(n_mask_words(c.network.n_params));
  for (uint32_t i = 0; i < c.network.n_params; ++i) {
    if (adapts(i)) words[i / 32].bits |= 1U << i % 32;
  }
  small.adapted.assign(small.layers.size() + 2 * words.size(), kFrozen);
  if (plan_mask(words.data(), small.adapted.data(), &c.network) !=
      Status::kOk) {
    throw std::logic_error("nothing adapts");
  }
  const Rule before = c.rule;
  c.rule = make_rule(before.op, before.steps, c.network, before.options);
  c.rule.weight_decay = before.weight_decay;
  c.rule.clip_norm = before.clip_norm;
  c.phi.resize(c.rule.n_phi);
}

/// Gives `small` a golden episode of recorded, not computed, results: right in
/// form, for tests of the format.
inline void add_golden(SmallCapsule& small,
                       uint32_t n_support,
                       uint32_t n_query) {
  CapsuleContents& c = small.contents;
  const Network& n = c.network;
  host::GoldenEpisode g;
  g.steps = c.limits.steps;
  g.support_x = small_values(size_t{n_support} * n.n_in, 3);
  if (n.loss == LossOp::kSoftmaxCrossEntropy) {
    for (uint32_t i = 0; i < n_support; ++i) {
      g.support_labels.push_back(static_cast<uint16_t>(i % n.n_out));
    }
  } else {
    g.support_targets = small_values(size_t{n_support} * n.n_out, 4);
  }
  g.query_x = small_values(size_t{n_query} * n.n_in, 5);
  g.losses = small_values(g.steps, 6);
  g.outputs = small_values(size_t{n_query} * n.n_out, 7);
  g.parameter_hash = 0x0123456789abcdefULL;
  c.golden = g;
}

/// Classifier with most layers; f16, log8 rates, golden episode, provenance.
inline SmallCapsule small_classifier() {
  SmallCapsule small = make_small_capsule(
      {1, 4, 4},
      {{.op = LayerOp::kConv2d, .out_c = 2, .kernel = 3, .stride = 1, .pad = 1},
       {.op = LayerOp::kGroupNorm, .groups = 1},
       {.op = LayerOp::kRelu},
       {.op = LayerOp::kMaxPool, .kernel = 2, .stride = 2},
       {.op = LayerOp::kFlatten},
       {.op = LayerOp::kDense, .out_c = 3}},
      LossOp::kSoftmaxCrossEntropy,
      RuleOp::kMetaSgd,
      2);
  small.contents.init_storage = Storage::kF16;
  small.contents.rate_storage = Storage::kLog8;
  small.contents.provenance = R"({"name":"small-classifier"})";
  add_golden(small, 3, 2);
  return small;
}

/// Regression network with f32 storage, layer-wise rates and a golden episode.
inline SmallCapsule small_regressor() {
  SmallCapsule small = make_small_capsule({1, 1, 1},
                                          {{.op = LayerOp::kDense, .out_c = 3},
                                           {.op = LayerOp::kTanh},
                                           {.op = LayerOp::kDense, .out_c = 1}},
                                          LossOp::kMeanSquaredError,
                                          RuleOp::kLslr,
                                          3);
  add_golden(small, 4, 2);
  return small;
}

/// State of one value a parameter; rates per tensor and step; f16.
inline SmallCapsule small_momentum() {
  SmallCapsule small =
      make_small_capsule({2, 1, 1},
                         {{.op = LayerOp::kDense, .out_c = 4},
                          {.op = LayerOp::kRelu},
                          {.op = LayerOp::kDense, .out_c = 2}},
                         LossOp::kMeanSquaredError,
                         RuleOp::kMomentum,
                         3,
                         mean_options(RateLayout::kTensorStep, false));
  small.contents.init_storage = Storage::kF16;
  add_golden(small, 4, 2);
  return small;
}

/// The classifier of which only the last layer adapts.
inline SmallCapsule small_head() {
  SmallCapsule small = small_classifier();
  adapt_layers(small, {5});
  return small;
}

/// About half of the classifier's parameters adapt, in all its layers.
inline SmallCapsule small_masked() {
  SmallCapsule small = small_classifier();
  adapt_parameters(small,
                   [](uint32_t i) { return i * 0x9e3779b9U >> 31 != 0; });
  return small;
}

/// A mask with all that goes with one: a layer is frozen, another adapts whole;
/// batch norm is split; decay and clipping; rates of running means for each
/// parameter, and where they start.
inline SmallCapsule small_masked_means() {
  SmallCapsule small = make_small_capsule(
      {2, 4, 5},
      {{.op = LayerOp::kConv2d, .out_c = 5, .kernel = 3, .stride = 2, .pad = 1},
       {.op = LayerOp::kBatchNorm},
       {.op = LayerOp::kRelu},
       {.op = LayerOp::kConv2d, .out_c = 6, .kernel = 2, .stride = 1},
       {.op = LayerOp::kTanh},
       {.op = LayerOp::kDense, .out_c = 7},
       {.op = LayerOp::kRelu},
       {.op = LayerOp::kDense, .out_c = 3},
       {.op = LayerOp::kTanh},
       {.op = LayerOp::kDense, .out_c = 2}},
      LossOp::kMeanSquaredError,
      RuleOp::kMomentum,
      3,
      mean_options(RateLayout::kParameter, true));
  small.contents.rule.weight_decay = 0.03125F;
  small.contents.rule.clip_norm = 0.5F;
  const std::vector<Layer>& l = small.layers;
  adapt_parameters(small, [&](uint32_t i) {
    const auto in = [&](size_t k) {
      return i - l[k].param_offset < l[k].n_params();
    };
    return in(7) || (!in(5) && i * 0x85ebca6bU >> 30 != 0);
  });
  return small;
}

/// Two layers adapt with frozen ones between them, batch norm among those;
/// decay and clipping, rates per layer and step, f16.
inline SmallCapsule small_pieces() {
  SmallCapsule small = make_small_capsule(
      {1, 4, 4},
      {{.op = LayerOp::kDense, .out_c = 4},
       {.op = LayerOp::kConv2d, .out_c = 3, .kernel = 1, .stride = 1},
       {.op = LayerOp::kBatchNorm},
       {.op = LayerOp::kRelu},
       {.op = LayerOp::kDense, .out_c = 3},
       {.op = LayerOp::kTanh},
       {.op = LayerOp::kDense, .out_c = 2}},
      LossOp::kSoftmaxCrossEntropy,
      RuleOp::kLslr,
      3);
  small.contents.init_storage = Storage::kF16;
  small.contents.rule.weight_decay = 0.03125F;
  small.contents.rule.clip_norm = 0.25F;
  adapt_layers(small, {1, 4});
  add_golden(small, 4, 2);
  return small;
}

/// State of two values a parameter, learned moments, a rate each, all in log8.
inline SmallCapsule small_adam() {
  SmallCapsule small =
      make_small_capsule({3, 1, 1},
                         {{.op = LayerOp::kDense, .out_c = 4},
                          {.op = LayerOp::kTanh},
                          {.op = LayerOp::kDense, .out_c = 3}},
                         LossOp::kSoftmaxCrossEntropy,
                         RuleOp::kAdam,
                         2,
                         mean_options(RateLayout::kParameter, true, 8));
  small.contents.rate_storage = Storage::kLog8;
  add_golden(small, 3, 2);
  return small;
}

/// All but the head adapt, one rate each; clipping.
inline SmallCapsule small_body() {
  SmallCapsule small = make_small_capsule(
      {2, 3, 3},
      {{.op = LayerOp::kConv2d, .out_c = 4, .kernel = 2, .stride = 1},
       {.op = LayerOp::kGroupNorm, .groups = 2},
       {.op = LayerOp::kRelu},
       {.op = LayerOp::kFlatten},
       {.op = LayerOp::kDense, .out_c = 2}},
      LossOp::kMeanSquaredError,
      RuleOp::kMetaSgd,
      2);
  small.contents.rule.clip_norm = 0.5F;
  adapt_layers(small, {0, 1});
  return small;
}

/// Everything adapts, with weight decay.
inline SmallCapsule small_decay() {
  SmallCapsule small = small_regressor();
  small.contents.rule.weight_decay = 0.0625F;
  return small;
}

/// Adam with a rate and learned moments for what adapts: the first and the last
/// layer.
inline SmallCapsule small_adam_ends() {
  SmallCapsule small =
      make_small_capsule({3, 1, 1},
                         {{.op = LayerOp::kDense, .out_c = 4},
                          {.op = LayerOp::kTanh},
                          {.op = LayerOp::kDense, .out_c = 5},
                          {.op = LayerOp::kRelu},
                          {.op = LayerOp::kDense, .out_c = 2}},
                         LossOp::kMeanSquaredError,
                         RuleOp::kAdam,
                         3,
                         mean_options(RateLayout::kParameter, true, 8));
  small.contents.rule.clip_norm = 0.5F;
  adapt_layers(small, {0, 4});
  return small;
}

/// State of two values a parameter, of which one is its rate, in log8.
inline SmallCapsule small_online() {
  SmallCapsule small = make_small_capsule({3, 1, 1},
                                          {{.op = LayerOp::kDense, .out_c = 4},
                                           {.op = LayerOp::kTanh},
                                           {.op = LayerOp::kDense, .out_c = 3}},
                                          LossOp::kSoftmaxCrossEntropy,
                                          RuleOp::kOnlineMetaSgd,
                                          3,
                                          online_options());
  small.contents.rate_storage = Storage::kLog8;
  add_golden(small, 3, 2);
  return small;
}

/// A rule with scratch memory, as f16.
inline SmallCapsule small_rate_net() {
  SmallCapsule small = make_small_capsule({2, 1, 1},
                                          {{.op = LayerOp::kDense, .out_c = 3},
                                           {.op = LayerOp::kTanh},
                                           {.op = LayerOp::kDense, .out_c = 2}},
                                          LossOp::kMeanSquaredError,
                                          RuleOp::kRateNet,
                                          3,
                                          rate_net_options(4, true));
  small.contents.rate_storage = Storage::kF16;
  add_golden(small, 3, 2);
  return small;
}

/// A rule with a network for each parameter.
inline SmallCapsule small_lstm() {
  SmallCapsule small = make_small_capsule({2, 1, 1},
                                          {{.op = LayerOp::kDense, .out_c = 3},
                                           {.op = LayerOp::kRelu},
                                           {.op = LayerOp::kDense, .out_c = 3}},
                                          LossOp::kSoftmaxCrossEntropy,
                                          RuleOp::kLstm,
                                          3,
                                          lstm_options(3));
  small.contents.init_storage = Storage::kF16;
  add_golden(small, 4, 2);
  return small;
}

/// Contexts below the first layer and inside adapt and nothing else, as f16.
inline SmallCapsule small_context() {
  SmallCapsule small =
      make_small_capsule({3, 1, 1},
                         {{.op = LayerOp::kContext, .groups = 2},
                          {.op = LayerOp::kDense, .out_c = 4},
                          {.op = LayerOp::kTanh},
                          {.op = LayerOp::kContext, .groups = 3},
                          {.op = LayerOp::kDense, .out_c = 2}},
                         LossOp::kMeanSquaredError,
                         RuleOp::kMetaSgd,
                         3);
  small.contents.init_storage = Storage::kF16;
  adapt_layers(small, {0, 3});
  add_golden(small, 3, 2);
  return small;
}

/// The least there is: one weight, one bias, one rate. lib/FORMAT.md shows it.
inline SmallCapsule smallest_capsule() {
  SmallCapsule small = make_small_capsule({1, 1, 1},
                                          {{.op = LayerOp::kDense, .out_c = 1}},
                                          LossOp::kMeanSquaredError,
                                          RuleOp::kSgd,
                                          1);
  small.contents.theta = {0.5F, -2.0F};
  small.contents.phi = {0.25F};
  small.contents.limits = {10, 1, 1};
  small.contents.provenance = "{}";
  return small;
}

/// A section without its place in a file.
struct RawSection {
  uint16_t type;
  uint16_t flags;
  std::vector<uint8_t> bytes;

  template <class T>
  T get(size_t at) const {
    static_cast<void>(bytes.at(at + sizeof(T) - 1));  // Throws when outside.
    T value;
    std::memcpy(&value, &bytes[at], sizeof value);
    return value;
  }
  template <class T>
  void set(size_t at, T value) {
    static_cast<void>(bytes.at(at + sizeof(T) - 1));
    std::memcpy(&bytes[at], &value, sizeof value);
  }
};

/// A capsule's sections, in the file's order.
using Sections = std::vector<RawSection>;
/// Where those of a capsule with a golden episode lie: their type less one.
constexpr size_t kNet = 0, kInit = 1, kRule = 2, kLimits = 3, kGolden = 4,
                 kText = 5;

/// The sections of a valid capsule.
inline Sections take_apart(const CapsuleBytes& file) {
  CapsuleHeader header;
  std::memcpy(&header, file.data(), sizeof header);
  Sections sections;
  for (uint32_t i = 0; i < header.n_sections; ++i) {
    SectionEntry e;
    std::memcpy(&e, &file[sizeof header + i * sizeof e], sizeof e);
    const auto first = file.begin() + e.offset;
    sections.push_back({e.type, e.flags, {first, first + e.bytes}});
  }
  return sections;
}

/// Makes the checksums and the model hash of `file` hold, whatever else is
/// wrong with it: what an attacker would do.
inline void reseal(CapsuleBytes& file) {
  CapsuleHeader h;
  if (file.size() < sizeof h) return;
  std::memcpy(&h, file.data(), sizeof h);
  h.model_hash = fnv1a(nullptr, 0);
  const size_t most = (file.size() - sizeof h) / sizeof(SectionEntry);
  for (uint32_t i = 0; i < h.n_sections && i < most; ++i) {
    SectionEntry e;
    std::memcpy(&e, &file[sizeof h + i * sizeof e], sizeof e);
    if ((e.type <= 3 || e.type == 7) &&
        uint64_t{e.offset} + e.bytes <= file.size()) {
      h.model_hash = fnv1a(file.data() + e.offset, e.bytes, h.model_hash);
    }
  }
  const size_t total = std::min<size_t>(h.total_bytes, file.size());
  if (total >= sizeof h) {
    h.payload_crc = crc32(file.data() + sizeof h, total - sizeof h);
  }
  h.header_crc = crc32(&h, offsetof(CapsuleHeader, header_crc));
  std::memcpy(file.data(), &h, sizeof h);
}

/// A file of `sections` in the given order, sealed.
inline CapsuleBytes put_together(const Sections& sections) {
  CapsuleHeader h = {};
  h.magic = kCapsuleMagic;
  h.format_version = kCapsuleVersion;
  h.numerics_version = kNumericsVersion;
  h.n_sections = static_cast<uint32_t>(sections.size());
  CapsuleBytes file(sizeof h + sections.size() * sizeof(SectionEntry));
  for (size_t i = 0; i < sections.size(); ++i) {
    SectionEntry e = {};
    e.type = sections[i].type;
    e.flags = sections[i].flags;
    e.offset = static_cast<uint32_t>(file.size());
    e.bytes = static_cast<uint32_t>(sections[i].bytes.size());
    std::memcpy(&file[sizeof h + i * sizeof e], &e, sizeof e);
    file.insert(file.end(), sections[i].bytes.begin(), sections[i].bytes.end());
    file.resize((file.size() + 15) / 16 * 16);
  }
  h.total_bytes = static_cast<uint32_t>(file.size());
  std::memcpy(file.data(), &h, sizeof h);
  reseal(file);
  return file;
}

/// read_capsule() on a heap buffer of exactly the file's size, so that a
/// sanitizer sees any read beside it. `*capsule` points into `file`.
inline Status read(const CapsuleBytes& file, Capsule* capsule) {
  return read_capsule(file.data(), file.size(), capsule);
}

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_SMALL_CAPSULE_H_
