// The capsule format as a whole: what is written is read, recorded files stay
// what they are, and what is wrong with header, table or checksums has its
// status. Sections: capsule_sections_test.cpp, capsule_options_test.cpp.
//
// Oracles: lib/FORMAT.md's worked example and tests/data/ were recorded once
// and are compared byte for byte; the checksums have published check values.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/capsule.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "fewstep/capsule_format.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/file.h"
#include "support/small_capsule.h"

namespace fewstep::testing {
namespace {

std::filesystem::path source_file(const char* name) {
  return std::filesystem::path(FEWSTEP_SOURCE_DIR) / name;
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// The worked example of lib/FORMAT.md as the writer gives it: a row of offset,
// sixteen bytes, for each sixteen bytes of the file.
std::string hex_rows(const CapsuleBytes& file) {
  std::string rows;
  char number[32];
  for (size_t i = 0; i < file.size(); ++i) {
    if (i % 16 == 0) {
      std::snprintf(number, sizeof number, "%03zx ", i);
      rows += number;
    }
    std::snprintf(number, sizeof number, " %02x", file[i]);
    rows += number;
    if (i % 16 == 15) rows += '\n';
  }
  return rows;
}

TEST(Checksum, Crc32HasThePublishedCheckValue) {
  EXPECT_EQ(crc32("123456789", 9), 0xcbf43926U);
  EXPECT_EQ(crc32("", 0), 0U);
  EXPECT_EQ(crc32("6789", 4, crc32("12345", 5)), 0xcbf43926U);
}

TEST(Checksum, Fnv1aHasThePublishedCheckValues) {
  EXPECT_EQ(fnv1a("", 0), 0xcbf29ce484222325ULL);
  EXPECT_EQ(fnv1a("a", 1), 0xaf63dc4c8601ec8cULL);
  EXPECT_EQ(fnv1a("foobar", 6), 0x85944171f73967e8ULL);
  EXPECT_EQ(fnv1a("bar", 3, fnv1a("foo", 3)), 0x85944171f73967e8ULL);
}

TEST(Capsule, ReadsBackWhatWasWritten) {
  const SmallCapsule small = small_classifier();
  const CapsuleContents& w = small.contents;
  const CapsuleBytes file = encode_capsule(w);
  Capsule c;
  ASSERT_EQ(read(file, &c), Status::kOk);

  EXPECT_EQ(c.total_bytes, file.size());
  EXPECT_EQ(c.network.n_layers, 6);
  EXPECT_EQ(c.network.loss, LossOp::kSoftmaxCrossEntropy);
  EXPECT_EQ(c.network.n_params, w.network.n_params);
  EXPECT_EQ(c.network.n_act, w.network.n_act);
  EXPECT_EQ(std::memcmp(c.network.layers,
                        small.layers.data(),
                        small.layers.size() * sizeof(Layer)),
            0);
  EXPECT_EQ(c.init.storage, Storage::kF16);
  EXPECT_EQ(host::decode_init(c), w.theta);  // Chosen to be exact in f16.
  EXPECT_EQ(c.rule.op, RuleOp::kMetaSgd);
  EXPECT_EQ(c.rule.steps, 2);
  EXPECT_EQ(c.rates.storage, Storage::kLog8);
  const std::vector<float> rates = host::decode_rates(c);
  ASSERT_EQ(rates.size(), w.phi.size());
  for (size_t i = 0; i < rates.size(); ++i) {
    EXPECT_NEAR(rates[i], w.phi[i], 0.0433F * w.phi[i]) << i;
  }
  EXPECT_EQ(c.limits.support_max, 5U);
  EXPECT_EQ(c.limits.predict_max, 4U);
  EXPECT_EQ(c.limits.steps, 2U);
  EXPECT_EQ(std::string(c.provenance, c.provenance_bytes), w.provenance);
  const Golden golden = golden_episode(c);
  EXPECT_EQ(golden.n_support, 3U);
  EXPECT_EQ(golden.n_query, 2U);
  EXPECT_EQ(golden.support_labels[2], 2);
  EXPECT_EQ(golden.support_targets, nullptr);
  EXPECT_EQ(golden.parameter_hash, w.golden->parameter_hash);
}

TEST(Capsule, DecodesAndEncodesToTheSameBytes) {
  for (auto make : {small_classifier,
                    small_regressor,
                    small_momentum,
                    small_adam,
                    small_context,
                    small_online,
                    smallest_capsule}) {
    const CapsuleBytes file = encode_capsule(make().contents);
    Capsule c;
    ASSERT_EQ(read(file, &c), Status::kOk);
    EXPECT_EQ(encode_capsule(host::decode_capsule(c)), file);
  }
}

TEST(Capsule, MayBeFollowedByOtherBytes) {
  CapsuleBytes file = encode_capsule(smallest_capsule().contents);
  const size_t n = file.size();
  file.resize(4096, 0xff);  // A flash page.
  Capsule c;
  ASSERT_EQ(read(file, &c), Status::kOk);
  EXPECT_EQ(c.total_bytes, n);
}

TEST(Capsule, WithoutGoldenAndProvenanceSaysSo) {
  SmallCapsule small = smallest_capsule();
  small.contents.provenance.clear();
  const CapsuleBytes file = encode_capsule(small.contents);
  Capsule c;
  ASSERT_EQ(read(file, &c), Status::kOk);
  EXPECT_EQ(golden_episode(c).n_support, 0U);
  EXPECT_EQ(c.provenance, nullptr);
}

TEST(Capsule, ModelHashIgnoresEverythingButTheModel) {
  SmallCapsule small = small_regressor();
  const auto hash = [&small] {
    const CapsuleBytes file = encode_capsule(small.contents);
    Capsule c;
    EXPECT_EQ(read(file, &c), Status::kOk);
    return c.model_hash;
  };
  const uint64_t before = hash();
  small.contents.golden.reset();
  small.contents.provenance = R"({"note":"other"})";
  small.contents.limits.support_max = 7;
  EXPECT_EQ(hash(), before);
  small.contents.theta[0] += 1.0F;
  EXPECT_NE(hash(), before);
}

TEST(Capsule, ReadsBackRulesWithState) {
  const CapsuleBytes file = encode_capsule(small_adam().contents);
  Capsule c;
  ASSERT_EQ(read(file, &c), Status::kOk);
  const uint32_t p = c.network.n_params;
  EXPECT_EQ(c.rule.op, RuleOp::kAdam);
  EXPECT_EQ(c.rule.options.layout(), RateLayout::kParameter);
  EXPECT_TRUE(c.rule.options.learned_moments());
  EXPECT_EQ(c.rule.options.eps_digit(), 8U);
  EXPECT_EQ(c.rule.n_state_per_param, 2U);
  EXPECT_EQ(c.rule.n_phi, 3 * p + 2);
  // lib/FORMAT.md: op, storage, exponent, steps, options, count, state.
  const Sections sections = take_apart(file);
  EXPECT_EQ(sections[kRule].get<uint8_t>(0), 5);
  EXPECT_EQ(sections[kRule].get<uint16_t>(4), 2);
  EXPECT_EQ(sections[kRule].get<uint16_t>(6), 0x806);
  EXPECT_EQ(sections[kRule].get<uint32_t>(8), 3 * p + 2);
  EXPECT_EQ(sections[kRule].get<uint32_t>(12), 2U);
}

// Format version 1 stays readable, and stays what the writer writes.
TEST(CapsuleVersion1, RecordedFileOpensAndEncodesIdentically) {
  const auto path = source_file("tests/data/capsule_v1.capsule");
  if (std::getenv("FEWSTEP_RECORD") != nullptr) {
    host::save_file_atomically(path,
                               encode_capsule(small_classifier().contents));
  }
  const host::CapsuleFile file = host::load_capsule(path);
  EXPECT_EQ(encode_capsule(host::decode_capsule(file.capsule)), file.bytes);
  EXPECT_EQ(encode_capsule(small_classifier().contents), file.bytes);
}

TEST(CapsuleVersion1, WorkedExampleInFormatMdIsWhatTheWriterWrites) {
  const CapsuleBytes file = encode_capsule(smallest_capsule().contents);
  // Rows in the document carry a remark after the bytes.
  std::istringstream document(read_text(source_file("lib/FORMAT.md")));
  std::string rows;
  const size_t row = hex_rows(file).find('\n');
  bool inside = false;
  for (std::string line; std::getline(document, line);) {
    if (line.rfind("```", 0) == 0)
      inside = line == "```hex";
    else if (inside)
      rows += line.substr(0, row) + '\n';
  }
  EXPECT_EQ(rows, hex_rows(file));
}

constexpr Status kBad = Status::kBadCapsule;

// What is wrong outside the sections: the change is made to the file's bytes.
struct WrongFile {
  const char* name;
  Status status;
  bool mended;  // The checksums are made to hold.
  size_t at;
  uint32_t value;
  size_t n_bytes;
};
void PrintTo(const WrongFile& w, std::ostream* os) { *os << w.name; }

class CapsuleFrame : public ::testing::TestWithParam<WrongFile> {};

TEST_P(CapsuleFrame, GivesItsStatus) {
  const WrongFile& w = GetParam();
  CapsuleBytes file = encode_capsule(smallest_capsule().contents);
  std::memcpy(&file.at(w.at), &w.value, w.n_bytes);
  if (w.mended) reseal(file);
  Capsule c;
  EXPECT_EQ(read(file, &c), w.status);
}

// The smallest capsule: header 64, table of 5 entries to 144, network 144..208,
// initialization 208..232, rule 240..260, limits 272..288, provenance 288..290.
INSTANTIATE_TEST_SUITE_P(
    Of,
    CapsuleFrame,
    ::testing::Values(
        WrongFile{"Magic", Status::kBadMagic, true, 0, 0x50545347, 4},
        WrongFile{"FormatVersion", Status::kBadVersion, true, 4, 2, 2},
        WrongFile{"FormatVersion0", Status::kBadVersion, true, 4, 0, 2},
        WrongFile{"NumericsVersion", Status::kBadVersion, true, 6, 2, 2},
        WrongFile{"HeaderByte", Status::kBadChecksum, false, 40, 1, 1},
        WrongFile{"PayloadByte", Status::kBadChecksum, false, 230, 1, 1},
        WrongFile{"LongerThanTheFile", Status::kBadChecksum, true, 8, 320, 4},
        WrongFile{"SizeNotAMultiple", kBad, true, 8, 300, 4},
        WrongFile{"SizeBelowTheHeader", kBad, true, 8, 48, 4},
        WrongFile{"SizeOfTheHeader", kBad, true, 8, 64, 4},
        WrongFile{"LastSectionCutOff", kBad, true, 8, 288, 4},
        WrongFile{"ManySections", kBad, true, 12, 0xffffffff, 4},
        WrongFile{"TableFillsTheFile", kBad, true, 12, 15, 4},
        WrongFile{"FewerSections", kBad, true, 12, 4, 4},
        WrongFile{"ReservedHeader", kBad, true, 55, 1, 1},
        WrongFile{"SectionOffsetIntoTheTable", kBad, true, 68, 128, 4},
        WrongFile{"SectionOffsetUnaligned", kBad, true, 68, 145, 4},
        WrongFile{"SectionOffsetOutside", kBad, true, 68, 0xfffffff0, 4},
        WrongFile{"SectionBytesOutside", kBad, true, 72, 0xffffffff, 4},
        WrongFile{"SectionBytesWrap", kBad, true, 72, 0xffffff80, 4},
        WrongFile{"SectionReserved", kBad, true, 76, 1, 4},
        WrongFile{"Padding", kBad, true, 235, 1, 1},
        WrongFile{"LastPadding", kBad, true, 303, 1, 1}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Capsule, ModelHashMustHold) {
  CapsuleBytes file = encode_capsule(smallest_capsule().contents);
  file[16] ^= 1;
  const uint32_t crc = crc32(file.data(), 60);
  std::memcpy(&file[60], &crc, 4);
  Capsule c;
  EXPECT_EQ(read(file, &c), Status::kBadCapsule);
}

TEST(Capsule, NothingMayFollowTheLastSection) {
  CapsuleBytes file = encode_capsule(smallest_capsule().contents);
  const size_t n = file.size() + 16;
  file.resize(n);
  file[8] = static_cast<uint8_t>(n);
  file[9] = static_cast<uint8_t>(n >> 8);
  reseal(file);
  Capsule c;
  EXPECT_EQ(read(file, &c), Status::kBadCapsule);
}

TEST(Capsule, NullIsABadArgument) {
  const CapsuleBytes file = encode_capsule(smallest_capsule().contents);
  Capsule c;
  EXPECT_EQ(read_capsule(nullptr, 64, &c), Status::kBadArgument);
  EXPECT_EQ(read_capsule(file.data(), file.size(), nullptr),
            Status::kBadArgument);
}

}  // namespace
}  // namespace fewstep::testing
