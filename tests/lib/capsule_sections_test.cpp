// What may be wrong with a section of a capsule although its checksums hold:
// each has its status. What adapts: capsule_options_test.cpp.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "fewstep/capsule.h"
#include "fewstep/capsule_format.h"
#include "fewstep/host/capsule_writer.h"
#include "support/small_capsule.h"

namespace fewstep::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One way for a file to be wrong although its checksums hold.
struct Wrong {
  const char* name;
  Status status;
  std::function<void(Sections&)> change;
};
void PrintTo(const Wrong& w, std::ostream* os) { *os << w.name; }

class CapsuleSections : public ::testing::TestWithParam<Wrong> {};

// Also the canary: without a change the file reads.
TEST_P(CapsuleSections, GiveTheirStatusAndLeaveTheResultAlone) {
  SmallCapsule small = small_classifier();
  Sections sections = take_apart(encode_capsule(small.contents));
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

TEST(Capsule, RatesPerStepBoundTheStepsOfMomentum) {
  Sections sections = take_apart(encode_capsule(small_momentum().contents));
  sections[kLimits].set<uint32_t>(8, 4);  // Trained for 3.
  const CapsuleBytes file = put_together(sections);
  Capsule c;
  EXPECT_EQ(read(file, &c), Status::kBadCapsule);
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

}  // namespace
}  // namespace fewstep::testing
