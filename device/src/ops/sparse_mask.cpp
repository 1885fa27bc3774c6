// Firmware with masks: single parameters adapt, and the others take no RAM.
//
// Naming this object among a program's operations links, in place of the weak
// versions in step_options.cpp, the passes of a session below and the reader of
// the capsule's mask.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/sparse_mask.h"

#include "../op_table.h"
#include "fewstep/device/session.h"
#include "fewstep/inner_loop.h"
#include "fewstep/step_options.h"

extern "C" constexpr fewstep_op fewstep_op_sparse_mask{
    fewstep::OpKind::kSparseMask};

namespace fewstep {
namespace {

// Makes the linker take step_options.cpp, which calls what is below, and
// sparse_mask.cpp of lib/.
__attribute__((used)) const fewstep_op* const kCaller =
    &fewstep_op_step_options;
__attribute__((used))
Status (*const kReader)(MaskWord*, uint32_t*, Network*) = &plan_mask;

struct PlainFloats {
  StoredView operator()(const float* values) const { return {values, false}; }
};
using PartOps = MaskedOps<TableOps, StoredView, PlainFloats>;

// At the end of the workspace, where use_mask() has made room.
float* scratch_of(const Network& network, const Workspace<float>& ws) {
  return ws.values + workspace_values(network, ws.tile) - mask_scratch(network);
}

// `array` from element `n` on, also where that is before its first one and
// only later ones are looked at.
const void* shifted(const void* array, uintptr_t n, uint32_t bytes) {
  return reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(array) +
                                       n * bytes);
}

// Rules count tensors, and know where each begins, by a network's layers. A
// part of one tensor of a masked network looks to them like one of these two,
// behind all that adapts before it.
struct TensorNetwork {
  Network network;
  Layer layers[2];
  StoredArray phi;

  // Tensor `tensor` of those of layers that adapt; [begin, begin + n) of what
  // adapts is a part of it.
  TensorNetwork(const Network& masked,
                const Rule& rule,
                const StoredArray& all_phi,
                uint32_t tensor,
                uint32_t begin,
                uint32_t n)
      : network(masked), layers{}, phi(all_phi) {
    const uint32_t pair = tensor & ~1U;
    const uint32_t before = begin != 0 ? 2 : 0;
    network.layers = layers;
    network.n_layers = 2;
    network.adapted = nullptr;
    network.masked = 0;
    network.n_tensors =
        static_cast<uint16_t>(masked.n_adapted_tensors() - pair + before);
    layers[0].n_weights = begin;
    (tensor == pair ? layers[1].n_weights : layers[1].n_biases) = n;
    // Rates of a tensor and step: phi starts at those of the first of the two.
    if (!bounds_steps(rule)) return;
    const uintptr_t rates = (uintptr_t{pair} - before) * rule.steps;
    phi.data = shifted(
        phi.data, rates, 1U << (3 - static_cast<uint32_t>(phi.storage)));
  }
};

}  // namespace

MaskedView<StoredView> Session::masked_theta() const {
  const bool f16 = capsule_.init.storage == Storage::kF16;
  return {{capsule_.init.data, f16}, theta(), current_ == kTheta0};
}

void Session::masked_forward(const float* x, uint32_t n) {
  const Network& network = capsule_.network;
  const TableOps table = {ops_};
  const MaskedView<StoredView> view = masked_theta();
  const PartOps ops(
      table, network, view, PlainFloats(), scratch_of(network, workspace()));
  forward(SerialExecutor(), ops, network, view, workspace(), x, n);
}

void Session::masked_backward(const float* x, uint32_t n) {
  const Network& network = capsule_.network;
  const TableOps table = {ops_};
  const MaskedView<StoredView> view = masked_theta();
  const PartOps ops(
      table, network, view, PlainFloats(), scratch_of(network, workspace()));
  backward(SerialExecutor(),
           ops,
           network,
           view,
           workspace(),
           x,
           n,
           next_ == 0,
           buffer(dest_));
}

// Weight decay and clipping, as apply_step_options(): the norm's sum is over
// what adapts, in the order of theta.
void Session::masked_options(float* grad) {
  const Network& network = capsule_.network;
  const Rule& rule = capsule_.rule;
  const MaskTable mask(network);
  const MaskedView<StoredView> view = masked_theta();
  if (rule.weight_decay != 0.0F) {
    const float twice = 2.0F * rule.weight_decay;
    mask.for_each(0, network.n_params, [&](uint32_t i, uint32_t rank, bool on) {
      if (!on) return;
      const float theta =
          view.at_initial ? view.initial(i) : view.current(rank);
      grad[rank] = fma(twice, theta, grad[rank]);
    });
  }
  if (rule.clip_norm == 0.0F) return;
  uint32_t rank = 0;
  const float norm =
      sqrt(partial_sum<float>(network.n_params, [&](uint32_t i, float s) {
        if (!mask.adapts(i)) return s;
        const float g = grad[rank++];
        return fma(g, g, s);
      }));
  const float scale =
      select(less_equal(norm, rule.clip_norm), 1.0F, rule.clip_norm / norm);
  for (uint32_t i = 0; i < network.n_adapted; ++i) grad[i] = scale * grad[i];
}

// Tensor by tensor; at theta_0, which lies in pieces, as much at a time as the
// scratch memory has room for.
void Session::masked_update(const RuleCall<float>& call) {
  const Network& network = capsule_.network;
  const Rule& rule = capsule_.rule;
  const MaskTable mask(network);
  const MaskedView<StoredView> view = masked_theta();
  if (rule.has_step_options()) masked_options(call.grad);
  float* const scratch = scratch_of(network, workspace());
  const uint32_t room =
      view.at_initial ? mask_scratch(network) : network.n_adapted;
  uint32_t tensor = 0;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const Layer& l = network.layers[i];
    if (!network.adapts(i)) continue;
    for (uint32_t t = 0; t < 2; ++t, ++tensor) {
      uint32_t at = l.param_offset + (t != 0 ? l.n_weights : 0);
      const uint32_t end = at + (t != 0 ? l.n_biases : l.n_weights);
      uint32_t begin = mask.rank(at);
      const uint32_t rank_end = mask.rank(end);
      while (begin != rank_end) {
        const uint32_t n = rank_end - begin < room ? rank_end - begin : room;
        StoredView theta = view.current;
        if (view.at_initial) {
          for (uint32_t j = 0; j < n; ++at) {
            if (mask.adapts(at)) scratch[j++] = view.initial(at);
          }
          theta = {shifted(scratch, uintptr_t{0} - begin, sizeof(float)),
                   false};
        }
        const TensorNetwork part(
            network, rule, capsule_.rates, tensor, begin, n);
        RuleCall<float> c = call;
        c.network = &part.network;
        c.begin = begin;
        c.n = n;
        TableOps{ops_}.update(SerialExecutor(), c, theta, part.phi);
        begin += n;
      }
    }
  }
}

float Session::masked_parameter(uint32_t i) const {
  return masked_theta()(MaskTable(capsule_.network), i);
}

}  // namespace fewstep
