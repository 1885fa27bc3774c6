// The capsule format: what is written is read, and each thing that can be wrong
// with a file has its status.
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
#include <functional>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "fewstep/capsule_format.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/file.h"
#include "support/small_capsule.h"

namespace fewstep::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

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

TEST(Planner, RefusesContextsThatCannotBe) {
  struct Choice {
    const char* what;
    uint16_t c, h, w, units;
    PlanError error;
  };
  for (const Choice& choice : {
           Choice{"", 5, 1, 1, 3, PlanError::kNone},
           Choice{"", 65530, 1, 1, 5, PlanError::kNone},
           Choice{"rows", 5, 2, 1, 3, PlanError::kNotFlat},
           Choice{"columns", 5, 1, 2, 3, PlanError::kNotFlat},
           Choice{"nothing", 5, 1, 1, 0, PlanError::kUnits},
           Choice{"too many", 65530, 1, 1, 6, PlanError::kFlatten},
       }) {
    SCOPED_TRACE(choice.what);
    Network network;
    NetworkPlanner planner(choice.c, choice.h, choice.w, &network);
    Layer layer = {};
    layer.op = LayerOp::kContext;
    layer.groups = choice.units;
    EXPECT_EQ(planner.add(&layer) == Status::kOk,
              choice.error == PlanError::kNone);
    EXPECT_STREQ(planner.error(), to_string(choice.error));
    EXPECT_EQ(network.n_params,
              choice.error == PlanError::kNone ? choice.units : 0U);
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

// One way for a file to be wrong although its checksums hold.
struct Wrong {
  const char* name;
  Status status;
  std::function<void(std::vector<RawSection>&)> change;
};
void PrintTo(const Wrong& w, std::ostream* os) { *os << w.name; }

class CapsuleSections : public ::testing::TestWithParam<Wrong> {};

// Also the canary: without a change the file reads.
TEST_P(CapsuleSections, GiveTheirStatusAndLeaveTheResultAlone) {
  SmallCapsule small = small_classifier();
  std::vector<RawSection> sections = take_apart(encode_capsule(small.contents));
  const CapsuleBytes right = put_together(sections);
  ASSERT_EQ(right, encode_capsule(small.contents));

  GetParam().change(sections);
  const CapsuleBytes wrong = put_together(sections);
  Capsule c;
  std::memset(static_cast<void*>(&c), 0x5a, sizeof c);
  EXPECT_EQ(read(wrong, &c), GetParam().status);
  if (GetParam().status == Status::kOk) return;
  const auto* bytes = reinterpret_cast<const uint8_t*>(&c);
  for (size_t i = 0; i < sizeof c; ++i) ASSERT_EQ(bytes[i], 0x5a);
}

// Section of the classifier by its type, which is its position plus one.
constexpr size_t kNet = 0, kInit = 1, kRule = 2, kLimits = 3, kGolden = 4,
                 kText = 5;
using Sections = std::vector<RawSection>;

template <class T>
std::function<void(Sections&)> set(size_t section, size_t at, T value) {
  return [=](Sections& s) { s[section].set<T>(at, value); };
}
std::function<void(Sections&)> drop(size_t section) {
  return [=](Sections& s) { s.erase(s.begin() + section); };
}
std::function<void(Sections&)> resize(size_t section, int by) {
  return [=](Sections& s) {
    s[section].bytes.resize(s[section].bytes.size() + by);
  };
}
std::function<void(Sections&)> append(uint16_t type, uint16_t flags) {
  return [=](Sections& s) {
    s.push_back({type, flags, std::vector<uint8_t>(20, 0x11)});
  };
}
constexpr size_t layer(size_t i, size_t field) {
  return sizeof(NetworkRecord) + i * sizeof(Layer) + field;
}

constexpr Status kBad = Status::kBadCapsule;
constexpr Status kMissing = Status::kMissingSection;

INSTANTIATE_TEST_SUITE_P(
    OfSections,
    CapsuleSections,
    ::testing::Values(
        Wrong{"NoNetwork", kMissing, drop(kNet)},
        Wrong{"NoInit", kMissing, drop(kInit)},
        Wrong{"NoRule", kMissing, drop(kRule)},
        Wrong{"NoLimits", kMissing, drop(kLimits)},
        Wrong{"NoGoldenIsFine", Status::kOk, drop(kGolden)},
        Wrong{"NoProvenanceIsFine", Status::kOk, drop(kText)},
        Wrong{"NoneAtAll", kMissing, [](Sections& s) { s.clear(); }},
        Wrong{"UnknownOptionalIsSkipped", Status::kOk, append(900, 0)},
        Wrong{"UnknownRequired", kMissing, append(900, kSectionRequired)},
        Wrong{"UnknownFlag", kBad, append(900, 2)},
        Wrong{"TypeZero", kBad, append(0, 0)},
        Wrong{"Twice", kBad, append(6, 0)},
        Wrong{"UnknownTwice",
              kBad,
              [](Sections& s) {
                append(900, 0)(s);
                append(900, 0)(s);
              }},
        Wrong{"Descending",
              kBad,
              [](Sections& s) { std::swap(s[kRule], s[kLimits]); }}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    OfNetwork,
    CapsuleSections,
    ::testing::Values(
        Wrong{"NoInputChannels", kBad, set<uint16_t>(kNet, 0, 0)},
        Wrong{"HugeInput", kBad, set<uint64_t>(kNet, 0, 0x0006ffffffffffff)},
        Wrong{"OneLayerLess", kBad, set<uint16_t>(kNet, 6, 5)},
        Wrong{"NoLayers",
              kBad,
              [](Sections& s) {
                s[kNet].set<uint16_t>(6, 0);
                s[kNet].bytes.resize(16);
              }},
        Wrong{"UnknownLoss", kBad, set<uint8_t>(kNet, 8, 3)},
        Wrong{"Transductive", kBad, set<uint8_t>(kNet, 9, 1)},
        Wrong{"Tensors", kBad, set<uint16_t>(kNet, 10, 8)},
        Wrong{"Params", kBad, set<uint32_t>(kNet, 12, 1)},
        Wrong{"TooShort", kBad, resize(kNet, -1)},
        Wrong{"TooLong", kBad, resize(kNet, 1)},
        Wrong{"ShorterThanItsRecord",
              kBad,
              [](Sections& s) { s[kNet].bytes.resize(15); }},
        Wrong{"UnknownOperation", kBad, set<uint8_t>(kNet, layer(0, 0), 200)},
        Wrong{"ConvPad", kBad, set<uint8_t>(kNet, layer(0, 3), 0)},
        Wrong{"Groups", kBad, set<uint16_t>(kNet, layer(1, 4), 3)},
        Wrong{"ReluWithKernel", kBad, set<uint8_t>(kNet, layer(2, 1), 1)},
        Wrong{"LayerShape", kBad, set<uint16_t>(kNet, layer(0, 14), 5)},
        Wrong{"InPlace",
              kBad,
              set<uint8_t>(kNet, layer(0, offsetof(Layer, in_place)), 1)},
        Wrong{"ParamOffset",
              kBad,
              set<uint32_t>(kNet, layer(1, offsetof(Layer, param_offset)), 21)},
        Wrong{"Weights",
              kBad,
              set<uint32_t>(
                  kNet, layer(5, offsetof(Layer, n_weights)), 0x40000000)},
        Wrong{"InOffset",
              kBad,
              set<uint32_t>(kNet, layer(3, offsetof(Layer, in_offset)), 1)},
        Wrong{"OutOffset",
              kBad,
              set<uint32_t>(kNet, layer(5, offsetof(Layer, out_offset)), 0)},
        Wrong{"AuxOffset",
              kBad,
              set<uint32_t>(kNet, layer(1, offsetof(Layer, aux_offset)), 1)},
        Wrong{"Aux",
              kBad,
              set<uint16_t>(kNet, layer(1, offsetof(Layer, n_aux)), 1)},
        Wrong{"Tensor",
              kBad,
              set<uint16_t>(kNet, layer(5, offsetof(Layer, tensor)), 0)}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    OfInitialization,
    CapsuleSections,
    ::testing::Values(
        Wrong{"StoredAsLog8",
              kBad,
              [](Sections& s) {
                s[kInit].set<uint8_t>(0, 3);
                s[kInit].bytes.resize(16 + s[kInit].get<uint32_t>(4));
              }},
        Wrong{"StorageZero", kBad, set<uint8_t>(kInit, 0, 0)},
        Wrong{"UnknownStorage",
              kBad,
              [](Sections& s) {
                s[kInit].set<uint8_t>(0, 4);
                s[kInit].bytes.resize(16 + s[kInit].get<uint32_t>(4));
              }},
        Wrong{"Storage", kBad, set<uint8_t>(kInit, 0, 1)},
        Wrong{"ReservedByte", kBad, set<uint8_t>(kInit, 3, 1)},
        Wrong{"ReservedWord", kBad, set<uint32_t>(kInit, 12, 1)},
        Wrong{"Count",
              kBad,
              [](Sections& s) {
                s[kInit].set<uint32_t>(4, s[kInit].get<uint32_t>(4) + 1);
                s[kInit].bytes.resize(s[kInit].bytes.size() + 2);
              }},
        Wrong{"TooLong", kBad, resize(kInit, 2)},
        Wrong{"TooShort", kBad, resize(kInit, -2)},
        Wrong{"F16Infinity", kBad, set<uint16_t>(kInit, 16, 0xfc00)},
        Wrong{"F16Nan", kBad, set<uint16_t>(kInit, 18, 0x7c01)},
        Wrong{"F32Nan",
              kBad,
              [](Sections& s) {
                const uint32_t n = s[kInit].get<uint32_t>(4);
                s[kInit].set<uint8_t>(0, 1);
                s[kInit].bytes.assign(16 + 4 * n, 0);
                s[kInit].set<uint8_t>(0, 1);
                s[kInit].set<uint32_t>(4, n);
                s[kInit].set<float>(12 + 4 * n, kNan);
              }},
        Wrong{"F32IsFine",
              Status::kOk,
              [](Sections& s) {
                const uint32_t n = s[kInit].get<uint32_t>(4);
                s[kInit].bytes.assign(16 + 4 * n, 0);
                s[kInit].set<uint8_t>(0, 1);
                s[kInit].set<uint32_t>(4, n);
              }}),
    [](const auto& row) { return std::string(row.param.name); });

// Makes the classifier's rates f32, the first of them `rate`.
std::function<void(Sections&)> f32_rates(float rate, int16_t exponent) {
  return [=](Sections& s) {
    const uint32_t n = s[kRule].get<uint32_t>(8);
    s[kRule].set<uint8_t>(1, 1);
    s[kRule].set<int16_t>(2, exponent);
    s[kRule].bytes.resize(16);
    s[kRule].bytes.resize(16 + 4 * n);
    s[kRule].set<float>(16, rate);
  };
}

INSTANTIATE_TEST_SUITE_P(
    OfRule,
    CapsuleSections,
    ::testing::Values(
        Wrong{"UnknownOperation", kBad, set<uint8_t>(kRule, 0, 9)},
        Wrong{"OtherOperation", kBad, set<uint8_t>(kRule, 0, 1)},
        Wrong{"UnknownStorage", kBad, set<uint8_t>(kRule, 1, 7)},
        Wrong{"ExponentTooLarge", kBad, set<int16_t>(kRule, 2, 128)},
        Wrong{"LargestExponent", Status::kOk, set<int16_t>(kRule, 2, 127)},
        Wrong{"SmallestExponent", Status::kOk, set<int16_t>(kRule, 2, -110)},
        Wrong{"ExponentTooSmall", kBad, set<int16_t>(kRule, 2, -111)},
        Wrong{"NoSteps", kBad, set<uint16_t>(kRule, 4, 0)},
        Wrong{"Reserved", kBad, set<uint16_t>(kRule, 6, 1)},
        Wrong{"Count", kBad, set<uint32_t>(kRule, 8, 1)},
        Wrong{"State", kBad, set<uint32_t>(kRule, 12, 1)},
        Wrong{"TooShort", kBad, resize(kRule, -1)},
        Wrong{"TooLong", kBad, resize(kRule, 1)},
        Wrong{"F32IsFine", Status::kOk, f32_rates(0.5F, 0)},
        Wrong{"F32WithExponent", kBad, f32_rates(0.5F, 1)},
        Wrong{"F32Infinity", kBad, f32_rates(kInfinity, 0)},
        Wrong{"F32Nan", kBad, f32_rates(kNan, 0)}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    OfLimits,
    CapsuleSections,
    ::testing::Values(
        Wrong{"NoSupport", kBad, set<uint32_t>(kLimits, 0, 0)},
        Wrong{"MostSupport", Status::kOk, set<uint32_t>(kLimits, 0, 65535)},
        Wrong{"TooMuchSupport", kBad, set<uint32_t>(kLimits, 0, 65536)},
        Wrong{"NoPredict", kBad, set<uint32_t>(kLimits, 4, 0)},
        Wrong{"TooManyPredict", kBad, set<uint32_t>(kLimits, 4, 65536)},
        Wrong{"NoSteps", kBad, set<uint32_t>(kLimits, 8, 0)},
        Wrong{"TooManySteps", kBad, set<uint32_t>(kLimits, 8, 65536)},
        Wrong{"Reserved", kBad, set<uint32_t>(kLimits, 12, 1)},
        Wrong{"TooLong", kBad, resize(kLimits, 1)},
        Wrong{"TooShort", kBad, resize(kLimits, -1)}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    OfGolden,
    CapsuleSections,
    ::testing::Values(
        Wrong{"NoSupport", kBad, set<uint32_t>(kGolden, 0, 0)},
        Wrong{"MoreSupportThanTheLimit", kBad, set<uint32_t>(kLimits, 0, 2)},
        Wrong{"HugeSupport", kBad, set<uint32_t>(kGolden, 0, 0xffffffff)},
        Wrong{"NoQuery", kBad, set<uint32_t>(kGolden, 4, 0)},
        Wrong{"HugeQuery", kBad, set<uint32_t>(kGolden, 4, 0xffffffff)},
        Wrong{"NoSteps", kBad, set<uint32_t>(kGolden, 8, 0)},
        Wrong{"MoreStepsThanTheLimit", kBad, set<uint32_t>(kLimits, 8, 1)},
        Wrong{"Reserved", kBad, set<uint32_t>(kGolden, 12, 1)},
        Wrong{"ReservedWord", kBad, set<uint64_t>(kGolden, 24, 1)},
        Wrong{"NanInSupport", kBad, set<float>(kGolden, 32, kNan)},
        Wrong{"InfinityInSupport", kBad, set<float>(kGolden, 36, kInfinity)},
        Wrong{"NanInLosses", kBad, set<float>(kGolden, 32 + 4 * 80, kNan)},
        Wrong{"NanInOutputs",
              kBad,
              set<float>(kGolden, 32 + 4 * (80 + 2 + 5), kNan)},
        Wrong{"Label",
              kBad,
              set<uint16_t>(kGolden, 32 + 4 * (80 + 2 + 6) + 4, 3)},
        Wrong{"TooShort", kBad, resize(kGolden, -2)},
        Wrong{"TooLong", kBad, resize(kGolden, 2)},
        Wrong{"ShorterThanItsRecord",
              kBad,
              [](Sections& s) { s[kGolden].bytes.resize(31); }}),
    [](const auto& row) { return std::string(row.param.name); });

// What a rule with state may say of itself, and what it may not.
TEST(Capsule, OptionsAreThoseOfTheRule) {
  struct Choice {
    const char* what;
    SmallCapsule (*make)();
    uint16_t options;
    Status status;
  };
  for (const Choice& c : {
           Choice{"momentum as it is", small_momentum, 0x81, Status::kOk},
           Choice{"another layout", small_momentum, 0x00, kBad},
           Choice{"layout 3", small_momentum, 0x83, kBad},
           Choice{"moments that are not there", small_momentum, 0x85, kBad},
           Choice{"momentum with eps", small_momentum, 0x181, kBad},
           Choice{"an unknown bit", small_momentum, 0x89, kBad},
           Choice{"steps without bound", small_momentum, 0x01, kBad},
           Choice{"adam as it is", small_adam, 0x806, Status::kOk},
           Choice{"another eps", small_adam, 0xf06, Status::kOk},
           Choice{"no learned moments", small_adam, 0x802, kBad},
           Choice{"adam's layout 3", small_adam, 0x807, kBad},
           Choice{"adam's unknown bit", small_adam, 0x80e, kBad},
           Choice{"too small an eps", small_adam, 0x1006, kBad},
           Choice{"an option of meta_sgd", small_classifier, 0x02, kBad},
           Choice{"online as it is", small_online, 0x02, Status::kOk},
           Choice{"online at another layout", small_online, 0x00, kBad},
           Choice{"online with moments", small_online, 0x06, kBad},
       }) {
    Sections sections = take_apart(encode_capsule(c.make().contents));
    sections[kRule].set<uint16_t>(6, c.options);
    const CapsuleBytes file = put_together(sections);
    Capsule capsule;
    EXPECT_EQ(read(file, &capsule), c.status) << c.what;
  }
}

// What a context may say of itself, and what it may not.
TEST(Capsule, ContextsAreWhatThePlannerMakesOfThem) {
  struct Choice {
    const char* what;
    size_t at;  // In layer 3, a context of 3 on 4 values.
    uint16_t value;
    Status status;
  };
  for (const Choice& c : {
           Choice{"as it is", 4, 3, Status::kOk},
           Choice{"no units", 4, 0, Status::kBadCapsule},
           Choice{"one unit less", 4, 2, Status::kBadCapsule},
           Choice{"another output", 12, 8, Status::kBadCapsule},
           Choice{"a weight more", 24, 4, Status::kBadCapsule},
           Choice{"a bias", 28, 1, Status::kBadCapsule},
           Choice{"a kernel", 0, 0x010a, Status::kBadCapsule},
       }) {
    Sections sections = take_apart(encode_capsule(small_context().contents));
    sections[0].set<uint16_t>(16 + 3 * sizeof(Layer) + c.at, c.value);
    const CapsuleBytes file = put_together(sections);
    Capsule capsule;
    EXPECT_EQ(read(file, &capsule), c.status) << c.what;
  }
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

TEST(Capsule, RatesPerStepBoundTheStepsOfMomentum) {
  Sections sections = take_apart(encode_capsule(small_momentum().contents));
  sections[kLimits].set<uint32_t>(8, 4);  // Trained for 3.
  const CapsuleBytes file = put_together(sections);
  Capsule c;
  EXPECT_EQ(read(file, &c), Status::kBadCapsule);
}

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

TEST(Capsule, LayerwiseRatesBoundTheSteps) {
  Sections sections = take_apart(encode_capsule(small_regressor().contents));
  sections[kLimits].set<uint32_t>(8, 4);  // Trained for 3.
  const CapsuleBytes file = put_together(sections);
  Capsule c;
  EXPECT_EQ(read(file, &c), Status::kBadCapsule);
}

TEST(Capsule, BatchNormGoldenIsBoundByThePredictions) {
  SmallCapsule small = make_small_capsule(
      {2, 1, 1},
      {{.op = LayerOp::kBatchNorm}, {.op = LayerOp::kDense, .out_c = 1}},
      LossOp::kMeanSquaredError,
      RuleOp::kSgd,
      1);
  small.contents.limits = {4, 2, 1};
  add_golden(small, 4, 2);
  Sections sections = take_apart(encode_capsule(small.contents));
  Capsule c;
  const CapsuleBytes right = put_together(sections);
  ASSERT_EQ(read(right, &c), Status::kOk);
  EXPECT_EQ(c.network.transductive, 1);
  sections[kLimits].set<uint32_t>(4, 1);
  const CapsuleBytes wrong = put_together(sections);
  EXPECT_EQ(read(wrong, &c), Status::kBadCapsule);
}

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
