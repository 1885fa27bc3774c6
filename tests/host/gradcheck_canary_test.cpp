// Proof that gradcheck sees a single wrong sign, or a term left out, in any
// layer, rule and step option.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "fewstep/ops.h"
#include "support/gradcheck_case.h"
#include "support/step_choices.h"
#include "support/test_network.h"
#include "support/test_rules.h"

namespace fewstep::testing {
namespace {

enum class Fault {
  kNone,
  kInputGradient,
  kWeightGradient,
  kHessianInputGradient,  // At dual numbers only: adaptation is right.
  kHessianWeightGradient,
  kTangentOfForward,
  kThetaBar,
  kGradBar,
  kPhiBar,
  kStateBar,
  // Dropped terms.
  kNoStateBar,
  kNoRates,
  kNoGains,
  kNoMoments,
  kStepAgain,  // The step that a sweep takes again, for a mask's logits.
  // Of step options.
  kHessianOfAdaptedOnly,  // H g_bar over the rows that adapt.
  kNoDecayTerm,           // theta_bar without that of weight decay.
  kNoClipDerivative,      // Clipping's scale taken for a constant.
};

/// AllOps with one wrong sign: in layer operation `layer`, or in every vjp.
struct FaultyOps {
  Fault fault = Fault::kNone;
  LayerOp layer = LayerOp::kDense;
  const Network* network = nullptr;  // kHessianOfAdaptedOnly.
  // kStepAgain: a sweep updates K times forwards, then as often again.
  uint32_t steps = 1;
  mutable uint32_t n_updates = 0;

  template <class T>
  static void negate(T* values, uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) values[i] = -values[i];
  }
  template <class T>
  static constexpr bool kIsDual = !IsSame<T, Primal<T>>::value;

  template <class W, class E, class T>
  void forward(const E& e, LayerOp op, const LayerCall<T>& c) const {
    AllOps().forward<W>(e, op, c);
    if constexpr (kIsDual<T>) {
      if (fault == Fault::kTangentOfForward && op == layer) {
        for (uint32_t i = 0; i < c.n * c.layer->n_out(); ++i) {
          c.out[i].tangent = -c.out[i].tangent;
        }
      }
    }
  }
  template <class W, class E, class T>
  void weight_gradient(const E& e, LayerOp op, const LayerCall<T>& c) const {
    AllOps().weight_gradient<W>(e, op, c);
    if (op == layer &&
        (fault == Fault::kWeightGradient ||
         (fault == Fault::kHessianWeightGradient && kIsDual<T>))) {
      negate(c.grad, c.layer->n_weights);
    }
    if constexpr (kIsDual<T>) {
      if (fault == Fault::kHessianOfAdaptedOnly &&
          network->adapted[c.layer - network->layers] == kFrozen) {
        for (uint32_t i = 0; i < c.layer->n_params(); ++i) {
          c.grad[i].tangent = constant<Primal<T>>(0.0F);
        }
      }
    }
  }
  template <class W, class E, class T>
  void input_gradient(const E& e, LayerOp op, const LayerCall<T>& c) const {
    AllOps().input_gradient<W>(e, op, c);
    if (op == layer &&
        (fault == Fault::kInputGradient ||
         (fault == Fault::kHessianInputGradient && kIsDual<T>))) {
      negate(c.in, uint64_t{c.n} * c.layer->n_in());
    }
  }
  template <class E, class T>
  void loss(const E& e, LossOp op, const LossCall<T>& c) const {
    AllOps().loss(e, op, c);
  }
  template <class W, class R, class E, class T>
  void update(const E& e,
              const RuleCall<T>& c,
              const W& theta,
              const R& phi) const {
    AllOps().update(e, c, theta, phi);
    if (fault != Fault::kStepAgain || n_updates++ % (2 * steps) < steps) return;
    for (uint32_t i = 0; i < c.network->n_adapted; ++i) {
      const T from = theta(i);
      c.grad[i] = from + from - c.grad[i];
    }
  }
  template <class W, class R, class E, class T>
  void vjp(const E& e,
           const RuleVjpCall<T>& c,
           const W& theta,
           const R& phi) const {
    const std::vector<T> before(c.phi_bar, c.phi_bar + c.rule->n_phi);
    AllOps().vjp(e, c, theta, phi);
    const uint32_t n = c.network->n_adapted;
    if (fault == Fault::kNoDecayTerm) {
      // Without clipping that term is 2 lambda grad_bar, added after this.
      const T twice = constant<T>(2.0F * c.rule->weight_decay);
      for (uint32_t i = 0; i < n; ++i) {
        c.theta_bar[i] = fma(-twice, c.grad_bar[i], c.theta_bar[i]);
      }
    }
    if (fault == Fault::kNoClipDerivative) {
      // The term is a multiple of what the rule saw, which nobody reads after.
      T* const seen = const_cast<T*>(c.grad);
      for (uint32_t i = 0; i < n; ++i) seen[i] = constant<T>(0.0F);
    }
    if (fault == Fault::kThetaBar) negate(c.theta_bar, n);
    if (fault == Fault::kGradBar) negate(c.grad_bar, n);
    if (fault == Fault::kPhiBar) {
      for (uint32_t i = 0; i < c.rule->n_phi; ++i) {
        c.phi_bar[i] = before[i] + before[i] - c.phi_bar[i];
      }
    }
    const uint32_t n_state = n * c.rule->n_state_per_param;
    if (fault == Fault::kStateBar) negate(c.state_bar, n_state);
    if (fault == Fault::kNoStateBar) {
      std::fill_n(c.state_bar, n_state, constant<T>(0.0F));
    }
    const uint32_t n_gains = n_scalars(c.rule->op);
    const uint32_t gains =
        n_gains != 0 ? n_rates(*c.rule, *c.network) : c.rule->n_phi;
    const uint32_t moments = gains + n_gains;
    const auto drop = [&](Fault dropped, uint32_t begin, uint32_t end) {
      if (fault != dropped) return;
      std::copy_n(before.begin() + begin, end - begin, c.phi_bar + begin);
    };
    drop(Fault::kNoRates, 0, gains);
    drop(Fault::kNoGains, gains, moments);
    drop(Fault::kNoMoments, moments, c.rule->n_phi);
  }
};

/// Whether `check` of `quantity` passed.
bool passed(const std::vector<GradcheckResult>& results,
            const std::string& check_name,
            const std::string& quantity) {
  for (const GradcheckResult& r : results) {
    if (r.check == check_name && r.quantity == quantity) return r.passed;
  }
  ADD_FAILURE() << "no " << check_name << " of " << quantity;
  return false;
}

struct LayerFault {
  const char* network;
  LayerOp op;
};
constexpr LayerFault kLayerFaults[] = {
    {"relu", LayerOp::kDense},
    {"relu", LayerOp::kRelu},
    {"flatten", LayerOp::kTanh},
    {"conv2d", LayerOp::kConv2d},
    {"max_pool", LayerOp::kMaxPool},
    {"global_avg_pool", LayerOp::kGlobalAvgPool},
    {"flatten", LayerOp::kFlatten},
    {"group_norm", LayerOp::kGroupNorm},
    {"batch_norm", LayerOp::kBatchNorm},
    {"context", LayerOp::kContext},
};

TEST(GradcheckCanary, SeesAWrongSignInEveryLayer) {
  for (const LayerFault& f : kLayerFaults) {
    const NamedSpecs specs = zoo_network(f.network);
    const TestNetwork net(
        specs.input, specs.specs, LossOp::kSoftmaxCrossEntropy);
    bool has_params = false;
    for (const Layer& l : net.layers)
      has_params |= l.op == f.op && l.n_params();
    std::vector<Fault> faults = {Fault::kInputGradient,
                                 Fault::kHessianInputGradient};
    if (f.op != LayerOp::kFlatten) faults.push_back(Fault::kTangentOfForward);
    if (has_params) {
      faults.push_back(Fault::kWeightGradient);
      faults.push_back(Fault::kHessianWeightGradient);
    }
    for (const Fault fault : faults) {
      SCOPED_TRACE(std::string(to_string(f.op)) + ", fault " +
                   std::to_string(static_cast<int>(fault)));
      const auto results =
          check(FaultyOps{fault, f.op}, net, kTestRules[2], 2, 30);
      EXPECT_FALSE(passed(results, "tangent", "theta"));
      EXPECT_FALSE(passed(results, "differences", "theta"));
      // A fault in the Hessian is none at first order.
      EXPECT_EQ(
          passed(results, "first-order tangent", "theta"),
          fault != Fault::kInputGradient && fault != Fault::kWeightGradient);
    }
  }
}

TEST(GradcheckCanary, SeesEveryTermOfStepOptions) {
  struct Planted {
    Fault fault;
    StepChoice choice;
    bool first_order;  // Seen there, too.
  };
  const Planted all[] = {
      {Fault::kHessianOfAdaptedOnly,
       {"head", StepChoice::kHead, 0.0F, 0.0F},
       false},
      {Fault::kHessianOfAdaptedOnly,
       {"body", StepChoice::kBody, 0.0F, 0.0F},
       false},
      {Fault::kHessianOfAdaptedOnly,
       {"contexts", StepChoice::kContexts, 0.0F, 0.0F},
       false},
      {Fault::kNoDecayTerm, {"decay", StepChoice::kAll, 0.0625F, 0.0F}, true},
      {Fault::kNoClipDerivative,
       {"clip", StepChoice::kAll, 0.0F, 0.0625F},
       false},
  };
  for (const Planted& p : all) {
    const NamedSpecs specs = zoo_network(
        p.choice.adapt == StepChoice::kContexts ? "context" : "relu");
    for (const TestRule& test_rule : kTestRules) {
      for (const uint32_t steps : {1U, 3U}) {
        SCOPED_TRACE(std::string(test_rule.name) + " " + p.choice.name +
                     ", steps " + std::to_string(steps));
        TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
        const Rule rule = p.choice.rule(&net, test_rule, steps);
        if (rule.n_phi == 0) continue;  // rate_net: layers in one piece.
        FaultyOps ops;
        ops.network = &net.network;
        for (const GradcheckResult& r :
             check(ops, net, rule, steps, 0, {}, test_rule.phi_seed)) {
          EXPECT_TRUE(r.passed) << describe(r);
        }
        ops.fault = p.fault;
        const auto results =
            check(ops, net, rule, steps, 0, {}, test_rule.phi_seed);
        EXPECT_FALSE(passed(results, "tangent", "theta"));
        EXPECT_FALSE(passed(results, "differences", "theta"));
        EXPECT_EQ(passed(results, "first-order tangent", "theta"),
                  !p.first_order);
      }
    }
  }
}

// The mask's own terms: theta+ - theta in the logits' bars, lambda of what the
// mask stops; and that what a rule gives counts for what adapts only.
TEST(GradcheckCanary, SeesEveryTermOfALearnedMask) {
  const NamedSpecs specs = zoo_network("relu");
  for (const TestRule& test_rule : kTestRules) {
    for (const uint32_t steps : {1U, 3U}) {
      SCOPED_TRACE(std::string(test_rule.name) + ", steps " +
                   std::to_string(steps));
      TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
      const StepChoice sparse = {"sparse", StepChoice::kSparse, 0.0F, 0.0F};
      const Rule rule = sparse.rule(&net, test_rule, steps);
      if (rule.n_phi == 0) continue;
      FaultyOps ops;
      const auto run = [&](Fault fault) {
        ops.fault = fault;
        ops.steps = steps;
        ops.n_updates = 0;
        return check(ops, net, rule, steps, 0, {}, test_rule.phi_seed);
      };
      for (const GradcheckResult& r : run(Fault::kNone)) {
        EXPECT_TRUE(r.passed) << describe(r);
      }
      // The step that the sweep takes again for the logits' bars.
      auto results = run(Fault::kStepAgain);
      EXPECT_TRUE(passed(results, "tangent", "theta"));
      EXPECT_TRUE(passed(results, "tangent", "phi"));
      EXPECT_FALSE(passed(results, "tangent", "mask"));
      EXPECT_FALSE(passed(results, "first-order tangent", "mask"));
      // lambda itself, from the last step to the first.
      results = run(Fault::kThetaBar);
      EXPECT_FALSE(passed(results, "tangent", "theta"));
      EXPECT_FALSE(passed(results, "differences", "theta"));
      EXPECT_EQ(passed(results, "tangent", "mask"), steps == 1);
      EXPECT_EQ(passed(results, "first-order tangent", "mask"), steps == 1);
      results = run(Fault::kGradBar);
      EXPECT_EQ(passed(results, "tangent", "mask"), steps == 1);
    }
  }
}

TEST(GradcheckCanary, SeesAWrongSignInEveryRule) {
  const NamedSpecs specs = zoo_network("dense");
  const TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
  for (const TestRule& rule : kTestRules) {
    SCOPED_TRACE(rule.name);
    for (const GradcheckResult& r : check(FaultyOps(), net, rule, 2, 0)) {
      EXPECT_TRUE(r.passed) << describe(r);
    }
    auto results = check(FaultyOps{Fault::kThetaBar}, net, rule, 1, 0);
    EXPECT_FALSE(passed(results, "tangent", "theta"));
    EXPECT_FALSE(passed(results, "differences", "theta"));
    EXPECT_FALSE(passed(results, "first-order tangent", "theta"));
    results = check(FaultyOps{Fault::kGradBar}, net, rule, 2, 0);
    EXPECT_FALSE(passed(results, "tangent", "theta"));
    EXPECT_FALSE(passed(results, "tangent", "phi"));
    EXPECT_FALSE(passed(results, "differences", "theta"));
    EXPECT_FALSE(passed(results, "differences", "phi"));
    EXPECT_TRUE(passed(results, "first-order tangent", "theta"));
    results = check(FaultyOps{Fault::kPhiBar}, net, rule, 2, 0);
    EXPECT_TRUE(passed(results, "tangent", "theta"));
    EXPECT_FALSE(passed(results, "tangent", "phi"));
    EXPECT_FALSE(passed(results, "differences", "phi"));
    EXPECT_FALSE(passed(results, "first-order tangent", "phi"));
  }
}

TEST(GradcheckCanary, SeesEveryPartOfARuleWithState) {
  const NamedSpecs specs = zoo_network("dense");
  const TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
  std::vector<TestRule> rules(std::begin(kStateRules), std::end(kStateRules));
  rules.push_back(kLearnedRules[2]);  // lstm
  for (const TestRule& rule : rules) {
    for (const Fault fault : {Fault::kStateBar, Fault::kNoStateBar}) {
      SCOPED_TRACE(std::string(rule.name) + ", fault " +
                   std::to_string(static_cast<int>(fault)));
      const auto results = check(FaultyOps{fault}, net, rule, 3, 0);
      EXPECT_FALSE(passed(results, "tangent", "theta"));
      EXPECT_FALSE(passed(results, "tangent", "phi"));
      EXPECT_FALSE(passed(results, "differences", "theta"));
      EXPECT_FALSE(passed(results, "differences", "phi"));
      EXPECT_FALSE(passed(results, "first-order tangent", "phi"));
    }
    std::vector<Fault> dropped = {Fault::kNoRates};
    if (n_scalars(rule.op) != 0) dropped.push_back(Fault::kNoGains);
    if (rule.options.learned_moments()) dropped.push_back(Fault::kNoMoments);
    for (const Fault fault : dropped) {
      SCOPED_TRACE(std::string(rule.name) + ", fault " +
                   std::to_string(static_cast<int>(fault)));
      const auto results = check(FaultyOps{fault}, net, rule, 3, 0);
      EXPECT_TRUE(passed(results, "tangent", "theta"));
      EXPECT_FALSE(passed(results, "tangent", "phi"));
      EXPECT_FALSE(passed(results, "differences", "phi"));
      EXPECT_FALSE(passed(results, "first-order tangent", "phi"));
    }
  }
}

}  // namespace
}  // namespace fewstep::testing
