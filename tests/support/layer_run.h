// One layer's kernels on guarded buffers.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_LAYER_RUN_H_
#define FEWSTEP_TESTS_SUPPORT_LAYER_RUN_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/ops.h"
#include "support/test_network.h"

namespace fewstep::testing {

/// An array between two runs of a value that nothing may overwrite.
template <class T>
class Guarded {
 public:
  explicit Guarded(size_t n) : values_(n + 2 * kGuard, T(kCanary)), n_(n) {}
  template <class X>
  explicit Guarded(const std::vector<X>& v) : Guarded(v.size()) {
    for (size_t i = 0; i < n_; ++i) data()[i] = static_cast<T>(v[i]);
  }
  T* data() { return values_.data() + kGuard; }
  size_t size() const { return n_; }
  std::vector<T> vector() const {
    return {values_.begin() + kGuard, values_.end() - kGuard};
  }
  bool intact() const {
    for (size_t i = 0; i < kGuard; ++i) {
      if (values_[i] != T(kCanary)) return false;
      if (values_[values_.size() - 1 - i] != T(kCanary)) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuard = 64;
  static constexpr float kCanary = 0x1.23456p100F;
  std::vector<T> values_;
  size_t n_;
};

struct Case {
  reference::Spec spec;
  reference::Shape input;
};

inline std::string describe(const Case& c, uint32_t n) {
  return std::string(to_string(op_of(c.spec.kind))) + " units " +
         std::to_string(c.spec.units) + " kernel " +
         std::to_string(c.spec.kernel) + " stride " +
         std::to_string(c.spec.stride) + " pad " + std::to_string(c.spec.pad) +
         " groups " + std::to_string(c.spec.groups) + " on " +
         std::to_string(c.input.c) + "x" + std::to_string(c.input.h) + "x" +
         std::to_string(c.input.w) + ", examples " + std::to_string(n);
}

inline Layer planned(const Case& c) {
  Network network;
  NetworkPlanner planner(static_cast<uint16_t>(c.input.c),
                         static_cast<uint16_t>(c.input.h),
                         static_cast<uint16_t>(c.input.w),
                         &network);
  Layer l = chosen(c.spec);
  EXPECT_EQ(planner.add(&l), Status::kOk) << planner.error();
  return l;
}

/// What one layer gives for one tile.
template <class T>
struct Outcome {
  std::vector<T> out, d_in, grad;
};

/// Buffers of one layer call, guarded, and the call.
template <class T>
struct Run {
  Run(const Layer& record,
      uint32_t n,
      const std::vector<float>& theta,
      const std::vector<float>& x)
      : layer(record),
        weights(theta.begin(), theta.end()),
        in(x),
        out(size_t{n} * record.n_out()),
        aux(size_t{n} * record.n_aux),
        grad(record.n_params()) {
    call.layer = &layer;
    call.n = n;
    call.weights = PlainView<T>{weights.data()}.raw();
    call.in = in.data();
    call.out = out.data();
    call.aux = aux.data();
    call.grad = grad.data();
    call.first = true;
  }
  bool intact() const {
    return in.intact() && out.intact() && aux.intact() && grad.intact();
  }

  Layer layer;
  std::vector<T> weights;
  Guarded<T> in, out, aux, grad;
  LayerCall<T> call = {};
};

/// Forward, then backward of dL/d(out) = `d`. `activation` is what the input
/// storage is said to hold.
template <class T>
Outcome<T> run_layer(const Case& c,
                     uint32_t n,
                     const std::vector<float>& theta,
                     const std::vector<float>& x,
                     const std::vector<float>& d,
                     LayerOp activation = LayerOp{}) {
  using W = PlainView<T>;
  Layer layer = planned(c);
  layer.in_activation = static_cast<uint8_t>(activation);
  Run<T> run(layer, n, theta, x);
  const SerialExecutor e;
  const AllOps ops;
  Outcome<T> o;
  // Flatten moves nothing: its input is its output.
  if (layer.op == LayerOp::kFlatten) run.call.out = run.call.in;
  ops.forward<W>(e, layer.op, run.call);
  o.out = layer.op == LayerOp::kFlatten ? run.in.vector() : run.out.vector();
  for (size_t i = 0; i < d.size(); ++i) run.call.out[i] = static_cast<T>(d[i]);
  ops.weight_gradient<W>(e, layer.op, run.call);
  o.grad = run.grad.vector();
  // Activations in storage of their own are handed the finished derivative.
  ops.input_gradient<W>(e, layer.op, run.call);
  o.d_in = run.in.vector();
  EXPECT_TRUE(run.intact()) << describe(c, n);
  return o;
}

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_LAYER_RUN_H_
