// Both losses against the reference: values, gradients, tiles, extremes.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "fewstep/executor/serial.h"
#include "fewstep/ops.h"
#include "support/test_network.h"

namespace fewstep::testing {
namespace {

constexpr float kCanary = 0x1.23456p100F;

template <class T>
struct Outcome {
  T loss;
  std::vector<T> d;
};

/// The loss of [n][n_out] outputs in tiles of `tile` examples.
template <class T>
Outcome<T> run_loss(LossOp op,
                    const std::vector<float>& y,
                    const std::vector<uint16_t>& labels,
                    const std::vector<float>& targets,
                    uint32_t n_out,
                    uint32_t tile,
                    bool gradient = true) {
  const uint32_t n = static_cast<uint32_t>(y.size()) / n_out;
  std::vector<T> out(y.begin(), y.end());
  out.push_back(T(kCanary));
  const std::vector<T> wanted(targets.begin(), targets.end());
  std::vector<T> row_loss(tile + 1, T(kCanary));
  T loss = T(kCanary);
  for (uint32_t begin = 0; begin < n; begin += tile) {
    LossCall<T> c = {};
    c.n = std::min(tile, n - begin);
    c.n_total = n;
    c.n_out = n_out;
    if (!labels.empty()) c.labels = labels.data() + begin;
    if (!targets.empty()) c.targets = wanted.data() + begin * n_out;
    c.out = out.data() + begin * n_out;
    c.row_loss = row_loss.data();
    c.loss = &loss;
    c.first = begin == 0;
    c.last = begin + c.n == n;
    c.gradient = gradient;
    AllOps().loss(SerialExecutor(), op, c);
  }
  EXPECT_EQ(row_loss.back(), T(kCanary));
  EXPECT_EQ(out.back(), T(kCanary));
  out.pop_back();
  return {loss, out};
}

template <class T>
void compare(uint32_t n, uint32_t n_out, float scale, double tolerance) {
  for (const LossOp op :
       {LossOp::kSoftmaxCrossEntropy, LossOp::kMeanSquaredError}) {
    SCOPED_TRACE(std::string(to_string(op)) + " " + std::to_string(n) + " x " +
                 std::to_string(n_out));
    Uniform uniform(n + n_out);
    const auto y = uniform.vector(size_t{n} * n_out, scale);
    std::vector<uint16_t> labels;
    std::vector<float> targets;
    if (op == LossOp::kSoftmaxCrossEntropy) {
      for (uint32_t e = 0; e < n; ++e) {
        labels.push_back(static_cast<uint16_t>(uniform.below(n_out)));
      }
    } else {
      targets = uniform.vector(size_t{n} * n_out, scale);
    }
    const auto ry = reference_rows<double>(y.data(), n, n_out);
    const auto answers = reference_answers(labels, targets, n, n_out);
    const double loss = reference::loss_of<double>(ry, answers);
    const auto d = reference::loss_gradient<double>(ry, answers);
    const Outcome<T> got = run_loss<T>(op, y, labels, targets, n_out, n);
    EXPECT_NEAR(static_cast<double>(got.loss), loss, tolerance * (1 + loss));
    for (Eigen::Index i = 0; i < d.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(got.d[static_cast<size_t>(i)]),
                  d(i / n_out, i % n_out),
                  tolerance * (1.0 + static_cast<double>(scale)) /
                      static_cast<double>(n));
    }
    // The reference's gradient is that of its loss, by complex step.
    const auto f = [&](const reference::Vector<std::complex<double>>& v) {
      reference::Matrix<std::complex<double>> m(n, n_out);
      for (Eigen::Index i = 0; i < m.size(); ++i) {
        m(i / n_out, i % n_out) = v[i];
      }
      return reference::loss_of<std::complex<double>>(m, answers);
    };
    const Eigen::VectorXd exact =
        reference::complex_step(f, reference_vector<double>(y));
    for (Eigen::Index i = 0; i < d.size(); ++i) {
      EXPECT_NEAR(d(i / n_out, i % n_out), exact[i], 1e-14);
    }
    for (uint32_t tile = 1; tile <= n; ++tile) {
      const Outcome<T> tiled = run_loss<T>(op, y, labels, targets, n_out, tile);
      EXPECT_EQ(tiled.loss, got.loss) << tile;
      EXPECT_EQ(tiled.d, got.d) << tile;
      const Outcome<T> only =
          run_loss<T>(op, y, labels, targets, n_out, tile, false);
      EXPECT_EQ(only.loss, got.loss) << tile;
      EXPECT_EQ(only.d, std::vector<T>(y.begin(), y.end())) << tile;
    }
  }
}

// Sums of at most n_out + n <= 40 positive terms, each a few roundings (2 ulp
// for exp and log) from exact: 64 u = 4e-6 at float, relative to 1 + loss.
TEST(Losses, EqualReference) {
  for (const uint32_t n : {1U, 3U, 4U, 5U, 17U}) {
    for (const uint32_t n_out : {2U, 5U, 20U}) {
      compare<float>(n, n_out, 3.0F, 4e-6);
      compare<double>(n, n_out, 3.0F, 1e-14);
    }
  }
}

TEST(Losses, CrossEntropySurvivesExtremeLogits) {
  const auto o = run_loss<float>(LossOp::kSoftmaxCrossEntropy,
                                 {3e38F, -3e38F, 0.0F, 1000.0F, 1001.0F, 0.0F},
                                 {0, 1},
                                 {},
                                 3,
                                 2);
  EXPECT_NEAR(
      static_cast<double>(o.loss), std::log1p(std::exp(-1.0)) / 2, 1e-7);
  EXPECT_EQ(o.d[0], 0.0F);
  EXPECT_EQ(o.d[1], 0.0F);
  EXPECT_NEAR(static_cast<double>(o.d[3]), 0.5 / (1 + std::exp(1.0)), 1e-7);
}

TEST(Losses, NanReachesTheLossWhereverItIs) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (size_t at = 0; at < 3; ++at) {
    std::vector<float> y = {0.5F, 1.0F, -1.0F};
    y[at] = nan;
    EXPECT_TRUE(std::isnan(
        run_loss<float>(LossOp::kSoftmaxCrossEntropy, y, {1}, {}, 3, 1).loss));
    EXPECT_TRUE(std::isnan(
        run_loss<float>(LossOp::kMeanSquaredError, y, {}, {0, 0, 0}, 3, 1)
            .loss));
  }
}

}  // namespace
}  // namespace fewstep::testing
