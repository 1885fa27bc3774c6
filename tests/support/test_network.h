// Networks, episodes and random numbers for the tests of lib/ and host/.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_TEST_NETWORK_H_
#define FEWSTEP_TESTS_SUPPORT_TEST_NETWORK_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "fewstep/adapted.h"
#include "fewstep/host/episode.h"
#include "fewstep/host/learned_mask.h"
#include "fewstep/inner_loop.h"
#include "fewstep/network.h"
#include "fewstep/rules/rule.h"
#include "support/reference_network.h"

namespace fewstep::testing {

/// Uniform in [-1, 1], a function of the seed only.
class Uniform {
 public:
  explicit Uniform(uint32_t seed) : engine_(seed) {}
  float operator()() {
    return static_cast<float>(engine_() >> 8) * 0x1p-23F - 1.0F;
  }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(engine_() % n); }
  std::vector<float> vector(size_t n, float scale = 1.0F) {
    std::vector<float> v(n);
    for (float& x : v) x = scale * (*this)();
    return v;
  }

 private:
  std::mt19937 engine_;
};

inline LayerOp op_of(reference::Kind kind) {
  switch (kind) {
    case reference::Kind::kDense: return LayerOp::kDense;
    case reference::Kind::kConv2d: return LayerOp::kConv2d;
    case reference::Kind::kRelu: return LayerOp::kRelu;
    case reference::Kind::kTanh: return LayerOp::kTanh;
    case reference::Kind::kMaxPool: return LayerOp::kMaxPool;
    case reference::Kind::kGlobalAvgPool: return LayerOp::kGlobalAvgPool;
    case reference::Kind::kFlatten: return LayerOp::kFlatten;
    case reference::Kind::kGroupNorm: return LayerOp::kGroupNorm;
    case reference::Kind::kBatchNorm: return LayerOp::kBatchNorm;
    case reference::Kind::kContext: return LayerOp::kContext;
  }
  return LayerOp::kDense;
}

/// Links the planner that knows of contexts.
[[gnu::used]] inline bool (*const kPlansContexts)(const Network&) =
    &has_context;

/// The author's fields of a layer record.
inline Layer chosen(const reference::Spec& s) {
  Layer l = {};
  l.op = op_of(s.kind);
  l.kernel = static_cast<uint8_t>(s.kernel);
  l.stride = static_cast<uint8_t>(s.stride);
  l.pad = static_cast<uint8_t>(s.pad);
  l.groups = static_cast<uint16_t>(s.groups);
  const bool context = l.op == LayerOp::kContext;
  (context ? l.groups : l.out_c) = static_cast<uint16_t>(s.units);
  return l;
}

/// A planned network with the specs it came from.
struct TestNetwork {
  reference::Shape input;
  std::vector<reference::Spec> specs;
  std::vector<Layer> layers;
  std::vector<uint32_t> adapted;
  Network network{};

  TestNetwork(const reference::Shape& shape,
              const std::vector<reference::Spec>& chosen_specs,
              LossOp loss)
      : input(shape), specs(chosen_specs) {
    NetworkPlanner planner(static_cast<uint16_t>(shape.c),
                           static_cast<uint16_t>(shape.h),
                           static_cast<uint16_t>(shape.w),
                           &network);
    for (const reference::Spec& s : specs) {
      layers.push_back(chosen(s));
      EXPECT_EQ(planner.add(&layers.back()), Status::kOk) << planner.error();
    }
    EXPECT_EQ(planner.finish(layers.data(), loss), Status::kOk)
        << planner.error();
  }
  TestNetwork(const TestNetwork&) = delete;
  TestNetwork& operator=(const TestNetwork&) = delete;

  /// Lets these layers adapt and no other.
  void adapt(const std::vector<size_t>& list) {
    adapted.assign(layers.size(), kFrozen);
    for (const size_t i : list) adapted.at(i) = 0;
    EXPECT_EQ(plan_adapted(adapted.data(), &network), Status::kOk);
  }
  /// Indices of the layers with parameters.
  std::vector<size_t> with_parameters() const {
    std::vector<size_t> list;
    for (size_t i = 0; i < layers.size(); ++i) {
      if (layers[i].n_params() != 0) list.push_back(i);
    }
    return list;
  }

  bool classes() const { return network.loss == LossOp::kSoftmaxCrossEntropy; }

  /// Parameters that keep activations of order one: weights uniform in
  /// +-1.7 / sqrt(fan in), gammas around 1, biases and betas in +-0.3, contexts
  /// in +-0.85 (trained ones start at 0: here a gradient must see them).
  std::vector<float> random_theta(uint32_t seed) const {
    Uniform uniform(seed);
    std::vector<float> theta(network.n_params);
    for (const Layer& l : layers) {
      for (uint32_t i = 0; i < l.n_weights; ++i) {
        const float fan_in =
            l.op == LayerOp::kContext
                ? 4.0F
                : static_cast<float>(l.n_weights) / static_cast<float>(l.out_c);
        theta[l.param_offset + i] = l.n_aux != 0
                                        ? 1.0F + 0.3F * uniform()
                                        : 1.7F * uniform() / std::sqrt(fan_in);
      }
      for (uint32_t i = 0; i < l.n_biases; ++i) {
        theta[l.param_offset + l.n_weights + i] = 0.3F * uniform();
      }
    }
    return theta;
  }

  host::EpisodeShape episode_shape(uint32_t n_support, uint32_t n_query) const {
    return {classes() ? network.n_out : 0,
            n_support,
            n_query,
            network.n_in,
            network.n_out,
            classes()};
  }
  host::Episode random_episode(uint32_t seed,
                               uint32_t n_support,
                               uint32_t n_query) const {
    Uniform uniform(seed);
    host::Episode e;
    e.resize(episode_shape(n_support, n_query));
    for (float& x : e.support_x) x = 1.5F * uniform();
    for (float& x : e.query_x) x = 1.5F * uniform();
    for (uint16_t& l : e.support_labels) {
      l = static_cast<uint16_t>(uniform.below(network.n_out));
    }
    for (uint16_t& l : e.query_labels) {
      l = static_cast<uint16_t>(uniform.below(network.n_out));
    }
    for (float& t : e.support_targets) t = uniform();
    for (float& t : e.query_targets) t = uniform();
    return e;
  }
};

/// Small rates for `rule`, all different and some negative; gains in (0, 1);
/// learned moments of either sign, but for the roots of adam's v_0; a learned
/// mask's logits around 0.
inline std::vector<float> random_phi(const Rule& rule,
                                     const Network& network,
                                     uint32_t seed) {
  Uniform uniform(seed);
  std::vector<float> phi(rule.n_phi);
  for (float& p : phi) p = 0.15F + 0.25F * uniform();
  for (uint32_t j = 0; j < n_means(rule.op); ++j) {
    phi[n_rates(rule, network) + j] = 0.5F + 0.4F * uniform();
  }
  const bool roots = rule.op == RuleOp::kAdam && rule.options.learned_moments();
  const uint32_t logits = host::logits_begin(rule, network);
  for (uint32_t i = 0; roots && i < network.n_adapted; ++i) {
    phi[logits - 1 - i] = 0.6F + 0.4F * uniform();
  }
  for (uint32_t i = logits; i < rule.n_phi; ++i) phi[i] = uniform();
  return phi;
}

inline Batch<float> support_of(const host::Episode& e, uint32_t n) {
  return {e.support_x.data(),
          e.support_labels.empty() ? nullptr : e.support_labels.data(),
          e.support_targets.empty() ? nullptr : e.support_targets.data(),
          n};
}
inline Batch<float> query_of(const host::Episode& e, uint32_t n) {
  return {e.query_x.data(),
          e.query_labels.empty() ? nullptr : e.query_labels.data(),
          e.query_targets.empty() ? nullptr : e.query_targets.data(),
          n};
}

/// Conversions to the reference's types.
template <class S, class X>
reference::Vector<S> reference_vector(const std::vector<X>& v) {
  reference::Vector<S> r(static_cast<Eigen::Index>(v.size()));
  for (size_t i = 0; i < v.size(); ++i) {
    r[static_cast<Eigen::Index>(i)] = S(static_cast<double>(v[i]));
  }
  return r;
}
template <class S, class X>
reference::Matrix<S> reference_rows(const X* v, size_t rows, size_t cols) {
  reference::Matrix<S> m(static_cast<Eigen::Index>(rows),
                         static_cast<Eigen::Index>(cols));
  for (Eigen::Index r = 0; r < m.rows(); ++r) {
    for (Eigen::Index c = 0; c < m.cols(); ++c) {
      m(r, c) = S(static_cast<double>(v[r * m.cols() + c]));
    }
  }
  return m;
}
inline reference::Answers reference_answers(const std::vector<uint16_t>& labels,
                                            const std::vector<float>& targets,
                                            uint32_t n,
                                            uint32_t n_out) {
  reference::Answers a;
  for (const uint16_t l : labels) a.labels.push_back(l);
  if (labels.empty()) {
    a.targets = reference_rows<double>(targets.data(), n, n_out);
  }
  return a;
}

/// Equal bits; NaNs are equal to each other.
inline ::testing::AssertionResult same_bits(const std::vector<float>& a,
                                            const std::vector<float>& b) {
  if (a.size() != b.size()) {
    return ::testing::AssertionFailure()
           << a.size() << " and " << b.size() << " values";
  }
  for (size_t i = 0; i < a.size(); ++i) {
    if (to_bits(a[i]) != to_bits(b[i]) &&
        !(std::isnan(a[i]) && std::isnan(b[i]))) {
      return ::testing::AssertionFailure()
             << "value " << i << " of " << a.size() << ": " << a[i] << " and "
             << b[i];
    }
  }
  return ::testing::AssertionSuccess();
}

/// A network for each layer that contains it, small, with layers below and
/// above, so that every part of its backward pass runs; and one with all that
/// cannot be elsewhere: an activation on an activation, pooling over a
/// remainder under a dense layer.
struct NamedSpecs {
  std::string name;
  reference::Shape input;
  std::vector<reference::Spec> specs;
};
inline std::vector<NamedSpecs> zoo() {
  using namespace reference;
  return {
      {"dense", {2, 1, 2}, {dense(6), tanh_layer(), dense(3)}},
      {"relu",
       {1, 1, 3},
       {dense(7), relu_layer(), dense(5), relu_layer(), dense(3)}},
      {"conv2d",
       {2, 5, 4},
       {conv(3, 3, 1, 1),
        tanh_layer(),
        conv(2, 2, 2, 0),
        relu_layer(),
        dense(3)}},
      {"max_pool",
       {1, 7, 5},
       {conv(2, 2, 1, 1),
        relu_layer(),
        max_pool(2),
        conv(2, 2, 1, 0),
        tanh_layer(),
        max_pool(2),
        dense(3)}},
      {"global_avg_pool",
       {2, 4, 3},
       {conv(3, 3, 2, 1), relu_layer(), global_avg_pool(), dense(3)}},
      {"flatten",
       {1, 4, 4},
       {conv(2, 3, 1, 0), relu_layer(), flatten(), tanh_layer(), dense(3)}},
      {"group_norm",
       {1, 4, 4},
       {conv(4, 3, 1, 1),
        group_norm(2),
        relu_layer(),
        conv(2, 3, 3, 1),
        relu_layer(),
        group_norm(1),
        dense(3)}},
      {"batch_norm",
       {1, 4, 4},
       {conv(3, 3, 2, 1),
        batch_norm(),
        relu_layer(),
        conv(2, 2, 1, 0),
        tanh_layer(),
        batch_norm(),
        dense(3)}},
      {"context",
       {3, 1, 1},
       {context(2),
        dense(6),
        tanh_layer(),
        context(3),
        dense(4),
        relu_layer(),
        context(1),
        tanh_layer(),
        dense(3)}},
      {"activations",
       {3, 1, 1},
       {tanh_layer(),
        group_norm(1),
        relu_layer(),
        tanh_layer(),
        dense(4),
        tanh_layer(),
        relu_layer(),
        dense(3),
        tanh_layer()}},
  };
}

/// The zoo's network of that name.
inline NamedSpecs zoo_network(const std::string& name) {
  for (const NamedSpecs& n : zoo()) {
    if (n.name == name) return n;
  }
  throw std::logic_error("no network " + name);
}

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_TEST_NETWORK_H_
