// Update rules: how a step turns gradients into new parameters.
//
// A rule is a type with `update` and, for meta-training, `vjp`, its
// vector-Jacobian product; adding one touches this folder only. Its learned
// quantities are one flat vector phi, shared by all parameters or one each, as
// the rule likes; the loss at theta_k is an input like the gradient is.
//
// Rules see what adapts (adapted.h) and nothing else: theta, the gradient, the
// state and phi alike are arrays of A = network->n_adapted parameters.
//
// Its state is n_state_per_param values a parameter. state_0 is the rule's own
// business (zero, or learned and then in phi) and needs no memory, nor does
// state_K, which nobody reads: so one step takes none.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_RULES_RULE_H_
#define FEWSTEP_RULES_RULE_H_

#include "fewstep/config.h"
#include "fewstep/network.h"
#include "fewstep/rules/shapes.h"

namespace fewstep {

/// Update rules. Values are part of the capsule format.
enum class RuleOp : uint8_t {
  kSgd = 1,      ///< theta - alpha g, one rate.
  kLslr = 2,     ///< theta - alpha[tensor][k] g, [n_tensors][steps] rates.
  kMetaSgd = 3,  ///< theta - alpha * g, one rate per parameter.
  // Along running means, at rates of any layout.
  kMomentum = 4,  ///< theta - alpha v, v a running mean of g.
  kAdam = 5,      ///< theta - alpha m / sqrt(v), running means of g and g^2.
  kRateNet = 6,   ///< Rates from a small network of the task's statistics.
  kLstm = 7,      ///< Steps from an LSTM of each parameter's gradient.
  kOnlineMetaSgd = 8,  ///< kMetaSgd with rates that change from step to step.
};

/// Which parameters share a rate, where phi starts with rates.
enum class RateLayout : uint8_t {
  kScalar = 0,      ///< One.
  kTensorStep = 1,  ///< One per parameter tensor and step, [tensor][step].
  kParameter = 2,   ///< One per parameter.
};

/// What is chosen of a rule besides its operation, as capsules store it.
struct RuleOptions {
  uint16_t bits = 0;

  /// Some of phi is for one step each: no more steps than the rule was trained
  /// for.
  FEWSTEP_HD constexpr bool per_step() const { return (bits & kPerStep) != 0; }
  /// rate_net: sets decays too.
  FEWSTEP_HD constexpr bool decay() const { return (bits & kDecay) != 0; }
  /// momentum, adam, online_meta_sgd.
  FEWSTEP_HD constexpr RateLayout layout() const {
    return static_cast<RateLayout>(bits & 3U);
  }
  /// momentum, adam: state_0 is learned, and not zero.
  FEWSTEP_HD constexpr bool learned_moments() const {
    return (bits & kLearnedMoments) != 0;
  }
  /// adam: eps = 10^-eps_digit.
  FEWSTEP_HD constexpr uint32_t eps_digit() const { return bits >> 8U; }
  /// rate_net, lstm: H, hidden units.
  FEWSTEP_HD constexpr uint32_t hidden() const { return bits >> 8U; }

  static constexpr uint16_t kPerStep = 1U << 7U;
  static constexpr uint16_t kDecay = 1U << 3U;
  static constexpr uint16_t kLearnedMoments = 1U << 2U;
  static constexpr uint32_t kMaxEpsDigit = 15;
};

/// The options of momentum (eps_digit 0) and adam (0 to kMaxEpsDigit).
FEWSTEP_HD constexpr RuleOptions mean_options(RateLayout layout,
                                              bool learned_moments,
                                              uint8_t eps_digit = 0) {
  const uint32_t bits =
      static_cast<uint32_t>(layout) |
      (learned_moments ? RuleOptions::kLearnedMoments : 0U) |
      (layout == RateLayout::kTensorStep ? RuleOptions::kPerStep : 0U) |
      eps_digit * 256U;
  return {static_cast<uint16_t>(bits)};
}

/// The options of an online_meta_sgd: that phi starts with a rate a parameter.
FEWSTEP_HD constexpr RuleOptions online_options() {
  return mean_options(RateLayout::kParameter, false);
}

/// The options of a rate_net.
FEWSTEP_HD constexpr RuleOptions rate_net_options(uint8_t hidden, bool decay) {
  const uint32_t bits = hidden * 256U + RuleOptions::kPerStep +
                        (decay ? RuleOptions::kDecay : 0U);
  return {static_cast<uint16_t>(bits)};
}

/// The options of an lstm.
FEWSTEP_HD constexpr RuleOptions lstm_options(uint8_t hidden) {
  return {static_cast<uint16_t>(hidden * 256U)};
}

/// A rule as a network uses it: its operation and sizes.
struct Rule {
  RuleOp op;
  bool learned_mask;  ///< While training: phi ends in one logit for each
                      ///< parameter (host/learned_mask.h). A capsule has the
                      ///< mask (sparse_mask.h), and this is false.
  uint16_t steps;     ///< K it was trained for.
  RuleOptions options;
  uint32_t n_phi;              ///< Learned values: the length of phi.
  uint16_t n_state_per_param;  ///< Values of state per parameter.
  uint16_t n_scratch;          ///< Values of scratch memory of an update.
  float weight_decay;          ///< lambda >= 0 of step_options.h; 0: none.
  float clip_norm;             ///< c >= 0 of step_options.h; 0: none.

  /// Whether the rule sees another gradient than the loss has.
  FEWSTEP_HD constexpr bool has_step_options() const {
    return weight_decay != 0.0F || clip_norm != 0.0F;
  }
};

/// Whether a session may take no more than rule.steps steps.
FEWSTEP_HD constexpr bool bounds_steps(const Rule& rule) {
  return rule.op == RuleOp::kLslr || rule.options.per_step();
}

/// Rates at the start of phi in a layout.
FEWSTEP_HD constexpr uint32_t n_rates(RateLayout layout,
                                      uint16_t steps,
                                      const Network& network) {
  switch (layout) {
    case RateLayout::kScalar: break;
    case RateLayout::kTensorStep:
      return uint32_t{network.n_adapted_tensors()} * steps;
    case RateLayout::kParameter: return network.n_adapted;
  }
  return 1;
}
/// The same of a momentum or adam, where the gains of the means follow, or an
/// online_meta_sgd, where beta's cube root does.
FEWSTEP_HD constexpr uint32_t n_rates(const Rule& rule,
                                      const Network& network) {
  return n_rates(rule.options.layout(), rule.steps, network);
}

/// Running means of a rule.
FEWSTEP_HD constexpr uint32_t n_means(RuleOp op) {
  return op == RuleOp::kMomentum ? 1 : op == RuleOp::kAdam ? 2 : 0;
}

/// Learned scalars behind the rates: gains, or the cube root of beta.
FEWSTEP_HD constexpr uint32_t n_scalars(RuleOp op) {
  return op == RuleOp::kOnlineMetaSgd ? 1 : n_means(op);
}

/// The rate_net of a rule.
FEWSTEP_HD constexpr RateNetShape rate_net_shape(const Network& network,
                                                 uint16_t steps,
                                                 RuleOptions options) {
  return {
      network.n_adapted_tensors(), steps, options.hidden(), options.decay()};
}

/// The rule `op` for what adapts of `network` and `steps` >= 1 steps, without
/// weight decay and clipping; n_phi = 0 where there is none with such options.
FEWSTEP_HD constexpr Rule make_rule(RuleOp op,
                                    uint16_t steps,
                                    const Network& network,
                                    RuleOptions options = {}) {
  Rule rule = {op, false, steps, options, 0, 0, 0, 0.0F, 0.0F};
  switch (op) {
    case RuleOp::kSgd: rule.n_phi = options.bits == 0 ? 1 : 0; break;
    case RuleOp::kLslr:
      if (options.bits == 0)
        rule.n_phi = uint32_t{network.n_adapted_tensors()} * steps;
      break;
    case RuleOp::kMetaSgd:
      if (options.bits == 0) rule.n_phi = network.n_adapted;
      break;
    case RuleOp::kMomentum:
    case RuleOp::kAdam: {
      // phi: rates, a gain for each mean, and with learned moments their
      // start, [n_means][P].
      const uint32_t most = op == RuleOp::kAdam ? RuleOptions::kMaxEpsDigit : 0;
      const RuleOptions same =
          mean_options(options.layout(),
                       options.learned_moments(),
                       static_cast<uint8_t>(options.eps_digit()));
      if (options.bits != same.bits || options.eps_digit() > most ||
          options.layout() > RateLayout::kParameter) {
        break;
      }
      const uint32_t n = n_means(op);
      const uint32_t learned =
          options.learned_moments() ? network.n_adapted : 0;
      // Below 2^32 + 2^28.
      const uint64_t n_phi =
          uint64_t{n_rates(options.layout(), steps, network)} +
          n * (1U + learned);
      if (n_phi > 0xffffffff) break;
      rule.n_phi = static_cast<uint32_t>(n_phi);
      rule.n_state_per_param = static_cast<uint16_t>(n);
      break;
    }
    case RuleOp::kOnlineMetaSgd:
      if (options.bits != online_options().bits) break;
      rule.n_phi = network.n_adapted + 1;
      rule.n_state_per_param = 2;
      break;
    case RuleOp::kRateNet: {
      const RuleOptions same = rate_net_options(
          static_cast<uint8_t>(options.hidden()), options.decay());
      const RateNetShape s = rate_net_shape(network, steps, options);
      if (options.bits != same.bits || options.hidden() == 0 ||
          !network.adapts_in_one_piece()) {
        break;
      }
      // With at most 255 hidden units and 2^16 tensors and steps it is below
      // 2^34.
      if (s.n_phi() > kMaxLearnedValues || s.n_values() > 0xffff) break;
      rule.n_phi = static_cast<uint32_t>(s.n_phi());
      rule.n_scratch = static_cast<uint16_t>(s.n_values());
      break;
    }
    case RuleOp::kLstm: {
      const LstmShape s = {options.hidden()};
      const RuleOptions same =
          lstm_options(static_cast<uint8_t>(options.hidden()));
      if (options.bits != same.bits || s.hidden == 0 ||
          s.hidden > LstmShape::kMaxHidden) {
        break;
      }
      rule.n_phi = s.n_phi();
      rule.n_state_per_param = static_cast<uint16_t>(s.n_state());
      break;
    }
  }
  return rule;
}

/// Whether a capsule's rule is what make_rule() made of it.
FEWSTEP_HD constexpr bool matches(const Rule& rule, const Rule& made) {
  return made.n_phi != 0 &&
         ((made.n_phi ^ rule.n_phi) |
          static_cast<uint32_t>(made.n_state_per_param ^
                                rule.n_state_per_param) |
          static_cast<uint32_t>(made.n_scratch ^ rule.n_scratch)) == 0;
}

/// Whether the loss at theta_k enters the update, so that the meta-gradient has
/// a term loss_bar g_k.
FEWSTEP_HD constexpr bool uses_loss(RuleOp op) {
  switch (op) {
    case RuleOp::kSgd:
    case RuleOp::kLslr:
    case RuleOp::kMetaSgd:
    case RuleOp::kMomentum:
    case RuleOp::kAdam:
    case RuleOp::kOnlineMetaSgd: return false;
    case RuleOp::kRateNet:
    case RuleOp::kLstm: return true;
  }
  return false;
}

/// Values of scratch memory that a vector-Jacobian product needs.
FEWSTEP_HD constexpr uint64_t vjp_scratch(const Rule& rule,
                                          const Network& network) {
  if (rule.op == RuleOp::kLstm) {
    return uint64_t{network.n_adapted} *
           LstmShape{rule.options.hidden()}.n_scratch();
  }
  return uint64_t{2} * rule.n_scratch;
}

/// Name used by recipes and reports, e.g. "meta_sgd"; never null.
const char* to_string(RuleOp op);

/// Arguments of one update, of a window of parameters: all of them, but where
/// what adapts of theta_0 lies in pieces and is not copied (on a device). A
/// rate_net, which must see all tensors at once, has no such networks.
template <class T>
struct RuleCall {
  const Network* network;
  const Rule* rule;
  uint32_t step;   ///< k, 0-based.
  const T* loss;   ///< Support loss at theta_k.
  T* grad;         ///< [A] g_k in, theta_{k+1} out.
  const T* state;  ///< [A * n_state_per_param] state_k; null at k = 0.
  T* next_state;   ///< state_{k+1}, may be `state`; null where nobody reads it.
  T* scratch;      ///< [n_scratch], or null.
  uint32_t begin;  ///< The window: parameters [begin, begin + n) ...
  uint32_t n;      ///< ... and no other is looked at.
};

/// Arguments of a vector-Jacobian product. Bars are derivatives of the outer
/// loss: on entry with respect to theta_{k+1} and state_{k+1}, on return with
/// respect to theta_k and state_k; at k = 0 what reaches state_0 goes to
/// phi_bar, as far as it is learned.
template <class T>
struct RuleVjpCall {
  const Network* network;
  const Rule* rule;
  uint32_t step;   ///< k, 0-based.
  const T* loss;   ///< Support loss at theta_k.
  const T* grad;   ///< [A] g_k.
  const T* state;  ///< [A * n_state_per_param] state_k; null at k = 0.
  T* theta_bar;    ///< [A] in and out.
  T* state_bar;    ///< [A * n_state_per_param] in and out; null without state.
  T* grad_bar;     ///< [A] written.
  T* loss_bar;     ///< Written.
  T* phi_bar;      ///< [n_phi] added to.
  bool fixed_phi;  ///< Nobody learns phi: phi_bar need not be added to.
  T* scratch;      ///< [vjp_scratch()], or null.
};

/// f(tensor, first parameter, count) for every tensor of the parameters
/// [begin, begin + n), counted among what adapts.
template <class F>
FEWSTEP_INLINE void for_each_tensor(const Network& network,
                                    uint32_t begin,
                                    uint32_t n,
                                    const F& f) {
  uint32_t tensor = 0;
  uint32_t at = 0;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const Layer& l = network.layers[i];
    if (l.n_params() == 0) continue;
    if (network.adapted != nullptr && network.adapted[i] == kFrozen) continue;
    if (at - begin < n) {  // Not so below `begin` either.
      f(tensor, at, l.n_weights);
      f(tensor + 1, at + l.n_weights, l.n_biases);
    }
    tensor += 2;
    at += l.n_params();
  }
}
/// The same for all of them.
template <class F>
FEWSTEP_INLINE void for_each_tensor(const Network& network, const F& f) {
  for_each_tensor(network, 0, network.n_adapted, f);
}

}  // namespace fewstep

#endif  // FEWSTEP_RULES_RULE_H_
