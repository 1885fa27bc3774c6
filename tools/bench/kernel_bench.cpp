// kernel_bench: single kernels of the CPU engine on one core, with
// google-benchmark.
//
//   kernel_bench [--benchmark_filter=REGEX] [--benchmark_format=json] ...
//
// Names are layer/layout/number/kernel: layout "tasks" has different tasks in
// the lanes, "channels" the channels of one; number "value" is a plain number,
// "dual" a dual one (for Hessian-vector products). GFLOP/s count two for a
// multiply-add of the plain kernel, and twice that for a dual one, whose
// tangents take two products where the value takes one; the value, computed
// again, is not counted.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "channel_network.h"
#include "channels.h"
#include "fewstep/executor/serial.h"
#include "fewstep/host/network_builder.h"
#include "fewstep/host/recipe.h"
#include "fewstep/inner_loop.h"
#include "fewstep/ops.h"
#include "lane_ops.h"

namespace {

using namespace fewstep;
using host::ChannelNetwork;
using host::LaneOps;

enum class Kernel { kForward, kWeightGradient, kInputGradient };
constexpr Kernel kKernels[] = {
    Kernel::kForward, Kernel::kWeightGradient, Kernel::kInputGradient};
const char* to_string(Kernel kernel) {
  switch (kernel) {
    case Kernel::kForward: return "forward";
    case Kernel::kWeightGradient: return "weight_gradient";
    case Kernel::kInputGradient: return "input_gradient";
  }
  return "unknown kernel";
}

// A layer in a network: the second of three, so that it has both neighbours.
struct Subject {
  std::string name;
  host::PlannedNetwork planned;
  std::optional<ChannelNetwork> channels;
  uint32_t n;              // Examples.
  uint64_t multiply_adds;  // Forward, of all examples.
};
constexpr uint32_t kLayer = 1;

uint64_t valid_taps(uint32_t n_in, uint32_t n_out, const Layer& l) {
  uint64_t taps = 0;
  for (uint32_t o = 0; o < n_out; ++o) {
    for (uint32_t k = 0; k < l.kernel; ++k) {
      const uint32_t i = o * l.stride + k;
      if (i >= l.pad && i < n_in + l.pad) ++taps;
    }
  }
  return taps;
}

std::unique_ptr<Subject> make_subject(const std::string& name,
                                      const std::string& input,
                                      const std::string& layer,
                                      uint32_t n) {
  const std::string text = fmt::format(R"(name = "kernel"
[task]
source = "episodes"
path = "none"
[network]
input = {0}
layers = [{1}, {1}, {{op = "dense", units = 5}}]
loss = "softmax_cross_entropy"
[inner]
rule = "meta_sgd"
rate = 0.1
[outer]
tasks = 1
iterations = 1
)",
                                       input,
                                       layer);
  auto subject = std::make_unique<Subject>();
  subject->name = name;
  subject->n = n;
  subject->planned = host::build_network(host::parse_recipe(text, "kernel"));
  const Network& network = subject->planned.network;
  subject->channels = ChannelNetwork::make(network);
  const Layer& l = network.layers[kLayer];
  subject->multiply_adds =
      n * (l.op == LayerOp::kConv2d
               ? uint64_t{l.out_c} * l.in_c * valid_taps(l.in_h, l.out_h, l) *
                     valid_taps(l.in_w, l.out_w, l)
               : l.n_weights);
  return subject;
}

template <class T>
constexpr bool kIsDual = false;
template <class P>
constexpr bool kIsDual<Dual<P>> = true;
template <class P>
P packet_of(const P&);
template <class P>
P packet_of(const Dual<P>&);

// Numbers in [-0.5, 0.5) without a pattern.
template <class T>
std::vector<T> numbers(uint64_t n) {
  std::vector<T> values(n);
  float* const p = reinterpret_cast<float*>(values.data());
  uint32_t state = 1;
  for (uint64_t i = 0; i < n * (sizeof(T) / sizeof(float)); ++i) {
    state = state * 1664525U + 1013904223U;
    p[i] = static_cast<float>(state >> 8) * 0x1p-24F - 0.5F;
  }
  return values;
}

// The layers that Channels runs (channel_ops_impl.h); Lanes runs LaneOps.
using ChannelLayers = StaticOps<OpList<Conv2d>, OpList<>, OpList<>>;

template <class T, class Ops>
void run_kernel(benchmark::State& state,
                const Subject& subject,
                const Network& network,
                Kernel kernel) {
  constexpr bool kDual = kIsDual<T>;
  using P = decltype(packet_of(std::declval<T>()));
  constexpr bool kOfChannels = std::is_same_v<P, Channels>;
  using View = std::conditional_t<kDual, DualView<PlainView<P>>, PlainView<P>>;
  const Ops ops = {};
  const SerialExecutor e;
  const auto theta = numbers<P>(network.n_params);
  const auto tangent = numbers<P>(network.n_params);
  auto values = numbers<T>(workspace_values(network, subject.n));
  auto grad = numbers<T>(network.n_params);
  View view = {};
  if constexpr (kDual) {
    view = View{{theta.data()}, tangent.data()};
  } else {
    view = View{theta.data()};
  }
  const Layer& layer = network.layers[kLayer];
  LayerCall<T> call = layer_call<T>(network,
                                    layer,
                                    view,
                                    Workspace<T>{values.data(), subject.n},
                                    nullptr,
                                    subject.n);
  call.grad = grad.data() + layer.param_offset;
  call.first = true;
  // Input gradients at Channels read weights in another order.
  std::vector<P> transposed;
  if constexpr (kOfChannels) {
    if (kernel == Kernel::kInputGradient) {
      transposed = numbers<P>(subject.channels->n_transposed());
      const uint32_t at = subject.channels->transposed_offset(&layer);
      call.weights.value = transposed.data() + at;
      if (kDual) call.weights.tangent = transposed.data() + at;
    }
  }
  for (auto _ : state) {
    switch (kernel) {
      case Kernel::kForward:
        ops.template forward<View>(e, layer.op, call);
        break;
      case Kernel::kWeightGradient:
        ops.template weight_gradient<View>(e, layer.op, call);
        break;
      case Kernel::kInputGradient:
        ops.template input_gradient<View>(e, layer.op, call);
        break;
    }
    benchmark::ClobberMemory();
  }
  const double flops = static_cast<double>(subject.multiply_adds) *
                       (kDual ? 4.0 : 2.0) * (kOfChannels ? 1.0 : kLanes);
  state.counters["GFLOP/s"] = benchmark::Counter(
      1e-9 * flops, benchmark::Counter::kIsIterationInvariantRate);
}

template <class T, class Ops>
void add(const Subject& subject,
         const Network& network,
         const std::string& layout) {
  const char* const number = kIsDual<T> ? "dual" : "value";
  for (const Kernel kernel : kKernels) {
    const std::string name = fmt::format(
        "{}/{}/{}/{}", subject.name, layout, number, to_string(kernel));
    benchmark::RegisterBenchmark(name.c_str(), [=, &subject](auto& state) {
      run_kernel<T, Ops>(state, subject, network, kernel);
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::unique_ptr<Subject>> subjects;
  const auto conv = [](int filters) {
    return fmt::format(
        "{{op = \"conv2d\", filters = {}, kernel = 3, stride = 2, pad = 1}}",
        filters);
  };
  // The second layers of the sinusoid network, conv4-64 and conv4-16.
  subjects.push_back(make_subject(
      "dense_40x40_n10", "[1, 1, 1]", "{op = \"dense\", units = 40}", 10));
  subjects.push_back(
      make_subject("conv2d_64x14x14_n75", "[1, 28, 28]", conv(64), 75));
  subjects.push_back(
      make_subject("conv2d_16x14x14_n75", "[1, 28, 28]", conv(16), 75));
  for (const auto& s : subjects) {
    add<Lanes, LaneOps>(*s, s->planned.network, "tasks");
    add<Dual<Lanes>, LaneOps>(*s, s->planned.network, "tasks");
    if (s->planned.network.layers[kLayer].op != LayerOp::kConv2d) continue;
    if (!s->channels) continue;
    add<Channels, ChannelLayers>(*s, s->channels->network(), "channels");
    add<Dual<Channels>, ChannelLayers>(*s, s->channels->network(), "channels");
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
