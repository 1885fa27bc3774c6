// The same hash as hash_episode, from the kernels of CPU meta-training: each
// golden episode runs in one lane while the others hold another task.
//
//   hash_lanes CAPSULE...
//
// Prints "<i> <hash>" for each capsule and "all <hash>"; exits with 1 when a
// lane differs from the first.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <cinttypes>
#include <cstdio>
#include <vector>

#include "episode_hash.h"
#include "fewstep/executor/serial.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/error.h"
#include "fewstep/host/mask_packing.h"
#include "fewstep/host/meta_gradient.h"
#include "lane_batch.h"
#include "lane_ops.h"

namespace fewstep::host {
namespace {

using same_bits::EpisodeHash;

/// The golden support set in lane `l`, and in the others the same examples with
/// inputs halved, so that no lane's work is another's.
struct Support {
  Support(const Capsule& capsule, int golden_lane)
      : n(golden_episode(capsule).n_support) {
    const Golden golden = golden_episode(capsule);
    const uint32_t n_in = capsule.network.n_in;
    const uint32_t n_out = capsule.network.n_out;
    EpisodeShape shape = {};
    shape.classification = golden.support_labels != nullptr;
    shape.n_in = n_in;
    shape.n_out = n_out;
    set.resize(shape, n);
    const std::vector<float> x(golden.support_x, golden.support_x + n * n_in);
    std::vector<float> other = x;
    for (float& value : other) value *= 0.5F;
    std::vector<uint16_t> labels;
    std::vector<float> targets;
    if (shape.classification) {
      labels.assign(golden.support_labels, golden.support_labels + n);
    } else {
      targets.assign(golden.support_targets,
                     golden.support_targets + n * n_out);
    }
    for (int l = 0; l < kLanes; ++l) {
      set.set(l, l == golden_lane ? x : other, labels, targets);
    }
  }
  LaneSet set;
  uint32_t n;
};

/// What the trainer runs: of a masked capsule all parameters and the mask's
/// logits, where a device has only what adapts.
Unmasked trained(const Capsule& capsule) {
  if (capsule.network.masked != 0) return unmask(capsule);
  return {capsule.network, capsule.rule, decode_rates(capsule)};
}

EpisodeHash hash_lane(const Capsule& capsule, int l) {
  const Unmasked as_trained = trained(capsule);
  const Network& network = as_trained.network;
  const std::vector<float>& phi = as_trained.phi;
  const Golden golden = golden_episode(capsule);
  const std::vector<float> theta = decode_init(capsule);
  const Support support(capsule, l);
  Objective objective;
  objective.steps = golden.steps;
  MetaGradient<Lanes> loop(
      network, as_trained.rule, objective, golden.n_support, golden.n_query);
  loop.adapt(SerialExecutor(),
             LaneOps(),
             SharedView<Lanes>{theta.data()},
             SharedView<Lanes>{phi.data()},
             support.set.batch(support.n));
  EpisodeHash hash;
  for (uint32_t k = 0; k < golden.steps; ++k) {
    hash.add(lane(loop.support_loss(k), l));
  }
  for (uint32_t i = 0; i < network.n_params; ++i) {
    hash.add(lane(loop.adapted()(i), l));
  }
  std::vector<Lanes> query(size_t{golden.n_query} * network.n_in);
  for (size_t i = 0; i < query.size(); ++i) {
    query[i] = broadcast(golden.query_x[i]);
  }
  forward(SerialExecutor(),
          LaneOps(),
          network,
          loop.adapted(),
          loop.workspace(),
          query.data(),
          golden.n_query);
  const Lanes* const out = outputs(network, loop.workspace());
  for (uint32_t i = 0; i < golden.n_query * network.n_out; ++i) {
    hash.add(lane(out[i], l));
  }
  return hash;
}

int run(int n_capsules, char** paths) {
  EpisodeHash all;
  for (int i = 0; i < n_capsules; ++i) {
    const CapsuleFile file = load_capsule(paths[i]);
    const EpisodeHash hash = hash_lane(file.capsule, 0);
    for (int l = 1; l < kLanes; ++l) {
      if (hash_lane(file.capsule, l).value() != hash.value()) {
        std::fprintf(stderr, "%s: lane %d gives other bits\n", paths[i], l);
        return 1;
      }
    }
    std::printf("%d %016" PRIx64 "\n", i, hash.value());
    all.add(hash);
  }
  std::printf("all %016" PRIx64 "\n", all.value());
  return 0;
}

}  // namespace
}  // namespace fewstep::host

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: hash_lanes CAPSULE...\n");
    return 2;
  }
  try {
    return fewstep::host::run(argc - 1, argv + 1);
  } catch (const fewstep::host::Error& error) {
    std::fprintf(stderr, "hash_lanes: %s\n", error.what());
    return 1;
  }
}
