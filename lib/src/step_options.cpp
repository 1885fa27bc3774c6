// What adapts, and the capsule section that says so; apart from capsule.cpp so
// that firmware links it only when it names step_options among its operations.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/adapted.h"
#include "fewstep/capsule.h"
#include "fewstep/capsule_format.h"
#include "fewstep/numerics/real.h"

namespace fewstep {
namespace {

// Finite, and neither negative nor -0.
bool is_magnitude(float x) { return to_bits(x) < 0x7f800000U; }

struct Counts {
  uint32_t params, batch_norm;
};

// f(layer, the table's entry for it) over `network`, and what adapts in all.
// f gives whether the layer is frozen.
template <class F>
Counts count_adapted(const Network& network, const F& f) {
  Counts n = {0, 0};
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const Layer& l = network.layers[i];
    if (f(i, l.n_params() == 0, n.params)) {
      if (l.op == LayerOp::kBatchNorm && n.params != 0 &&
          n.batch_norm < l.n_params()) {
        n.batch_norm = l.n_params();
      }
      continue;
    }
    n.params += l.n_params();
  }
  return n;
}

// Takes `adapted`, which has been checked, into use.
void use_adapted(const uint32_t* adapted, const Counts& n, Network* network) {
  network->adapted = adapted;
  network->n_adapted = n.params;
  network->n_aux_batch += n.batch_norm;
}

}  // namespace

// What programs link that have no masks; sparse_mask.cpp has the other.
__attribute__((weak)) Status read_mask(const OptionsRecord&,
                                       uint32_t,
                                       Capsule*) {
  return Status::kUnsupportedOperation;
}

Status plan_adapted(uint32_t* adapted, Network* network) {
  const auto frozen = [&](uint32_t i, bool empty, uint32_t) {
    return empty || adapted[i] == kFrozen;
  };
  const Counts n = count_adapted(*network, frozen);
  if (n.params == 0) return Status::kBadArgument;
  if (n.params == network->n_params) return Status::kOk;
  count_adapted(*network, [&](uint32_t i, bool empty, uint32_t begin) {
    adapted[i] = frozen(i, empty, 0) ? kFrozen : begin;
    return adapted[i] == kFrozen;
  });
  use_adapted(adapted, n, network);
  return Status::kOk;
}

Status read_options(const void* section, uint32_t n_bytes, Capsule* capsule) {
  Rule& rule = capsule->rule;
  Network& network = capsule->network;
  rule.weight_decay = 0.0F;
  rule.clip_norm = 0.0F;
  if (section == nullptr) return Status::kOk;
  const OptionsRecord& r = *static_cast<const OptionsRecord*>(section);
  if (n_bytes < sizeof r ||
      (n_bytes - sizeof r) / sizeof(uint32_t) < r.n_layers ||
      !is_magnitude(r.weight_decay) || !is_magnitude(r.clip_norm)) {
    return Status::kBadCapsule;
  }
  rule.weight_decay = r.weight_decay;
  rule.clip_norm = r.clip_norm;
  capsule->model_hash = fnv1a(section, n_bytes, capsule->model_hash);
  const uint32_t n_more =
      n_bytes - static_cast<uint32_t>(sizeof r + r.n_layers * sizeof(uint32_t));
  if (n_more != 0) return read_mask(r, n_more, capsule);
  if (r.n_layers == 0) {
    const bool fine =
        r.n_adapted == network.n_params && rule.has_step_options();
    return fine ? Status::kOk : Status::kBadCapsule;
  }
  if (r.n_layers != network.n_layers) return Status::kBadCapsule;
  // All of it follows from which layers are frozen.
  const uint32_t* const adapted = reinterpret_cast<const uint32_t*>(&r + 1);
  bool fine = true;
  const Counts n =
      count_adapted(network, [&](uint32_t i, bool empty, uint32_t begin) {
        const bool frozen = adapted[i] == kFrozen;
        fine = fine && (frozen || (!empty && adapted[i] == begin));
        return empty || frozen;
      });
  if (!fine || n.params == 0 || n.params == network.n_params ||
      n.params != r.n_adapted) {
    return Status::kBadCapsule;
  }
  use_adapted(adapted, n, &network);
  return Status::kOk;
}

}  // namespace fewstep
