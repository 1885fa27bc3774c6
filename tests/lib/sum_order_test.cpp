// The order of every sum of dense and conv2d, bit by bit.
//
// The documented sums, one scalar at a time with std::fma: float results must
// agree in every bit. Written from the contract (ascending, from the bias or
// +0, one fused multiply-add a term, padded taps skipped), not from lib/.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support/layer_run.h"

namespace fewstep::testing {
namespace {

struct Conv {
  int in_c, h, w, out_c, out_h, out_w, kernel, stride, pad;
  size_t x_at(int e, int i, int y, int x) const {
    return static_cast<size_t>(((e * in_c + i) * h + y) * w + x);
  }
  size_t y_at(int e, int o, int v, int u) const {
    return static_cast<size_t>(((e * out_c + o) * out_h + v) * out_w + u);
  }
  size_t w_at(int o, int i, int ky, int kx) const {
    return static_cast<size_t>(((o * in_c + i) * kernel + ky) * kernel + kx);
  }
};

Outcome<float> ordered_conv(const Conv& c,
                            int n,
                            const std::vector<float>& theta,
                            const std::vector<float>& x,
                            const std::vector<float>& d) {
  const int k = c.kernel;
  const size_t n_weights = static_cast<size_t>(c.out_c * c.in_c * k * k);
  Outcome<float> r;
  r.out.resize(d.size());
  r.d_in.resize(x.size());
  r.grad.resize(theta.size());
  for (int e = 0; e < n; ++e) {
    for (int o = 0; o < c.out_c; ++o) {
      for (int v = 0; v < c.out_h; ++v) {
        for (int u = 0; u < c.out_w; ++u) {
          float sum = theta[n_weights + static_cast<size_t>(o)];
          for (int i = 0; i < c.in_c; ++i) {
            for (int ky = 0; ky < k; ++ky) {
              for (int kx = 0; kx < k; ++kx) {
                const int yy = v * c.stride + ky - c.pad;
                const int xx = u * c.stride + kx - c.pad;
                if (yy < 0 || yy >= c.h || xx < 0 || xx >= c.w) continue;
                sum = std::fma(
                    theta[c.w_at(o, i, ky, kx)], x[c.x_at(e, i, yy, xx)], sum);
              }
            }
          }
          r.out[c.y_at(e, o, v, u)] = sum;
        }
      }
    }
    for (int i = 0; i < c.in_c; ++i) {
      for (int yy = 0; yy < c.h; ++yy) {
        for (int xx = 0; xx < c.w; ++xx) {
          float sum = 0.0F;
          for (int o = 0; o < c.out_c; ++o) {
            for (int ky = 0; ky < k; ++ky) {
              for (int kx = 0; kx < k; ++kx) {
                const int v = yy + c.pad - ky;
                const int u = xx + c.pad - kx;
                if (v < 0 || v % c.stride != 0 || v / c.stride >= c.out_h ||
                    u < 0 || u % c.stride != 0 || u / c.stride >= c.out_w) {
                  continue;
                }
                sum = std::fma(theta[c.w_at(o, i, ky, kx)],
                               d[c.y_at(e, o, v / c.stride, u / c.stride)],
                               sum);
              }
            }
          }
          r.d_in[c.x_at(e, i, yy, xx)] = sum;
        }
      }
    }
  }
  for (int o = 0; o < c.out_c; ++o) {
    for (int i = 0; i < c.in_c; ++i) {
      for (int ky = 0; ky < k; ++ky) {
        for (int kx = 0; kx < k; ++kx) {
          float sum = 0.0F;
          for (int e = 0; e < n; ++e) {
            for (int v = 0; v < c.out_h; ++v) {
              for (int u = 0; u < c.out_w; ++u) {
                const int yy = v * c.stride + ky - c.pad;
                const int xx = u * c.stride + kx - c.pad;
                if (yy < 0 || yy >= c.h || xx < 0 || xx >= c.w) continue;
                sum = std::fma(
                    d[c.y_at(e, o, v, u)], x[c.x_at(e, i, yy, xx)], sum);
              }
            }
          }
          r.grad[c.w_at(o, i, ky, kx)] = sum;
        }
      }
    }
    float sum = 0.0F;
    for (int e = 0; e < n; ++e) {
      for (int v = 0; v < c.out_h; ++v) {
        for (int u = 0; u < c.out_w; ++u) sum += d[c.y_at(e, o, v, u)];
      }
    }
    r.grad[n_weights + static_cast<size_t>(o)] = sum;
  }
  return r;
}

void expect_order(const Case& c, uint32_t n) {
  SCOPED_TRACE(describe(c, n));
  const reference::Layer<double> ref(c.spec, c.input);
  // A dense layer is a convolution of one-pixel maps.
  const bool is_dense = c.spec.kind == reference::Kind::kDense;
  const Conv conv =
      is_dense ? Conv{c.input.size(), 1, 1, c.spec.units, 1, 1, 1, 1, 0}
               : Conv{c.input.c,
                      c.input.h,
                      c.input.w,
                      c.spec.units,
                      ref.out.h,
                      ref.out.w,
                      c.spec.kernel,
                      c.spec.stride,
                      c.spec.pad};
  Uniform uniform(11 + n);
  const auto theta = uniform.vector(static_cast<size_t>(ref.n_params));
  const auto x = uniform.vector(n * static_cast<size_t>(c.input.size()));
  const auto d = uniform.vector(n * static_cast<size_t>(ref.out.size()));
  const Outcome<float> got = run_layer<float>(c, n, theta, x, d);
  const Outcome<float> expected =
      ordered_conv(conv, static_cast<int>(n), theta, x, d);
  EXPECT_TRUE(same_bits(got.out, expected.out)) << "output";
  EXPECT_TRUE(same_bits(got.d_in, expected.d_in)) << "input gradient";
  EXPECT_TRUE(same_bits(got.grad, expected.grad)) << "weight gradient";
}

TEST(SumOrder, DenseAndConv2d) {
  for (const uint32_t n : {1U, 3U, 4U, 5U, 9U}) {
    expect_order({reference::dense(1), {40, 1, 1}}, n);
    expect_order({reference::dense(9), {33, 1, 1}}, n);
    expect_order({reference::dense(40), {3, 2, 2}}, n);
    for (const int kernel : {1, 2, 3, 5}) {
      for (const int stride : {1, 2, 3}) {
        for (int pad = 0; pad < kernel; ++pad) {
          expect_order({reference::conv(5, kernel, stride, pad), {6, 6, 11}},
                       n);
        }
      }
    }
  }
}

}  // namespace
}  // namespace fewstep::testing
