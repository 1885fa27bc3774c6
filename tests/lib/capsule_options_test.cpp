// The section of a capsule that says what adapts, layers or by a mask single
// parameters, and how the gradient is decayed and clipped.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "fewstep/capsule.h"
#include "fewstep/capsule_format.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/sparse_mask.h"
#include "support/small_capsule.h"

namespace fewstep::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Section "options" of a capsule whose layers 1 and 4 adapt (weights 12 + 3 and
// 9 + 3 of P = 109), at what `change` makes of it.
Status read_pieces(const std::function<void(RawSection&)>& change,
                   Capsule* capsule) {
  Sections sections = take_apart(encode_capsule(small_pieces().contents));
  RawSection& options = sections.back();
  EXPECT_EQ(options.type, 7);
  EXPECT_EQ(options.flags, kSectionRequired);
  change(options);
  const CapsuleBytes file = put_together(sections);
  return read(file, capsule);
}

TEST(CapsuleOptions, SayWhatAdapts) {
  const SmallCapsule small = small_pieces();
  const CapsuleBytes file = encode_capsule(small.contents);
  Capsule c;
  ASSERT_EQ(read(file, &c), Status::kOk);
  const Network& n = c.network;
  const std::vector<uint32_t> expected = {
      kFrozen, 0, kFrozen, kFrozen, 15, kFrozen, kFrozen};
  EXPECT_EQ(std::vector<uint32_t>(n.adapted, n.adapted + n.n_layers), expected);
  EXPECT_EQ(n.n_adapted, 15U + 12U);
  EXPECT_EQ(n.n_adapted_tensors(), 4);
  EXPECT_FALSE(n.adapts_in_one_piece());
  EXPECT_EQ(c.rule.n_phi, 4U * 3U);
  EXPECT_EQ(c.rule.weight_decay, 0.03125F);
  EXPECT_EQ(c.rule.clip_norm, 0.25F);
  EXPECT_EQ(encode_capsule(host::decode_capsule(c)), file);

  // The canary of the test below: unchanged it reads.
  EXPECT_EQ(read_pieces([](RawSection&) {}, &c), Status::kOk);
}

TEST(CapsuleOptions, ThatContradictTheNetworkAreRefused) {
  const auto word = [](size_t at, uint32_t value) {
    return [=](RawSection& s) { s.set<uint32_t>(at, value); };
  };
  const auto number = [](size_t at, float value) {
    return [=](RawSection& s) { s.set<float>(at, value); };
  };
  const std::vector<std::function<void(RawSection&)>> wrong = {
      number(0, -1.0F),
      number(0, -0.0F),
      number(0, kNan),
      number(4, kInfinity),
      number(4, -0.5F),
      word(8, 26),  // n_adapted
      word(8, 109),
      word(12, 0),  // n_layers
      word(12, 6),
      word(12, 8),
      word(12, 0xffffffffU),
      word(16 + 4 * 1, 1),  // Not where it starts.
      word(16 + 4 * 4, 12),
      word(16 + 4 * 3, 15),  // A layer without parameters.
      word(16 + 4 * 2, 15),  // One layer more.
      word(16 + 4 * 1, kFrozen),
      [](RawSection& s) { s.bytes.resize(s.bytes.size() - 4); },
      [](RawSection& s) { s.bytes.resize(s.bytes.size() + 4); },
      [](RawSection& s) { s.bytes.resize(15); },
      [](RawSection& s) { s.bytes.clear(); },
  };
  for (size_t i = 0; i < wrong.size(); ++i) {
    Capsule c;
    EXPECT_EQ(read_pieces(wrong[i], &c), Status::kBadCapsule) << i;
  }
}

// Nothing said twice: what is the default has no section, and no table where
// everything adapts.
TEST(CapsuleOptions, OfTheDefaultAreRefused) {
  Sections sections = take_apart(encode_capsule(small_decay().contents));
  Capsule c;
  const CapsuleBytes right = put_together(sections);
  EXPECT_EQ(read(right, &c), Status::kOk);
  sections.back().set<float>(0, 0.0F);
  const CapsuleBytes wrong = put_together(sections);
  EXPECT_EQ(read(wrong, &c), Status::kBadCapsule);
}

TEST(CapsuleOptions, ArePartOfTheModelHash) {
  const auto hash_of = [](const SmallCapsule& small) {
    const CapsuleBytes file = encode_capsule(small.contents);
    Capsule c;
    EXPECT_EQ(read(file, &c), Status::kOk);
    return c.model_hash;
  };
  SmallCapsule stronger = small_decay();
  stronger.contents.rule.weight_decay *= 2.0F;
  EXPECT_NE(hash_of(small_decay()), hash_of(small_regressor()));
  EXPECT_NE(hash_of(small_decay()), hash_of(stronger));
}

TEST(CapsuleMask, IsReadAndWrittenBack) {
  const SmallCapsule small = small_masked_means();
  const CapsuleBytes file = encode_capsule(small.contents);
  Capsule c;
  ASSERT_EQ(read(file, &c), Status::kOk);
  const Network& n = c.network;
  EXPECT_EQ(n.masked, 1);
  const MaskTable mask(n);
  uint32_t rank = 0;
  for (uint32_t i = 0; i < n.n_params; ++i) {
    EXPECT_EQ(mask.rank(i), rank);
    const Layer* l = n.layers;
    while (i - l->param_offset >= l->n_params()) ++l;
    const ptrdiff_t k = l - n.layers;
    // As small_masked_means() chose.
    const bool adapts = k == 7 || (k != 5 && i * 0x85ebca6bU >> 30 != 0);
    EXPECT_EQ(mask.adapts(i), adapts) << i;
    rank += adapts ? 1 : 0;
  }
  EXPECT_EQ(n.n_adapted, rank);
  EXPECT_EQ(mask.rank(n.n_params), rank);
  EXPECT_EQ(n.adapted[5], kFrozen);
  EXPECT_FALSE(n.adapts_in_one_piece());
  EXPECT_EQ(n.n_adapted_tensors(), 2 * 5);
  // Rates, gain, v_0.
  EXPECT_EQ(c.rule.n_phi, 2 * rank + 1);
  EXPECT_EQ(encode_capsule(host::decode_capsule(c)), file);
}

TEST(CapsuleMask, ThatContradictsItselfOrTheNetworkIsRefused) {
  const SmallCapsule small = small_masked_means();
  const CapsuleBytes file = encode_capsule(small.contents);
  const uint32_t n_layers = small.contents.network.n_layers;
  const uint32_t n_params = small.contents.network.n_params;
  const size_t words = 16 + 4 * size_t{n_layers};
  const size_t last = words + 8 * size_t{n_params / 32};
  ASSERT_NE(n_params % 32, 0U);
  const auto flip = [](size_t at, uint32_t bits) {
    return
        [=](RawSection& s) { s.set<uint32_t>(at, s.get<uint32_t>(at) ^ bits); };
  };
  const std::vector<std::function<void(RawSection&)>> wrong = {
      flip(8, 1),    // n_adapted
      flip(12, 1),   // n_layers
      flip(12, 16),  //
      flip(16, 1),   // Where layer 0 begins,
      flip(28, 2),   // and layer 3.
      flip(24, kFrozen),
      [](RawSection& s) { s.set<uint32_t>(16 + 4 * 5, 0); },
      flip(words, 4),  // A bit more or less,
      flip(words + 4, 1),
      flip(words + 8 + 4, 1),  // a rank that is wrong.
      flip(last, 1U << n_params % 32),
      flip(last, 0x80000000U),
      [=](RawSection& s) { s.bytes.resize(words); },
      [=](RawSection& s) { s.bytes.resize(words + 4); },
      [](RawSection& s) { s.bytes.resize(s.bytes.size() - 8); },
      [](RawSection& s) { s.bytes.resize(s.bytes.size() + 8); },
      // All or nothing of every layer needs no mask.
      [&](RawSection& s) {
        for (size_t at = words; at <= last; at += 8) {
          const uint32_t left =
              n_params - static_cast<uint32_t>(at - words) * 4;
          s.set<uint32_t>(at, left >= 32 ? 0xffffffffU : (1U << left) - 1);
          s.set<uint32_t>(at + 4, static_cast<uint32_t>(at - words) * 4);
        }
        s.set<uint32_t>(8, n_params);
        for (uint32_t i = 0; i < n_layers; ++i) {
          const Layer& l = small.layers[i];
          s.set<uint32_t>(16 + 4 * i,
                          l.n_params() != 0 ? l.param_offset : kFrozen);
        }
      },
  };
  Capsule c;
  for (size_t i = 0; i < wrong.size(); ++i) {
    Sections sections = take_apart(file);
    wrong[i](sections.back());
    EXPECT_EQ(read(put_together(sections), &c), Status::kBadCapsule) << i;
  }
  // The canary: unchanged it reads.
  EXPECT_EQ(read(put_together(take_apart(file)), &c), Status::kOk);
}

// rate_net's statistics are of whole tensors.
TEST(CapsuleMask, WithARateNetIsRefused) {
  SmallCapsule small = small_rate_net();
  const Rule rule = small.contents.rule;
  Sections sections = take_apart(encode_capsule(small.contents));
  adapt_parameters(small, [](uint32_t i) { return i % 2 != 0; });
  EXPECT_EQ(small.contents.rule.n_phi, 0U);
  EXPECT_NE(rule.n_phi, 0U);
  SmallCapsule other = small_rate_net();
  other.contents.rule = make_rule(RuleOp::kSgd, 1, other.contents.network);
  other.contents.phi = {0.125F};
  other.contents.limits.steps = 1;
  other.contents.golden.reset();
  adapt_parameters(other, [](uint32_t i) { return i % 2 != 0; });
  Sections masked = take_apart(encode_capsule(other.contents));
  Capsule c;
  const CapsuleBytes right = put_together(masked);
  ASSERT_EQ(read(right, &c), Status::kOk);
  masked[kRule] = sections[kRule];
  EXPECT_EQ(read(put_together(masked), &c), Status::kBadCapsule);
}

}  // namespace
}  // namespace fewstep::testing
