// Firmware with step options: part of the parameters adapt, weight decay,
// clipping.
//
// Naming this object among a program's operations links, in place of the weak
// versions, the passes of a session below and the reader of the capsule's
// section; whoever does not name it pays nothing, and open() refuses capsules
// that need it. What is frozen is read in the capsule and takes no RAM.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/step_options.h"

#include "../op_table.h"
#include "fewstep/device/session.h"
#include "fewstep/inner_loop.h"

extern "C" constexpr fewstep_op fewstep_op_step_options{
    fewstep::OpKind::kStepOptions};

namespace fewstep {
namespace {

// Makes the linker take step_options.cpp of lib/.
__attribute__((used))
Status (*const kReader)(uint32_t*, Network*) = &plan_adapted;

}  // namespace

AdaptedView<StoredView> Session::adapted_theta() const {
  const bool f16 = capsule_.init.storage == Storage::kF16;
  return {{capsule_.init.data, f16}, theta(), current_ == kTheta0};
}

// What programs link that have no masks, and never call: their read_options()
// refuses them.
__attribute__((weak)) void Session::masked_forward(const float*, uint32_t) {}
__attribute__((weak)) void Session::masked_backward(const float*, uint32_t) {}
__attribute__((weak)) void Session::masked_update(const RuleCall<float>&) {}
__attribute__((weak)) float Session::masked_parameter(uint32_t) const {
  return 0.0F;
}

void Session::run_forward(const float* x, uint32_t n) {
  if (capsule_.network.masked != 0) return masked_forward(x, n);
  forward(SerialExecutor(),
          TableOps{ops_},
          capsule_.network,
          adapted_theta(),
          workspace(),
          x,
          n);
}

void Session::run_backward(const float* x, uint32_t n) {
  if (capsule_.network.masked != 0) return masked_backward(x, n);
  backward(SerialExecutor(),
           TableOps{ops_},
           capsule_.network,
           adapted_theta(),
           workspace(),
           x,
           n,
           next_ == 0,
           buffer(dest_));
}

void Session::run_update(const RuleCall<float>& call) {
  if (capsule_.network.masked != 0) return masked_update(call);
  float scale = 1.0F;
  step_adapted(SerialExecutor(),
               TableOps{ops_},
               call,
               theta(),
               current_ == kTheta0,
               capsule_.rates,
               &scale);
}

float Session::parameter(uint32_t i) const {
  const Network& network = capsule_.network;
  if (!open_ || i >= network.n_params) return 0.0F;
  if (network.masked != 0) return masked_parameter(i);
  const Layer* l = network.layers;
  while (i - l->param_offset >= l->n_params()) ++l;
  return adapted_theta().layer(network, *l)(i - l->param_offset);
}

}  // namespace fewstep
