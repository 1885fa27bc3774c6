// The tape of primal values: the kernels that sum tangents alone, that they run
// wherever the tape says so, and that it never changes a bit.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "tape.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "channel_network.h"
#include "fewstep/executor/serial.h"
#include "fewstep/host/dropout.h"
#include "fewstep/host/lanes.h"
#include "fewstep/host/meta_gradient.h"
#include "fewstep/ops.h"
#include "lane_ops.h"
#include "support/engine_problem.h"
#include "support/layer_run.h"

namespace fewstep::testing {
namespace {

using host::BatchPass;
using host::LaneLayout;
using host::Tape;
using host::TapeOps;

constexpr uint64_t kRoom = 1 << 20;

/// How often a kernel ran at dual numbers, by operation.
struct Kernels {
  int whole = 0;     ///< Values and tangents.
  int tangents = 0;  ///< Tangents alone.
  bool operator==(const Kernels& o) const {
    return whole == o.whole && tangents == o.tangents;
  }
};
void PrintTo(const Kernels& k, std::ostream* os) {
  *os << k.whole << " whole, " << k.tangents << " of tangents";
}
struct Log {
  std::map<LayerOp, Kernels> forward, weight_gradient, input_gradient;
};

/// AllOps that counts, or, without a log, only computes.
class CountingOps : public host::WrappedOps<AllOps> {
 public:
  explicit CountingOps(Log* log) : WrappedOps(AllOps()), log_(log) {}

  template <class W, class E, class T>
  void forward(const E& e, LayerOp op, const LayerCall<T>& c) const {
    if (log_ != nullptr) count<W, T>(&log_->forward[op]);
    ops_.forward<W>(e, op, c);
  }
  template <class W, class E, class T>
  void weight_gradient(const E& e, LayerOp op, const LayerCall<T>& c) const {
    if (log_ != nullptr) count<W, T>(&log_->weight_gradient[op]);
    ops_.weight_gradient<W>(e, op, c);
  }
  template <class W, class E, class T>
  void input_gradient(const E& e, LayerOp op, const LayerCall<T>& c) const {
    if (log_ != nullptr) count<W, T>(&log_->input_gradient[op]);
    ops_.input_gradient<W>(e, op, c);
  }

 private:
  template <class V>
  struct IsTangents {
    static constexpr bool value = false;
  };
  template <class V>
  struct IsTangents<TangentView<V>> {
    static constexpr bool value = true;
  };
  template <class W, class T>
  static void count(Kernels* k) {
    if (!IsSame<T, Dual<float>>::value) return;
    ++(IsTangents<W>::value ? k->tangents : k->whole);
  }
  Log* log_;
};

/// One task's meta-gradient at float, of episode `seed`.
template <class Ops>
std::vector<float> meta_gradient(const Problem& s,
                                 Ops& ops,
                                 uint32_t support_tile,
                                 uint32_t query_tile,
                                 uint32_t seed) {
  const host::EpisodeShape& shape = s.source.shape();
  const host::Episode e =
      s.net.random_episode(seed, shape.n_support, shape.n_query);
  host::MetaGradient<float> m(
      s.net.network, s.rule, s.objective, support_tile, query_tile);
  m.run(SerialExecutor(),
        ops,
        PlainView<float>{s.theta.data()},
        PlainView<float>{s.phi.data()},
        support_of(e, shape.n_support),
        query_of(e, shape.n_query));
  std::vector<float> all = m.theta_bar();
  all.insert(all.end(), m.phi_bar().begin(), m.phi_bar().end());
  all.push_back(m.query_loss());
  return all;
}

// Tangents are those of the whole kernel, and values what was there: shapes
// below, at and above a tile; whole batches and second tiles.
TEST(Tape, TangentKernelsLeaveTheValues) {
  using D = Dual<float>;
  using Whole = DualView<PlainView<float>>;
  std::vector<Case> cases;
  for (const int in : {1, 2, 3, 7}) {
    for (const int out : {1, 2, 3, 6}) {
      cases.push_back({reference::dense(out), {in, 1, 1}});
      cases.push_back({reference::conv(out, 3, 1, 1), {in, 4, 5}});
      cases.push_back({reference::conv(out, 2, 2, 1), {in, 5, 3}});
    }
  }
  for (const Case& c : cases) {
    for (const uint32_t n : {1U, 2U, 5U}) {
      for (const bool first : {true, false}) {
        for (const bool of_network : {true, false}) {
          SCOPED_TRACE(describe(c, n));
          Layer layer = planned(c);
          layer.in_activation = static_cast<uint8_t>(LayerOp::kRelu);
          Uniform uniform(n + 31);
          const auto duals = [&](size_t count) {
            std::vector<D> v(count);
            for (D& d : v) d = {uniform(), uniform()};
            return v;
          };
          const std::vector<float> theta = uniform.vector(layer.n_params());
          const std::vector<float> v = uniform.vector(layer.n_params());
          const std::vector<float> x = uniform.vector(n * layer.n_in());
          std::vector<D> in = duals(n * layer.n_in());
          for (D& y : in) y.value = relu(y.value);
          const std::vector<D> out = duals(n * layer.n_out());
          const std::vector<D> grad = duals(layer.n_params());
          const auto call =
              [&](std::vector<D>& i, std::vector<D>& o, std::vector<D>& g) {
                LayerCall<D> a = {};
                a.layer = &layer;
                a.n = n;
                a.weights = Whole{{theta.data()}, v.data()}.raw();
                a.x = of_network ? x.data() : nullptr;
                a.in = i.data();
                a.out = o.data();
                a.grad = g.data();
                a.first = first;
                return a;
              };
          const auto expect_tangents = [](const std::vector<D>& got,
                                          const std::vector<D>& whole,
                                          const std::vector<D>& before) {
            for (size_t k = 0; k < got.size(); ++k) {
              ASSERT_EQ(to_bits(got[k].tangent), to_bits(whole[k].tangent));
              ASSERT_EQ(to_bits(got[k].value), to_bits(before[k].value));
            }
          };
          const SerialExecutor e;
          std::vector<D> i[2] = {in, in};
          std::vector<D> o[2] = {out, out};
          std::vector<D> g[2] = {grad, grad};
          const LayerCall<D> whole = call(i[0], o[0], g[0]);
          const LayerCall<D> tangents = call(i[1], o[1], g[1]);
          using Tangents = TangentView<Whole>;
          AllOps().forward<Whole>(e, layer.op, whole);
          AllOps().forward<Tangents>(e, layer.op, tangents);
          expect_tangents(o[1], o[0], out);
          o[0] = o[1] = out;  // Now the deltas.
          AllOps().weight_gradient<Whole>(e, layer.op, whole);
          AllOps().weight_gradient<Tangents>(e, layer.op, tangents);
          expect_tangents(g[1], g[0], grad);
          if (of_network) continue;
          AllOps().input_gradient<Whole>(e, layer.op, whole);
          AllOps().input_gradient<Tangents>(e, layer.op, tangents);
          expect_tangents(i[1], i[0], in);
        }
      }
    }
  }
}

TEST(Tape, KnowsWhatDenseLayersCanDoOnTheWay) {
  const NamedSpecs dense = {
      "dense",
      {3, 1, 1},
      {reference::dense(6), reference::tanh_layer(), reference::dense(2)}};
  const NamedSpecs norm = {"norm",
                           {2, 3, 3},
                           {reference::conv(4, 3, 1, 1),
                            reference::batch_norm(),
                            reference::dense(2)}};
  const NamedSpecs conv = {
      "conv", {2, 3, 3}, {reference::conv(4, 3, 1, 1), reference::dense(2)}};
  const auto fuses = [](const NamedSpecs& specs,
                        uint64_t bytes,
                        bool used,
                        uint32_t tile,
                        bool tangents) {
    const TestNetwork net(specs.input, specs.specs, LossOp::kMeanSquaredError);
    Tape<Lanes> tape(net.network, 5, 1, bytes, 1);
    tape.use(used);
    TapeOps<host::LaneOps, Lanes> ops(host::LaneOps(), &tape);
    const Lanes rate = broadcast(0.1F);
    std::vector<Lanes> to(net.network.n_params);
    std::vector<Dual<Lanes>> grad(net.network.n_params);
    host::Fusion<Lanes> fusion;
    if (tangents) {
      fusion.hessian = grad.data();
      fusion.tangents = to.data();
    } else {
      fusion.rate = &rate;
    }
    return ops.fuse(fusion, 5, tile);
  };
  for (const bool tangents : {true, false}) {
    EXPECT_TRUE(fuses(dense, kRoom, true, 5, tangents));
    EXPECT_TRUE(fuses(dense, kRoom, true, 8, tangents));
    EXPECT_FALSE(fuses(dense, kRoom, true, 4, tangents)) << "two tiles";
    EXPECT_EQ(fuses(dense, kRoom, false, 5, tangents), !tangents)
        << "no Hessian";
    EXPECT_EQ(fuses(dense, 100, true, 5, tangents), !tangents) << "no room";
    EXPECT_FALSE(fuses(norm, kRoom, true, 5, tangents));
    EXPECT_FALSE(fuses(conv, kRoom, true, 5, tangents));
  }
}

TEST(Tape, EqualsRecomputingForAnyTiles) {
  struct Tiles {
    uint32_t support, query;
  };
  for (const NamedSpecs& specs : zoo()) {
    for (const LossOp loss :
         {LossOp::kSoftmaxCrossEntropy, LossOp::kMeanSquaredError}) {
      Problem s(specs, loss, kTestRules[2], 3, 5, 7);
      s.objective.step_weights = {0.5F, 0.0F, 0.25F, 1.0F};
      Tape<float> tape(s.net.network, 5, 3, kRoom, 1);
      tape.use(true);
      Log log;
      TapeOps<CountingOps, float> ops(CountingOps(&log), &tape);
      AllOps plain;
      const std::vector<Tiles> some = {{5, 7}, {2, 7}, {3, 2}, {1, 1}, {4, 3}};
      const std::vector<Tiles> all = {{5, 7}};
      uint32_t seed = 0;
      for (const Tiles& t : s.net.network.transductive != 0 ? all : some) {
        // Other episodes each time: what an earlier one left must not be seen.
        for (int repeat = 0; repeat < 2; ++repeat) {
          SCOPED_TRACE(specs.name + ", tiles " + std::to_string(t.support) +
                       " and " + std::to_string(t.query));
          ++seed;
          EXPECT_TRUE(
              same_bits(meta_gradient(s, ops, t.support, t.query, seed),
                        meta_gradient(s, plain, t.support, t.query, seed)));
        }
      }
      for (const LayerOp op : {LayerOp::kDense, LayerOp::kConv2d}) {
        EXPECT_EQ(log.forward[op].whole, 0) << specs.name;
        EXPECT_EQ(log.weight_gradient[op].whole, 0) << specs.name;
      }
    }
  }
}

// Short sums are computed again: 3 and 9 terms forwards, 3 and 2 backwards.
TEST(Tape, LeavesOutShortSums) {
  const NamedSpecs specs = {"short",
                            {3, 1, 1},
                            {reference::dense(9),
                             reference::relu_layer(),
                             reference::dense(3),
                             reference::relu_layer(),
                             reference::dense(2)}};
  Problem s(specs, LossOp::kMeanSquaredError, kTestRules[2], 2);
  Tape<float> tape(s.net.network, 5, 2, kRoom);
  tape.use(true);
  Log log;
  TapeOps<CountingOps, float> ops(CountingOps(&log), &tape);
  AllOps plain;
  EXPECT_TRUE(same_bits(meta_gradient(s, ops, 5, 7, 1),
                        meta_gradient(s, plain, 5, 7, 1)));
  constexpr LayerOp kDense = LayerOp::kDense;
  EXPECT_EQ(log.forward[kDense], (Kernels{4, 2}));
  EXPECT_EQ(log.weight_gradient[kDense], (Kernels{0, 6}));
  EXPECT_EQ(log.input_gradient[kDense], (Kernels{4, 0}));
}

TEST(Tape, ReplaysAllButInputGradientsToATanh) {
  const NamedSpecs specs = {"both",
                            {3, 1, 1},
                            {reference::dense(6),
                             reference::relu_layer(),
                             reference::dense(5),
                             reference::tanh_layer(),
                             reference::dense(4),
                             reference::dense(2)}};
  Problem s(specs, LossOp::kMeanSquaredError, kTestRules[2], 2);
  Tape<float> tape(s.net.network, 5, 2, kRoom, 1);
  Log log;
  TapeOps<CountingOps, float> ops(CountingOps(&log), &tape);
  AllOps plain;
  const std::vector<float> expected = meta_gradient(s, plain, 5, 7, 1);
  constexpr LayerOp kDense = LayerOp::kDense;

  tape.use(true);
  EXPECT_TRUE(same_bits(meta_gradient(s, ops, 5, 7, 1), expected));
  // Two steps; of the input gradients of three layers, one to a tanh.
  EXPECT_EQ(log.forward[kDense], (Kernels{0, 8}));
  EXPECT_EQ(log.weight_gradient[kDense], (Kernels{0, 8}));
  EXPECT_EQ(log.input_gradient[kDense], (Kernels{2, 4}));

  log = Log();
  tape.use(false);
  EXPECT_TRUE(same_bits(meta_gradient(s, ops, 5, 7, 1), expected));
  EXPECT_EQ(log.forward[kDense], (Kernels{8, 0}));
  EXPECT_EQ(log.weight_gradient[kDense], (Kernels{8, 0}));
  EXPECT_EQ(log.input_gradient[kDense], (Kernels{6, 0}));

  // Outputs 6 + 5 + 4 + 2, deltas 6 + 4, five examples, two steps.
  constexpr uint64_t kBytes = (17 + 10) * 5 * 2 * sizeof(float);
  for (const uint64_t bytes : {kBytes, kBytes - 1}) {
    Tape<float> bounded(s.net.network, 5, 2, bytes, 1);
    bounded.use(true);
    Log of_bounded;
    TapeOps<CountingOps, float> on(CountingOps(&of_bounded), &bounded);
    EXPECT_TRUE(same_bits(meta_gradient(s, on, 5, 7, 1), expected));
    EXPECT_EQ(of_bounded.forward[kDense],
              bytes == kBytes ? (Kernels{0, 8}) : (Kernels{8, 0}));
  }
}

// Dropout hands the operations below it a copy of the layer, and a tanh's delta
// before its derivative.
TEST(Tape, LiesBelowDropout) {
  for (const NamedSpecs& specs : zoo()) {
    SCOPED_TRACE(specs.name);
    const Problem s(specs, LossOp::kSoftmaxCrossEntropy, kTestRules[2], 2);
    Tape<float> tape(s.net.network, 5, 2, kRoom, 1);
    tape.use(true);
    Log log;
    using On = TapeOps<CountingOps, float>;
    host::DropoutOps<On, float> on(
        On(CountingOps(&log), &tape), s.net.network, 0.25F, 7);
    host::DropoutOps<AllOps, float> off(AllOps(), s.net.network, 0.25F, 7);
    const uint32_t tile = s.net.network.transductive != 0 ? 5 : 2;
    const uint32_t query_tile = s.net.network.transductive != 0 ? 7 : 3;
    for (const uint32_t task : {3U, 4U}) {
      on.draw_for({{1, 2, task}});
      off.draw_for({{1, 2, task}});
      EXPECT_TRUE(same_bits(meta_gradient(s, on, tile, query_tile, task),
                            meta_gradient(s, off, tile, query_tile, task)));
    }
    EXPECT_EQ(log.forward[LayerOp::kDense].whole, 0);
    EXPECT_GT(log.forward[LayerOp::kDense].tangents, 0);
  }
}

// The engine in both layouts, with a tape and without; support sets of several
// tiles.
TEST(Tape, ChangesNoBitOfTheEngine) {
  using namespace reference;
  const NamedSpecs networks[] = {
      {"relu",
       {1, 1, 1},
       {dense(40), relu_layer(), dense(40), relu_layer(), dense(1)}},
      {"tanh",
       {2, 1, 1},
       {dense(19), tanh_layer(), dense(7), tanh_layer(), dense(3)}},
      {"context", {3, 1, 1}, {context(2), dense(6), relu_layer(), dense(2)}},
      {"conv, batch_norm",
       {1, 14, 14},
       {conv(20, 3, 2, 1),
        batch_norm(),
        relu_layer(),
        conv(20, 3, 1, 1),
        batch_norm(),
        relu_layer(),
        dense(5)}},
      {"conv, group_norm",
       {1, 12, 12},
       {conv(12, 3, 1, 1),
        group_norm(3),
        relu_layer(),
        conv(8, 3, 2, 1),
        group_norm(1),
        relu_layer(),
        dense(5)}},
      {"conv, max_pool",
       {1, 18, 18},
       {conv(33, 3, 1, 1),
        relu_layer(),
        max_pool(2),
        conv(17, 3, 1, 1),
        relu_layer(),
        max_pool(2),
        dense(5)}},
  };
  for (const NamedSpecs& specs : networks) {
    for (const LaneLayout layout :
         {LaneLayout::kTasks, LaneLayout::kChannels}) {
      for (const bool subset : {false, true}) {
        for (const float dropout : {0.0F, 0.25F}) {
          Problem s(specs, LossOp::kMeanSquaredError, kTestRules[2], 2, 13, 6);
          if (subset) {
            s.net.adapt({s.net.with_parameters().front()});
            s.rule = kTestRules[2].make(2, s.net.network);
            s.phi = random_phi(s.rule, s.net.network, 2);
          }
          if (layout == LaneLayout::kChannels &&
              (dropout != 0.0F ||
               !host::ChannelNetwork::make(s.net.network).has_value())) {
            continue;
          }
          SCOPED_TRACE(
              specs.name + (subset ? ", subset" : "") +
              (layout == LaneLayout::kTasks ? ", tasks" : ", channels") +
              (dropout != 0.0F ? ", dropout" : ""));
          host::EngineConfig config = s.config(1, layout);
          config.dropout = dropout;
          ASSERT_NE(config.tape_bytes, 0U);
          const auto with = host::make_cpu_engine(config);
          config.tape_bytes = 0;
          const auto without = host::make_cpu_engine(config);
          uint64_t iteration = 0;
          for (const size_t i : {3U, 1U, 2U}) {
            with->set_objective(objectives(2)[i]);
            without->set_objective(objectives(2)[i]);
            ++iteration;
            expect_same(by_engine(s, with.get(), iteration, 3),
                        by_engine(s, without.get(), iteration, 3));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace fewstep::testing
