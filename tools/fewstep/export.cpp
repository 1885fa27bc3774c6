// fewstep export: a capsule as a C header or as NumPy arrays.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cctype>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "arena_bytes.h"
#include "capsule_ops.h"
#include "commands.h"
#include "episode_header.h"
#include "fewstep/device/session.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/episode_file.h"
#include "fewstep/host/file.h"
#include "fewstep/host/mask_packing.h"
#include "fewstep/host/npz.h"
#include "fewstep/host/recipe.h"
#include "fewstep/host/task_factory.h"
#include "messages.h"

namespace fewstep::cli {
namespace {

struct Arguments {
  std::string input, output, name;
  std::vector<std::string> overrides;
  uint32_t task = 0;
  uint32_t tasks = 1;
  uint64_t seed = 1;
};

bool is_identifier(const std::string& name) {
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0]))) {
    return false;
  }
  for (const char c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') return false;
  }
  return true;
}

// "omniglot-5w1s" -> "omniglot_5w1s".
std::string identifier(const std::string& text) {
  std::string name;
  for (const char c : text) {
    name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  }
  if (!is_identifier(name)) name = "capsule_" + name;
  return name;
}

std::string upper(std::string text) {
  for (char& c : text) {
    c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return text;
}

std::string sizes(const std::string& macro, const Capsule& c) {
  std::string out = fmt::format("#define {}_BYTES {}U\n", macro, c.total_bytes);
  out += fmt::format("#define {}_N_IN {}U\n", macro, c.network.n_in);
  out += fmt::format("#define {}_N_OUT {}U\n", macro, c.network.n_out);
  out += fmt::format("#define {}_N_PARAMS {}U\n", macro, c.network.n_params);
  out +=
      fmt::format("#define {}_SUPPORT_MAX {}U\n", macro, c.limits.support_max);
  out +=
      fmt::format("#define {}_PREDICT_MAX {}U\n", macro, c.limits.predict_max);
  out += fmt::format("#define {}_STEPS {}U\n", macro, c.limits.steps);
  out += fmt::format(
      "\n/* Bytes of the arena for a session with default options: {}_SUPPORT_"
      "MAX\n * examples and {}_STEPS steps, TILE examples at a time. A larger "
      "tile is\n * faster and gives the same bits. */\n",
      macro,
      macro);
  const std::vector<ArenaSize> arenas = arena_sizes(c);
  out += fmt::format("#define {}_ARENA_BYTES {}U /* the least */\n",
                     macro,
                     arenas.front().bytes);
  for (const ArenaSize& arena : arenas) {
    if (arena.tile == c.limits.support_max) continue;
    out += fmt::format(
        "#define {}_ARENA_BYTES_TILE_{} {}U\n", macro, arena.tile, arena.bytes);
  }
  out += fmt::format(
      "#define {}_ARENA_BYTES_FULL {}U\n", macro, arenas.back().bytes);
  size_t selftest = 0;
  if (selftest_bytes(c, &selftest) == Status::kOk) {
    out +=
        fmt::format("#define {}_SELFTEST_BYTES {}U /* selftest()'s arena */\n",
                    macro,
                    selftest);
  }
  return out;
}

std::string array(const std::string& name, const host::CapsuleBytes& bytes) {
  std::string out;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i % 13 == 0) out += i == 0 ? "    " : "\n    ";
    out += fmt::format("0x{:02x},{}", bytes[i], i % 13 == 12 ? "" : " ");
  }
  while (out.back() == ' ') out.pop_back();
  return fmt::format(
      "/* The capsule, 16-byte aligned as fewstep reads it in place. */\n"
      "{0}_ALIGN16 static const uint8_t {1}_capsule[{0}_BYTES] = "
      "{{\n{2}\n}};\n",
      upper(name),
      name,
      out);
}

std::string header(const std::string& name,
                   const std::string& source,
                   const host::CapsuleFile& file) {
  const Capsule& c = file.capsule;
  const std::string macro = upper(name);
  std::string ops;
  for (const std::string& symbol : op_symbols(c)) {
    ops += fmt::format("    &{},\n", symbol);
  }
  return fmt::format(
             "/* A fewstep capsule as a C array: model {:016x}.\n"
             " *\n"
             " * Written by `fewstep export` from {}; do not edit.\n"
             " *\n"
             " *   C++  session.open({{{}_capsule, {}_BYTES}}, {}_ops, "
             "arena);\n"
             " *   C    the same pointers and sizes, see fewstep/fewstep.h.\n"
             " *\n"
             " * Include it in one source file: the array is static. Valid C99 "
             "and C++17.\n"
             " */\n",
             c.model_hash,
             source,
             name,
             macro,
             name) +
         fmt::format(
             "#ifndef FEWSTEP_EXPORT_{0}_H_\n#define FEWSTEP_EXPORT_{0}_H_\n\n"
             "#include <stdint.h>\n\n"
             "#include \"fewstep/device/op_symbols.h\"\n\n",
             macro) +
         sizes(macro, c) +
         fmt::format(
             "\n#if defined(__cplusplus)\n"
             "#define {0}_ALIGN16 alignas(16)\n"
             "#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L\n"
             "#define {0}_ALIGN16 _Alignas(16)\n"
             "#else\n"
             "#define {0}_ALIGN16 __attribute__((aligned(16)))\n"
             "#endif\n\n",
             macro) +
         fmt::format(
             "/* The operations this capsule needs, and no others: what a "
             "program links. */\n"
             "static const fewstep_op *const {}_ops[] = {{\n{}    0,\n}};\n\n",
             name,
             ops) +
         array(name, file.bytes) +
         fmt::format("\n#endif /* FEWSTEP_EXPORT_{}_H_ */\n", macro);
}

void save_arrays(const std::string& path, const Capsule& capsule) {
  const std::vector<float> theta = host::decode_init(capsule);
  // As training has it, which a recipe may start from.
  const std::vector<float> rate = capsule.network.masked != 0
                                      ? host::unmask(capsule).phi
                                      : host::decode_rates(capsule);
  host::Npz npz;
  npz.set<float>("theta", {theta.size()}, theta);
  npz.set<float>("rate", {rate.size()}, rate);
  npz.save(path);
}

void save_text(const std::string& path, const std::string& text) {
  host::save_file_atomically(path,
                             std::vector<uint8_t>(text.begin(), text.end()));
}

void export_capsule(const Arguments& a, const std::string& extension) {
  const host::CapsuleFile file = host::load_capsule(a.input);
  if (extension == ".npz") {
    save_arrays(a.output, file.capsule);
    return;
  }
  const std::filesystem::path output = a.output;
  const std::string name =
      a.name.empty() ? identifier(output.stem().string()) : a.name;
  save_text(
      a.output,
      header(name, std::filesystem::path(a.input).filename().string(), file));
}

// Test tasks of a recipe as an episode file.
void export_tasks(const Arguments& a) {
  const host::Recipe recipe = host::load_recipe(a.input, a.overrides);
  const auto source = host::make_task_source(recipe);
  source->check(host::Split::kTest);
  const uint64_t n = source->n_tasks(host::Split::kTest);
  if (n != 0 && a.tasks > n) {
    throw host::Error(
        host::Exit::kUsage,
        fmt::format(
            "--tasks {}: the recipe has {} test tasks; give {} or fewer",
            a.tasks,
            n,
            n));
  }
  std::vector<host::Episode> episodes(a.tasks);
  for (uint32_t t = 0; t < a.tasks; ++t) {
    source->sample(host::Split::kTest, a.seed, 0, t, &episodes[t]);
  }
  host::save_episodes(
      a.output, episodes, source->shape(), source->input_shape());
}

// One episode of an episode file as a C header.
void export_episode(const Arguments& a) {
  const host::EpisodeFile file({a.input, 0, 1});
  if (a.task >= file.n_tasks(host::Split::kTest)) {
    throw host::Error(host::Exit::kUsage,
                      fmt::format("--task {}: {} holds tasks 0 to {}",
                                  a.task,
                                  a.input,
                                  file.n_tasks(host::Split::kTest) - 1));
  }
  host::Episode episode;
  file.sample(host::Split::kTest, 0, 0, a.task, &episode);
  const std::filesystem::path output = a.output;
  const std::string name =
      a.name.empty() ? identifier(output.stem().string()) : a.name;
  const std::string source =
      fmt::format("task {} of {}",
                  a.task,
                  std::filesystem::path(a.input).filename().string());
  save_text(a.output, episode_header(name, source, episode, file.shape()));
}

host::Exit run_export(const Arguments& arguments) {
  const std::string from =
      std::filesystem::path(arguments.input).extension().string();
  const std::string to =
      std::filesystem::path(arguments.output).extension().string();
  if (!arguments.name.empty() && !is_identifier(arguments.name)) {
    throw host::Error(
        host::Exit::kUsage,
        fmt::format("--name {}: must be a C identifier", arguments.name));
  }
  if (from == ".toml" && to == ".npz") {
    export_tasks(arguments);
  } else if (from == ".npz" && to == ".h") {
    export_episode(arguments);
  } else if (from != ".toml" && from != ".npz" &&
             (to == ".h" || to == ".npz")) {
    export_capsule(arguments, to);
  } else {
    throw host::Error(
        host::Exit::kUsage,
        fmt::format(
            "{} to {}: a capsule becomes X.h or X.npz, a recipe (.toml) "
            "becomes episodes X.npz, episodes (.npz) become X.h",
            arguments.input,
            arguments.output));
  }
  fmt::print(stderr, "wrote {}\n", arguments.output);
  return host::Exit::kOk;
}

}  // namespace

void add_export(CLI::App& app, Command* run) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      add_command(app,
                  "export",
                  "Write a capsule or an episode as a C header, or as arrays");
  command
      ->add_option("input",
                   arguments->input,
                   "A capsule; a recipe, for its test tasks; or an episode "
                   "file, for one of its tasks")
      ->required()
      ->type_name("CAPSULE|RECIPE.toml|EPISODES.npz");
  command
      ->add_option(
          "-o,--output",
          arguments->output,
          "Of a capsule, X.h: a C array with its sizes and operations, "
          "or X.npz: the arrays theta and rate, decoded. Of a recipe, "
          "X.npz: episodes. Of episodes, X.h: one as C arrays")
      ->required()
      ->type_name("X.h|X.npz");
  command
      ->add_option("--name",
                   arguments->name,
                   "Prefix of a header's names; default: from its file name")
      ->type_name("NAME");
  command
      ->add_option("--tasks",
                   arguments->tasks,
                   "Of a recipe: how many test tasks; default: 1")
      ->check(CLI::Range(1, 1000000))
      ->type_name("N");
  command
      ->add_option("--seed",
                   arguments->seed,
                   "Of a recipe: seed of the tasks, as in eval; default: 1")
      ->check(is_seed)
      ->type_name("S");
  command
      ->add_option("--set",
                   arguments->overrides,
                   "Of a recipe: change a value, as in train")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--task",
                   arguments->task,
                   "Of episodes: which one, from 0; default: 0")
      ->type_name("T");
  command->callback([arguments, run] {
    *run = [arguments] { return run_export(*arguments); };
  });
}

}  // namespace fewstep::cli
