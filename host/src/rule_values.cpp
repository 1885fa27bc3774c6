// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/rule_values.h"

#include <algorithm>
#include <cstddef>

#include "fewstep/host/learned_mask.h"
#include "fewstep/host/philox.h"
#include "fewstep/numerics/elementary.h"

namespace fewstep::host {
namespace {

// Where the parts of phi begin: rates, then scalars (gains, or
// online_meta_sgd's root of beta), then moments; most rules have rates only.
struct Parts {
  uint32_t scalars;
  uint32_t moments;

  Parts(const Rule& rule, const Network& network)
      : scalars(n_scalars(rule.op) != 0 ? n_rates(rule, network)
                                        : logits_begin(rule, network)),
        moments(scalars + n_scalars(rule.op)) {}
};

// Of the streams of Purpose::kInitialization, those of layers are below.
constexpr uint32_t kRuleStream = 0x10000;

void fill_normal(Random* random, float deviation, float* to, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) to[i] = deviation * random->normal();
}

std::vector<float> initial_rate_net(const RateNetShape& s,
                                    float rate,
                                    uint64_t seed) {
  std::vector<float> phi(s.n_phi(), 0.0F);
  Random random(seed, 0, kRuleStream, Purpose::kInitialization);
  const auto he = [](uint32_t n_in) {
    return sqrt(2.0F / static_cast<float>(n_in));
  };
  fill_normal(&random, he(s.n_in()), phi.data(), s.hidden * s.n_in());
  fill_normal(&random, he(s.hidden), &phi[s.w2()], s.hidden * s.hidden);
  std::fill_n(phi.begin() + s.base(), s.n_tensors * s.steps, rate);
  return phi;
}

std::vector<float> initial_lstm(const LstmShape& s, float rate, uint64_t seed) {
  std::vector<float> phi(s.n_phi(), 0.0F);
  Random random(seed, 0, kRuleStream, Purpose::kInitialization);
  fill_normal(&random, 0.1F, phi.data(), s.biases());
  fill_normal(&random, 0.1F, &phi[s.size()], s.hidden);
  fill_normal(&random, 0.1F, &phi[s.direction()], s.hidden);
  std::fill_n(phi.begin() + s.biases() + s.hidden, s.hidden, 1.0F);
  phi[(3 * s.hidden) * LstmShape::kInputs + 1] = 1.0F;
  phi[s.direction()] = 1.0F;
  phi[s.size() + s.hidden] = log(rate / (1.0F - rate));
  return phi;
}

}  // namespace

int digit_of_eps(double eps) {
  constexpr double kPowers[] = {1.0,
                                1e-1,
                                1e-2,
                                1e-3,
                                1e-4,
                                1e-5,
                                1e-6,
                                1e-7,
                                1e-8,
                                1e-9,
                                1e-10,
                                1e-11,
                                1e-12,
                                1e-13,
                                1e-14,
                                1e-15};
  const auto* const found =
      std::find(std::begin(kPowers), std::end(kPowers), eps);
  return found == std::end(kPowers)
             ? -1
             : static_cast<int>(found - std::begin(kPowers));
}

Rule build_rule(const InnerRecipe& inner, const Network& network) {
  const RuleOp op = inner.rate_adaptation ? RuleOp::kOnlineMetaSgd : inner.rule;
  RuleOptions options;
  if (op == RuleOp::kOnlineMetaSgd) {
    options = online_options();
  } else if (n_means(inner.rule) != 0) {
    const int digit = inner.rule == RuleOp::kAdam ? digit_of_eps(inner.eps) : 0;
    options = mean_options(
        inner.rate_layout, inner.learn_moments, static_cast<uint8_t>(digit));
  } else if (inner.rule == RuleOp::kRateNet) {
    options = rate_net_options(static_cast<uint8_t>(inner.hidden), inner.decay);
  } else if (inner.rule == RuleOp::kLstm) {
    options = lstm_options(static_cast<uint8_t>(inner.hidden));
  }
  Rule rule =
      make_rule(op, static_cast<uint16_t>(inner.steps), network, options);
  rule.weight_decay = static_cast<float>(inner.weight_decay);
  rule.clip_norm = static_cast<float>(inner.clip_norm);
  if (inner.adapt == Adapt::kSparse && rule.n_phi != 0) {
    rule.learned_mask = true;
    rule.n_phi += network.n_adapted;
  }
  return rule;
}

std::vector<float> initial_phi(const InnerRecipe& inner,
                               uint64_t seed,
                               const Rule& rule,
                               const Network& network) {
  const float rate = static_cast<float>(inner.rate);
  if (rule.learned_mask) {
    Rule plain = rule;
    plain.learned_mask = false;
    plain.n_phi = logits_begin(rule, network);
    std::vector<float> phi = initial_phi(inner, seed, plain, network);
    phi.resize(rule.n_phi, static_cast<float>(inner.mask_start));
    return phi;
  }
  if (rule.op == RuleOp::kRateNet) {
    return initial_rate_net(
        rate_net_shape(network, rule.steps, rule.options), rate, seed);
  }
  if (rule.op == RuleOp::kLstm) {
    return initial_lstm({rule.options.hidden()}, rate, seed);
  }
  const Parts parts(rule, network);
  std::vector<float> phi(rule.n_phi, 0.0F);
  std::fill_n(phi.begin(), parts.scalars, rate);
  if (rule.op == RuleOp::kOnlineMetaSgd) {
    phi[parts.scalars] = exp(log(static_cast<float>(inner.rate_beta)) / 3.0F);
  }
  const double betas[] = {inner.beta1, inner.beta2};
  for (uint32_t j = 0; j < n_means(rule.op); ++j) {
    phi[parts.scalars + j] = static_cast<float>(1.0 - betas[j]);
  }
  if (rule.op == RuleOp::kAdam && rule.options.learned_moments()) {
    std::fill(phi.end() - std::ptrdiff_t{network.n_adapted},
              phi.end(),
              static_cast<float>(inner.rms));
  }
  project_phi(rule, network, &phi);
  return phi;
}

bool learns_phi(const InnerRecipe& inner) {
  return inner.learn_rate || inner.learn_beta || inner.learn_moments ||
         inner.adapt == Adapt::kSparse;
}

PhiElements phi_elements(const InnerRecipe& inner,
                         const Rule& rule,
                         const Network& network) {
  const Parts parts(rule, network);
  return {parts.scalars,
          parts.moments,
          logits_begin(rule, network),
          inner.learn_rate,
          inner.learn_beta,
          n_means(rule.op) != 0,
          kMinGain};
}

void freeze_phi(const InnerRecipe& inner,
                const Rule& rule,
                const Network& network,
                std::vector<float>* d_phi) {
  const PhiElements elements = phi_elements(inner, rule, network);
  for (uint32_t j = 0; j < d_phi->size(); ++j) {
    if (elements.is_frozen(j)) (*d_phi)[j] = 0.0F;
  }
}

void project_phi(const Rule& rule,
                 const Network& network,
                 std::vector<float>* phi) {
  const PhiElements elements = phi_elements({}, rule, network);
  for (uint32_t j = elements.scalars; j < elements.moments; ++j) {
    (*phi)[j] = elements.projected(j, (*phi)[j]);
  }
}

}  // namespace fewstep::host
