// The calls that sessions of every engine share, and an episode's worth of
// them: what ports/jetson must answer is what the firmware library's Session
// does.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_SESSION_CALLS_H_
#define FEWSTEP_TESTS_SUPPORT_SESSION_CALLS_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <string>
#include <vector>

#include "support/device_case.h"
#include "support/step_choices.h"
#include "support/test_rules.h"

namespace fewstep::testing {

class SessionCalls {
 public:
  virtual ~SessionCalls() = default;
  virtual Status adapt(const SupportSet& support,
                       AdaptReport* report,
                       uint32_t steps) = 0;
  virtual Status predict(const float* x, uint32_t n, float* outputs) = 0;
  virtual Status evaluate(const SupportSet& set, float* loss) = 0;
  virtual Status reset() = 0;
  virtual uint64_t hash() = 0;
};

/// The oracle: device/'s Session.
class DeviceCalls final : public SessionCalls {
 public:
  DeviceCalls(const SmallCapsule& small, const SessionOptions& options)
      : open_(small, options) {}
  Status adapt(const SupportSet& s, AdaptReport* r, uint32_t steps) override {
    return open_.session.adapt(s, r, steps);
  }
  Status predict(const float* x, uint32_t n, float* outputs) override {
    return open_.session.predict(x, n, outputs);
  }
  Status evaluate(const SupportSet& set, float* loss) override {
    return open_.session.evaluate(set, loss);
  }
  Status reset() override { return open_.session.reset(); }
  uint64_t hash() override { return open_.session.hash(); }

 private:
  OpenSession open_;
};

/// Every call of both gives the same status, the same bits, and leaves the same
/// parameters; refused ones write nothing.
class SamePair {
 public:
  SamePair(const Network& network, SessionCalls* a, SessionCalls* b)
      : network_(network), a_(*a), b_(*b) {}

  Status adapt(const DeviceEpisode& episode, uint32_t steps) {
    return adapt(episode.set(), steps);
  }
  Status adapt(const SupportSet& set, uint32_t steps) {
    AdaptReport ra = {-1.0F, -1.0F, 0, 0, 0};
    AdaptReport rb = ra;
    const Status status = a_.adapt(set, &ra, steps);
    EXPECT_EQ(b_.adapt(set, &rb, steps), status);
    same(ra.loss_first, rb.loss_first, "loss_first");
    same(ra.loss_last, rb.loss_last, "loss_last");
    EXPECT_EQ(ra.steps, rb.steps);
    same_parameters();
    return status;
  }

  Status predict(const float* x, uint32_t n) {
    const size_t count = size_t{n} * network_.n_out;
    std::vector<float> out_a(count + 1, -1.0F);
    std::vector<float> out_b(count + 1, -1.0F);
    const Status status = a_.predict(x, n, out_a.data());
    EXPECT_EQ(b_.predict(x, n, out_b.data()), status);
    for (size_t i = 0; i < out_a.size(); ++i) same(out_a[i], out_b[i], "out");
    same_parameters();
    return status;
  }

  Status evaluate(const SupportSet& set) {
    float loss_a = -1.0F;
    float loss_b = -1.0F;
    const Status status = a_.evaluate(set, &loss_a);
    EXPECT_EQ(b_.evaluate(set, &loss_b), status);
    same(loss_a, loss_b, "loss");
    same_parameters();
    return status;
  }

  Status reset() {
    const Status status = a_.reset();
    EXPECT_EQ(b_.reset(), status);
    same_parameters();
    return status;
  }

  void same_parameters() { EXPECT_EQ(a_.hash(), b_.hash()); }
  uint64_t hash() { return a_.hash(); }

 private:
  static void same(float a, float b, const char* what) {
    EXPECT_EQ(std::memcmp(&a, &b, sizeof a), 0)
        << what << ": " << a << ", " << b;
  }
  const Network& network_;
  SessionCalls& a_;
  SessionCalls& b_;
};

/// Rules whose steps small_values() keep finite, whatever the network.
inline bool tame(RuleOp rule) {
  return rule == RuleOp::kSgd || rule == RuleOp::kLslr ||
         rule == RuleOp::kMetaSgd;
}

/// Adaptations, predictions and evaluations one after another, with refused
/// calls and one that diverges between them. `together`: examples a prediction
/// may have.
inline void live_through(const host::CapsuleContents& contents,
                         SamePair& both) {
  const Network& network = contents.network;
  const Limits& limits = contents.limits;
  const bool tamed = tame(contents.rule.op);
  const float kInfinity = std::numeric_limits<float>::infinity();
  const uint32_t together =
      network.transductive != 0 ? limits.predict_max : 70U;
  const std::vector<float> queries =
      small_values(size_t{together} * network.n_in, 31);
  const auto predict = [&](uint32_t n) {
    return both.predict(queries.data(), n);
  };
  both.same_parameters();
  const uint64_t factory = both.hash();
  EXPECT_EQ(predict(together), Status::kOk);

  const DeviceEpisode first =
      make_device_episode(network, limits.support_max, 11);
  const DeviceEpisode second = make_device_episode(network, 3, 12);
  for (uint32_t steps = 1; steps <= limits.steps; ++steps) {
    const Status status = both.adapt(first, steps);
    if (tamed) {
      EXPECT_EQ(status, Status::kOk);
    }
    if (status == Status::kOk) {
      EXPECT_NE(both.hash(), factory);
    }
    EXPECT_EQ(predict(together), Status::kOk);
    EXPECT_EQ(predict(1), Status::kOk);
  }
  const Status adapted = both.adapt(second, 0);
  if (tamed) {
    EXPECT_EQ(adapted, Status::kOk);
  }
  for (const DeviceEpisode* const episode : {&first, &second}) {
    const Status evaluated = both.evaluate(episode->set());
    if (tamed) {
      EXPECT_EQ(evaluated, Status::kOk);
    }
  }

  // Refused: nothing changes.
  EXPECT_EQ(both.adapt(first, limits.steps + 1), Status::kBadArgument);
  SupportSet none = first.set();
  none.n = 0;
  EXPECT_EQ(both.adapt(none, 1), Status::kBadArgument);
  SupportSet no_x = first.set();
  no_x.x = nullptr;
  EXPECT_EQ(both.adapt(no_x, 1), Status::kBadArgument);
  SupportSet no_answers = first.set();
  no_answers.labels = nullptr;
  no_answers.targets = nullptr;
  EXPECT_EQ(both.adapt(no_answers, 1), Status::kBadArgument);
  const DeviceEpisode many =
      make_device_episode(network, limits.support_max + 1, 13);
  EXPECT_EQ(both.adapt(many, 1), Status::kTooManyExamples);
  EXPECT_EQ(both.evaluate(many.set()), Status::kTooManyExamples);
  DeviceEpisode bad = first;
  bad.x.back() = std::nanf("");
  EXPECT_EQ(both.adapt(bad, 1), Status::kBadInput);
  EXPECT_EQ(both.evaluate(bad.set()), Status::kBadInput);
  EXPECT_EQ(both.predict(bad.x.data(), 1),
            bad.x.size() == network.n_in ? Status::kBadInput : Status::kOk);
  bad = first;
  if (network.loss == LossOp::kSoftmaxCrossEntropy) {
    bad.labels.back() = static_cast<uint16_t>(network.n_out);
    EXPECT_EQ(both.adapt(bad, 1), Status::kBadLabel);
  } else {
    bad.targets.front() = kInfinity;
    EXPECT_EQ(both.adapt(bad, 1), Status::kBadInput);
  }
  EXPECT_EQ(both.predict(nullptr, 1), Status::kBadArgument);
  EXPECT_EQ(predict(0), Status::kBadArgument);
  if (network.transductive != 0) {
    const std::vector<float> more =
        small_values(size_t{together + 1} * network.n_in, 31);
    EXPECT_EQ(both.predict(more.data(), together + 1),
              Status::kTooManyExamples);
  }

  // Inputs whose loss or gradient overflows.
  DeviceEpisode huge = first;
  for (float& v : huge.x) v = v < 0 ? -3e38F : 3e38F;
  for (float& v : huge.targets) v = 3e38F;
  static_cast<void>(both.adapt(huge, limits.steps));
  static_cast<void>(both.evaluate(huge.set()));
  const Status again = both.adapt(first, 0);
  if (tamed) {
    EXPECT_EQ(again, Status::kOk);
  }
  EXPECT_EQ(both.reset(), Status::kOk);
  EXPECT_EQ(both.hash(), factory);
  EXPECT_EQ(predict(together), Status::kOk);
}

/// A capsule for every rule, storage, norm, and choice of what adapts and what
/// becomes of its gradient.
struct SessionCase {
  std::string name;
  TestRule rule;
  Storage init;
  Storage rates;
  int network;  ///< 0: group norm, 1: batch norm, 2: pools, 3: regression.
  StepChoice step = {"", StepChoice::kAll, 0.0F, 0.0F};
};
inline void PrintTo(const SessionCase& c, std::ostream* os) { *os << c.name; }

inline SmallCapsule make_capsule(const SessionCase& c) {
  const LayerChoice conv = {
      .op = LayerOp::kConv2d, .out_c = 4, .kernel = 3, .stride = 1, .pad = 1};
  const LossOp classes = LossOp::kSoftmaxCrossEntropy;
  const LossOp squares = LossOp::kMeanSquaredError;
  constexpr uint16_t kSteps = 3;
  SmallCapsule small;
  switch (c.network) {
    case 0:
      small = make_small_capsule({1, 5, 5},
                                 {conv,
                                  {.op = LayerOp::kGroupNorm, .groups = 2},
                                  {.op = LayerOp::kRelu},
                                  {.op = LayerOp::kFlatten},
                                  {.op = LayerOp::kDense, .out_c = 3}},
                                 classes,
                                 c.rule.op,
                                 kSteps,
                                 c.rule.options);
      break;
    case 1:
      small = make_small_capsule({2, 4, 4},
                                 {conv,
                                  {.op = LayerOp::kBatchNorm},
                                  {.op = LayerOp::kRelu},
                                  {.op = LayerOp::kGlobalAvgPool},
                                  {.op = LayerOp::kDense, .out_c = 3}},
                                 classes,
                                 c.rule.op,
                                 kSteps,
                                 c.rule.options);
      break;
    case 2:
      small = make_small_capsule(
          {1, 6, 6},
          {conv,
           {.op = LayerOp::kTanh},
           {.op = LayerOp::kMaxPool, .kernel = 2, .stride = 2},
           {.op = LayerOp::kFlatten},
           {.op = LayerOp::kDense, .out_c = 2}},
          squares,
          c.rule.op,
          kSteps,
          c.rule.options);
      break;
    default:
      small = make_small_capsule({1, 1, 1},
                                 {{.op = LayerOp::kDense, .out_c = 20},
                                  {.op = LayerOp::kRelu},
                                  {.op = LayerOp::kDense, .out_c = 20},
                                  {.op = LayerOp::kTanh},
                                  {.op = LayerOp::kDense, .out_c = 1}},
                                 squares,
                                 c.rule.op,
                                 kSteps,
                                 c.rule.options);
  }
  small.contents.init_storage = c.init;
  small.contents.rate_storage = c.rates;
  small.contents.rule.weight_decay = c.step.weight_decay;
  small.contents.rule.clip_norm = c.step.clip_norm;
  if (c.step.adapt != StepChoice::kAll) {
    adapt_layers(small, c.step.layers(small.layers));
  }
  return small;
}

/// Whether a network's weights are learned, which are not stored as rates are.
inline bool is_learned(RuleOp rule) {
  return rule == RuleOp::kRateNet || rule == RuleOp::kLstm;
}

/// Every rule that firmware has, in every storage, on every network above; and
/// with every choice of a step.
inline std::vector<SessionCase> session_cases() {
  static const char* const kNetworks[] = {
      "group_norm", "batch_norm", "pools", "regression"};
  static const char* const kStorages[] = {"", "f32", "f16", "log8"};
  std::vector<SessionCase> cases;
  for (const TestRule& rule : kTestRules) {
    try {
      DeviceCalls(make_capsule({"", rule, Storage::kF32, Storage::kF32, 0}),
                  {});
    } catch (const std::exception&) {
      continue;  // Not in the firmware library.
    }
    for (const Storage init : {Storage::kF32, Storage::kF16}) {
      for (const Storage rates :
           {Storage::kF32, Storage::kF16, Storage::kLog8}) {
        if (is_learned(rule.op) && rates == Storage::kLog8) continue;
        for (int network = 0; network < 4; ++network) {
          const std::string name =
              std::string(rule.name) + "_" + kNetworks[network] + "_init_" +
              kStorages[static_cast<int>(init)] + "_rates_" +
              kStorages[static_cast<int>(rates)];
          cases.push_back({name, rule, init, rates, network});
        }
      }
    }
    for (int network = 0; network < 4; ++network) {
      for (const StepChoice& step : kStepChoices) {
        // It must see all tensors at once.
        if (rule.op == RuleOp::kRateNet && step.adapt == StepChoice::kEnds) {
          continue;
        }
        const bool f16 = cases.size() % 2 != 0;
        const Storage init = f16 ? Storage::kF16 : Storage::kF32;
        const Storage rates =
            f16 && !is_learned(rule.op) ? Storage::kLog8 : Storage::kF32;
        cases.push_back({std::string(rule.name) + "_" + kNetworks[network] +
                             "_" + step.name,
                         rule,
                         init,
                         rates,
                         network,
                         step});
      }
    }
  }
  return cases;
}

/// Options that change what a session does, beside its defaults.
inline std::vector<SessionOptions> session_options() {
  std::vector<SessionOptions> all(4);
  all[1].tile = 2;
  all[1].on_failure = OnFailure::kEntry;
  all[2].continue_from_current = true;
  all[3].tile = 1;
  all[3].continue_from_current = true;
  all[3].on_failure = OnFailure::kEntry;
  return all;
}

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_SESSION_CALLS_H_
