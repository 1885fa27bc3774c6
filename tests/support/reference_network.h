// An independent network: what lib/ should compute, in another way.
//
// Shares no code, no data layout of intermediates and no algorithm with lib/,
// and includes none of its headers:
//
// - whole batches as Eigen matrices (a row an example), in double precision;
// - a convolution is the dense matrix that maps an image to an image, built by
//   asking of every (output, input) pair which tap connects them; lib/ walks
//   taps and never looks at a pair. Padding appears nowhere: a pair has a tap
//   or has none;
// - normalization differentiates through its explicit Jacobian
//   (I - 1 1'/m - xhat xhat'/m) / sigma;
// - activations keep inputs and outputs apart, and apply derivatives at the
//   activation, not at the layer above;
// - shapes and parameter offsets are derived here from DESIGN's section 5, not
//   read from a planner.
//
// Everything is a template over the scalar S. At std::complex<double> a step of
// i h, h = 1e-30, gives derivatives to machine precision (complex step, Squire
// & Trapp 1998): of the loss, which checks this file's own reverse mode, and of
// the loss after a whole adaptation, which is an exact second-order
// meta-gradient that knows nothing of Hessian-vector products.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_REFERENCE_NETWORK_H_
#define FEWSTEP_TESTS_SUPPORT_REFERENCE_NETWORK_H_

#include <Eigen/Dense>
#include <cmath>
#include <complex>
#include <cstdint>
#include <functional>
#include <vector>

namespace reference {

enum class Kind {
  kDense,
  kConv2d,
  kRelu,
  kTanh,
  kMaxPool,
  kGlobalAvgPool,
  kFlatten,
  kGroupNorm,
  kBatchNorm,
  kContext,
};

/// What the author of a network chooses.
struct Spec {
  Kind kind;
  int units = 0;  ///< dense, conv2d, context.
  int kernel = 0, stride = 0, pad = 0;
  int groups = 0;
};

inline Spec dense(int units) { return {Kind::kDense, units, 0, 0, 0, 0}; }
inline Spec conv(int filters, int kernel, int stride, int pad) {
  return {Kind::kConv2d, filters, kernel, stride, pad, 0};
}
inline Spec relu_layer() { return {Kind::kRelu, 0, 0, 0, 0, 0}; }
inline Spec tanh_layer() { return {Kind::kTanh, 0, 0, 0, 0, 0}; }
inline Spec max_pool(int k) { return {Kind::kMaxPool, 0, k, k, 0, 0}; }
inline Spec global_avg_pool() { return {Kind::kGlobalAvgPool, 0, 0, 0, 0, 0}; }
inline Spec flatten() { return {Kind::kFlatten, 0, 0, 0, 0, 0}; }
inline Spec group_norm(int g) { return {Kind::kGroupNorm, 0, 0, 0, 0, g}; }
inline Spec context(int units) { return {Kind::kContext, units, 0, 0, 0, 0}; }
inline Spec batch_norm() { return {Kind::kBatchNorm, 0, 0, 0, 0, 0}; }

struct Shape {
  int c, h, w;
  int size() const { return c * h * w; }
};

template <class S>
using Matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic>;
template <class S>
using Vector = Eigen::Matrix<S, Eigen::Dynamic, 1>;

inline double real_part(double x) { return x; }
inline double real_part(std::complex<double> x) { return x.real(); }

constexpr double kEpsilon = static_cast<double>(1e-5F);

/// One layer over batches.
template <class S>
struct Layer {
  Spec spec;
  Shape in, out;
  int n_params;

  Layer(const Spec& s, const Shape& from) : spec(s), in(from), out(from) {
    n_params = 0;
    switch (s.kind) {
      case Kind::kDense:
        out = {s.units, 1, 1};
        n_params = s.units * (in.size() + 1);
        break;
      case Kind::kConv2d:
        out = {s.units,
               (in.h + 2 * s.pad - s.kernel) / s.stride + 1,
               (in.w + 2 * s.pad - s.kernel) / s.stride + 1};
        n_params = s.units * (in.c * s.kernel * s.kernel + 1);
        break;
      case Kind::kMaxPool:
        out = {in.c, in.h / s.kernel, in.w / s.kernel};
        break;
      case Kind::kGlobalAvgPool: out = {in.c, 1, 1}; break;
      case Kind::kFlatten: out = {in.size(), 1, 1}; break;
      case Kind::kGroupNorm:
      case Kind::kBatchNorm: n_params = 2 * in.c; break;
      case Kind::kContext:
        out = {in.size() + s.units, 1, 1};
        n_params = s.units;
        break;
      case Kind::kRelu:
      case Kind::kTanh: break;
    }
  }

  /// Y [n][out] of X [n][in].
  Matrix<S> forward(const Vector<S>& p, const Matrix<S>& x) const {
    const auto n = x.rows();
    switch (spec.kind) {
      case Kind::kDense:
      case Kind::kConv2d:
        return (x * image_matrix(p).transpose()).rowwise() +
               image_bias(p).transpose();
      case Kind::kRelu:
        return x.unaryExpr(
            [](const S& v) { return real_part(v) <= 0.0 ? S(0.0) : v; });
      case Kind::kTanh:
        return x.unaryExpr([](const S& v) { return std::tanh(v); });
      case Kind::kFlatten: return x;
      case Kind::kContext: {
        Matrix<S> y(n, out.size());
        y << x, p.transpose().replicate(n, 1);
        return y;
      }
      case Kind::kGlobalAvgPool: {
        Matrix<S> y(n, in.c);
        const int plane = in.h * in.w;
        for (int c = 0; c < in.c; ++c) {
          y.col(c) = x.middleCols(c * plane, plane).rowwise().mean();
        }
        return y;
      }
      case Kind::kMaxPool: {
        Matrix<S> y(n, out.size());
        each_window(x,
                    [&](Eigen::Index e, int o, int i) { y(e, o) = x(e, i); });
        return y;
      }
      case Kind::kGroupNorm:
      case Kind::kBatchNorm: {
        Matrix<S> y(n, out.size());
        each_set(n, [&](const std::vector<std::pair<int, int>>& set) {
          S sigma;
          const Vector<S> xhat = standardized(x, set, &sigma);
          for (size_t k = 0; k < set.size(); ++k) {
            const int c = set[k].second / (in.h * in.w);
            y(set[k].first, set[k].second) =
                xhat[static_cast<Eigen::Index>(k)] * p[c] + p[in.c + c];
          }
        });
        return y;
      }
    }
    return x;
  }

  /// dX and dP (added to) of dY.
  Matrix<S> backward(const Vector<S>& p,
                     const Matrix<S>& x,
                     const Matrix<S>& dy,
                     Eigen::Ref<Vector<S>> dp) const {
    switch (spec.kind) {
      case Kind::kDense:
      case Kind::kConv2d: {
        const Matrix<S> outer = dy.transpose() * x;
        each_pair([&](int o, int i, int weight) { dp[weight] += outer(o, i); });
        const int n_weights = n_params - spec.units;
        const int plane = out.h * out.w;
        for (int o = 0; o < out.size(); ++o) {
          dp[n_weights + o / plane] += dy.col(o).sum();
        }
        return dy * image_matrix(p);
      }
      case Kind::kRelu:
        return dy.binaryExpr(x, [](const S& d, const S& v) {
          return real_part(v) <= 0.0 ? S(0.0) : d;
        });
      case Kind::kTanh:
        return dy.binaryExpr(x, [](const S& d, const S& v) {
          const S c = std::cosh(v);
          return d / (c * c);
        });
      case Kind::kFlatten: return dy;
      case Kind::kContext:
        dp += dy.rightCols(spec.units).colwise().sum().transpose();
        return dy.leftCols(in.size());
      case Kind::kGlobalAvgPool: {
        Matrix<S> dx(x.rows(), x.cols());
        const int plane = in.h * in.w;
        for (int i = 0; i < in.size(); ++i) {
          dx.col(i) = dy.col(i / plane) / S(plane);
        }
        return dx;
      }
      case Kind::kMaxPool: {
        Matrix<S> dx = Matrix<S>::Zero(x.rows(), x.cols());
        each_window(
            x, [&](Eigen::Index e, int o, int i) { dx(e, i) += dy(e, o); });
        return dx;
      }
      case Kind::kGroupNorm:
      case Kind::kBatchNorm: {
        Matrix<S> dx(x.rows(), x.cols());
        each_set(x.rows(), [&](const std::vector<std::pair<int, int>>& set) {
          const auto m = static_cast<Eigen::Index>(set.size());
          S sigma;
          const Vector<S> xhat = standardized(x, set, &sigma);
          Vector<S> d(m);
          for (Eigen::Index k = 0; k < m; ++k) {
            const auto [e, i] = set[static_cast<size_t>(k)];
            const int c = i / (in.h * in.w);
            dp[c] += dy(e, i) * xhat[k];
            dp[in.c + c] += dy(e, i);
            d[k] = dy(e, i) * p[c];
          }
          const Matrix<S> jacobian =
              (Matrix<S>::Identity(m, m) -
               Matrix<S>::Constant(m, m, S(1.0 / static_cast<double>(m))) -
               xhat * xhat.transpose() / S(static_cast<double>(m))) /
              sigma;
          const Vector<S> back = jacobian.transpose() * d;
          for (Eigen::Index k = 0; k < m; ++k) {
            const auto [e, i] = set[static_cast<size_t>(k)];
            dx(e, i) = back[k];
          }
        });
        return dx;
      }
    }
    return dy;
  }

 private:
  // f(output value, input value, weight that connects them).
  template <class F>
  void each_pair(const F& f) const {
    for (int o = 0; o < out.size(); ++o) {
      for (int i = 0; i < in.size(); ++i) {
        if (spec.kind == Kind::kDense) {
          f(o, i, o * in.size() + i);
          continue;
        }
        const int k = spec.kernel;
        const int ky =
            i / in.w % in.h + spec.pad - o / out.w % out.h * spec.stride;
        const int kx = i % in.w + spec.pad - o % out.w * spec.stride;
        if (ky < 0 || ky >= k || kx < 0 || kx >= k) continue;
        const int filter = o / (out.h * out.w);
        const int channel = i / (in.h * in.w);
        f(o, i, ((filter * in.c + channel) * k + ky) * k + kx);
      }
    }
  }
  Matrix<S> image_matrix(const Vector<S>& p) const {
    Matrix<S> a = Matrix<S>::Zero(out.size(), in.size());
    each_pair([&](int o, int i, int weight) { a(o, i) = p[weight]; });
    return a;
  }
  Vector<S> image_bias(const Vector<S>& p) const {
    Vector<S> b(out.size());
    for (int o = 0; o < out.size(); ++o) {
      b[o] = p[n_params - spec.units + o / (out.h * out.w)];
    }
    return b;
  }

  // f(example, output, the input that is its maximum): the first one, and a NaN
  // before any number.
  template <class F>
  void each_window(const Matrix<S>& x, const F& f) const {
    for (Eigen::Index e = 0; e < x.rows(); ++e) {
      for (int o = 0; o < out.size(); ++o) {
        const int c = o / (out.h * out.w);
        const int v = o / out.w % out.h;
        const int u = o % out.w;
        int best = -1;
        for (int y = v * spec.kernel; y < (v + 1) * spec.kernel; ++y) {
          for (int z = u * spec.kernel; z < (u + 1) * spec.kernel; ++z) {
            const int i = (c * in.h + y) * in.w + z;
            const double value = real_part(x(e, i));
            if (best < 0 ||
                (!std::isnan(real_part(x(e, best))) &&
                 (std::isnan(value) || value > real_part(x(e, best))))) {
              best = i;
            }
          }
        }
        f(e, o, best);
      }
    }
  }

  // f(the (example, input) pairs that are normalized together).
  template <class F>
  void each_set(Eigen::Index n, const F& f) const {
    const bool batch = spec.kind == Kind::kBatchNorm;
    const int n_sets = batch ? in.c : static_cast<int>(n) * spec.groups;
    const int per_group = batch ? 1 : in.c / spec.groups;
    std::vector<std::vector<std::pair<int, int>>> sets(
        static_cast<size_t>(n_sets));
    for (int e = 0; e < static_cast<int>(n); ++e) {
      for (int i = 0; i < in.size(); ++i) {
        const int group = i / (in.h * in.w) / per_group;
        const int set = batch ? group : e * spec.groups + group;
        sets[static_cast<size_t>(set)].push_back({e, i});
      }
    }
    for (const auto& set : sets) f(set);
  }
  static Vector<S> standardized(const Matrix<S>& x,
                                const std::vector<std::pair<int, int>>& set,
                                S* sigma) {
    Vector<S> v(static_cast<Eigen::Index>(set.size()));
    for (size_t k = 0; k < set.size(); ++k) {
      v[static_cast<Eigen::Index>(k)] = x(set[k].first, set[k].second);
    }
    v.array() -= v.mean();
    *sigma = std::sqrt(v.array().square().mean() + S(kEpsilon));
    return v / *sigma;
  }
};

/// What the outputs should be: a class an example, or target values.
struct Answers {
  std::vector<int> labels;
  Eigen::MatrixXd targets;  ///< [n][n_out], when labels is empty.
};

template <class S>
S loss_of(const Matrix<S>& y, const Answers& answers) {
  S sum(0.0);
  if (answers.labels.empty()) {
    for (Eigen::Index e = 0; e < y.rows(); ++e) {
      for (Eigen::Index o = 0; o < y.cols(); ++o) {
        const S d = y(e, o) - answers.targets(e, o);
        sum += d * d;
      }
    }
    return sum / S(static_cast<double>(y.size()));
  }
  for (Eigen::Index e = 0; e < y.rows(); ++e) {
    const double shift = y.row(e).real().maxCoeff();
    S z(0.0);
    for (Eigen::Index o = 0; o < y.cols(); ++o) z += std::exp(y(e, o) - shift);
    sum -= y(e, answers.labels[static_cast<size_t>(e)]) - shift - std::log(z);
  }
  return sum / S(static_cast<double>(y.rows()));
}

/// dL/dY.
template <class S>
Matrix<S> loss_gradient(const Matrix<S>& y, const Answers& answers) {
  Matrix<S> d(y.rows(), y.cols());
  for (Eigen::Index e = 0; e < y.rows(); ++e) {
    if (answers.labels.empty()) {
      for (Eigen::Index o = 0; o < y.cols(); ++o) {
        d(e, o) = S(2.0) * (y(e, o) - answers.targets(e, o)) /
                  S(static_cast<double>(y.size()));
      }
      continue;
    }
    for (Eigen::Index o = 0; o < y.cols(); ++o) {
      S z(0.0);  // softmax[o] = 1 / sum of exp(y[j] - y[o])
      for (Eigen::Index j = 0; j < y.cols(); ++j) {
        z += std::exp(y(e, j) - y(e, o));
      }
      const bool is_label = answers.labels[static_cast<size_t>(e)] == o;
      d(e, o) = (S(1.0) / z - S(is_label ? 1.0 : 0.0)) /
                S(static_cast<double>(y.rows()));
    }
  }
  return d;
}

/// Layers in a row.
template <class S>
class Network {
 public:
  Network(const Shape& input, const std::vector<Spec>& specs) {
    Shape shape = input;
    for (const Spec& s : specs) {
      layers_.emplace_back(s, shape);
      shape = layers_.back().out;
      n_params_ += layers_.back().n_params;
    }
  }
  int n_params() const { return n_params_; }

  Matrix<S> forward(const Vector<S>& theta, const Matrix<S>& x) const {
    return activations(theta, x).back();
  }
  S loss(const Vector<S>& theta,
         const Matrix<S>& x,
         const Answers& answers) const {
    return loss_of<S>(forward(theta, x), answers);
  }
  Vector<S> gradient(const Vector<S>& theta,
                     const Matrix<S>& x,
                     const Answers& answers) const {
    const std::vector<Matrix<S>> a = activations(theta, x);
    Vector<S> g = Vector<S>::Zero(n_params_);
    Matrix<S> d = loss_gradient<S>(a.back(), answers);
    int at = n_params_;
    for (size_t i = layers_.size(); i-- > 0;) {
      const int n = layers_[i].n_params;
      at -= n;
      d = layers_[i].backward(theta.segment(at, n), a[i], d, g.segment(at, n));
    }
    return g;
  }

 private:
  std::vector<Matrix<S>> activations(const Vector<S>& theta,
                                     const Matrix<S>& x) const {
    std::vector<Matrix<S>> a = {x};
    int at = 0;
    for (const Layer<S>& l : layers_) {
      a.push_back(l.forward(theta.segment(at, l.n_params), a.back()));
      at += l.n_params;
    }
    return a;
  }

  std::vector<Layer<S>> layers_;
  int n_params_ = 0;
};

/// df/dx[i] for all i by complex step.
inline Eigen::VectorXd complex_step(
    const std::function<
        std::complex<double>(const Vector<std::complex<double>>&)>& f,
    const Eigen::VectorXd& x) {
  constexpr double kStep = 1e-30;
  Eigen::VectorXd d(x.size());
  Vector<std::complex<double>> z = x.cast<std::complex<double>>();
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    z[i] += std::complex<double>(0.0, kStep);
    d[i] = f(z).imag() / kStep;
    z[i] = x[i];
  }
  return d;
}

}  // namespace reference

#endif  // FEWSTEP_TESTS_SUPPORT_REFERENCE_NETWORK_H_
