// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "gpu_run.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace fewstep::host {
namespace {

// `values` at `to`, and zeros up to n.
void fill(std::span<const float> values, uint64_t n, float* to) {
  const size_t n_copied = std::min<size_t>(values.size(), n);
  std::copy_n(values.data(), n_copied, to);
  std::fill(to + n_copied, to + n, 0.0F);
}

}  // namespace

GpuRun::GpuRun(const EngineConfig& config,
               std::unique_ptr<Device> device,
               uint32_t n_tasks)
    : device_(std::move(device)),
      drawing_{config.source->drawing(), {}, nullptr, nullptr, 0, 0, 0, 0},
      plan_(plan_cuda(*config.network,
                      *config.rule,
                      config.objective,
                      config.source->shape(),
                      n_tasks,
                      device_->limits(),
                      drawing_.program)),
      second_order_(config.objective.second_order),
      episodes_(config.source->shape(), n_tasks),
      n_learned_(uint64_t{config.network->n_params} + config.rule->n_phi) {
  plan_.program.scores_before = config.scores_before;
  place_arrays(config);

  // What never changes.
  const Network& network = *config.network;
  Network& on_device = plan_.program.network;
  on_device.layers = copy_of(network.layers, network.n_layers * sizeof(Layer));
  if (network.adapted != nullptr) {
    on_device.adapted =
        copy_of(network.adapted, network.n_layers * sizeof(uint32_t));
  }
  if (drawing_.drawn != nullptr) upload_images();
  device_->wait();

  host_state_ = allocate_host(3 * n_learned_);
  host_results_ = allocate_host(n_results());
  const uint64_t n_inputs = input_bytes(config.objective.steps);
  host_inputs_ = device_->allocate_host(n_inputs);
  std::memset(host_inputs_, 0, n_inputs);
  set_objective(config.objective);
  if (draws()) return;
  for (Side& side : sides_) {
    side.episodes = device_->allocate_host(episodes_.bytes());
  }
}

void GpuRun::place_arrays(const EngineConfig& config) {
  const Network& network = *config.network;
  device_inputs_ = device_->allocate(input_bytes(config.objective.steps));
  IterationInputs* const inputs = static_cast<IterationInputs*>(device_inputs_);
  state_ = allocate(3 * n_learned_);
  TaskArrays<float>& a = arrays_;
  a.theta = state_;
  a.phi = state_ + network.n_params;
  a.step_weights = reinterpret_cast<const float*>(inputs + 1);
  a.scratch = allocate(plan_.bytes.scratch / sizeof(float));
  a.theta_bar = allocate(plan_.bytes.bars / sizeof(float));
  a.phi_bar = a.theta_bar + uint64_t{plan_.wave} * network.n_params;
  results_ = allocate(n_results());
  a.query_loss = results_;
  a.support_loss = a.query_loss + capacity();
  a.finite = a.support_loss + capacity();
  a.n_right = a.finite + capacity();
  a.n_right_before = a.n_right + capacity();
  a.sum = a.n_right_before + capacity();

  device_episodes_ = device_->allocate(episodes_.bytes());
  const EpisodeBuffers episodes = episodes_.in(device_episodes_);
  a.support_x = episodes.support_x;
  a.query_x = episodes.query_x;
  a.support_targets = episodes.support_targets;
  a.query_targets = episodes.query_targets;
  a.support_labels = episodes.support_labels;
  a.query_labels = episodes.query_labels;
  drawing_.to = episodes;
  drawing_.key = &inputs->key;
  drawing_.n_support = config.source->shape().n_support;
  drawing_.n_query = config.source->shape().n_query;
  drawing_.inner_batch = config.objective.inner_batch;
  if (draws() && drawing_.program.kind == DrawingProgram::Kind::kImages) {
    drawing_.drawn = static_cast<uint32_t*>(device_->allocate(
        uint64_t{capacity()} * drawing_.program.images.n_drawn() *
        sizeof(uint32_t)));
  }

  outer_.step = &inputs->outer;
  outer_.n_theta = network.n_params;
  if (has_context(network)) {
    outer_.layers = plan_.program.network.layers;
    outer_.n_layers = network.n_layers;
  }
  outer_.sum = a.sum;
  outer_.n_used = a.sum + n_learned_;
  outer_.learned = state_;
  outer_.m = state_ + n_learned_;
  outer_.v = outer_.m + n_learned_;
  outer_.norm = allocate(kNormValues);
}

template <class T>
T* GpuRun::copy_of(const T* from, uint64_t bytes) {
  void* const to = device_->allocate(bytes);
  if (bytes != 0) device_->upload(to, from, bytes);
  return static_cast<T*>(to);
}

void GpuRun::upload_images() {
  ImageSet& set = drawing_.program.images;
  const std::array<uint64_t, 5> bytes = image_bytes(set);
  set.pixels = copy_of(set.pixels, bytes[0]);
  set.first_image = copy_of(set.first_image, bytes[1]);
  for (size_t s = 0; s < 3; ++s) {
    set.classes[s] = copy_of(set.classes[s], bytes[2 + s]);
  }
}

void GpuRun::set_objective(const Objective& objective) {
  TaskProgram& p = plan_.program;
  const bool has_weights = !objective.step_weights.empty();
  if (p.second_order != objective.second_order ||
      p.has_step_weights != has_weights || p.method != objective.method ||
      p.fixed_phi != objective.fixed_phi) {
    forget_graphs();
  }
  p.second_order = objective.second_order;
  p.has_step_weights = has_weights;
  p.method = objective.method;
  p.fixed_phi = objective.fixed_phi;
  std::copy(objective.step_weights.begin(),
            objective.step_weights.end(),
            host_step_weights());
}

void GpuRun::set_outer(const OuterElements& elements) {
  outer_.phi = elements.phi;
  outer_.n_learned = elements.n_learned;
  forget_graphs();
}

void GpuRun::start_upload(std::span<const float> theta,
                          std::span<const float> phi) {
  std::copy(theta.begin(), theta.end(), host_state_);
  std::copy(phi.begin(), phi.end(), host_state_ + theta.size());
  device_->upload(state_, host_state_, n_learned_ * sizeof(float));
}
void GpuRun::start_upload_of_moments(std::span<const float> m,
                                     std::span<const float> v) {
  float* const moments = host_state_ + n_learned_;
  fill(m, n_learned_, moments);
  fill(v, n_learned_, moments + n_learned_);
  device_->upload(outer_.m, moments, 2 * n_learned_ * sizeof(float));
}
void GpuRun::start_download() {
  device_->download(host_state_, state_, 3 * n_learned_ * sizeof(float));
}

bool GpuRun::turn_to(const TaskRangeOf& tasks) {
  for (uint32_t s = 0; s < 2; ++s) {
    if (sides_[s].drawn == tasks) {
      now_ = s;
      return true;
    }
  }
  return false;
}
void* GpuRun::buffer(const TaskRangeOf& tasks, bool next) {
  Side& side = sides_[next ? 1 - now_ : now_];
  side.drawn = tasks;
  return side.episodes;
}
void GpuRun::forget() {
  for (Side& side : sides_) side.drawn.reset();
}

void GpuRun::set_tasks(const TaskRangeOf& tasks, uint64_t seed) {
  inputs()->key = {seed, tasks.iteration, tasks.first, tasks.split};
  n_tasks_ = tasks.n_tasks;
}

void GpuRun::forget_graphs() {
  for (Side& side : sides_) {
    for (uint32_t& n : side.graph_tasks) n = 0;
  }
}

void GpuRun::run_recorded(Work work, const std::function<void()>& queue) {
  Side& side = sides_[now_];
  const uint32_t w = static_cast<uint32_t>(work);
  if (side.graph_tasks[w] != n_tasks_) {
    side.graphs[w].reset();
    side.graphs[w] = device_->record(queue);
    side.graph_tasks[w] = n_tasks_;
  }
  side.graphs[w]->run();
}

void GpuRun::start(Work work) {
  run_recorded(work, [&] {
    queue_tasks();
    queue_sums(false);
    if (work == Work::kOuterStep) device_->run_outer_step(outer_);
    queue_download(work);
  });
}

void GpuRun::start_tasks() {
  run_recorded(Work::kMetaGradient, [&] { queue_tasks(); });
}
void GpuRun::start_sums(GpuRun* before) {
  if (before != nullptr) {
    device_->copy_from(*before->device_,
                       arrays_.sum,
                       before->arrays_.sum,
                       (n_learned_ + 1) * sizeof(float));
  }
  queue_sums(before != nullptr);
}
void GpuRun::start_outer_step() { device_->run_outer_step(outer_); }
void GpuRun::start_copy_of_learned(GpuRun* other) {
  device_->copy_from(
      *other->device_, state_, other->state_, n_learned_ * sizeof(float));
}
void GpuRun::start_download_of(Work work) { queue_download(work); }

void GpuRun::start_evaluations() {
  queue_episodes();
  device_->run_evaluations(of({0, n_tasks_}));
  device_->download(host_results_, results_, n_task_results() * sizeof(float));
}

TaskLaunch GpuRun::of(const Wave& wave) const {
  return {plan_.program,
          arrays_,
          wave,
          std::min(plan_.teams, wave.end - wave.begin),
          plan_.blocks,
          plan_.threads};
}
Wave GpuRun::wave_at(uint32_t begin) const {
  return {begin, std::min(n_tasks_, begin + plan_.wave)};
}

void GpuRun::queue_episodes() {
  device_->upload(
      device_inputs_, host_inputs_, input_bytes(plan_.program.steps));
  if (!draws()) {
    device_->upload(device_episodes_, sides_[now_].episodes, episodes_.bytes());
    return;
  }
  drawing_.n_tasks = n_tasks_;
  device_->run_drawing(drawing_);
}
void GpuRun::queue_tasks() {
  queue_episodes();
  device_->run_meta_gradients(of(wave_at(0)));
}
void GpuRun::queue_sums(bool goes_on) {
  for (uint32_t begin = 0; begin < n_tasks_; begin += plan_.wave) {
    Wave wave = wave_at(begin);
    wave.goes_on = goes_on;
    const TaskLaunch launch = of(wave);
    if (begin != 0) device_->run_meta_gradients(launch);
    device_->run_reduction(launch);
  }
}
void GpuRun::queue_download(Work work) {
  // Losses and flags, or everything.
  const uint64_t n =
      work == Work::kOuterStep ? 3 * uint64_t{capacity()} : n_results();
  device_->download(host_results_, results_, n * sizeof(float));
}

}  // namespace fewstep::host
