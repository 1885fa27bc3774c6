// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "gpu_engine.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "../cpu/worker_pool.h"
#include "fewstep/host/error.h"
#include "fewstep/numerics/real.h"

namespace fewstep::host {
namespace {

// Episodes of an iteration as one run of memory: each array of all tasks after
// the other. The same on host and device.
class EpisodeArrays {
 public:
  EpisodeArrays(const EpisodeShape& shape, uint32_t n_tasks)
      : shape_(shape), n_tasks_(n_tasks) {}

  uint64_t bytes() const { return at(6); }

  const float* support_x(const void* base) const { return floats(base, 0); }
  const float* query_x(const void* base) const { return floats(base, 1); }
  const float* support_targets(const void* base) const {
    return shape_.classification ? nullptr : floats(base, 2);
  }
  const float* query_targets(const void* base) const {
    return shape_.classification ? nullptr : floats(base, 3);
  }
  const uint16_t* support_labels(const void* base) const {
    return shape_.classification ? labels(base, 4) : nullptr;
  }
  const uint16_t* query_labels(const void* base) const {
    return shape_.classification ? labels(base, 5) : nullptr;
  }

  // Writes `e` as task t.
  void store(void* base, uint32_t t, const Episode& e) const {
    put(base, 0, t, e.support_x);
    put(base, 1, t, e.query_x);
    put(base, 2, t, e.support_targets);
    put(base, 3, t, e.query_targets);
    put(base, 4, t, e.support_labels);
    put(base, 5, t, e.query_labels);
  }

 private:
  // Bytes of one task's array i.
  uint64_t size(int i) const {
    const uint64_t n = i % 2 == 0 ? shape_.n_support : shape_.n_query;
    if (i < 2) return n * shape_.n_in * sizeof(float);
    if (i < 4) {
      return shape_.classification ? 0 : n * shape_.n_out * sizeof(float);
    }
    return shape_.classification ? n * sizeof(uint16_t) : 0;
  }
  // Where array i begins, in bytes: the arrays of floats come first.
  uint64_t at(int i) const {
    uint64_t offset = 0;
    for (int k = 0; k < i; ++k) offset += n_tasks_ * size(k);
    return offset;
  }
  const float* floats(const void* base, int i) const {
    return reinterpret_cast<const float*>(static_cast<const char*>(base) +
                                          at(i));
  }
  const uint16_t* labels(const void* base, int i) const {
    return reinterpret_cast<const uint16_t*>(static_cast<const char*>(base) +
                                             at(i));
  }
  template <class V>
  void put(void* base, int i, uint32_t t, const std::vector<V>& values) const {
    if (values.empty()) return;
    std::memcpy(
        static_cast<char*>(base) + at(i) + t * size(i), values.data(), size(i));
  }

  EpisodeShape shape_;
  uint64_t n_tasks_;
};

// Which tasks a buffer of episodes holds.
struct Drawn {
  Split split;
  uint64_t iteration;
  uint32_t first;
  uint32_t n_tasks;
  bool operator==(const Drawn&) const = default;
};

// Memory and recorded work for iterations of up to n_tasks tasks.
class Run {
 public:
  Run(const EngineConfig& config,
      std::unique_ptr<Device> device,
      uint32_t n_tasks)
      : device_(std::move(device)),
        plan_(plan_cuda(*config.network,
                        *config.rule,
                        config.objective,
                        config.source->shape(),
                        n_tasks,
                        device_->limits())),
        second_order_(config.objective.second_order),
        episodes_(config.source->shape(), n_tasks),
        n_learned_(uint64_t{config.network->n_params} + config.rule->n_phi),
        n_uploaded_(n_learned_ + config.objective.steps + 1) {
    const Network& network = *config.network;
    TaskArrays<float>& a = arrays_;
    learned_ = allocate(n_uploaded_);
    a.theta = learned_;
    a.phi = learned_ + network.n_params;
    a.step_weights = learned_ + n_learned_;
    a.scratch = allocate(plan_.bytes.scratch / sizeof(float));
    a.theta_bar = allocate(plan_.bytes.bars / sizeof(float));
    a.phi_bar = a.theta_bar + uint64_t{plan_.wave} * network.n_params;
    results_ = allocate(n_results());
    a.sum = results_;
    a.query_loss = results_ + n_learned_;
    a.support_loss = a.query_loss + n_tasks;
    a.finite = a.support_loss + n_tasks;
    a.n_right = a.finite + n_tasks;
    device_episodes_ = device_->allocate(episodes_.bytes());
    a.support_x = episodes_.support_x(device_episodes_);
    a.query_x = episodes_.query_x(device_episodes_);
    a.support_targets = episodes_.support_targets(device_episodes_);
    a.query_targets = episodes_.query_targets(device_episodes_);
    a.support_labels = episodes_.support_labels(device_episodes_);
    a.query_labels = episodes_.query_labels(device_episodes_);

    // What never changes.
    const uint64_t table = network.n_layers * sizeof(Layer);
    void* const layers = device_->allocate(table);
    device_->upload(layers, network.layers, table);
    plan_.program.network.layers = static_cast<const Layer*>(layers);
    if (network.adapted != nullptr) {
      const uint64_t bytes = network.n_layers * sizeof(uint32_t);
      void* const adapted = device_->allocate(bytes);
      device_->upload(adapted, network.adapted, bytes);
      plan_.program.network.adapted = static_cast<const uint32_t*>(adapted);
    }
    device_->wait();

    host_learned_ = allocate_host(n_uploaded_);
    std::fill_n(host_learned_, n_uploaded_, 0.0F);
    set_objective(config.objective);
    host_results_ = allocate_host(n_results());
    for (Side& side : sides_) {
      side.episodes = device_->allocate_host(episodes_.bytes());
    }
  }

  uint32_t capacity() const { return plan_.n_tasks; }

  // Whether `objective` fits the memory that was planned.
  bool has_room_for(const Objective& objective) const {
    return second_order_ || !objective.second_order;
  }
  void set_objective(const Objective& objective) {
    TaskProgram& p = plan_.program;
    const bool has_weights = !objective.step_weights.empty();
    if (p.second_order != objective.second_order ||
        p.has_step_weights != has_weights || p.method != objective.method) {
      for (Side& side : sides_) side.graph_tasks = 0;
    }
    p.second_order = objective.second_order;
    p.has_step_weights = has_weights;
    p.method = objective.method;
    std::copy(objective.step_weights.begin(),
              objective.step_weights.end(),
              host_learned_ + n_learned_);
  }
  void set_learned(std::span<const float> theta, std::span<const float> phi) {
    std::copy(theta.begin(), theta.end(), host_learned_);
    std::copy(phi.begin(), phi.end(), host_learned_ + theta.size());
  }

  // Whether `drawn` is in one of the buffers; the device will work on it.
  bool turn_to(const Drawn& drawn) {
    for (uint32_t s = 0; s < 2; ++s) {
      if (sides_[s].drawn == drawn) {
        now_ = s;
        return true;
      }
    }
    return false;
  }
  // A buffer to draw into: the next one, or else the one to be worked on.
  void* buffer(const Drawn& drawn, bool next) {
    Side& side = sides_[next ? 1 - now_ : now_];
    side.drawn = drawn;
    return side.episodes;
  }
  // What is in a buffer is not what it was meant to be.
  void forget() {
    for (Side& side : sides_) side.drawn.reset();
  }
  const EpisodeArrays& episodes() const { return episodes_; }

  // Meta-gradients of n_tasks tasks, in the queue.
  void start_meta_gradients(uint32_t n_tasks) {
    Side& side = sides_[now_];
    if (side.graph_tasks != n_tasks) {
      side.graph.reset();
      side.graph = device_->record([&] {
        upload();
        for (uint32_t begin = 0; begin < n_tasks; begin += plan_.wave) {
          const TaskLaunch launch =
              of({begin, std::min(n_tasks, begin + plan_.wave)});
          device_->run_meta_gradients(launch);
          device_->run_reduction(launch);
        }
        download();
      });
      side.graph_tasks = n_tasks;
    }
    side.graph->run();
  }

  // Scores of n_tasks tasks, in the queue.
  void start_evaluations(uint32_t n_tasks) {
    upload();
    device_->run_evaluations(of({0, n_tasks}));
    download();
  }

  void wait() { device_->wait(); }

  // Results, after wait().
  const float* sums() const { return host_results_; }
  const float* query_loss() const { return host_results_ + n_learned_; }
  const float* support_loss() const { return query_loss() + capacity(); }
  const float* finite() const { return support_loss() + capacity(); }
  const float* n_right() const { return finite() + capacity(); }

 private:
  struct Side {
    void* episodes = nullptr;
    std::optional<Drawn> drawn;
    std::unique_ptr<Device::Graph> graph;
    uint32_t graph_tasks = 0;  // That the graph is good for.
  };

  float* allocate(uint64_t n) {
    return static_cast<float*>(device_->allocate(n * sizeof(float)));
  }
  float* allocate_host(uint64_t n) {
    return static_cast<float*>(device_->allocate_host(n * sizeof(float)));
  }
  uint64_t n_results() const { return n_learned_ + 4 * uint64_t{capacity()}; }

  TaskLaunch of(const Wave& wave) const {
    return {plan_.program,
            arrays_,
            wave,
            std::min(plan_.teams, wave.end - wave.begin),
            plan_.blocks,
            plan_.threads};
  }
  void upload() {
    device_->upload(learned_, host_learned_, n_uploaded_ * sizeof(float));
    device_->upload(device_episodes_, sides_[now_].episodes, episodes_.bytes());
  }
  void download() {
    device_->download(host_results_, results_, n_results() * sizeof(float));
  }

  std::unique_ptr<Device> device_;
  CudaPlan plan_;
  bool second_order_;  // Memory is planned for.
  EpisodeArrays episodes_;
  uint64_t n_learned_;   // theta and phi,
  uint64_t n_uploaded_;  // and the step weights: one upload.
  float* learned_ = nullptr;
  TaskArrays<float> arrays_ = {};
  float* results_ = nullptr;  // sum, losses, flags: one download.
  void* device_episodes_ = nullptr;
  float* host_learned_ = nullptr;
  float* host_results_ = nullptr;
  Side sides_[2];  // After device_: graphs end before it.
  uint32_t now_ = 0;
};

class GpuEngine : public Engine {
 public:
  GpuEngine(const EngineConfig& config, DeviceFactory make_device)
      : config_(config),
        make_device_(std::move(make_device)),
        pool_(config.n_threads != 0
                  ? config.n_threads
                  : std::max(1U, std::thread::hardware_concurrency())),
        drawing_(pool_.size()) {
    make_room(std::max(1U, config.n_tasks));
  }

  void set_objective(const Objective& objective) override {
    config_.objective = objective;
    if (run_->has_room_for(objective)) {
      run_->set_objective(objective);
    } else {
      plan(run_->capacity());
    }
  }

  MetaStep meta_gradient(const float* theta,
                         const float* phi,
                         uint64_t iteration,
                         uint32_t n_tasks,
                         float* d_theta,
                         float* d_phi) override {
    make_room(n_tasks);
    set_learned(theta, phi);
    ready({Split::kTrain, iteration, 0, n_tasks});
    run_->start_meta_gradients(n_tasks);
    draw({Split::kTrain, iteration + 1, 0, n_tasks}, true);
    run_->wait();

    MetaStep step = {};
    uint32_t n_used = 0;
    for (uint32_t t = 0; t < n_tasks; ++t) {
      if (!is_one(run_->finite()[t])) continue;
      ++n_used;
      step.query_loss += static_cast<double>(run_->query_loss()[t]);
      step.support_loss += static_cast<double>(run_->support_loss()[t]);
    }
    step.n_dropped = n_tasks - n_used;
    if (n_used != 0) {
      step.query_loss /= static_cast<double>(n_used);
      step.support_loss /= static_cast<double>(n_used);
    }
    const float n = std::max(1.0F, static_cast<float>(n_used));
    const uint32_t n_params = config_.network->n_params;
    for (uint32_t i = 0; i < n_params; ++i) d_theta[i] = run_->sums()[i] / n;
    for (uint32_t i = 0; i < config_.rule->n_phi; ++i) {
      d_phi[i] = run_->sums()[n_params + i] / n;
    }
    return step;
  }

  TaskScores evaluate(const float* theta,
                      const float* phi,
                      Split split,
                      uint32_t n_tasks) override {
    TaskScores scores;
    scores.loss.resize(n_tasks);
    const bool classes = config_.network->loss == LossOp::kSoftmaxCrossEntropy;
    if (classes) scores.accuracy.resize(n_tasks);
    set_learned(theta, phi);
    const auto part = [&](uint32_t first) {
      return Drawn{
          split, 0, first, std::min(run_->capacity(), n_tasks - first)};
    };
    for (uint32_t first = 0; first < n_tasks; first += run_->capacity()) {
      const Drawn drawn = part(first);
      ready(drawn);
      run_->start_evaluations(drawn.n_tasks);
      if (first + drawn.n_tasks < n_tasks) {
        draw(part(first + drawn.n_tasks), true);
      }
      run_->wait();
      for (uint32_t t = 0; t < drawn.n_tasks; ++t) {
        scores.loss[first + t] = run_->query_loss()[t];
        if (!classes) continue;
        scores.accuracy[first + t] =
            run_->n_right()[t] /
            static_cast<float>(config_.source->shape().n_query);
      }
    }
    return scores;
  }

 private:
  // Plans anew when there are more tasks than ever.
  void make_room(uint32_t n_tasks) {
    if (!run_ || n_tasks > run_->capacity()) plan(n_tasks);
  }
  void plan(uint32_t n_tasks) {
    run_.reset();
    run_.emplace(config_, make_device_(), n_tasks);
  }
  void set_learned(const float* theta, const float* phi) {
    run_->set_learned({theta, config_.network->n_params},
                      {phi, config_.rule->n_phi});
  }
  void ready(const Drawn& drawn) {
    if (!run_->turn_to(drawn)) draw(drawn, false);
  }
  // Draws episodes into the buffer for the next launch or the one after.
  void draw(const Drawn& drawn, bool next) {
    void* const to = run_->buffer(drawn, next);
    try {
      pool_.run(drawn.n_tasks, [&](uint32_t t, uint32_t w) {
        config_.source->sample(drawn.split,
                               config_.seed,
                               drawn.iteration,
                               drawn.first + t,
                               &drawing_[w]);
        run_->episodes().store(to, t, drawing_[w]);
      });
    } catch (...) {
      run_->wait();
      run_->forget();
      throw;
    }
  }

  EngineConfig config_;
  DeviceFactory make_device_;
  WorkerPool pool_;
  std::vector<Episode> drawing_;  // One a worker.
  std::optional<Run> run_;
};

}  // namespace

std::unique_ptr<Engine> make_gpu_engine(const EngineConfig& config,
                                        DeviceFactory make_device) {
  if (config.dropout != 0.0F) {
    throw Error(Exit::kUsage,
                "--engine cuda: has no dropout: its masks are drawn beside the "
                "CPU's kernels; use --engine cpu, or outer.dropout = 0");
  }
  return std::make_unique<GpuEngine>(config, std::move(make_device));
}

}  // namespace fewstep::host
