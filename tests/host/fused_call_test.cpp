// What a call may ask of a dense layer besides (FusedCall): the same bits as
// the passes that it replaces.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/host/lanes.h"
#include "fewstep/inner_loop.h"
#include "lane_ops.h"
#include "support/layer_run.h"
#include "support/test_network.h"

namespace fewstep::testing {
namespace {

std::vector<Lanes> random_lanes(Uniform& uniform, size_t count) {
  std::vector<Lanes> v(count);
  for (Lanes& x : v) {
    for (int l = 0; l < kLanes; ++l) set_lane(&x, l, uniform());
  }
  return v;
}

void expect_same_lanes(const std::vector<Lanes>& a,
                       const std::vector<Lanes>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    for (int l = 0; l < kLanes; ++l) {
      ASSERT_EQ(to_bits(lane(a[i], l)), to_bits(lane(b[i], l))) << i;
    }
  }
}

// Added to where they are to go: the same sums, and `grad` is not touched.
TEST(FusedCall, DenseLayersAddTheirTangents) {
  using D = Dual<Lanes>;
  using Tangents = TangentView<DualView<PlainView<Lanes>>>;
  for (const int n_in : {1, 3, 11}) {
    for (const int n_out : {1, 4, 7}) {
      for (const bool of_network : {true, false}) {
        SCOPED_TRACE(std::to_string(n_in) + " to " + std::to_string(n_out));
        const Layer layer = planned({reference::dense(n_out), {n_in, 1, 1}});
        constexpr uint32_t n = 6;
        Uniform uniform(static_cast<uint32_t>(n_in * 10 + n_out));
        const auto lanes = [&](size_t count) {
          return random_lanes(uniform, count);
        };
        const auto duals = [&](size_t count) {
          const std::vector<Lanes> a = lanes(count), b = lanes(count);
          std::vector<D> v(count);
          for (size_t i = 0; i < count; ++i) v[i] = {a[i], b[i]};
          return v;
        };
        const std::vector<Lanes> x = lanes(n * layer.n_in());
        std::vector<D> in = duals(n * layer.n_in());
        std::vector<D> out = duals(n * layer.n_out());
        std::vector<D> grad = duals(layer.n_params());
        std::vector<Lanes> sums = lanes(layer.n_params());
        const std::vector<Lanes> before = sums;
        LayerCall<D> c = {};
        c.layer = &layer;
        c.n = n;
        c.x = of_network ? x.data() : nullptr;
        c.in = in.data();
        c.out = out.data();
        c.grad = grad.data();
        c.first = true;
        host::LaneOps().weight_gradient<Tangents>(
            SerialExecutor(), LayerOp::kDense, c);
        const std::vector<D> expected = grad;
        c.tangents = sums.data();
        c.first = false;  // Says nothing here.
        host::LaneOps().weight_gradient<Tangents>(
            SerialExecutor(), LayerOp::kDense, c);
        for (uint32_t i = 0; i < layer.n_params(); ++i) {
          for (int l = 0; l < kLanes; ++l) {
            ASSERT_EQ(
                to_bits(lane(sums[i], l)),
                to_bits(lane(before[i], l) + lane(expected[i].tangent, l)));
            ASSERT_EQ(to_bits(lane(grad[i].tangent, l)),
                      to_bits(lane(expected[i].tangent, l)));
          }
        }
      }
    }
  }
}
// A step of gradient descent, or its bar, where the gradient would be written.
TEST(FusedCall, DenseLayersTakeTheStep) {
  const auto check = [](auto view, int n_in, int n_out, bool of_network) {
    using W = decltype(view);
    SCOPED_TRACE(std::to_string(n_in) + " to " + std::to_string(n_out));
    const Layer layer = planned({reference::dense(n_out), {n_in, 1, 1}});
    const uint32_t n_params = layer.n_params();
    constexpr uint32_t n = 6;
    Uniform uniform(static_cast<uint32_t>(n_in * 10 + n_out));
    const std::vector<Lanes> x = random_lanes(uniform, n * layer.n_in());
    std::vector<Lanes> out = random_lanes(uniform, n * layer.n_out());
    std::vector<Lanes> grad(n_params), result(n_params), bar(n_params);
    const Lanes rate = random_lanes(uniform, 1)[0];
    std::vector<Lanes> in = x;
    LayerCall<Lanes> c = {};
    c.layer = &layer;
    c.n = n;
    c.weights = view.raw();
    c.x = of_network ? x.data() : nullptr;
    c.in = in.data();
    c.out = out.data();
    c.grad = grad.data();
    c.first = true;
    const host::LaneOps ops;
    const SerialExecutor e;
    ops.weight_gradient<W>(e, LayerOp::kDense, c);

    c.grad = result.data();
    c.rate = &rate;
    c.first = false;  // Says nothing here.
    ops.weight_gradient<W>(e, LayerOp::kDense, c);
    std::vector<Lanes> expected(n_params);
    for (uint32_t i = 0; i < n_params; ++i) {
      expected[i] = fma(-rate, grad[i], view(i));
    }
    expect_same_lanes(result, expected);

    c.grad_bar = bar.data();
    ops.weight_gradient<W>(e, LayerOp::kDense, c);
    expect_same_lanes(result, grad);
    for (uint32_t i = 0; i < n_params; ++i) expected[i] = -(rate * grad[i]);
    expect_same_lanes(bar, expected);
  };
  Uniform uniform(5);
  const std::vector<float> shared = uniform.vector(100);
  const std::vector<Lanes> plain = random_lanes(uniform, 100);
  for (const int n_in : {1, 3, 11}) {
    for (const int n_out : {1, 4, 7}) {
      for (const bool of_network : {true, false}) {
        check(SharedView<Lanes>{shared.data()}, n_in, n_out, of_network);
        check(PlainView<Lanes>{plain.data()}, n_in, n_out, of_network);
      }
    }
  }
}

// A dense layer that runs the relu above it, and the relu that then does not.
TEST(FusedCall, DenseLayersRunTheRelu) {
  const auto check = [](auto number, auto view, const auto& random) {
    using T = decltype(number);
    using W = decltype(view);
    constexpr uint32_t n = 7;
    for (const int n_out : {1, 4, 9}) {
      const Layer dense = planned({reference::dense(n_out), {3, 1, 1}});
      Layer relu = planned({reference::relu_layer(), {n_out, 1, 1}});
      relu.in_place = 1;
      std::vector<T> in = random(n * dense.n_in());
      std::vector<T> results[2];
      for (const bool fused : {false, true}) {
        std::vector<T>& out = results[fused ? 1 : 0];
        out = random(n * dense.n_out());
        LayerCall<T> c = {};
        c.layer = &dense;
        c.n = n;
        c.weights = view.raw();
        c.in = in.data();
        c.out = out.data();
        c.activation = fused ? static_cast<uint8_t>(LayerOp::kRelu) : 0;
        const host::LaneOps ops;
        ops.forward<W>(SerialExecutor(), LayerOp::kDense, c);
        if (fused) {
          const std::vector<T> after = out;
          c.layer = &relu;
          c.in = out.data();
          ops.forward<W>(SerialExecutor(), LayerOp::kRelu, c);
          EXPECT_EQ(memcmp(out.data(), after.data(), out.size() * sizeof(T)),
                    0);
          c.layer = &dense;
        } else {
          c.layer = &relu;
          c.in = out.data();
          ops.forward<W>(SerialExecutor(), LayerOp::kRelu, c);
        }
      }
      EXPECT_EQ(memcmp(results[0].data(),
                       results[1].data(),
                       results[0].size() * sizeof(T)),
                0);
    }
  };
  Uniform uniform(6);
  const std::vector<Lanes> values = random_lanes(uniform, 100);
  const std::vector<Lanes> tangents = random_lanes(uniform, 100);
  const PlainView<Lanes> view = {values.data()};
  const auto random = [&](size_t count) {
    return random_lanes(uniform, count);
  };
  check(Lanes(), view, random);
  check(Dual<Lanes>(),
        DualView<PlainView<Lanes>>{view, tangents.data()},
        [&](size_t count) {
          std::vector<Dual<Lanes>> v(count);
          for (Dual<Lanes>& d : v) d = {random(1)[0], random(1)[0]};
          return v;
        });
}

// Which layers that is: those of the network's own table.
TEST(FusedCall, IsOfAReluInPlaceOnADenseLayer) {
  using namespace reference;
  const TestNetwork net({2, 4, 4},
                        {conv(3, 3, 1, 1),
                         relu_layer(),
                         dense(6),
                         relu_layer(),
                         dense(5),
                         tanh_layer(),
                         dense(4),
                         flatten(),
                         relu_layer(),
                         dense(3)},
                        LossOp::kMeanSquaredError);
  const uint8_t relu = static_cast<uint8_t>(LayerOp::kRelu);
  const uint8_t expected[] = {0, 0, relu, relu, 0, 0, 0, 0, 0, 0};
  ASSERT_EQ(net.network.n_layers, 10U);
  for (uint32_t i = 0; i < 10; ++i) {
    EXPECT_EQ(fused_activation(net.network, net.network.layers[i]), expected[i])
        << i;
  }
}

}  // namespace
}  // namespace fewstep::testing
