// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/mask_packing.h"

#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/learned_mask.h"

namespace fewstep::host {

MaskedNetwork::MaskedNetwork(const Network& whole,
                             std::span<const float> logits)
    : network(whole) {
  std::vector<MaskWord> words(n_mask_words(whole.n_params));
  for (uint32_t i = 0; i < whole.n_params; ++i) {
    if (mask_of(logits[i]) != 0) words[i / 32].bits |= 1U << i % 32;
  }
  table.resize(whole.n_layers + 2 * words.size());
  adapts = plan_mask(words.data(), table.data(), &network) == Status::kOk;
}

std::vector<uint32_t> kept_phi(const Rule& rule,
                               const Network& whole,
                               const Network& masked) {
  std::vector<uint32_t> kept;
  const auto keep = [&](uint32_t begin, uint32_t n) {
    for (uint32_t j = 0; j < n; ++j) kept.push_back(begin + j);
  };
  const auto keep_parameters = [&](uint32_t begin) {
    for (uint32_t l = 0; l < whole.n_layers; ++l) {
      if (!masked.adapts(l)) continue;
      const Layer& layer = whole.layers[l];
      for (uint32_t j = 0; j < layer.n_params(); ++j) {
        const uint32_t i = layer.param_offset + j;
        if (masked.masked == 0 || MaskTable(masked).adapts(i)) {
          keep(begin + i, 1);
        }
      }
    }
  };
  const auto keep_rates = [&](RateLayout layout) {
    if (layout == RateLayout::kScalar) keep(0, 1);
    if (layout == RateLayout::kParameter) keep_parameters(0);
    if (layout != RateLayout::kTensorStep) return;
    for (uint32_t l = 0; l < whole.n_layers; ++l) {
      if (!masked.adapts(l)) continue;
      keep(uint32_t{whole.layers[l].tensor} * rule.steps, 2U * rule.steps);
    }
  };
  switch (rule.op) {
    case RuleOp::kSgd: keep_rates(RateLayout::kScalar); break;
    case RuleOp::kLslr: keep_rates(RateLayout::kTensorStep); break;
    case RuleOp::kMetaSgd: keep_rates(RateLayout::kParameter); break;
    case RuleOp::kMomentum:
    case RuleOp::kAdam: {
      keep_rates(rule.options.layout());
      const uint32_t gains = n_rates(rule, whole);
      const uint32_t n = n_means(rule.op);
      keep(gains, n);
      for (uint32_t j = 0; rule.options.learned_moments() && j < n; ++j) {
        keep_parameters(gains + n + j * whole.n_params);
      }
      break;
    }
    case RuleOp::kOnlineMetaSgd:
      keep_parameters(0);
      keep(whole.n_params, 1);
      break;
    case RuleOp::kRateNet:
    case RuleOp::kLstm: keep(0, logits_begin(rule, whole)); break;
  }
  return kept;
}

Unmasked unmask(const Capsule& capsule) {
  const Network& masked = capsule.network;
  Unmasked u = {masked, {}, {}};
  Network& whole = u.network;
  whole.adapted = nullptr;
  whole.masked = 0;
  whole.n_adapted = whole.n_params;
  whole.n_aux_batch = 0;
  for (uint32_t l = 0; l < whole.n_layers; ++l) {
    if (whole.layers[l].op != LayerOp::kBatchNorm) continue;
    whole.n_aux_batch += whole.layers[l].n_aux;
  }
  const Rule& rule = capsule.rule;
  u.rule = make_rule(rule.op, rule.steps, whole, rule.options);
  u.rule.weight_decay = rule.weight_decay;
  u.rule.clip_norm = rule.clip_norm;
  const std::vector<uint32_t> kept = kept_phi(u.rule, whole, masked);
  const std::vector<float> phi = decode_rates(capsule);
  u.phi.assign(u.rule.n_phi, 0.0F);
  for (size_t j = 0; j < kept.size(); ++j) u.phi[kept[j]] = phi[j];
  const MaskTable mask(masked);
  for (uint32_t i = 0; i < whole.n_params; ++i) {
    u.phi.push_back(mask.adapts(i) ? 1.0F : -1.0F);
  }
  u.rule.learned_mask = true;
  u.rule.n_phi += whole.n_params;
  return u;
}

}  // namespace fewstep::host
