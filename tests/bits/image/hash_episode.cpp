// Adapts every golden capsule to its episode and prints a hash of each one's
// losses, parameters and outputs, and one of all. Runs on any port; the
// capsules are linked in (capsules.S).
//
//   <i> <hash>
//   ...
//   all <hash>
//
// Every tile size must give the same. Exits with 1 when one does not, or when a
// session refuses.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "episode_hash.h"
#include "fewstep/device/every_op.h"
#include "fewstep/device/session.h"
#include "port_example.h"

extern "C" {
extern const unsigned char golden_begin[];
extern const unsigned char golden_end[];
}

namespace {

using fewstep::Capsule;
using fewstep::Status;
using fewstep::same_bits::EpisodeHash;

alignas(16) unsigned char arena[1 << 20];
float outputs[256];

void require(Status status, const char* what) {
  if (status == Status::kOk) return;
  port_print("error: ");
  port_print(what);
  port_print(": ");
  port_print(to_string(status));
  port_print("\n");
  port_exit(1);
}

void print_hash(const char* name, uint64_t hash) {
  char text[18];
  for (uint32_t i = 0; i < 16; ++i) {
    text[i] = "0123456789abcdef"[hash >> (60 - 4 * i) & 15U];
  }
  text[16] = '\n';
  text[17] = '\0';
  port_print(name);
  port_print(" ");
  port_print(text);
}

EpisodeHash hash_episode(fewstep::Bytes bytes,
                         const Capsule& capsule,
                         uint32_t tile) {
  fewstep::SessionOptions options;
  options.tile = tile;
  const fewstep::Golden golden = fewstep::golden_episode(capsule);
  options.max_predict = golden.n_query;
  fewstep::Session session;
  require(session.open(
              bytes, fewstep::EveryOp::list, {arena, sizeof arena}, options),
          "open");
  fewstep::SupportSet support = {};
  support.x = golden.support_x;
  support.labels = golden.support_labels;
  support.targets = golden.support_targets;
  support.n = golden.n_support;

  EpisodeHash hash;
  require(session.begin(support, golden.steps), "begin");
  for (uint32_t k = 0; k < golden.steps; ++k) {
    require(session.step(), "step");
    hash.add(session.last_loss());
  }
  require(session.end(), "end");
  for (uint32_t i = 0; i < capsule.network.n_params; ++i) {
    hash.add(session.parameter(i));
  }
  const uint32_t n_outputs = golden.n_query * capsule.network.n_out;
  if (n_outputs > sizeof outputs / sizeof outputs[0]) {
    require(Status::kTooManyExamples, "outputs");
  }
  require(session.predict(golden.query_x, golden.n_query, outputs), "predict");
  hash.add(outputs, n_outputs);
  return hash;
}

}  // namespace

int main() {
  EpisodeHash all;
  uint32_t i = 0;
  for (const unsigned char* at = golden_begin; at < golden_end; ++i) {
    char name[3] = {};
    name[0] = static_cast<char>('0' + (i < 10 ? i : i / 10));
    if (i >= 10) name[1] = static_cast<char>('0' + i % 10);
    const fewstep::Bytes bytes = {at, static_cast<size_t>(golden_end - at)};
    Capsule capsule;
    require(read_capsule(bytes.data, bytes.size, &capsule), "read_capsule");
    const EpisodeHash hash = hash_episode(bytes, capsule, 1);
    const uint32_t tiles[] = {2, 4, golden_episode(capsule).n_support};
    for (const uint32_t tile : tiles) {
      if (hash_episode(bytes, capsule, tile).value() != hash.value()) {
        port_print("error: another tile gives other bits: ");
        port_print(name);
        port_print("\n");
        return 1;
      }
    }
    print_hash(name, hash.value());
    all.add(hash);
    at += (capsule.total_bytes + 15U) / 16U * 16U;
  }
  print_hash("all", all.value());
  return 0;
}
