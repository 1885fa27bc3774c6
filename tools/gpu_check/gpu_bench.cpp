// gpu_bench: times meta-steps of the benchmark networks on an engine, with
// nothing but the library: engine_bench for machines without its packages.
//
//   gpu_bench CASE --engine cpu|cuda [--threads N] [--seconds S]
//       times meta-steps on random examples, prints one JSON line
//   gpu_bench CASE --engine cpu|cuda --data FOLDER --serve
//       takes theta, rate and episodes from FOLDER (raw little-endian arrays
//       NAME.f32 and NAME.u16, as gpu_bench.py writes them), prints a JSON line
//       and answers the commands of engine_bench --serve; `gradient FILE I`
//       writes FILE.theta.f32 and FILE.rate.f32
//
//   gpu_bench CASE --same-bits [--threads N]
//       compares meta-gradients of the CPU engine and the CUDA engine, bit by
//       bit
//
//   CASE: sinusoid, conv4-16, conv4-64, as in tools/bench/cases.py
//
// A meta-step: the second-order Meta-SGD meta-gradient and Adam. Exit status:
// 0; 1 when bits differ; 2 for wrong use; 4 when a task diverged; 5 when there
// is no such engine.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "fewstep/host/engine.h"
#include "fewstep/host/error.h"
#include "fewstep/host/optimizer.h"
#include "fewstep/host/philox.h"

namespace {

using namespace fewstep;
using host::Error;
using host::Exit;

struct Case {
  std::string name;
  uint32_t filters;  ///< 0: the sinusoid's dense layers.
  uint32_t n_support, n_query, n_tasks, n_batches;
};
const Case kCases[] = {{"sinusoid", 0, 10, 10, 25, 20},
                       {"conv4-16", 16, 5, 75, 32, 8},
                       {"conv4-64", 64, 5, 75, 32, 8}};

/// The case's network.
struct Planned {
  explicit Planned(const Case& c) {
    const bool dense = c.filters == 0;
    NetworkPlanner planner(1, dense ? 1 : 28, dense ? 1 : 28, &network);
    const auto add = [&](LayerOp op, uint32_t out_c) {
      Layer l = {};
      l.op = op;
      l.out_c = static_cast<uint16_t>(out_c);
      if (op == LayerOp::kConv2d) {
        l.kernel = 3;
        l.stride = 2;
        l.pad = 1;
      }
      if (planner.add(&l) != Status::kOk) {
        throw Error(Exit::kInternal, planner.error());
      }
      layers.push_back(l);
    };
    if (dense) {
      for (int i = 0; i < 2; ++i) {
        add(LayerOp::kDense, 40);
        add(LayerOp::kRelu, 0);
      }
      add(LayerOp::kDense, 1);
    } else {
      for (int i = 0; i < 4; ++i) {
        add(LayerOp::kConv2d, c.filters);
        add(LayerOp::kBatchNorm, 0);
        add(LayerOp::kRelu, 0);
      }
      add(LayerOp::kDense, 5);
    }
    const LossOp loss =
        dense ? LossOp::kMeanSquaredError : LossOp::kSoftmaxCrossEntropy;
    if (planner.finish(layers.data(), loss) != Status::kOk) {
      throw Error(Exit::kInternal, planner.error());
    }
  }
  Planned(const Planned&) = delete;

  std::vector<Layer> layers;
  Network network = {};
};

template <class T>
std::vector<T> load(const std::string& path, size_t n) {
  std::vector<T> values(n);
  std::ifstream in(path, std::ios::binary);
  in.read(reinterpret_cast<char*>(values.data()),
          static_cast<std::streamsize>(n * sizeof(T)));
  if (!in || in.peek() != EOF) {
    throw Error(Exit::kBadData, path + ": not its size, or not there");
  }
  return values;
}

/// Episodes from a folder, or random ones; taken in turn.
class Episodes final : public host::TaskSource {
 public:
  Episodes(const Case& c, const Network& network, const std::string& folder)
      : n_tasks_(c.n_tasks) {
    const bool classes = network.loss == LossOp::kSoftmaxCrossEntropy;
    shape_ = {classes ? network.n_out : 0,
              c.n_support,
              c.n_query,
              network.n_in,
              network.n_out,
              classes};
    input_ = {network.in_c, network.in_h, network.in_w};
    episodes_.resize(size_t{c.n_tasks} * c.n_batches);
    for (host::Episode& e : episodes_) e.resize(shape_);
    if (folder.empty()) {
      draw();
    } else {
      read(folder);
    }
  }

  const host::EpisodeShape& shape() const override { return shape_; }
  host::InputShape input_shape() const override { return input_; }
  void sample(host::Split,
              uint64_t,
              uint64_t iteration,
              uint32_t task,
              host::Episode* out) const override {
    *out = episodes_[(iteration * n_tasks_ + task) % episodes_.size()];
  }

 private:
  void draw() {
    for (size_t i = 0; i < episodes_.size(); ++i) {
      host::Episode& e = episodes_[i];
      host::Random random(
          1, 0, static_cast<uint32_t>(i), host::Purpose::kTrainEpisode);
      for (auto* values :
           {&e.support_x, &e.query_x, &e.support_targets, &e.query_targets}) {
        for (float& x : *values) x = random.normal();
      }
      for (auto* labels : {&e.support_labels, &e.query_labels}) {
        for (size_t j = 0; j < labels->size(); ++j) {
          (*labels)[j] = static_cast<uint16_t>(j % shape_.n_out);
        }
      }
    }
  }

  template <class T>
  void take(const std::string& path, std::vector<T> host::Episode::*member) {
    const size_t n = (episodes_[0].*member).size();
    const std::vector<T> all = load<T>(path, n * episodes_.size());
    for (size_t i = 0; i < episodes_.size(); ++i) {
      std::copy_n(all.begin() + static_cast<ptrdiff_t>(i * n),
                  n,
                  (episodes_[i].*member).begin());
    }
  }
  void read(const std::string& folder) {
    take(folder + "/support_x.f32", &host::Episode::support_x);
    take(folder + "/query_x.f32", &host::Episode::query_x);
    if (shape_.classification) {
      take(folder + "/support_y.u16", &host::Episode::support_labels);
      take(folder + "/query_y.u16", &host::Episode::query_labels);
    } else {
      take(folder + "/support_y.f32", &host::Episode::support_targets);
      take(folder + "/query_y.f32", &host::Episode::query_targets);
    }
  }

  uint32_t n_tasks_;
  host::EpisodeShape shape_;
  host::InputShape input_;
  std::vector<host::Episode> episodes_;
};

std::unique_ptr<host::Engine> make(const std::string& engine,
                                   const host::EngineConfig& config) {
  if (engine == "cpu") return host::make_cpu_engine(config);
#if HAS_CUDA_ENGINE
  if (engine == "cuda") return host::make_cuda_engine(config);
#endif
  throw Error(Exit::kResource, "this tree has no engine " + engine);
}

class Training {
 public:
  Training(const Case& c,
           const std::string& engine,
           const std::string& data,
           uint32_t threads)
      : case_(c),
        planned_(c),
        rule_(make_rule(RuleOp::kMetaSgd, 1, planned_.network)),
        source_(c, planned_.network, data) {
    const size_t n = planned_.network.n_params;
    if (data.empty()) {
      host::Random random(1, 0, 0, host::Purpose::kInitialization);
      initial_.theta.resize(n);
      for (float& x : initial_.theta) x = 0.1F * random.normal();
      initial_.phi.assign(n, 0.01F);
    } else {
      initial_.theta = load<float>(data + "/theta.f32", n);
      initial_.phi = load<float>(data + "/rate.f32", n);
    }
    initial_.m.assign(2 * n, 0.0F);
    initial_.v.assign(2 * n, 0.0F);
    state_ = initial_;
    d_theta_.resize(n);
    d_phi_.resize(n);
    host::Objective objective;
    objective.steps = 1;
    objective.second_order = true;
    host::EngineConfig config = {
        &planned_.network, &rule_, objective, &source_, 1, threads};
    plan_for(&config, c.n_tasks);
    engine_ = make(engine, config);
    outer_.rate = 1e-3;
    outer_.tasks = static_cast<int>(c.n_tasks);
    outer_.iterations = 1000000;
  }

  std::string facts() const {
    const uint64_t examples = 3 * case_.n_support + case_.n_query;
    std::ostringstream out;
    out << "{\"name\": \"" << case_.name
        << "\", \"parameters\": " << planned_.network.n_params
        << ", \"tasks\": " << case_.n_tasks << ", \"multiply_adds\": "
        << case_.n_tasks * examples *
               multiply_adds_per_example(planned_.network);
    return out.str();
  }

  double time(int64_t n) {
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < n; ++i) {
      gradient();
      host::outer_step(outer_, true, d_theta_, d_phi_, &state_);
    }
    const auto stop = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(stop - start).count();
  }

  /// theta and phi after `n` meta-steps from the initial state.
  std::vector<float> after(int64_t n) {
    state_ = initial_;
    time(n);
    std::vector<float> all = state_.theta;
    all.insert(all.end(), state_.phi.begin(), state_.phi.end());
    return all;
  }

  void save_gradient(const std::string& path, int64_t iteration) {
    state_ = initial_;
    state_.iteration = iteration;
    gradient();
    state_ = initial_;
    save(path + ".theta.f32", d_theta_);
    save(path + ".rate.f32", d_phi_);
  }

  uint32_t n_tasks() const { return case_.n_tasks; }

 private:
  // EngineConfig::n_tasks, where the engine plans its memory.
  template <class Config>
  static void plan_for(Config* config, uint32_t n_tasks) {
    if constexpr (requires { config->n_tasks; }) config->n_tasks = n_tasks;
  }

  static void save(const std::string& path, const std::vector<float>& values) {
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(values.data()),
              static_cast<std::streamsize>(values.size() * sizeof(float)));
    if (!out.flush()) throw Error(Exit::kResource, path + ": cannot write");
  }

  void gradient() {
    const host::MetaStep step =
        engine_->meta_gradient(state_.theta.data(),
                               state_.phi.data(),
                               static_cast<uint64_t>(state_.iteration),
                               case_.n_tasks,
                               d_theta_.data(),
                               d_phi_.data());
    if (step.n_dropped != 0) {
      throw Error(Exit::kNumeric, "tasks diverged: not the work to be timed");
    }
  }

  Case case_;
  Planned planned_;
  Rule rule_;
  Episodes source_;
  host::OuterRecipe outer_;
  host::OuterState initial_, state_;
  std::vector<float> d_theta_, d_phi_;
  std::unique_ptr<host::Engine> engine_;
};

void serve(Training* training) {
  std::cout << training->facts() << "}" << std::endl;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string command, path;
    int64_t n = 0;
    words >> command;
    if (command == "quit") return;
    if (command == "time" && words >> n && n > 0) {
      std::cout << "{\"seconds\": " << training->time(n) << "}" << std::endl;
    } else if (command == "gradient" && words >> path >> n && n >= 0) {
      training->save_gradient(path, n);
      std::cout << "{}" << std::endl;
    } else {
      throw Error(Exit::kUsage, line + ": no such command");
    }
  }
}

void measure(Training* training, double seconds) {
  int64_t n = 1;
  training->time(1);
  double last = training->time(1);
  while (last < seconds && n < 1000000) {
    const double more = std::clamp(1.2 * seconds / last, 1.5, 100.0);
    n = static_cast<int64_t>(static_cast<double>(n) * more) + 1;
    last = training->time(n);
  }
  std::vector<double> times;
  for (int r = 0; r < 5; ++r) {
    times.push_back(training->time(n) / static_cast<double>(n));
  }
  std::sort(times.begin(), times.end());
  std::cout << training->facts() << ", \"ms_per_step\": " << times[2] * 1e3
            << ", \"ms_fastest\": " << times[0] * 1e3
            << ", \"ms_slowest\": " << times[4] * 1e3
            << ", \"tasks_per_s\": " << training->n_tasks() / times[2] << "}"
            << std::endl;
}

int same_bits(const Case& c, uint32_t threads) {
  Training gpu(c, "cuda", "", threads);
  Training cpu(c, "cpu", "", threads);
  for (const int64_t n : {1, 3}) {
    const std::vector<float> a = cpu.after(n);
    const std::vector<float> b = gpu.after(n);
    if (std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) != 0) {
      std::cout << c.name << ": other bits after " << n << " meta-steps\n";
      return 1;
    }
  }
  std::cout << c.name << ": the CPU engine's bits after 1 and 3 meta-steps\n";
  return 0;
}

int run(int argc, char** argv) {
  std::string name, engine, data;
  uint32_t threads = 0;
  double seconds = 0.5;
  bool serves = false;
  bool compares = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) throw Error(Exit::kUsage, argument + " needs a value");
      return argv[++i];
    };
    if (argument == "--engine") {
      engine = value();
    } else if (argument == "--data") {
      data = value();
    } else if (argument == "--threads") {
      threads = static_cast<uint32_t>(std::stoul(value()));
    } else if (argument == "--seconds") {
      seconds = std::stod(value());
    } else if (argument == "--serve") {
      serves = true;
    } else if (argument == "--same-bits") {
      compares = true;
    } else {
      name = argument;
    }
  }
  for (const Case& c : kCases) {
    if (c.name != name) continue;
    if (compares) return same_bits(c, threads);
    Training training(c, engine, data, threads);
    if (serves) {
      serve(&training);
    } else {
      measure(&training, seconds);
    }
    return 0;
  }
  throw Error(Exit::kUsage, "no case \"" + name + "\"");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    std::cerr << "gpu_bench: " << error.what() << "\n";
    return static_cast<int>(error.exit());
  } catch (const std::exception& error) {
    std::cerr << "gpu_bench: " << error.what() << "\n";
    return 2;
  }
}
