// A recipe: everything that determines a meta-training run, read from TOML.
//
// tools/recipes/README.md is the reference of its keys, their defaults and what
// is refused. The fields here are what the keys come to: most have a key's
// name; `betas` are beta1 and beta2, momentum's `beta` is beta1, and
// `multi_step = false` is multi_step_iterations = 0.
//
// Reading checks every key, type and range and the recipe as a whole (shapes,
// classes against outputs), so the rest of the code can trust it. Errors name
// the file, the line, the key and the remedy.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_RECIPE_H_
#define FEWSTEP_HOST_RECIPE_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "fewstep/capsule.h"
#include "fewstep/host/images.h"
#include "fewstep/host/objective.h"
#include "fewstep/host/sinusoid.h"
#include "fewstep/network.h"
#include "fewstep/rules/rule.h"

namespace fewstep::host {

/// Where tasks come from.
enum class TaskKind { kImages, kSinusoid, kEpisodes };

/// [task]
struct TaskRecipe {
  TaskKind source = TaskKind::kSinusoid;

  /// images: folders and zip files; episodes: one NPZ file for training.
  /// Absolute where found at load time, else as written (see require_path()).
  std::vector<std::string> path;

  // images
  int size = 28;           ///< Images are resized to size x size.
  bool invert = false;     ///< 1 - x.
  bool rotations = false;  ///< 90, 180, 270 degrees give new classes.
  ClassSplit split;
  int ways = 0;  ///< Classes in an episode.

  // images, sinusoid
  int shots = 0;    ///< Support examples (images: per class).
  int queries = 0;  ///< Query examples (images: per class).

  // sinusoid
  SinusoidFamily family = SinusoidFamily::kMaml;

  // episodes; empty: the training file serves.
  std::string validation_path, test_path;
};

/// One entry of network.layers. Fields that the operation lacks are zero.
struct LayerRecipe {
  LayerOp op = LayerOp::kDense;
  int outputs = 0;  ///< dense, context: units; conv2d: filters.
  int kernel = 0, stride = 0, pad = 0;
  int groups = 0;
};

/// [network]
struct NetworkRecipe {
  int input[3] = {0, 0, 0};  ///< Channels, height, width.
  std::vector<LayerRecipe> layers;
  LossOp loss = LossOp::kSoftmaxCrossEntropy;
};

/// What the inner loop changes.
enum class Adapt {
  kAll,
  kHead,     ///< The last layer with parameters (ANIL).
  kBody,     ///< All but that one (BOIL).
  kContext,  ///< The context layers (CAVIA).
  kLayers,   ///< Those named.
  kSparse,   ///< Those parameters that a learned mask lets (learned_mask.h).
};

/// [inner]
struct InnerRecipe {
  RuleOp rule = RuleOp::kMetaSgd;
  int steps = 1;
  int batch = 0;            ///< Objective::inner_batch, of training alone.
  double rate = 0.0;        ///< Every rate's initial value.
  bool learn_rate = false;  ///< Always true for more than one rate.
  int order = 2;            ///< 1: first-order meta-gradients; reptile: 1.
  Adapt adapt = Adapt::kAll;
  std::vector<std::string> layers;  ///< kLayers: as layer_names() has them.
  double weight_decay = 0.0;        ///< lambda of step_options.h; 0: none.
  double clip_norm = 0.0;           ///< c of step_options.h; 0: none.
  double mask_start = 0.0;          ///< kSparse: initial logits.

  // momentum, adam
  RateLayout rate_layout = RateLayout::kScalar;
  double beta1 = 0.9;          ///< momentum: its beta.
  double beta2 = 0.999;        ///< adam
  double eps = 1e-8;           ///< adam; a power of ten.
  bool learn_beta = false;     ///< Betas are learned.
  bool learn_moments = false;  ///< Initial moments are learned.
  double rms = 1.0;            ///< adam: initial sqrt(v_0) with learn_moments.

  // meta_sgd
  bool rate_adaptation = false;  ///< Rates change from step to step.
  double rate_beta = 1e-6;       ///< Its beta; with learn_beta learned.

  // rate_net, lstm
  int hidden = 8;      ///< Hidden units.
  bool decay = false;  ///< rate_net: sets decays too.
};

enum class OuterOptimizer { kAdam, kSgd };
enum class Schedule { kConstant, kCosine };

/// [outer]
struct OuterRecipe {
  OuterMethod method = OuterMethod::kGradient;
  /// Query losses after every step at first, annealed towards the last one's
  /// over so many iterations (scheduled_objective()); 0: the last one's only.
  std::int64_t multi_step_iterations = 0;
  /// Iterations of first order before those of second order.
  std::int64_t order_annealing = 0;

  OuterOptimizer optimizer = OuterOptimizer::kAdam;
  double rate = 1e-3;
  double rule_rate = 1e-3;  ///< Of what the rule learns; default: rate.
  double mask_rate = 1e-3;  ///< Of a learned mask's logits; default: rate.
  Schedule schedule = Schedule::kConstant;
  double min_rate = 0.0;  ///< cosine: the rate at the last iteration.
  int tasks = 0;          ///< Tasks in an iteration.
  std::int64_t iterations = 0;
  double clip_norm = 0.0;     ///< Of the whole meta-gradient; 0: none.
  double weight_decay = 0.0;  ///< Decoupled, of theta; 0: none.
  double dropout = 0.0;       ///< p of dropout.h; 0: none.
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  ///< adam
};

/// [capsule]
struct CapsuleRecipe {
  Storage init = Storage::kF32;
  Storage rates = Storage::kF32;
  int support_max = 0;  ///< 0: the support examples of the task source.
  int predict_max = 0;  ///< 0: the query examples of the task source.
  int steps = 0;        ///< Recommended steps; resolved, >= 1.
  bool golden = true;
};

/// Which parameters of a run are packed.
enum class Keep { kBest, kLast };

/// [run]
struct RunRecipe {
  std::int64_t validate_every = 1000;  ///< Iterations; 0: never.
  int validate_tasks = 200;
  int threads = 0;                       ///< 0: all cores.
  std::int64_t checkpoint_every = 1000;  ///< Iterations; 0: at the end only.
  std::string init_from;  ///< NPZ with theta (and rate); empty: none.
  Keep keep = Keep::kBest;
};

/// A valid recipe.
struct Recipe {
  std::string name;  ///< Letters, digits and ". _ -": names files.
  std::uint64_t seed = 1;
  TaskRecipe task;
  NetworkRecipe network;
  InnerRecipe inner;
  OuterRecipe outer;
  CapsuleRecipe capsule;
  RunRecipe run;

  std::filesystem::path file;  ///< Where it was read from.

  /// Where `key` ("task.ways") was set: "file.toml:7", "--set task.ways=7",
  /// "preset reptile: inner.order=1", or the file's name when it was left at
  /// its default. For messages.
  std::string where(const std::string& key) const;
  std::map<std::string, std::string> origins;  ///< What where() looks up.
};

/// Reads and validates a recipe.
///
/// @param overrides  "key.path=value" each, applied in order after reading.
///     The value is TOML; what is not TOML is a string. Elements of arrays are
///     named by index: "network.layers.3.units=20".
///
/// Errors: kUsage for anything wrong with the recipe or an override, also when
/// the file cannot be read. Data files are not looked for here.
Recipe load_recipe(const std::filesystem::path& file,
                   const std::vector<std::string>& overrides = {});

/// load_recipe() on text; `file` is used in messages and to find data files.
Recipe parse_recipe(const std::string& text,
                    const std::filesystem::path& file,
                    const std::vector<std::string>& overrides = {});

/// The recipe as TOML with every default written out and paths absolute where
/// they were found. Deterministic; load_recipe() of it gives the same recipe.
std::string to_toml(const Recipe& recipe);

/// resolve_data_path() of `path`, a value of `key` in the recipe.
///
/// Errors: kBadData naming the key and the places that were tried.
std::filesystem::path require_path(const Recipe& recipe,
                                   const std::string& key,
                                   const std::string& path);

const char* to_string(TaskKind kind);
const char* to_string(SinusoidFamily family);
const char* to_string(OuterMethod method);
const char* to_string(OuterOptimizer optimizer);
const char* to_string(Schedule schedule);
const char* to_string(Keep keep);
const char* to_string(RateLayout layout);
const char* to_string(Adapt adapt);
/// "f32", "f16" or "log8".
const char* storage_name(Storage storage);

/// The one of `candidates` (not empty) with the least edit distance to `word`;
/// the first of equals.
std::string nearest(const std::string& word,
                    const std::vector<std::string>& candidates);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_RECIPE_H_
