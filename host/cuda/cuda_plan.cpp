// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "cuda_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <iterator>

#include "fewstep/host/error.h"

namespace fewstep::host {
namespace {

constexpr uint32_t kWarp = 32;
constexpr uint32_t kClusterThreads = 256;  // Of a block of a cluster.
constexpr uint32_t kMaxClusterBlocks = 8;
constexpr uint64_t kReservedShared = 1024;  // By the system, of each block.
constexpr uint64_t kFloat = sizeof(float);

uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

// Register tiles of the widest layer's outputs: what threads can share.
uint32_t widest_layer(const Network& network, uint32_t n) {
  constexpr uint32_t kTile = 4;  // gpu_tiles.h
  uint64_t widest = 1;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const Layer& l = network.layers[i];
    if (l.op != LayerOp::kDense && l.op != LayerOp::kConv2d) continue;
    const uint64_t plane = uint64_t{l.out_h} * l.out_w;
    const uint64_t forward =
        plane * ceil_div(l.out_c, kTile) * ceil_div(n, kTile);
    const uint64_t weights = l.n_weights / (kTile * kTile);
    widest = std::max({widest, forward, weights});
  }
  return static_cast<uint32_t>(std::min<uint64_t>(widest, 1U << 20));
}

// Threads and blocks of a task.
void choose_threads(const Network& network,
                    const EpisodeShape& shape,
                    const DeviceLimits& limits,
                    CudaPlan* plan) {
  const uint32_t items = widest_layer(network, shape.n_support);
  // What a task may have if all of them were to run at once.
  const uint64_t share = std::max<uint64_t>(
      1, uint64_t{limits.n_multiprocessors} * kMaxBlockThreads / plan->n_tasks);
  const uint32_t want = static_cast<uint32_t>(std::min<uint64_t>(items, share));
  plan->blocks = 1;
  plan->threads = std::clamp(std::bit_ceil(want), kWarp, kMaxBlockThreads);
  const uint32_t spare = limits.n_multiprocessors / plan->n_tasks;
  if (limits.has_clusters() && items > kMaxBlockThreads && spare >= 2) {
    plan->blocks = std::min({kMaxClusterBlocks,
                             std::bit_floor(spare),
                             std::bit_ceil(ceil_div(items, kClusterThreads))});
    plan->threads = kClusterThreads;
  }
}

uint64_t episode_values(const EpisodeShape& shape) {
  const uint64_t n = uint64_t{shape.n_support} + shape.n_query;
  return n * shape.n_in + (shape.classification ? 0 : n * shape.n_out);
}
uint64_t episode_bytes(const EpisodeShape& shape) {
  const uint64_t n = uint64_t{shape.n_support} + shape.n_query;
  return episode_values(shape) * kFloat +
         (shape.classification ? n * sizeof(uint16_t) : 0);
}

// What of the memory the driver and fragmentation may need.
uint64_t reserve_of(const DeviceLimits& limits) {
  return std::max<uint64_t>(uint64_t{256} << 20, limits.total_memory / 32);
}

}  // namespace

const char* to_string(Part part) {
  switch (part) {
    case Part::kScalars: return "losses";
    case Part::kFlags: return "flags";
    case Part::kWorkspace: return "activations";
    case Part::kDualWorkspace: return "activations, dual";
    case Part::kGradBar: return "gradient's bar";
    case Part::kHessian: return "Hessian-vector product";
    case Part::kTheta: return "theta_1 .. theta_K";
    case Part::kGrad: return "gradients";
    case Part::kState: return "rule's state";
    case Part::kStateBar: return "rule's state's bar";
    case Part::kRuleScratch: return "rule's scratch";
    case Part::kStep: return "what adapts of a step";
  }
  return "";
}

const std::vector<DeviceLimits>& known_devices() {
  constexpr uint64_t kKiB = 1024;
  constexpr uint64_t kGiB = 1024 * 1024 * kKiB;
  static const std::vector<DeviceLimits> devices = {
      {"h200", 90, 132, 227 * kKiB, 228 * kKiB, 140 * kGiB, 140 * kGiB},
      {"h100", 90, 132, 227 * kKiB, 228 * kKiB, 79 * kGiB, 79 * kGiB},
      {"a100", 80, 108, 163 * kKiB, 164 * kKiB, 39 * kGiB, 39 * kGiB},
      {"rtx5090", 120, 170, 99 * kKiB, 100 * kKiB, 31 * kGiB, 31 * kGiB},
      {"orin", 87, 16, 163 * kKiB, 164 * kKiB, 30 * kGiB, 30 * kGiB},
  };
  return devices;
}

DeviceLimits known_device(const std::string& name) {
  std::vector<std::string> names;
  for (const DeviceLimits& device : known_devices()) {
    if (device.name == name) return device;
    names.push_back(device.name);
  }
  throw Error(
      Exit::kUsage,
      fmt::format(
          "unknown GPU {}; there are {}", name, fmt::join(names, ", ")));
}

std::string in_words(uint64_t bytes) {
  const double b = static_cast<double>(bytes);
  if (b >= 1e9) return fmt::format("{:.1f} GB", 1e-9 * b);
  if (b >= 1e6) return fmt::format("{:.1f} MB", 1e-6 * b);
  return fmt::format("{:.1f} kB", 1e-3 * b);
}

TaskLayout lay_out(const TaskProgram& program, uint64_t shared_budget) {
  const Network& n = program.network;
  const uint64_t params = n.n_params;
  const SweepPlan plan = sweep_plan(program, nullptr);
  const uint64_t state = plan.n_state();
  const uint64_t dual = program.second_order ? 2 : 0;
  const uint64_t sizes[kParts] = {
      uint64_t{program.steps} + 2,
      std::max(kFlags, program.n_query),
      workspace_values(n, program.tile),
      dual * workspace_values(n, program.support_tile),
      params,
      dual * params,
      program.steps * params,
      program.steps * params,
      (program.steps - 1) * state,
      state,
      plan.n_scratch(),
      plan.n_step(),
  };
  TaskLayout layout = {};
  for (uint32_t i = 0; i < kParts; ++i) {
    Place& place = layout.parts[i];
    place.values = sizes[i];
    // 16 bytes: what one load of a thread can be.
    const uint64_t space = (sizes[i] + 3) / 4 * 4;
    place.shared =
        space != 0 && (layout.shared_values + space) * kFloat <= shared_budget;
    uint64_t& end = place.shared ? layout.shared_values : layout.slot_values;
    place.offset = end;
    end += space;
  }
  return layout;
}

std::array<uint64_t, 5> image_bytes(const ImageSet& set) {
  constexpr uint64_t kIndex = sizeof(uint32_t);
  return {uint64_t{set.n_images} * set.n_pixels(),
          (uint64_t{set.n_all_classes} + 1) * kIndex,
          set.n_classes[0] * kIndex,
          set.n_classes[1] * kIndex,
          set.n_classes[2] * kIndex};
}

uint64_t input_bytes(uint32_t steps) {
  return sizeof(IterationInputs) + (uint64_t{steps} + 1) * kFloat;
}

CudaPlan plan_cuda(const Network& network,
                   const Rule& rule,
                   const Objective& objective,
                   const EpisodeShape& shape,
                   uint32_t n_tasks,
                   const DeviceLimits& limits,
                   const DrawingProgram& drawing) {
  CudaPlan plan = {};
  plan.n_tasks = n_tasks;
  choose_threads(network, shape, limits, &plan);

  // Teams that a multiprocessor runs at once.
  const uint32_t per_multiprocessor = kMaxBlockThreads / plan.threads;
  const uint64_t at_once =
      uint64_t{limits.n_multiprocessors} * per_multiprocessor / plan.blocks;
  const uint32_t wanted =
      static_cast<uint32_t>(std::clamp<uint64_t>(at_once, 1, n_tasks));
  const uint32_t neighbours =
      std::min(per_multiprocessor, ceil_div(n_tasks, limits.n_multiprocessors));
  const uint64_t shared_budget =
      plan.blocks > 1 ? 0
                      : std::min(limits.shared_per_block,
                                 limits.shared_per_multiprocessor / neighbours -
                                     kReservedShared);

  TaskProgram& p = plan.program;
  p.network = network;
  p.rule = rule;
  p.steps = objective.steps;
  p.second_order = objective.second_order;
  p.has_step_weights = !objective.step_weights.empty();
  p.method = objective.method;
  p.fixed_phi = objective.fixed_phi;
  p.inner_batch = objective.inner_batch;
  p.n_support = shape.n_support;
  p.n_query = shape.n_query;
  p.support_tile = Minibatches(shape.n_support, objective.inner_batch).n;
  p.tile = std::max(shape.n_support, shape.n_query);

  const uint64_t learned = uint64_t{network.n_params} + rule.n_phi;
  const uint64_t bars = learned * kFloat;
  plan.bytes.episodes = n_tasks * episode_bytes(shape);
  const uint64_t layer_bytes =
      sizeof(Layer) + (network.adapted != nullptr ? sizeof(uint32_t) : 0);
  // Parameters and two moments of each; sums, and how many tasks are in them.
  plan.bytes.other = (3 * learned + learned + 1 + kNormValues) * kFloat +
                     network.n_layers * layer_bytes +
                     input_bytes(objective.steps) +
                     kTaskResults * uint64_t{n_tasks} * kFloat;
  const uint64_t reserve = reserve_of(limits);
  const uint64_t available =
      limits.free_memory > reserve ? limits.free_memory - reserve : 0;
  plan.draws = drawing.kind != DrawingProgram::Kind::kOnHost;
  if (drawing.kind == DrawingProgram::Kind::kImages) {
    for (const uint64_t bytes : image_bytes(drawing.images)) {
      plan.bytes.data += bytes;
    }
    plan.bytes.data +=
        uint64_t{n_tasks} * drawing.images.n_drawn() * sizeof(uint32_t);
    if (plan.bytes.data > available / 2) {
      plan.bytes.data = 0;
      plan.draws = false;
    }
  }
  const uint64_t fixed =
      plan.bytes.episodes + plan.bytes.data + plan.bytes.other;

  uint64_t slot = 0;
  uint64_t fit = 0;  // Teams.
  for (;;) {
    p.layout = lay_out(p, shared_budget);
    slot = p.layout.slot_values * kFloat;
    fit = available > fixed ? (available - fixed) / (slot + bars) : 0;
    // Tiles of four examples cost little speed; smaller ones rather than none.
    const uint32_t smallest = fit == 0 ? 1 : 4;
    if (fit >= wanted || network.transductive != 0 || p.tile <= smallest) break;
    p.tile = (p.tile + 1) / 2;
    p.support_tile = std::min(p.support_tile, p.tile);
  }
  if (fit == 0) {
    const uint64_t needed = fixed + slot + bars;
    throw Error(
        Exit::kResource,
        fmt::format("--engine cuda: the GPU ({}) is short of memory: {} are "
                    "needed for one task at a time ({} of episodes), {} of {} "
                    "are free for it, {} are missing; lower {}the network's "
                    "filters, task.shots or task.queries, end other programs "
                    "on the GPU, or use --engine cpu",
                    limits.name,
                    in_words(needed),
                    in_words(plan.bytes.episodes),
                    in_words(available),
                    in_words(limits.total_memory),
                    in_words(needed - available),
                    n_tasks > 1 ? "outer.tasks, " : ""));
  }
  plan.teams = static_cast<uint32_t>(std::min<uint64_t>(fit, wanted));
  const uint64_t left = available - fixed - plan.teams * (slot + bars);
  plan.wave = static_cast<uint32_t>(
      std::min<uint64_t>(n_tasks, plan.teams + left / bars));
  plan.bytes.scratch = plan.teams * slot;
  plan.bytes.bars = plan.wave * bars;
  plan.task_bytes = (p.layout.shared_values + p.layout.slot_values) * kFloat;
  return plan;
}

std::string describe(const CudaPlan& plan, const DeviceLimits& limits) {
  std::string text;
  const auto line = [&](const char* name, const std::string& value) {
    fmt::format_to(std::back_inserter(text), "{:<16}{}\n", name, value);
  };
  const TaskProgram& p = plan.program;
  line("GPU",
       fmt::format("{}, {} multiprocessors, {} free",
                   limits.name,
                   limits.n_multiprocessors,
                   in_words(limits.free_memory)));
  line("tasks",
       fmt::format("{} an iteration, {} at once, summed {} at a time",
                   plan.n_tasks,
                   plan.teams,
                   plan.wave));
  line(
      "a task",
      fmt::format("{} of {} threads; {} examples at a time{}",
                  plan.blocks == 1
                      ? std::string("one block")
                      : fmt::format("a cluster of {} blocks", plan.blocks),
                  plan.threads,
                  p.tile,
                  p.second_order ? fmt::format(", {} dual ones", p.support_tile)
                                 : std::string()));
  line("shared memory",
       fmt::format("{} bytes of {} a block",
                   plan.shared_bytes(),
                   limits.shared_per_block));
  line("global memory",
       fmt::format("{}: {} scratch, {} episodes, {} meta-gradients, {} images, "
                   "{} other",
                   in_words(plan.bytes.total()),
                   in_words(plan.bytes.scratch),
                   in_words(plan.bytes.episodes),
                   in_words(plan.bytes.bars),
                   in_words(plan.bytes.data),
                   in_words(plan.bytes.other)));
  text += fmt::format(
      "\n  {:<26} {:>14}   {}\n", "a task's scratch", "bytes", "memory");
  for (uint32_t i = 0; i < kParts; ++i) {
    const Place& place = p.layout.parts[i];
    if (place.values == 0) continue;
    text += fmt::format("  {:<26} {:>14}   {}\n",
                        to_string(static_cast<Part>(i)),
                        place.values * kFloat,
                        place.shared ? "shared" : "global");
  }
  return text;
}

}  // namespace fewstep::host
