// Every layer against the reference network, kernel by kernel, and at the
// edges.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/ops.h"
#include "support/layer_run.h"

namespace fewstep::testing {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// |actual - expected| <= bound, value by value.
template <class T>
void expect_near(const std::vector<T>& actual,
                 const reference::Matrix<double>& expected,
                 const reference::Matrix<double>& bound,
                 const char* what) {
  ASSERT_EQ(static_cast<Eigen::Index>(actual.size()), expected.size()) << what;
  for (Eigen::Index r = 0; r < expected.rows(); ++r) {
    for (Eigen::Index q = 0; q < expected.cols(); ++q) {
      const double a = static_cast<double>(
          actual[static_cast<size_t>(r * expected.cols() + q)]);
      ASSERT_LE(std::abs(a - expected(r, q)), bound(r, q))
          << what << " (" << r << ", " << q << "): " << a << " instead of "
          << expected(r, q);
    }
  }
}

/// Unit roundoff.
template <class T>
constexpr double kUnit =
    static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;

// Linear in what is summed: a sum of m products, each added with one rounding,
// is within m u / (1 - m u) of sum |a| |b| (Higham 2002, 3.1), so the reference
// run on absolute values gives the bound. Two more roundings for a division and
// the reference's own error at double.
bool is_linear(reference::Kind k) {
  return k == reference::Kind::kDense || k == reference::Kind::kConv2d ||
         k == reference::Kind::kGlobalAvgPool ||
         k == reference::Kind::kMaxPool || k == reference::Kind::kFlatten ||
         k == reference::Kind::kRelu || k == reference::Kind::kContext;
}

template <class T>
void compare_with_reference(const Case& c, uint32_t n) {
  SCOPED_TRACE(describe(c, n));
  using reference::Matrix;
  const reference::Layer<double> ref(c.spec, c.input);
  Uniform uniform(7 + n);
  const size_t n_in = static_cast<size_t>(c.input.size());
  const size_t n_out = static_cast<size_t>(ref.out.size());
  const std::vector<float> theta =
      uniform.vector(static_cast<size_t>(ref.n_params));
  const std::vector<float> x = uniform.vector(n * n_in, 2.0F);
  std::vector<float> d = uniform.vector(n * n_out);
  const Outcome<T> got = run_layer<T>(c, n, theta, x, d);

  const auto p = reference_vector<double>(theta);
  const auto rx = reference_rows<double>(x.data(), n, n_in);
  const auto rd = reference_rows<double>(d.data(), n, n_out);
  const Matrix<double> y = ref.forward(p, rx);
  reference::Vector<double> dp = reference::Vector<double>::Zero(ref.n_params);
  Matrix<double> dx = ref.backward(p, rx, rd, dp);
  const bool activation = c.spec.kind == reference::Kind::kRelu ||
                          c.spec.kind == reference::Kind::kTanh;
  if (activation) dx = rd;  // The layer above has applied the derivative.

  Matrix<double> y_size, dx_size, dp_size;
  double terms = 0.0;
  if (is_linear(c.spec.kind)) {
    const reference::Vector<double> abs_p = p.cwiseAbs();
    const Matrix<double> abs_x = rx.cwiseAbs();
    const Matrix<double> abs_d = rd.cwiseAbs();
    reference::Vector<double> abs_dp =
        reference::Vector<double>::Zero(ref.n_params);
    y_size = c.spec.kind == reference::Kind::kMaxPool
                 ? y.cwiseAbs().eval()
                 : ref.forward(abs_p, abs_x);
    dx_size = ref.backward(abs_p, rx, abs_d, abs_dp);
    abs_dp.setZero();
    static_cast<void>(ref.backward(abs_p, abs_x, abs_d, abs_dp));
    dp_size = abs_dp;
    terms = static_cast<double>(std::max({n_in, n_out, n * n_out}) + 3);
  } else if (c.spec.kind == reference::Kind::kTanh) {
    y_size = Matrix<double>::Constant(y.rows(), y.cols(), 1.0);
    dx_size = Matrix<double>::Constant(dx.rows(), dx.cols(), 1.0);
    dp_size = dp;
    terms = 8.0;  // tanh is within 2 ulp = 4 u at float, libm's at double.
  } else {
    // Normalization: |xhat| <= sqrt(m), and every value is a few roundings from
    // sums of at most m / 32 + 32 terms, whose error, relative to the set's
    // root mean square, is multiplied by gamma rstd (and by |d|). Sizes: the
    // largest values of the whole matrix.
    const double m = static_cast<double>(n * n_in);
    const double rstd_x = 2.0 * std::sqrt(m);  // |xhat| and |x| rstd at most.
    terms = (m / 32.0 + 48.0) * rstd_x;
    y_size = Matrix<double>::Constant(
        y.rows(), y.cols(), 1.0 + y.cwiseAbs().maxCoeff());
    dx_size = Matrix<double>::Constant(
        dx.rows(), dx.cols(), 1.0 + dx.cwiseAbs().maxCoeff());
    dp_size = Matrix<double>::Constant(
        dp.rows(), dp.cols(), 1.0 + dp.cwiseAbs().maxCoeff());
  }
  const double u = kUnit<T> * terms;
  const auto bound = [&](const Matrix<double>& size) -> Matrix<double> {
    return (u + 4.0 * terms * kUnit<double>)*size;
  };
  expect_near(got.out, y, bound(y_size), "output");
  expect_near(got.d_in, dx, bound(dx_size), "input gradient");
  if (ref.n_params != 0) {
    expect_near(got.grad, dp, bound(dp_size), "weight gradient");
  }

  // The network's input gives what an activation gives; a second tile adds to
  // the first.
  const Layer layer = planned(c);
  Run<T> again(layer, n, theta, x);
  const std::vector<T> input(x.begin(), x.end());
  again.call.x = input.data();
  again.call.in = nullptr;
  const SerialExecutor e;
  const AllOps ops;
  if (layer.op != LayerOp::kFlatten) {
    ops.forward<PlainView<T>>(e, layer.op, again.call);
    EXPECT_EQ(again.out.vector(), got.out);
    for (size_t i = 0; i < d.size(); ++i) {
      again.out.data()[i] = static_cast<T>(d[i]);
    }
    ops.weight_gradient<PlainView<T>>(e, layer.op, again.call);
    EXPECT_EQ(again.grad.vector(), got.grad);
    if (layer.op != LayerOp::kBatchNorm) {
      again.call.first = false;
      ops.weight_gradient<PlainView<T>>(e, layer.op, again.call);
      if (ref.n_params != 0) {
        expect_near(again.grad.vector(),
                    2.0 * dp,
                    4.0 * bound(dp_size),
                    "weight gradient of two tiles");
      }
    }
    EXPECT_TRUE(again.intact());
  }
}

void compare(const Case& c) {
  const uint32_t col = TileShape<float>::kCols;
  for (const uint32_t n : {1U, 2U, col - 1, col, col + 1, 2 * col + 2}) {
    compare_with_reference<float>(c, n);
    compare_with_reference<double>(c, n);
  }
}

TEST(Layers, DenseEqualsReference) {
  for (const int in : {1, 3, 4, 5, 17}) {
    for (const int out : {1, 3, 4, 5, 10}) {
      compare({reference::dense(out), {in, 1, 1}});
    }
  }
  compare({reference::dense(6), {2, 3, 4}});
}

TEST(Layers, Conv2dEqualsReference) {
  for (const int kernel : {1, 2, 3, 5}) {
    for (const int stride : {1, 2, 3}) {
      for (int pad = 0; pad < kernel; ++pad) {
        for (const int in_c : {1, 5}) {
          // Runs of one row longer than a tile; maps taller than wide; out_c
          // around a tile.
          const int out_c = 3 + (kernel + stride + pad) % 3;
          compare({reference::conv(out_c, kernel, stride, pad), {in_c, 5, 9}});
          compare({reference::conv(1, kernel, stride, pad), {in_c, 6, 5}});
        }
      }
    }
  }
  // Kernels as large as the padded map, one-pixel maps, strides past the end.
  compare({reference::conv(4, 5, 1, 2), {4, 1, 1}});
  compare({reference::conv(2, 5, 3, 4), {3, 1, 2}});
  compare({reference::conv(2, 3, 7, 2), {2, 2, 3}});
  compare({reference::conv(2, 1, 4, 0), {2, 3, 9}});
  compare({reference::conv(9, 3, 1, 1), {8, 3, 12}});
}

TEST(Layers, ActivationsEqualReference) {
  compare({reference::relu_layer(), {2, 3, 3}});
  compare({reference::tanh_layer(), {2, 3, 3}});
  compare({reference::flatten(), {2, 3, 3}});
}

TEST(Layers, PoolsEqualReference) {
  for (const int k : {1, 2, 3}) {
    compare({reference::max_pool(k), {1, 3, 3}});
    compare({reference::max_pool(k), {3, 7, 5}});
    compare({reference::max_pool(k), {2, 4, 8}});
  }
  compare({reference::global_avg_pool(), {1, 1, 1}});
  compare({reference::global_avg_pool(), {5, 3, 7}});
}

TEST(Layers, NormsEqualReference) {
  for (const int groups : {1, 2, 6}) {
    compare({reference::group_norm(groups), {6, 3, 5}});
    compare({reference::group_norm(groups), {6, 2, 1}});
  }
  compare({reference::group_norm(1), {40, 1, 1}});
  compare({reference::group_norm(2), {4, 7, 9}});
  compare({reference::batch_norm(), {1, 4, 4}});
  compare({reference::batch_norm(), {5, 3, 2}});
  // A set of one: output beta, gradient 0.
  compare({reference::group_norm(3), {3, 1, 1}});
}

TEST(Layers, ContextEqualsReference) {
  for (const int units : {1, 2, 5}) {
    compare({reference::context(units), {1, 1, 1}});
    compare({reference::context(units), {7, 1, 1}});
  }
}

TEST(Layers, InputGradientAppliesTheActivationBelow) {
  std::vector<Case> cases = {{reference::dense(3), {2, 2, 3}},
                             {reference::conv(3, 3, 2, 1), {2, 4, 5}},
                             {reference::max_pool(2), {2, 5, 4}},
                             {reference::global_avg_pool(), {2, 2, 3}},
                             {reference::group_norm(2), {4, 2, 2}},
                             {reference::batch_norm(), {2, 2, 3}},
                             {reference::context(2), {4, 1, 1}},
                             {reference::relu_layer(), {2, 2, 3}},
                             {reference::tanh_layer(), {2, 2, 3}}};
  // Once each, however tiles of neighbours and runs share a row.
  for (const int stride : {1, 2, 3}) {
    for (const int pad : {0, 1, 2}) {
      cases.push_back({reference::conv(4, 3, stride, pad), {4, 3, 13}});
      cases.push_back({reference::conv(3, 3, stride, pad), {5, 4, 10}});
    }
  }
  for (const Case& c : cases) {
    for (const uint32_t n : {2U, 5U}) {
      SCOPED_TRACE(describe(c, n));
      const reference::Layer<double> ref(c.spec, c.input);
      Uniform uniform(3);
      const auto theta = uniform.vector(static_cast<size_t>(ref.n_params));
      auto x = uniform.vector(n * static_cast<size_t>(c.input.size()));
      for (size_t i = 0; i < x.size(); i += 3) x[i] = 0.0F;  // Dead units.
      const auto d = uniform.vector(n * static_cast<size_t>(ref.out.size()));
      const auto plain = run_layer<double>(c, n, theta, x, d);
      const auto relu = run_layer<double>(c, n, theta, x, d, LayerOp::kRelu);
      const auto tanh = run_layer<double>(c, n, theta, x, d, LayerOp::kTanh);
      EXPECT_EQ(relu.grad, plain.grad);
      for (size_t i = 0; i < x.size(); ++i) {
        const double y = static_cast<double>(x[i]);
        EXPECT_EQ(relu.d_in[i], y <= 0.0 ? 0.0 : plain.d_in[i]);
        EXPECT_DOUBLE_EQ(tanh.d_in[i], plain.d_in[i] * (1.0 - y * y));
      }
    }
  }
}

// ----------------------------------------------------------- edge values

std::vector<float> forward_of(const Case& c,
                              const std::vector<float>& theta,
                              const std::vector<float>& x) {
  const reference::Layer<double> ref(c.spec, c.input);
  return run_layer<float>(
             c,
             static_cast<uint32_t>(x.size() /
                                   static_cast<size_t>(c.input.size())),
             theta,
             x,
             std::vector<float>(x.size() / static_cast<size_t>(c.input.size()) *
                                static_cast<size_t>(ref.out.size())))
      .out;
}

TEST(Layers, ReluKeepsNanAndGivesNoNegativeZero) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const std::vector<float> y =
      forward_of({reference::relu_layer(), {8, 1, 1}},
                 {},
                 {-0.0F, 0.0F, kNan, -kInf, kInf, -tiny, tiny, -1.0F});
  EXPECT_TRUE(same_bits(y, {0.0F, 0.0F, kNan, 0.0F, kInf, 0.0F, tiny, 0.0F}));
}

TEST(Layers, MaxPoolTakesTheFirstMaximumAndNanWins) {
  const Case c = {reference::max_pool(2), {1, 2, 2}};
  EXPECT_TRUE(
      same_bits(forward_of(c, {}, {-kInf, -kInf, -3.0F, -kInf}), {-3.0F}));
  for (size_t at = 0; at < 4; ++at) {
    std::vector<float> x = {1.0F, kInf, -kInf, 2.0F};
    x[at] = kNan;
    EXPECT_TRUE(same_bits(forward_of(c, {}, x), {kNan})) << at;
  }
  // +0 does not exceed -0: the first stays.
  EXPECT_TRUE(
      same_bits(forward_of(c, {}, {-0.0F, 0.0F, -0.0F, 0.0F}), {-0.0F}));
  // Ties: the gradient goes to the first in row-major order.
  const std::vector<std::vector<float>> ties = {
      {5, 5, 5, 5}, {1, 5, 5, 1}, {1, 2, 5, 5}, {0.0F, -0.0F, 0.0F, -0.0F}};
  const size_t first[] = {0, 1, 2, 0};
  for (size_t i = 0; i < ties.size(); ++i) {
    std::vector<float> expected(4, 0.0F);
    expected[first[i]] = 7.0F;
    EXPECT_EQ(run_layer<float>(c, 1, {}, ties[i], {7.0F}).d_in, expected);
  }
}

TEST(Layers, MaxPoolGivesNoGradientToTheRemainder) {
  const Case c = {reference::max_pool(2), {2, 5, 3}};
  std::vector<float> x(2 * 30);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  const auto o =
      run_layer<float>(c, 2, {}, x, {1, 2, 3, 4, 5, 6, 7, 8}, LayerOp::kRelu);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t row = i / 3 % 5;
    const size_t col = i % 3;
    const bool is_max = col == 1 && (row == 1 || row == 3);
    EXPECT_EQ(o.d_in[i] != 0.0F, is_max) << i;
    EXPECT_FALSE(std::signbit(o.d_in[i])) << i;
  }
}

TEST(Layers, PaddingIsSkippedNotMultiplied) {
  // Infinite weights wherever the one pixel is not: 0 * inf would be NaN.
  const Case c = {reference::conv(1, 3, 1, 1), {1, 1, 1}};
  std::vector<float> theta(10, kInf);
  theta[4] = 2.0F;
  theta[9] = 0.5F;
  for (const uint32_t n : {1U, 2U, 4U, 5U}) {
    const std::vector<float> x(n, 3.0F);
    const auto o = run_layer<float>(c, n, theta, x, x);
    EXPECT_EQ(o.out, std::vector<float>(n, 6.5F));
    EXPECT_EQ(o.d_in, std::vector<float>(n, 6.0F));
    for (size_t i = 0; i < 9; ++i) {
      EXPECT_EQ(to_bits(o.grad[i]),
                to_bits(i == 4 ? 9.0F * static_cast<float>(n) : 0.0F));
    }
  }
}

}  // namespace
}  // namespace fewstep::testing
