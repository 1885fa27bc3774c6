// A capsule is untrusted bytes. Whatever they hold, read_capsule() answers with
// a status, reads nothing beside them, what it accepts is consistent, and a
// session opened on it stays in its buffers. Run under AddressSanitizer for the
// full strength of "nothing beside": every buffer is one allocation of its
// size.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "fewstep/capsule.h"
#include "fewstep/capsule_format.h"
#include "support/device_case.h"
#include "support/small_capsule.h"

namespace fewstep::testing {
namespace {

// Reads every byte of [data, data + n), which must lie in `file`.
void touch(const CapsuleBytes& file, const void* data, uint64_t n) {
  const auto first = reinterpret_cast<uintptr_t>(data);
  const auto begin = reinterpret_cast<uintptr_t>(file.data());
  ASSERT_GE(first, begin);
  ASSERT_LE(first - begin, file.size());
  ASSERT_LE(n, file.size() - (first - begin));
  const auto* bytes = static_cast<const volatile uint8_t*>(data);
  for (uint64_t i = 0; i < n; ++i) static_cast<void>(bytes[i]);
}

uint64_t width(Storage storage) {
  switch (storage) {
    case Storage::kF32: return 4;
    case Storage::kF16: return 2;
    case Storage::kLog8: return 1;
  }
  ADD_FAILURE() << "unknown storage was accepted";
  return 1;
}

// Everything a later call relies on.
void check_accepted(const CapsuleBytes& file, const Capsule& c) {
  ASSERT_LE(c.total_bytes, file.size());
  const Network& n = c.network;
  touch(file, n.layers, uint64_t{n.n_layers} * sizeof(Layer));
  constexpr uint32_t kMax = 1U << 26;
  EXPECT_TRUE(n.n_in >= 1 && n.n_in <= kMax);
  EXPECT_TRUE(n.n_out >= 1 && n.n_out <= kMax);
  EXPECT_TRUE(n.n_params >= 1 && n.n_params <= kMax);
  EXPECT_LE(n.n_act, kMax);
  uint32_t n_in = n.n_in;
  for (uint32_t i = 0; i < n.n_layers; ++i) {
    const Layer& l = n.layers[i];
    ASSERT_EQ(l.n_in(), n_in);
    n_in = l.n_out();
    ASSERT_LE(uint64_t{l.param_offset} + l.n_params(), n.n_params);
    if (l.in_offset != kNetworkInput) {
      ASSERT_LE(uint64_t{l.in_offset} + l.n_in(), n.n_act);
    }
    if (l.out_offset != kNetworkInput) {
      ASSERT_LE(uint64_t{l.out_offset} + l.n_out(), n.n_act);
    }
  }
  ASSERT_EQ(n.n_out, n_in);
  ASSERT_LE(uint64_t{n.out_offset} + n.n_out, n.n_act);

  if (n.masked != 0) {
    ASSERT_NE(n.adapted, nullptr);
    touch(file, n.adapted + n.n_layers, uint64_t{n_mask_words(n.n_params)} * 8);
  }
  if (n.adapted != nullptr) {
    touch(file, n.adapted, uint64_t{n.n_layers} * 4);
    uint32_t n_adapted = 0;
    for (uint32_t i = 0; i < n.n_layers; ++i) {
      uint32_t n_here = n.layers[i].n_params();
      if (n.masked != 0) {
        // Bit by bit, apart from the ranks.
        const uint32_t* const words = n.adapted + n.n_layers;
        n_here = 0;
        for (uint32_t k = 0; k < n.layers[i].n_params(); ++k) {
          const uint32_t at = n.layers[i].param_offset + k;
          n_here += words[2 * (at / 32)] >> at % 32 & 1;
        }
      }
      if (n.adapted[i] == kFrozen) {
        if (n.masked != 0) {
          ASSERT_EQ(n_here, 0U);
        }
        continue;
      }
      ASSERT_EQ(n.adapted[i], n_adapted);
      ASSERT_NE(n_here, 0U);
      n_adapted += n_here;
    }
    ASSERT_EQ(n.n_adapted, n_adapted);
    ASSERT_LT(n_adapted, n.n_params);
    ASSERT_GT(n_adapted, 0U);
  } else {
    ASSERT_EQ(n.n_adapted, n.n_params);
  }
  for (const float x : {c.rule.weight_decay, c.rule.clip_norm}) {
    ASSERT_TRUE(x >= 0.0F && is_finite(x));
  }

  ASSERT_EQ(c.init.count, n.n_params);
  touch(file, c.init.data, c.init.count * width(c.init.storage));
  ASSERT_EQ(c.rates.count, c.rule.n_phi);
  touch(file, c.rates.data, c.rates.count * width(c.rates.storage));
  EXPECT_TRUE(c.limits.support_max >= 1 && c.limits.support_max <= 0xffff);
  EXPECT_TRUE(c.limits.predict_max >= 1 && c.limits.predict_max <= 0xffff);
  EXPECT_TRUE(c.limits.steps >= 1 && c.limits.steps <= 0xffff);
  if (c.provenance != nullptr) touch(file, c.provenance, c.provenance_bytes);

  const Golden g = golden_episode(c);
  if (g.n_support == 0) return;
  touch(file, g.support_x, uint64_t{g.n_support} * n.n_in * 4);
  touch(file, g.query_x, uint64_t{g.n_query} * n.n_in * 4);
  touch(file, g.losses, uint64_t{g.steps} * 4);
  touch(file, g.outputs, uint64_t{g.n_query} * n.n_out * 4);
  ASSERT_NE(g.support_labels == nullptr, g.support_targets == nullptr);
  if (g.support_targets != nullptr) {
    touch(file, g.support_targets, uint64_t{g.n_support} * n.n_out * 4);
    return;
  }
  touch(file, g.support_labels, uint64_t{g.n_support} * 2);
  for (uint32_t i = 0; i < g.n_support; ++i) {
    ASSERT_LT(g.support_labels[i], n.n_out);
  }
}

// Opens a session on an accepted capsule in an arena of exactly its size,
// adapts, evaluates and predicts; replays the golden episode. False: it asks
// for more memory or work than a test should spend.
bool run_accepted(const CapsuleBytes& file, const Capsule& c) {
  constexpr uint64_t kMost = 1U << 20;
  const Network& network = c.network;
  const Bytes bytes = {file.data(), file.size()};
  const Op* const* const ops = EveryOp::list;
  SessionOptions options;
  options.max_support = std::min(c.limits.support_max, 5U);
  options.max_predict = std::min(c.limits.predict_max, 4U);
  options.max_steps = std::min(c.limits.steps, 3U);
  options.on_failure = OnFailure::kEntry;
  options.continue_from_current = true;
  size_t n_bytes = 0;
  EXPECT_EQ(required_bytes(c, options, &n_bytes), Status::kOk);
  if (n_bytes > kMost || network.n_in > kMost) return false;
  CapsuleBytes arena(n_bytes);
  Session session;
  EXPECT_EQ(session.open(bytes, ops, {arena.data(), n_bytes}, options),
            Status::kOk);
  // theta may be anything finite, so the numbers may overflow.
  const auto fine = [](Status status) {
    return status == Status::kOk || status == Status::kDiverged;
  };
  const DeviceEpisode episode =
      make_device_episode(network, options.max_support);
  for (int round = 0; round < 2; ++round) {
    EXPECT_TRUE(fine(session.adapt(episode.set())));
    float loss = 0.0F;
    EXPECT_TRUE(fine(session.evaluate(episode.set(), &loss)));
    const std::vector<float> x =
        make_device_episode(network, options.max_predict).x;
    std::vector<float> outputs(size_t{options.max_predict} * network.n_out);
    EXPECT_EQ(session.predict(x.data(), options.max_predict, outputs.data()),
              Status::kOk);
  }
  const Golden golden = golden_episode(c);
  if (golden.n_support == 0) return true;
  EXPECT_EQ(selftest_bytes(c, &n_bytes), Status::kOk);
  if (n_bytes > kMost || golden.n_support > 100 || golden.steps > 100 ||
      golden.n_query > 100) {
    return false;
  }
  arena = CapsuleBytes(n_bytes);
  const Status status = selftest(bytes, ops, {arena.data(), n_bytes});
  EXPECT_TRUE(fine(status) || status == Status::kSelfTestFailed)
      << to_string(status);
  return true;
}

// What became of the capsules of one test.
struct Tally {
  uint32_t accepted = 0;
  uint32_t refused = 0;
  uint32_t too_large = 0;  // Of the accepted: not run.

  void read_and_check(const CapsuleBytes& changed) {
    const CapsuleBytes file = changed;  // An allocation of exactly its size.
    Capsule c;
    if (read(file, &c) != Status::kOk) {
      ++refused;
      return;
    }
    ++accepted;
    check_accepted(file, c);
    if (::testing::Test::HasFatalFailure()) return;
    if (!run_accepted(file, c)) ++too_large;
  }

  // Most of what was accepted was run too, or the test shows little.
  void expect_mostly_run() const { EXPECT_LE(too_large, accepted / 10); }
};

class CapsuleFuzz : public ::testing::TestWithParam<NamedCapsule> {
 protected:
  CapsuleFuzz() : file_(encode_capsule(GetParam().make().contents)) {}

  void SetUp() override {
    Capsule c;
    ASSERT_EQ(read(file_, &c), Status::kOk);
    check_accepted(file_, c);
  }

  const CapsuleBytes file_;
};

TEST_P(CapsuleFuzz, CutAtAnyLengthIsRefused) {
  for (size_t n = 0; n < file_.size(); ++n) {
    // One more byte is reserved for n = 0 only: an empty vector has no data.
    CapsuleBytes cut(file_.begin(), file_.begin() + n);
    if (n == 0) cut.reserve(1);
    Capsule c;
    const Status expected =
        n < sizeof(CapsuleHeader) ? Status::kBadMagic : Status::kBadChecksum;
    ASSERT_EQ(read(cut, &c), expected) << "cut to " << n << " bytes";
  }
}

TEST_P(CapsuleFuzz, CutAtAnyLengthWithSizeAndChecksumsMendedIsRefused) {
  for (size_t n = sizeof(CapsuleHeader); n < file_.size(); ++n) {
    CapsuleBytes cut(file_.begin(), file_.begin() + n);
    const uint32_t total = static_cast<uint32_t>(n);
    std::memcpy(&cut[offsetof(CapsuleHeader, total_bytes)], &total, 4);
    reseal(cut);
    Capsule c;
    ASSERT_NE(read(cut, &c), Status::kOk) << "cut to " << n << " bytes";
  }
}

TEST_P(CapsuleFuzz, AnyByteChangedToAnyValueIsRefused) {
  CapsuleBytes file = file_;
  for (size_t i = 0; i < file.size(); ++i) {
    for (uint32_t flip = 1; flip < 256; ++flip) {
      file[i] = static_cast<uint8_t>(file_[i] ^ flip);
      Capsule c;
      ASSERT_NE(read(file, &c), Status::kOk)
          << "byte " << i << " flipped by " << flip;
    }
    file[i] = file_[i];
  }
}

TEST_P(CapsuleFuzz, MisalignedIsRefused) {
  for (size_t shift = 1; shift < kCapsuleAlignment; ++shift) {
    CapsuleBytes shifted(shift + file_.size());
    std::copy(file_.begin(), file_.end(), shifted.begin() + shift);
    Capsule c;
    EXPECT_EQ(read_capsule(shifted.data() + shift, file_.size(), &c),
              Status::kMisaligned)
        << "by " << shift;
  }
}

TEST_P(CapsuleFuzz, AnyByteChangedWithChecksumsMendedStaysInBounds) {
  Tally tally;
  CapsuleBytes file = file_;
  const std::array<uint8_t, 13> flips = {
      1, 2, 4, 8, 16, 32, 64, 128, 0x7f, 0xff, 0xaa, 3, 0xc0};
  for (size_t i = 0; i < file_.size(); ++i) {
    for (const uint8_t flip : flips) {
      file = file_;
      file[i] = static_cast<uint8_t>(file[i] ^ flip);
      reseal(file);
      SCOPED_TRACE(::testing::Message()
                   << "byte " << i << " flipped by " << +flip);
      tally.read_and_check(file);
      if (HasFatalFailure()) return;
    }
  }
  // Both happen, or the test shows nothing: values of theta may change freely,
  // sizes may not.
  EXPECT_GT(tally.accepted, 100U);
  EXPECT_GT(tally.refused, 100U);
  tally.expect_mostly_run();
}

TEST_P(CapsuleFuzz, AnyFieldSetToAnExtremeWithChecksumsMendedStaysInBounds) {
  Tally tally;
  const std::array<uint32_t, 16> extremes = {0,
                                             1,
                                             2,
                                             0xf,
                                             0x10,
                                             0x7f,
                                             0xff,
                                             0x7fff,
                                             0xffff,
                                             0x10000,
                                             1U << 26,
                                             (1U << 26) + 1,
                                             0x7fffffff,
                                             0x80000000,
                                             0xfffffff0,
                                             0xffffffff};
  for (size_t i = 0; i < file_.size(); i += 2) {
    for (const uint32_t extreme : extremes) {
      for (const size_t n : {2, 4}) {
        if (i % n != 0) continue;
        CapsuleBytes file = file_;
        std::memcpy(&file[i], &extreme, n);
        reseal(file);
        SCOPED_TRACE(::testing::Message()
                     << n << " bytes at " << i << " set to " << extreme);
        tally.read_and_check(file);
        if (HasFatalFailure()) return;
      }
    }
  }
  EXPECT_GT(tally.refused, 100U);
  tally.expect_mostly_run();
}

TEST_P(CapsuleFuzz, ManyChangesWithChecksumsMendedStayInBounds) {
  Tally tally;
  uint64_t state = 20240607;  // splitmix64, fixed: every run is the same.
  const auto random = [&state](uint64_t n) {
    state += 0x9e3779b97f4a7c15ULL;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return (z ^ (z >> 31)) % n;
  };
  for (int round = 0; round < 20000; ++round) {
    CapsuleBytes file = file_;
    const uint64_t n_changes = 1 + random(3);
    for (uint64_t k = 0; k < n_changes; ++k) {
      // Half of the changes hit the header and the section table.
      const uint64_t where =
          random(2) == 0 ? random(file.size()) : random(64 + 6 * 16);
      file[where % file.size()] = static_cast<uint8_t>(random(256));
    }
    file[0] = 'F';  // Most rounds shall get past the magic.
    reseal(file);
    SCOPED_TRACE(::testing::Message() << "round " << round);
    tally.read_and_check(file);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(tally.accepted, 100U);
  EXPECT_GT(tally.refused, 100U);
  tally.expect_mostly_run();
}

TEST_P(CapsuleFuzz, AnySectionOfAnySizeStaysInBounds) {
  // Lengths that agree with the table but not with the records inside.
  Tally tally;
  const std::vector<RawSection> sections = take_apart(file_);
  for (size_t s = 0; s < sections.size(); ++s) {
    for (size_t n = 0; n <= sections[s].bytes.size() + 32; ++n) {
      std::vector<RawSection> changed = sections;
      changed[s].bytes.resize(n);
      SCOPED_TRACE(::testing::Message() << "section " << sections[s].type
                                        << " of " << n << " bytes");
      tally.read_and_check(put_together(changed));
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_GT(tally.refused, 100U);
  tally.expect_mostly_run();
}

// The required sections only: limits, a single record, end the file.
SmallCapsule bare_capsule() {
  SmallCapsule small = smallest_capsule();
  small.contents.provenance.clear();
  return small;
}

INSTANTIATE_TEST_SUITE_P(
    Small,
    CapsuleFuzz,
    ::testing::Values(NamedCapsule{"classifier", small_classifier},
                      NamedCapsule{"regressor", small_regressor},
                      NamedCapsule{"momentum", small_momentum},
                      NamedCapsule{"adam", small_adam},
                      NamedCapsule{"online", small_online},
                      NamedCapsule{"rate_net", small_rate_net},
                      NamedCapsule{"lstm", small_lstm},
                      NamedCapsule{"batch_norm", small_batch_norm},
                      NamedCapsule{"mixed", small_mixed},
                      NamedCapsule{"head", small_head},
                      NamedCapsule{"pieces", small_pieces},
                      NamedCapsule{"decay", small_decay},
                      NamedCapsule{"context", small_context},
                      NamedCapsule{"masked", small_masked},
                      NamedCapsule{"smallest", smallest_capsule},
                      NamedCapsule{"bare", bare_capsule}),
    kCapsuleName);

}  // namespace
}  // namespace fewstep::testing
