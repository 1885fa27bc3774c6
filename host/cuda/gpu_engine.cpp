// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "gpu_engine.h"

#include <algorithm>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "../cpu/worker_pool.h"
#include "fewstep/host/error.h"
#include "fewstep/host/minibatch_order.h"
#include "fewstep/host/outer_loop.h"
#include "fewstep/host/rule_values.h"
#include "fewstep/numerics/real.h"
#include "gpu_run.h"

namespace fewstep::host {
namespace {

// The outer loop that an engine is in, and where what it learns is.
struct Training {
  const Recipe* recipe;
  OuterState state;
  OuterElements elements;
  Objective objective;
  bool on_devices = false;  // What the devices hold is the loop's,
  bool on_host = true;      // and so is what `state` holds.
};

class GpuEngine final : public Engine {
 public:
  GpuEngine(const EngineConfig& config, DeviceFactory make_device)
      : config_(config),
        make_device_(std::move(make_device)),
        pool_(config.n_threads != 0
                  ? config.n_threads
                  : std::max(1U, std::thread::hardware_concurrency())),
        drawing_(
            pool_.size(),
            Drawing{{},
                    {config.source->shape(), config.objective.inner_batch}}) {
    make_room(std::max(1U, config.n_tasks));
  }

  const EngineConfig& config() const override { return config_; }

  void set_objective(const Objective& objective) override {
    config_.objective = objective;
    if (runs_.front()->has_room_for(objective)) {
      for (const auto& run : runs_) run->set_objective(objective);
    } else {
      plan(capacity_);
    }
  }

  MetaStep meta_gradient(const float* theta,
                         const float* phi,
                         uint64_t iteration,
                         uint32_t n_tasks,
                         float* d_theta,
                         float* d_phi) override {
    make_room(n_tasks);
    upload(theta, phi);
    const MetaStep step = iterate(Work::kMetaGradient, iteration, n_tasks);
    const float* const sums = runs_.front()->sums();
    const float n =
        std::max(1.0F, static_cast<float>(n_tasks - step.n_dropped));
    const uint32_t n_params = config_.network->n_params;
    for (uint32_t i = 0; i < n_params; ++i) d_theta[i] = sums[i] / n;
    for (uint32_t i = 0; i < config_.rule->n_phi; ++i) {
      d_phi[i] = sums[n_params + i] / n;
    }
    return step;
  }

  TaskScores evaluate(const float* theta,
                      const float* phi,
                      Split split,
                      uint32_t n_tasks) override {
    upload(theta, phi);
    return evaluate_learned(split, n_tasks);
  }

  std::unique_ptr<OuterLoop> start(const Recipe& recipe,
                                   const OuterState& state) override {
    Training t = {};
    t.recipe = &recipe;
    t.state = state;
    t.elements.phi =
        phi_elements(recipe.inner, *config_.rule, *config_.network);
    t.elements.n_learned = config_.network->n_params +
                           (learns_phi(recipe.inner) ? config_.rule->n_phi : 0);
    training_ = std::move(t);
    for (const auto& run : runs_) run->set_outer(training_->elements);
    return std::make_unique<Loop>(this);
  }

 private:
  // What start() gives: the engine itself holds the training.
  class Loop final : public OuterLoop {
   public:
    explicit Loop(GpuEngine* engine) : engine_(*engine) {}
    MetaStep iterate() override { return engine_.train(); }
    TaskScores evaluate(Split split, uint32_t n_tasks) override {
      engine_.to_devices();
      return engine_.evaluate_learned(split, n_tasks);
    }
    OuterState& state() override {
      engine_.to_host();
      return engine_.training_->state;
    }
    int64_t iteration() const override {
      return engine_.training_->state.iteration;
    }

   private:
    GpuEngine& engine_;
  };

  struct Drawing {
    Episode episode;
    MinibatchOrder order;
  };

  // A GPU and its tasks of an iteration.
  struct Share {
    GpuRun* run;
    TaskRangeOf tasks;
  };

  // `tasks`, shared out in task order. The first GPU has the last tasks: it is
  // where the sums end and the outer step is taken.
  std::vector<Share> share(const TaskRangeOf& tasks) const {
    const uint32_t n = tasks.n_tasks;
    const uint32_t n_shares = std::min(n, static_cast<uint32_t>(runs_.size()));
    std::vector<Share> shares;
    for (uint32_t s = 0; s < n_shares; ++s) {
      const uint32_t begin = begin_of_share(n, s, n_shares);
      const uint32_t end = begin_of_share(n, s + 1, n_shares);
      shares.push_back(
          {runs_[n_shares - 1 - s].get(),
           {tasks.split, tasks.iteration, tasks.first + begin, end - begin}});
    }
    return shares;
  }
  static uint32_t begin_of_share(uint32_t n, uint32_t s, uint32_t n_shares) {
    return static_cast<uint32_t>(uint64_t{n} * s / n_shares);
  }

  // Plans anew when there are more tasks than ever.
  void make_room(uint32_t n_tasks) {
    if (runs_.empty() || n_tasks > capacity_) plan(n_tasks);
  }
  void plan(uint32_t n_tasks) {
    if (training_) to_host();
    if (training_) training_->on_devices = false;
    runs_.clear();
    const uint32_t n_gpus = std::clamp(config_.n_gpus, 1U, n_tasks);
    for (uint32_t i = 0; i < n_gpus; ++i) {
      runs_.push_back(std::make_unique<GpuRun>(
          config_, make_device_(i), (n_tasks + n_gpus - 1) / n_gpus));
      if (training_) runs_.back()->set_outer(training_->elements);
    }
    capacity_ = n_tasks;
  }

  // Parameters that are not the training's.
  void upload(const float* theta, const float* phi) {
    if (training_) {
      to_host();
      training_->on_devices = false;
    }
    upload({theta, config_.network->n_params}, {phi, config_.rule->n_phi});
  }
  void upload(std::span<const float> theta, std::span<const float> phi) {
    for (const auto& run : runs_) run->start_upload(theta, phi);
  }
  // The training's to where it is needed.
  void to_devices() {
    Training& t = *training_;
    if (t.on_devices) return;
    upload(t.state.theta, t.state.phi);
    runs_.front()->start_upload_of_moments(t.state.m, t.state.v);
    wait();
    t.on_devices = true;
  }
  void to_host() {
    Training& t = *training_;
    if (t.on_host) return;
    GpuRun& run = *runs_.front();
    run.start_download();
    run.wait();
    const float* from = run.downloaded();
    const auto take = [&from](size_t n, std::vector<float>* to) {
      to->assign(from, from + n);
      from += n;
    };
    const size_t n_theta = t.state.theta.size();
    const size_t n_all = n_theta + t.state.phi.size();
    take(n_theta, &t.state.theta);
    take(n_all - n_theta, &t.state.phi);
    if (t.recipe->outer.optimizer == OuterOptimizer::kAdam) {
      const size_t n = t.elements.n_learned;
      t.state.m.assign(from, from + n);
      t.state.v.assign(from + n_all, from + n_all + n);
    }
    t.on_host = true;
  }

  // One iteration of the training.
  MetaStep train() {
    Training& t = *training_;
    const OuterRecipe& outer = t.recipe->outer;
    scheduled_objective(*t.recipe, t.state.iteration, &t.objective);
    set_objective(t.objective);
    const uint32_t n_tasks = static_cast<uint32_t>(outer.tasks);
    make_room(n_tasks);
    to_devices();
    const uint64_t iteration = static_cast<uint64_t>(t.state.iteration);
    runs_.front()->set_step(next_step(outer, &t.state));
    t.on_host = false;
    return iterate(Work::kOuterStep, iteration, n_tasks);
  }

  // Meta-gradients at what is on the devices, and what `work` makes of them.
  MetaStep iterate(Work work, uint64_t iteration, uint32_t n_tasks) {
    const TaskRangeOf tasks = {Split::kTrain, iteration, 0, n_tasks};
    const std::vector<Share> shares = share(tasks);
    for (const Share& s : shares) make_ready(s);
    if (runs_.size() == 1) {
      runs_.front()->start(work);
    } else {
      start_on_several(work, shares);
    }
    draw_next({Split::kTrain, iteration + 1, 0, n_tasks});
    wait();

    MetaStep step = {};
    uint32_t n_used = 0;
    for (const Share& s : shares) {
      for (uint32_t t = 0; t < s.tasks.n_tasks; ++t) {
        if (!(s.run->finite()[t] > 0.0F)) continue;
        ++n_used;
        step.query_loss += static_cast<double>(s.run->query_loss()[t]);
        step.support_loss += static_cast<double>(s.run->support_loss()[t]);
      }
    }
    step.n_dropped = n_tasks - n_used;
    if (n_used != 0) {
      step.query_loss /= static_cast<double>(n_used);
      step.support_loss /= static_cast<double>(n_used);
    }
    return step;
  }
  void start_on_several(Work work, const std::vector<Share>& shares) {
    for (const Share& s : shares) s.run->start_tasks();
    GpuRun* before = nullptr;
    for (const Share& s : shares) {
      s.run->start_sums(before);
      before = s.run;
    }
    GpuRun* const last = runs_.front().get();
    if (work == Work::kOuterStep) {
      last->start_outer_step();
      for (const auto& run : runs_) {
        if (run.get() != last) run->start_copy_of_learned(last);
      }
    }
    for (const Share& s : shares) s.run->start_download_of(work);
  }

  TaskScores evaluate_learned(Split split, uint32_t n_tasks) {
    TaskScores scores = room_for_scores(n_tasks);
    for (uint32_t first = 0; first < n_tasks; first += capacity_) {
      const auto part = [&](uint32_t at) {
        return TaskRangeOf{split, 0, at, std::min(capacity_, n_tasks - at)};
      };
      const std::vector<Share> shares = share(part(first));
      for (const Share& s : shares) {
        make_ready(s);
        s.run->start_evaluations();
      }
      if (n_tasks - first > capacity_) draw_next(part(first + capacity_));
      wait();
      for (const Share& s : shares) take_scores(s, &scores);
    }
    return scores;
  }
  TaskScores room_for_scores(uint32_t n_tasks) const {
    const bool classes = config_.network->loss == LossOp::kSoftmaxCrossEntropy;
    TaskScores scores;
    scores.loss.resize(n_tasks);
    if (classes) scores.accuracy.resize(n_tasks);
    if (config_.scores_before) {
      scores.loss_before.resize(n_tasks);
      if (classes) scores.accuracy_before.resize(n_tasks);
      scores.diverged.resize(n_tasks);
    }
    return scores;
  }
  void take_scores(const Share& s, TaskScores* scores) const {
    const float n_query = static_cast<float>(config_.source->shape().n_query);
    for (uint32_t t = 0; t < s.tasks.n_tasks; ++t) {
      const uint32_t at = s.tasks.first + t;
      scores->loss[at] = s.run->query_loss()[t];
      if (!scores->accuracy.empty()) {
        scores->accuracy[at] = s.run->n_right()[t] / n_query;
      }
      if (!config_.scores_before) continue;
      scores->loss_before[at] = s.run->support_loss()[t];
      if (!scores->accuracy.empty()) {
        scores->accuracy_before[at] = s.run->n_right_before()[t] / n_query;
      }
      scores->diverged[at] = !(s.run->finite()[t] > 0.0F);
    }
  }

  // The GPU's next work is on its share, whose episodes are drawn.
  void make_ready(const Share& s) {
    if (s.run->draws()) {
      config_.source->check(s.tasks.split);
    } else if (!s.run->turn_to(s.tasks)) {
      draw(s, false);
    }
    s.run->set_tasks(s.tasks, config_.seed);
  }
  // Episodes that are likely to be asked for next.
  void draw_next(const TaskRangeOf& tasks) {
    for (const Share& s : share(tasks)) {
      if (!s.run->draws()) draw(s, true);
    }
  }
  // Draws episodes into the buffer for the next launch or the one after.
  void draw(const Share& s, bool next) {
    void* const to = s.run->buffer(s.tasks, next);
    try {
      pool_.run(s.tasks.n_tasks, [&](uint32_t t, uint32_t w) {
        config_.source->sample(s.tasks.split,
                               config_.seed,
                               s.tasks.iteration,
                               s.tasks.first + t,
                               &drawing_[w].episode);
        drawing_[w].order.apply(s.tasks.split, &drawing_[w].episode);
        s.run->episodes().store(to, t, drawing_[w].episode);
      });
    } catch (...) {
      wait();
      s.run->forget();
      throw;
    }
  }
  void wait() {
    for (const auto& run : runs_) run->wait();
  }

  EngineConfig config_;
  DeviceFactory make_device_;
  WorkerPool pool_;
  std::vector<Drawing> drawing_;  // One a worker.
  std::vector<std::unique_ptr<GpuRun>> runs_;
  uint32_t capacity_ = 0;  // Tasks that there is memory for.
  std::optional<Training> training_;
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
