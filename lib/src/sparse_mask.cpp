// The mask of a capsule; apart from step_options.cpp so that firmware links it
// only when it names sparse_mask among its operations.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/sparse_mask.h"

#include "fewstep/capsule.h"
#include "fewstep/capsule_format.h"

namespace fewstep {
namespace {

// Parameters that adapt, of words whose ranks say how many lie before each; 0
// when they do not, or a bit beyond the last parameter is set.
uint32_t count_adapted(const MaskWord* words, uint32_t n_params) {
  uint32_t n = 0;
  for (uint32_t w = 0; w < n_mask_words(n_params); ++w) {
    if (words[w].rank != n) return 0;
    n += count_bits(words[w].bits);
  }
  const uint32_t beyond = n_params % 32;
  if (beyond != 0 && words[n_params / 32].bits >> beyond != 0) return 0;
  return n;
}

// What a mask costs the workspace besides the values of a network: a frozen
// batch norm has its sums where a split layer has its rows.
uint32_t extra_values(const Network& network) {
  uint32_t most = mask_scratch(network);
  bool below = true;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const Layer& l = network.layers[i];
    if (network.adapts(i)) below = false;
    if (below || l.op != LayerOp::kBatchNorm || network.adapts(i)) continue;
    if (l.n_params() > most) most = l.n_params();
  }
  return most;
}

// Takes a table with words, which hold n_adapted bits, into use.
void use_mask(const uint32_t* table, uint32_t n_adapted, Network* network) {
  network->adapted = table;
  network->n_adapted = n_adapted;
  network->masked = 1;
  network->n_aux_batch += extra_values(*network);
}

}  // namespace

Status plan_mask(MaskWord* words, uint32_t* table, Network* network) {
  const Network& n = *network;
  const uint32_t n_words = n_mask_words(n.n_params);
  uint32_t n_adapted = 0;
  for (uint32_t w = 0; w < n_words; ++w) {
    words[w].rank = n_adapted;
    n_adapted += count_bits(words[w].bits);
  }
  if (count_adapted(words, n.n_params) == 0) return Status::kBadArgument;
  MaskWord* const copy = reinterpret_cast<MaskWord*>(table + n.n_layers);
  for (uint32_t w = 0; w < n_words; ++w) copy[w] = words[w];
  Network masked = n;
  masked.adapted = table;
  masked.n_adapted = n_adapted;
  const MaskTable mask(masked);
  bool splits = false;
  for (uint32_t i = 0; i < n.n_layers; ++i) {
    const Layer& l = n.layers[i];
    const bool any = mask.count(l.param_offset, l.n_params()) != 0;
    table[i] = any ? mask.rank(l.param_offset) : kFrozen;
    splits = splits || mask.splits(l);
  }
  if (!splits) return plan_adapted(table, network);
  use_mask(table, n_adapted, network);
  return Status::kOk;
}

Status read_mask(const OptionsRecord& r,
                 uint32_t n_mask_bytes,
                 Capsule* capsule) {
  Network& network = capsule->network;
  if (r.n_layers != network.n_layers ||
      n_mask_bytes != n_mask_words(network.n_params) * sizeof(MaskWord)) {
    return Status::kBadCapsule;
  }
  const uint32_t* const table = reinterpret_cast<const uint32_t*>(&r + 1);
  const MaskWord* const words =
      reinterpret_cast<const MaskWord*>(table + r.n_layers);
  const uint32_t n = count_adapted(words, network.n_params);
  if (n == 0 || n != r.n_adapted) return Status::kBadCapsule;
  Network masked = network;
  masked.adapted = table;
  masked.n_adapted = n;
  const MaskTable mask(masked);
  bool splits = false;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const Layer& l = network.layers[i];
    const bool any = mask.count(l.param_offset, l.n_params()) != 0;
    if (table[i] != (any ? mask.rank(l.param_offset) : kFrozen)) {
      return Status::kBadCapsule;
    }
    splits = splits || mask.splits(l);
  }
  // A mask of whole layers is written without.
  if (!splits) return Status::kBadCapsule;
  use_mask(table, n, &network);
  return Status::kOk;
}

}  // namespace fewstep
