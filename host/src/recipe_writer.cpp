// A recipe as TOML, every default written out.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "fewstep/host/recipe.h"

namespace fewstep::host {
namespace {

// A TOML basic string.
std::string quote(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\u{:04X}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string quote(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) {
    out += (out.empty() ? "" : ", ") + quote(text);
  }
  return "[" + out + "]";
}

// The shortest text that reads back as the same double; always a TOML float.
std::string number(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string classes(uint32_t count) {
  return count == ClassSplit::kRest ? "\"rest\"" : fmt::format("{}", count);
}

std::string split_line(const ClassSplit& split) {
  if (!split.train.empty()) {
    return fmt::format("split = {{train = {}, validation = {}, test = {}}}\n",
                       quote(split.train),
                       quote(split.validation),
                       quote(split.test));
  }
  return fmt::format(
      "split = {{train = {}, validation = {}, test = {}, seed = {}}}\n",
      classes(split.n_train),
      classes(split.n_validation),
      classes(split.n_test),
      split.seed);
}

std::string task_lines(const TaskRecipe& task) {
  std::string out =
      fmt::format("\n[task]\nsource = \"{}\"\n", to_string(task.source));
  switch (task.source) {
    case TaskKind::kImages:
      out += fmt::format("path = {}\n", quote(task.path));
      out += fmt::format("size = {}\ninvert = {}\nrotations = {}\n",
                         task.size,
                         task.invert,
                         task.rotations);
      out += split_line(task.split);
      out += fmt::format("ways = {}\n", task.ways);
      break;
    case TaskKind::kSinusoid:
      out += fmt::format("family = \"{}\"\n", to_string(task.family));
      break;
    case TaskKind::kEpisodes:
      out += fmt::format("path = {}\n", quote(task.path.front()));
      if (!task.validation_path.empty()) {
        out +=
            fmt::format("validation_path = {}\n", quote(task.validation_path));
      }
      if (!task.test_path.empty()) {
        out += fmt::format("test_path = {}\n", quote(task.test_path));
      }
      return out;
  }
  return out +
         fmt::format("shots = {}\nqueries = {}\n", task.shots, task.queries);
}

// What rules that are more than rates have besides.
std::string moment_lines(const InnerRecipe& inner) {
  std::string out;
  switch (inner.rule) {
    case RuleOp::kSgd:
    case RuleOp::kLslr:
    case RuleOp::kOnlineMetaSgd: return out;
    case RuleOp::kMetaSgd:
      if (!inner.rate_adaptation) return out;
      return fmt::format(
          "rate_adaptation = true\nrate_beta = {}\nlearn_beta = {}\n",
          number(inner.rate_beta),
          inner.learn_beta);
    case RuleOp::kRateNet:
      return fmt::format(
          "hidden = {}\ndecay = {}\n", inner.hidden, inner.decay);
    case RuleOp::kLstm: return fmt::format("hidden = {}\n", inner.hidden);
    case RuleOp::kMomentum:
      out += fmt::format("beta = {}\n", number(inner.beta1));
      break;
    case RuleOp::kAdam:
      out += fmt::format("betas = [{}, {}]\neps = {}\n",
                         number(inner.beta1),
                         number(inner.beta2),
                         number(inner.eps));
      if (inner.learn_moments) {
        out += fmt::format("rms = {}\n", number(inner.rms));
      }
      break;
  }
  return out + fmt::format(
                   "rate_layout = \"{}\"\nlearn_beta = {}\n"
                   "learn_moments = {}\n",
                   to_string(inner.rate_layout),
                   inner.learn_beta,
                   inner.learn_moments);
}

std::string layer_line(const LayerRecipe& layer) {
  std::string out = fmt::format("  {{op = \"{}\"", to_string(layer.op));
  if (layer.outputs != 0) {
    out += fmt::format(", {} = {}",
                       layer.op == LayerOp::kConv2d ? "filters" : "units",
                       layer.outputs);
  }
  if (layer.kernel != 0) {
    out +=
        fmt::format(", kernel = {}, stride = {}", layer.kernel, layer.stride);
  }
  if (layer.op == LayerOp::kConv2d) out += fmt::format(", pad = {}", layer.pad);
  if (layer.groups != 0) out += fmt::format(", groups = {}", layer.groups);
  return out + "},\n";
}

}  // namespace

std::string to_toml(const Recipe& recipe) {
  std::string out =
      fmt::format("name = {}\nseed = {}\n", quote(recipe.name), recipe.seed);
  out += task_lines(recipe.task);

  const NetworkRecipe& network = recipe.network;
  out += fmt::format("\n[network]\ninput = [{}, {}, {}]\nlayers = [\n",
                     network.input[0],
                     network.input[1],
                     network.input[2]);
  for (const LayerRecipe& layer : network.layers) out += layer_line(layer);
  out += fmt::format("]\nloss = \"{}\"\n", to_string(network.loss));

  const InnerRecipe& inner = recipe.inner;
  out += fmt::format(
      "\n[inner]\nrule = \"{}\"\nsteps = {}\nbatch = {}\nrate = {}\n"
      "learn_rate = {}\n"
      "order = {}\nadapt = {}\nweight_decay = {}\nclip_norm = {}\n",
      to_string(inner.rule),
      inner.steps,
      inner.batch,
      number(inner.rate),
      inner.learn_rate,
      inner.order,
      inner.adapt == Adapt::kLayers ? quote(inner.layers)
                                    : quote(to_string(inner.adapt)),
      number(inner.weight_decay),
      number(inner.clip_norm));
  const bool sparse = inner.adapt == Adapt::kSparse;
  if (sparse) {
    out += fmt::format("mask_start = {}\n", number(inner.mask_start));
  }
  out += moment_lines(inner);

  const OuterRecipe& outer = recipe.outer;
  out += fmt::format(
      "\n[outer]\nmethod = \"{}\"\noptimizer = \"{}\"\nrate = {}\n"
      "rule_rate = {}\nschedule = \"{}\"\n",
      to_string(outer.method),
      to_string(outer.optimizer),
      number(outer.rate),
      number(outer.rule_rate),
      to_string(outer.schedule));
  if (sparse) out += fmt::format("mask_rate = {}\n", number(outer.mask_rate));
  if (outer.schedule == Schedule::kCosine) {
    out += fmt::format("min_rate = {}\n", number(outer.min_rate));
  }
  out += fmt::format("tasks = {}\niterations = {}\nmulti_step = {}\n",
                     outer.tasks,
                     outer.iterations,
                     outer.multi_step_iterations > 0);
  if (outer.multi_step_iterations > 0) {
    out += fmt::format("multi_step_iterations = {}\n",
                       outer.multi_step_iterations);
  }
  out += fmt::format(
      "order_annealing = {}\nclip_norm = {}\nweight_decay = {}\n"
      "dropout = {}\n",
      outer.order_annealing,
      number(outer.clip_norm),
      number(outer.weight_decay),
      number(outer.dropout));
  if (outer.optimizer == OuterOptimizer::kAdam) {
    out += fmt::format("betas = [{}, {}]\neps = {}\n",
                       number(outer.beta1),
                       number(outer.beta2),
                       number(outer.eps));
  }

  const CapsuleRecipe& capsule = recipe.capsule;
  out += fmt::format(
      "\n[capsule]\ninit = \"{}\"\nrates = \"{}\"\nsupport_max = {}\n"
      "predict_max = {}\nsteps = {}\ngolden = {}\n",
      storage_name(capsule.init),
      storage_name(capsule.rates),
      capsule.support_max,
      capsule.predict_max,
      capsule.steps,
      capsule.golden);

  const RunRecipe& run = recipe.run;
  out += fmt::format(
      "\n[run]\nvalidate_every = {}\nvalidate_tasks = {}\nthreads = {}\n"
      "checkpoint_every = {}\ninit_from = {}\nkeep = \"{}\"\n",
      run.validate_every,
      run.validate_tasks,
      run.threads,
      run.checkpoint_every,
      quote(run.init_from),
      to_string(run.keep));
  return out;
}

const char* to_string(TaskKind kind) {
  switch (kind) {
    case TaskKind::kImages: return "images";
    case TaskKind::kSinusoid: return "sinusoid";
    case TaskKind::kEpisodes: return "episodes";
  }
  return "unknown source";
}

const char* to_string(SinusoidFamily family) {
  switch (family) {
    case SinusoidFamily::kMaml: return "maml";
    case SinusoidFamily::kMetaSgd: return "meta_sgd";
  }
  return "unknown family";
}

const char* to_string(Adapt adapt) {
  switch (adapt) {
    case Adapt::kAll: return "all";
    case Adapt::kHead: return "head";
    case Adapt::kBody: return "body";
    case Adapt::kContext: return "context";
    case Adapt::kLayers: return "layers";
    case Adapt::kSparse: return "sparse";
  }
  return "unknown";
}

const char* to_string(Keep keep) {
  switch (keep) {
    case Keep::kBest: return "best";
    case Keep::kLast: return "last";
  }
  return "unknown";
}

const char* to_string(RateLayout layout) {
  switch (layout) {
    case RateLayout::kScalar: return "scalar";
    case RateLayout::kTensorStep: return "tensor_step";
    case RateLayout::kParameter: return "parameter";
  }
  return "unknown layout";
}

const char* storage_name(Storage storage) {
  switch (storage) {
    case Storage::kF32: return "f32";
    case Storage::kF16: return "f16";
    case Storage::kLog8: return "log8";
  }
  return "unknown storage";
}

}  // namespace fewstep::host
