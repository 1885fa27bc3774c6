// fewstep inspect: what a capsule holds and what it costs a device.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "arena_bytes.h"
#include "commands.h"
#include "cuda_plan.h"
#include "fewstep/device/session.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/error.h"
#include "fewstep/host/mask_packing.h"
#include "fewstep/host/network_builder.h"
#include "fewstep/host/recipe.h"
#include "fewstep/sparse_mask.h"
#include "step_cost.h"

namespace fewstep::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  std::string capsule;
  bool json = false;
  std::string engine, device;
  uint32_t tasks = 32;
  uint32_t queries = 0;
  uint32_t order = 2;
};

std::string settings(const Layer& layer) {
  switch (layer.op) {
    case LayerOp::kConv2d:
      return fmt::format(
          "kernel {} stride {} pad {}", layer.kernel, layer.stride, layer.pad);
    case LayerOp::kMaxPool: return fmt::format("kernel {}", layer.kernel);
    case LayerOp::kGroupNorm: return fmt::format("groups {}", layer.groups);
    case LayerOp::kContext: return fmt::format("units {}", layer.groups);
    case LayerOp::kDense:
    case LayerOp::kRelu:
    case LayerOp::kTanh:
    case LayerOp::kGlobalAvgPool:
    case LayerOp::kFlatten:
    case LayerOp::kBatchNorm: break;
  }
  return "";
}

// What the rule keeps from one step to the next, in an arena for more than one.
uint64_t state_bytes(const Capsule& c) {
  return uint64_t{c.rule.n_state_per_param} * c.network.n_adapted *
         sizeof(float);
}

// Parameters of layer i that adapt.
uint32_t n_adapting(const Network& n, uint32_t i) {
  const Layer& l = n.layers[i];
  if (!n.adapts(i)) return 0;
  if (n.masked == 0) return l.n_params();
  return MaskTable(n).count(l.param_offset, l.n_params());
}

// Bytes of the least arena that all parameters' adapting would take more.
int64_t saved_bytes(const Capsule& c) {
  Capsule all = c;
  Network& n = all.network;
  n.adapted = nullptr;
  n.masked = 0;
  n.n_adapted = n.n_params;
  n.n_aux_batch = 0;
  for (uint32_t i = 0; i < n.n_layers; ++i) {
    if (n.layers[i].op == LayerOp::kBatchNorm) {
      n.n_aux_batch += n.layers[i].n_aux;
    }
  }
  return static_cast<int64_t>(arena_sizes(all).front().bytes) -
         static_cast<int64_t>(arena_sizes(c).front().bytes);
}

Json describe(const host::CapsuleFile& file) {
  const Capsule& c = file.capsule;
  const Network& n = c.network;
  Json json;
  json["model_hash"] = fmt::format("{:016x}", c.model_hash);
  json["bytes"] = c.total_bytes;
  json["input"] = {n.in_c, n.in_h, n.in_w};
  json["outputs"] = n.n_out;
  json["loss"] = to_string(n.loss);
  json["transductive"] = n.transductive != 0;
  json["parameters"] = n.n_params;
  json["adapted_parameters"] = n.n_adapted;
  json["mask"] = n.masked != 0;
  json["arena_saved"] = saved_bytes(c);
  const std::vector<std::string> names = host::layer_names(n);
  Json layers = Json::array();
  for (uint32_t i = 0; i < n.n_layers; ++i) {
    const Layer& l = n.layers[i];
    Json layer = {{"op", to_string(l.op)}, {"name", names[i]}};
    if (l.kernel != 0) layer["kernel"] = l.kernel;
    if (l.stride != 0) layer["stride"] = l.stride;
    if (l.op == LayerOp::kConv2d) layer["pad"] = l.pad;
    if (l.groups != 0) layer["groups"] = l.groups;
    layer["output"] = {l.out_c, l.out_h, l.out_w};
    layer["parameters"] = l.n_params();
    if (l.n_params() != 0) {
      layer["adapts"] = n.adapts(i);
      layer["adapted_parameters"] = n_adapting(n, i);
    }
    layers.push_back(layer);
  }
  json["layers"] = layers;
  json["rule"] = {{"op", to_string(c.rule.op)},
                  {"steps", c.rule.steps},
                  {"values", c.rule.n_phi},
                  {"state_bytes", state_bytes(c)}};
  if (n_means(c.rule.op) != 0) {
    json["rule"]["rate_layout"] = host::to_string(c.rule.options.layout());
  }
  json["weight_decay"] = c.rule.weight_decay;
  json["clip_norm"] = c.rule.clip_norm;
  json["storage"] = {{"init", host::storage_name(c.init.storage)},
                     {"rates", host::storage_name(c.rates.storage)}};
  json["limits"] = {{"support_max", c.limits.support_max},
                    {"predict_max", c.limits.predict_max},
                    {"steps", c.limits.steps}};
  json["golden"] = c.golden_record != nullptr;
  Json arenas = Json::array();
  for (const ArenaSize& arena : arena_sizes(c)) {
    arenas.push_back({{"tile", arena.tile}, {"bytes", arena.bytes}});
  }
  json["arena"] = arenas;
  const uint64_t per_example = multiply_adds_per_example(n);
  json["multiply_adds"] = {{"per_example", per_example},
                           {"per_step", per_example * c.limits.support_max}};
  Json steps = Json::array();
  for (const ArenaSize& arena : arena_sizes(c)) {
    Json step = {
        {"tile", arena.tile},
        {"bytes_touched", bytes_touched(c, c.limits.support_max, arena.tile)}};
    Json cores = Json::object();
    for (const CoreCost& cost :
         step_instructions(c, c.limits.support_max, arena.tile)) {
      cores[cost.core] = {
          {"instructions", static_cast<uint64_t>(cost.instructions)},
          {"error", cost.error}};
    }
    step["cores"] = cores;
    steps.push_back(step);
  }
  json["step"] = steps;
  if (c.provenance != nullptr) {
    const std::string text(c.provenance, c.provenance_bytes);
    json["provenance"] = Json::parse(text, nullptr, false);
    if (json["provenance"].is_discarded()) json["provenance"] = text;
  } else {
    json["provenance"] = nullptr;
  }
  return json;
}

// What adapts and what that saves, weight decay, clipping.
void print_options(const Capsule& c) {
  const Network& n = c.network;
  if (n.adapted != nullptr) {
    const std::vector<std::string> names = host::layer_names(n);
    std::string adapting;
    for (uint32_t i = 0; i < n.n_layers; ++i) {
      if (!n.adapts(i)) continue;
      adapting += (adapting.empty() ? "" : ", ") + names[i];
      const uint32_t n_here = n_adapting(n, i);
      if (n_here != n.layers[i].n_params()) {
        adapting += fmt::format(" ({})", n_here);
      }
    }
    const int64_t saved = saved_bytes(c);
    fmt::print(
        "adapts          {}{}: {} of {} parameters, the others stay in "
        "flash;\n                {} {} bytes of arena{}\n",
        n.masked != 0 ? "by a mask, of " : "",
        adapting,
        n.n_adapted,
        n.n_params,
        saved < 0 ? "costs" : "saves",
        saved < 0 ? -saved : saved,
        saved < 0 ? ": too little is masked for its scratch memory" : "");
  }
  if (c.rule.weight_decay != 0.0F) {
    fmt::print("weight decay    {}\n", c.rule.weight_decay);
  }
  if (c.rule.clip_norm != 0.0F) {
    fmt::print("clip norm       {}\n", c.rule.clip_norm);
  }
}

// How meta-training with the capsule's network, rule and limits would use a
// GPU.
struct GpuUse {
  host::DeviceLimits limits;
  host::CudaPlan plan;
};

GpuUse plan_gpu(const Arguments& arguments, const Capsule& c) {
  if (arguments.engine != "cuda") {
    throw host::Error(host::Exit::kUsage,
                      fmt::format("--engine {}: there is cuda, the cpu has no "
                                  "plan to show",
                                  arguments.engine));
  }
  GpuUse use;
  if (!arguments.device.empty()) {
    use.limits = host::known_device(arguments.device);
  } else {
    try {
      use.limits = host::cuda_device_limits();
    } catch (const host::Error&) {
      use.limits = host::known_device("h200");
    }
  }
  const bool classes = c.network.loss == LossOp::kSoftmaxCrossEntropy;
  host::EpisodeShape shape = {};
  shape.n_support = c.limits.support_max;
  shape.n_query = arguments.queries != 0 ? arguments.queries : shape.n_support;
  shape.n_in = c.network.n_in;
  shape.n_out = c.network.n_out;
  shape.ways = classes ? c.network.n_out : 0;
  shape.classification = classes;
  host::Objective objective;
  objective.steps = c.limits.steps;
  objective.second_order = arguments.order == 2;
  // Training has all of phi, and the mask's logits.
  Network network = c.network;
  Rule rule = c.rule;
  if (network.masked != 0) {
    const host::Unmasked whole = host::unmask(c);
    network = whole.network;
    rule = whole.rule;
  }
  use.plan = host::plan_cuda(
      network, rule, objective, shape, arguments.tasks, use.limits);
  return use;
}

Json to_json(const GpuUse& use) {
  const host::CudaPlan& plan = use.plan;
  const host::PlanBytes& bytes = plan.bytes;
  Json parts = Json::array();
  for (uint32_t i = 0; i < host::kParts; ++i) {
    const host::Place& place = plan.program.layout.parts[i];
    if (place.values == 0) continue;
    parts.push_back({{"part", host::to_string(static_cast<host::Part>(i))},
                     {"bytes", place.values * sizeof(float)},
                     {"memory", place.shared ? "shared" : "global"}});
  }
  return {{"device", use.limits.name},
          {"tasks", plan.n_tasks},
          {"tasks_at_once", plan.teams},
          {"wave", plan.wave},
          {"blocks_per_task", plan.blocks},
          {"threads_per_block", plan.threads},
          {"tile", plan.program.tile},
          {"support_tile", plan.program.support_tile},
          {"shared_bytes_per_block", plan.shared_bytes()},
          {"task_bytes", plan.task_bytes},
          {"global_bytes",
           {{"total", bytes.total()},
            {"scratch", bytes.scratch},
            {"episodes", bytes.episodes},
            {"meta_gradients", bytes.bars},
            {"images", bytes.data},
            {"other", bytes.other}}},
          {"scratch", parts}};
}

// How the first of several steps differs from the one that is estimated: an f16
// initialization is decoded as it is read, and there is no rule's state to read
// and nothing that a mask would have to put together.
const char* first_step(const Capsule& c) {
  if (c.limits.steps <= 1) return "";
  const bool f16 = c.init.storage == Storage::kF16;
  const bool less = c.network.masked != 0 || c.rule.n_state_per_param != 0;
  if (f16 && less) return "; of a step after the first";
  if (f16) return "; the first step, on f16, takes more";
  return less ? "; the first step takes less" : "";
}

void print(const std::string& path, const host::CapsuleFile& file) {
  const Capsule& c = file.capsule;
  const Network& n = c.network;
  fmt::print(
      "{}: model {:016x}, {} bytes\n\n", path, c.model_hash, c.total_bytes);
  fmt::print("  {:<5} {:<16} {:<24} {:>12} {:>11}\n",
             "layer",
             "operation",
             "settings",
             "output",
             "parameters");
  fmt::print("  {:<5} {:<16} {:<24} {:>12}\n",
             "",
             "input",
             "",
             fmt::format("{}x{}x{}", n.in_c, n.in_h, n.in_w));
  const std::vector<std::string> names = host::layer_names(n);
  for (uint32_t i = 0; i < n.n_layers; ++i) {
    const Layer& l = n.layers[i];
    const bool frozen = l.n_params() != 0 && !n.adapts(i);
    fmt::print("  {:<5} {:<16} {:<24} {:>12} {:>11}{}\n",
               i,
               names[i],
               settings(l),
               fmt::format("{}x{}x{}", l.out_c, l.out_h, l.out_w),
               l.n_params(),
               frozen ? "  frozen" : "");
  }
  fmt::print("  {:<60} {:>11}\n\n", "", n.n_params);
  fmt::print("loss            {}\n", to_string(n.loss));
  fmt::print("rule            {}, {} learned value{}, trained for {} step{}\n",
             to_string(c.rule.op),
             c.rule.n_phi,
             c.rule.n_phi == 1 ? "" : "s",
             c.rule.steps,
             c.rule.steps == 1 ? "" : "s");
  if (c.rule.n_state_per_param != 0) {
    fmt::print(
        "rule's state    {} bytes, in the arena of more than one step{}\n",
        state_bytes(c),
        n_means(c.rule.op) != 0 && c.rule.options.learned_moments()
            ? "; starts at learned values"
            : "");
  }
  print_options(c);
  fmt::print("storage         initialization {}, rates {}\n",
             host::storage_name(c.init.storage),
             host::storage_name(c.rates.storage));
  fmt::print("limits          {} support examples, recommended steps {}\n",
             c.limits.support_max,
             c.limits.steps);
  if (n.transductive != 0) {
    fmt::print(
        "transductive    yes: batch_norm makes each prediction depend on the "
        "examples\n                predicted with it (at most {})\n",
        c.limits.predict_max);
  } else {
    fmt::print("transductive    no: each example is predicted alone\n");
  }
  if (c.golden_record != nullptr) {
    const Golden golden = golden_episode(c);
    fmt::print("golden episode  {} support and {} query examples, steps {}\n",
               golden.n_support,
               golden.n_query,
               golden.steps);
  } else {
    fmt::print("golden episode  none\n");
  }
  const uint64_t per_example = multiply_adds_per_example(n);
  fmt::print(
      "multiply-adds   {} per example and step, {} per step of {} "
      "examples\n\n",
      per_example,
      per_example * c.limits.support_max,
      c.limits.support_max);

  const std::vector<CoreCost> cores = step_instructions(c, 1, 1);
  fmt::print("a step on {} examples, and the arena for {} step{}:\n",
             c.limits.support_max,
             c.limits.steps,
             c.limits.steps == 1 ? "" : "s");
  fmt::print("  {:<24} {:>13} {:>14}", "", "arena", "bytes touched");
  for (const CoreCost& core : cores) fmt::print(" {:>20}", core.core);
  fmt::print("\n");
  for (const ArenaSize& arena : arena_sizes(c)) {
    const std::string tile = arena.tile == c.limits.support_max
                                 ? "all examples at once"
                                 : fmt::format("{} example{} at a time",
                                               arena.tile,
                                               arena.tile == 1 ? "" : "s");
    fmt::print("  {:<24} {:>7} bytes {:>14}",
               tile,
               arena.bytes,
               bytes_touched(c, c.limits.support_max, arena.tile));
    for (const CoreCost& cost :
         step_instructions(c, c.limits.support_max, arena.tile)) {
      fmt::print(" {:>20}",
                 fmt::format("{:#.3g} M instr.", 1e-6 * cost.instructions));
    }
    fmt::print("\n");
  }
  for (const CoreCost& core : cores) {
    fmt::print(
        "instructions estimated: within {:.0f} % for networks like those "
        "measured{}\n",
        100 * core.error,
        first_step(c));
  }
  if (cores.empty()) {
    fmt::print("instructions not estimated: batch_norm was not measured\n");
  }
  if (c.provenance != nullptr) {
    fmt::print("\nprovenance: {}\n",
               std::string(c.provenance, c.provenance_bytes));
  }
}

}  // namespace

void add_inspect(CLI::App& app, Command* run) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command = add_command(
      app, "inspect", "Show a capsule's layers, size, memory and work");
  command->add_option("capsule", arguments->capsule, "The capsule")
      ->required()
      ->type_name("CAPSULE");
  command->add_flag("--json", arguments->json, "Print JSON");
  command
      ->add_option("--engine",
                   arguments->engine,
                   "Show how meta-training would use a GPU")
      ->type_name("cuda");
  command
      ->add_option("--device",
                   arguments->device,
                   "The GPU: h200, h100, a100, rtx5090, orin; default: the one "
                   "at hand, else h200")
      ->type_name("NAME");
  command
      ->add_option(
          "--tasks", arguments->tasks, "Tasks of an iteration; default: 32")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
  command
      ->add_option("--queries",
                   arguments->queries,
                   "Query examples of a task; default: as many as support "
                   "examples")
      ->check(CLI::Range(1, 1 << 24))
      ->type_name("N");
  command
      ->add_option("--order", arguments->order, "Of the meta-gradient: 2 or 1")
      ->check(CLI::Range(1, 2))
      ->type_name("N");
  command->callback([arguments, run] {
    *run = [arguments] {
      const host::CapsuleFile file = host::load_capsule(arguments->capsule);
      const bool gpu = !arguments->engine.empty();
      if (arguments->json) {
        Json json = describe(file);
        if (gpu) json["cuda"] = to_json(plan_gpu(*arguments, file.capsule));
        fmt::print("{}\n", json.dump(2));
      } else if (gpu) {
        const GpuUse use = plan_gpu(*arguments, file.capsule);
        fmt::print("{}", host::describe(use.plan, use.limits));
      } else {
        print(arguments->capsule, file);
      }
      return host::Exit::kOk;
    };
  });
}

}  // namespace fewstep::cli
