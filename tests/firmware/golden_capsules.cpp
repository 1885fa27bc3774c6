// Writes capsules with golden episodes that together use every layer, loss,
// rule and storage: what the firmware tests replay on the emulated core. Beside
// each X.capsule lie the same episode as X.npz, for `fewstep adapt`, and as
// X/episode.h, for the example firmware.
//
//   golden_capsules FOLDER [--spoil | --random N | --calibration]
//
// --spoil records hashes that are one bit wrong, so that a replay must fail.
// --random writes N small networks instead, random_0.capsule and on: dense and
// convolutional, of every size, stride and padding that tiles treat apart. The
// same ones every time.
// --calibration writes those that tools/calibrate_core.sh measures instead.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "calibration_cases.h"
#include "episode_header.h"
#include "fewstep/adapted.h"
#include "fewstep/device/every_op.h"
#include "fewstep/device/session.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/error.h"
#include "fewstep/host/file.h"
#include "fewstep/host/npz.h"
#include "fewstep/sparse_mask.h"
#include "golden_cases.h"

namespace {

using namespace fewstep;

/// Repeatable values in [-1, 1), multiples of 2^-15.
class Values {
 public:
  float next() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    const auto top = static_cast<int32_t>(state_ >> 48) - 32768;
    return static_cast<float>(top) / 32768.0F;
  }
  std::vector<float> vector(size_t n, float scale) {
    std::vector<float> v(n);
    for (float& x : v) x = scale * next();
    return v;
  }

 private:
  uint64_t state_ = 1;
};

/// A network of up to three layers, an activation behind each, and a dense one.
Case random_case(int index, std::mt19937& random) {
  // Not a distribution: those differ between standard libraries.
  const auto pick = [&](uint32_t lo, uint32_t hi) {
    return lo + static_cast<uint32_t>(random()) % (hi - lo + 1);
  };
  Case c = {};
  c.name = "random_" + std::to_string(index);
  const bool flat = index % 4 == 0;
  uint32_t h = flat ? 1 : pick(3, 14);
  uint32_t w = flat ? 1 : pick(3, 14);
  c.c = static_cast<uint16_t>(flat ? pick(1, 70) : pick(1, 9));
  c.h = static_cast<uint16_t>(h);
  c.w = static_cast<uint16_t>(w);
  const uint32_t n_layers = pick(1, 3);
  for (uint32_t i = 0; i < n_layers; ++i) {
    if (flat) {
      c.layers.push_back(dense(static_cast<uint16_t>(pick(1, 21))));
    } else {
      const uint32_t kernel = pick(0, 1) == 0 ? 3 : pick(1, 5);
      const uint32_t stride = pick(0, 2) == 0 ? pick(1, 4) : pick(1, 2);
      const uint32_t pad = pick(0, kernel - 1);
      if (h + 2 * pad < kernel || w + 2 * pad < kernel) break;
      h = (h + 2 * pad - kernel) / stride + 1;
      w = (w + 2 * pad - kernel) / stride + 1;
      const uint32_t filters = pick(0, 1) == 0 ? pick(1, 9) : 4 * pick(1, 3);
      c.layers.push_back(conv2d(static_cast<uint16_t>(filters),
                                static_cast<uint8_t>(kernel),
                                static_cast<uint8_t>(stride),
                                static_cast<uint8_t>(pad)));
    }
    const uint32_t activation = pick(0, 2);
    if (activation == 1) c.layers.push_back(plain(LayerOp::kRelu));
    if (activation == 2) c.layers.push_back(plain(LayerOp::kTanh));
  }
  c.layers.push_back(dense(static_cast<uint16_t>(pick(2, 9))));
  c.loss = pick(0, 1) == 0 ? LossOp::kMeanSquaredError
                           : LossOp::kSoftmaxCrossEntropy;
  c.rule = static_cast<RuleOp>(pick(1, 5));
  if (n_means(c.rule) != 0) {
    const RateLayout layout = static_cast<RateLayout>(pick(0, 2));
    const bool learned = pick(0, 1) != 0;
    const uint32_t digit = c.rule == RuleOp::kAdam ? pick(0, 15) : 0;
    c.options = mean_options(layout, learned, static_cast<uint8_t>(digit));
  }
  c.steps = static_cast<uint16_t>(pick(1, 2));
  c.init = pick(0, 3) == 0 ? Storage::kF16 : Storage::kF32;
  c.rates = pick(0, 2) == 0 ? Storage::kLog8 : Storage::kF32;
  c.n_support = pick(1, 9);
  if (index % 4 == 3 || index % 8 == 4) c.mask = 0x9e3779b9U;
  return c;
}

void require(Status status, const std::string& what) {
  if (status == Status::kOk) return;
  throw host::Error(host::Exit::kInternal, what + ": " + to_string(status));
}

/// Tiles differ in speed only: the recording takes whatever fits.
void record(const host::CapsuleBytes& bytes, host::GoldenEpisode* golden) {
  Capsule capsule;
  require(read_capsule(bytes.data(), bytes.size(), &capsule), "read_capsule");
  SessionOptions options;
  size_t n_bytes = 0;
  require(required_bytes(capsule, options, &n_bytes), "required_bytes");
  host::CapsuleBytes arena(n_bytes);
  Session session;
  require(session.open({bytes.data(), bytes.size()},
                       EveryOp::list,
                       {arena.data(), arena.size()},
                       options),
          "open");
  const Network& network = capsule.network;
  SupportSet support = {};
  support.x = golden->support_x.data();
  support.n = static_cast<uint32_t>(golden->support_x.size() / network.n_in);
  if (network.loss == LossOp::kSoftmaxCrossEntropy) {
    support.labels = golden->support_labels.data();
  } else {
    support.targets = golden->support_targets.data();
  }
  golden->losses.clear();
  for (uint32_t k = 1; k <= golden->steps; ++k) {
    AdaptReport report;
    require(session.adapt(support, &report, k), "adapt");
    golden->losses.push_back(report.loss_last);
  }
  const auto n_query =
      static_cast<uint32_t>(golden->query_x.size() / network.n_in);
  golden->outputs.resize(size_t{n_query} * network.n_out);
  require(
      session.predict(golden->query_x.data(), n_query, golden->outputs.data()),
      "predict");
  golden->parameter_hash = session.hash();
}

void save_text(const std::filesystem::path& path, const std::string& text) {
  host::save_file_atomically(path,
                             std::vector<uint8_t>(text.begin(), text.end()));
}

/// The golden episode, with answers to its queries, as X.npz and X/episode.h.
void write_episode(const Case& c,
                   const Network& network,
                   const host::GoldenEpisode& golden,
                   Values* values,
                   const std::filesystem::path& folder) {
  host::Episode episode;
  host::EpisodeShape shape = {};
  shape.classification = c.loss == LossOp::kSoftmaxCrossEntropy;
  shape.n_support = c.n_support;
  shape.n_query = static_cast<uint32_t>(golden.query_x.size() / network.n_in);
  shape.n_in = network.n_in;
  shape.n_out = network.n_out;
  shape.ways = shape.classification ? network.n_out : 0;
  episode.resize(shape);
  episode.support_x = golden.support_x;
  episode.query_x = golden.query_x;

  const uint64_t n_s = shape.n_support, n_q = shape.n_query;
  host::Npz npz;
  npz.set<float>("support_x", {1, n_s, c.c, c.h, c.w}, episode.support_x);
  npz.set<float>("query_x", {1, n_q, c.c, c.h, c.w}, episode.query_x);
  if (shape.classification) {
    episode.support_labels = golden.support_labels;
    for (uint32_t q = 0; q < shape.n_query; ++q) {
      episode.query_labels[q] = static_cast<uint16_t>(q % shape.n_out);
    }
    npz.set<uint16_t>("support_y", {1, n_s}, episode.support_labels);
    npz.set<uint16_t>("query_y", {1, n_q}, episode.query_labels);
  } else {
    episode.support_targets = golden.support_targets;
    episode.query_targets = values->vector(n_q * shape.n_out, 1.5F);
    npz.set<float>("support_y", {1, n_s, shape.n_out}, episode.support_targets);
    npz.set<float>("query_y", {1, n_q, shape.n_out}, episode.query_targets);
  }
  npz.save(folder / (c.name + ".npz"));
  std::filesystem::create_directories(folder / c.name);
  save_text(folder / c.name / "episode.h",
            cli::episode_header("episode", c.name, episode, shape));
}

void write_case(Case c, const std::filesystem::path& folder, bool spoil) {
  host::CapsuleContents contents;
  NetworkPlanner planner(c.c, c.h, c.w, &contents.network);
  for (Layer& layer : c.layers) {
    if (planner.add(&layer) != Status::kOk) {
      throw host::Error(host::Exit::kInternal, c.name + ": " + planner.error());
    }
  }
  require(planner.finish(c.layers.data(), c.loss), planner.error());
  std::vector<uint32_t> adapted(c.layers.size(),
                                c.adapt.empty() ? 0U : kFrozen);
  for (const size_t i : c.adapt) adapted[i] = 0;
  require(plan_adapted(adapted.data(), &contents.network), "plan_adapted");
  std::vector<MaskWord> words(n_mask_words(contents.network.n_params));
  std::vector<uint32_t> table(c.layers.size() + 2 * words.size());
  if (c.mask != 0) {
    for (uint32_t i = 0; i < contents.network.n_params; ++i) {
      if (i * c.mask > 0x80000000U) words[i / 32].bits |= 1U << i % 32;
    }
    require(plan_mask(words.data(), table.data(), &contents.network),
            "plan_mask");
    const bool random = c.name.rfind("random_", 0) == 0;
    if (contents.network.masked == 0 && !random) {
      throw host::Error(host::Exit::kInternal, c.name + ": has no mask");
    }
  }
  const Network& network = contents.network;

  Values values;
  contents.theta.resize(network.n_params);
  for (const Layer& layer : c.layers) {
    const bool norm =
        layer.op == LayerOp::kGroupNorm || layer.op == LayerOp::kBatchNorm;
    const uint32_t fan_in =
        norm || layer.n_biases == 0 ? 1 : layer.n_weights / layer.n_biases;
    const float scale = std::sqrt(3.0F / static_cast<float>(fan_in));
    float* theta = contents.theta.data() + layer.param_offset;
    for (uint32_t i = 0; i < layer.n_weights; ++i) {
      theta[i] = norm ? 1.0F + 0.25F * values.next() : scale * values.next();
    }
    for (uint32_t i = 0; i < layer.n_biases; ++i) {
      theta[layer.n_weights + i] = 0.25F * values.next();
    }
  }
  contents.init_storage = c.init;
  contents.rule = make_rule(c.rule, c.steps, network, c.options);
  contents.rule.weight_decay = c.weight_decay;
  contents.rule.clip_norm = c.clip_norm;
  contents.rate_storage = c.rates;
  // Learned rates are of either sign, most of them positive.
  for (uint32_t i = 0; i < contents.rule.n_phi; ++i) {
    contents.phi.push_back(0.0625F * (0.5F + values.next()));
  }
  for (uint32_t j = 0; j < n_means(c.rule); ++j) {
    contents.phi[n_rates(contents.rule, network) + j] =
        0.5F + 0.4375F * values.next();
  }
  constexpr uint32_t kQueries = 3;
  contents.limits = {c.n_support, kQueries, c.steps};

  host::GoldenEpisode golden;
  golden.steps = c.steps;
  golden.support_x = values.vector(size_t{c.n_support} * network.n_in, 2.0F);
  golden.query_x = values.vector(size_t{kQueries} * network.n_in, 2.0F);
  if (c.loss == LossOp::kSoftmaxCrossEntropy) {
    for (uint32_t i = 0; i < c.n_support; ++i) {
      golden.support_labels.push_back(static_cast<uint16_t>(i % network.n_out));
    }
  } else {
    golden.support_targets =
        values.vector(size_t{c.n_support} * network.n_out, 1.5F);
  }
  record(host::encode_capsule(contents), &golden);
  if (spoil) golden.parameter_hash ^= 1;
  contents.golden = golden;
  const host::CapsuleBytes bytes = host::encode_capsule(contents);
  host::save_file_atomically(folder / (c.name + ".capsule"),
                             std::vector<uint8_t>(bytes.begin(), bytes.end()));
  write_episode(c, network, golden, &values, folder);
  std::printf("%s %016llx\n",
              c.name.c_str(),
              static_cast<unsigned long long>(golden.parameter_hash));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string option = argc >= 3 ? argv[2] : "";
  const bool spoil = argc == 3 && option == "--spoil";
  const bool random = argc == 4 && option == "--random";
  const bool calibration = argc == 3 && option == "--calibration";
  if (argc != 2 && !spoil && !random && !calibration) {
    std::fprintf(stderr,
                 "usage: golden_capsules FOLDER "
                 "[--spoil | --random N | --calibration]\n");
    return 2;
  }
  try {
    std::filesystem::create_directories(argv[1]);
    if (random) {
      std::mt19937 generator(1);
      const int n = std::stoi(argv[3]);
      for (int i = 0; i < n; ++i) {
        write_case(random_case(i, generator), argv[1], false);
      }
    } else {
      for (const Case& c : calibration ? calibration_cases() : cases()) {
        write_case(c, argv[1], spoil);
      }
    }
  } catch (const host::Error& error) {
    std::fprintf(stderr, "golden_capsules: %s\n", error.what());
    return 1;
  }
  return 0;
}
