// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/device/session.h"
#include "fewstep/numerics/real.h"

namespace fewstep {
namespace {

// The golden episode's session: exactly its size, the smallest tile. Queries
// are predicted together where that matters (batch_norm), else one by one.
SessionOptions golden_options(const Capsule& capsule) {
  const Golden golden = golden_episode(capsule);
  SessionOptions options;
  options.max_support = golden.n_support;
  options.max_predict = capsule.network.transductive != 0 ? golden.n_query : 1;
  options.max_steps = golden.steps;
  options.tile = capsule.network.transductive != 0 ? 0 : 1;
  return options;
}

// Bytes of the outputs of one predict(), rounded so that the session's arena
// behind them stays aligned.
uint64_t output_bytes(const Capsule& capsule) {
  const uint64_t n =
      uint64_t{golden_options(capsule).max_predict} * capsule.network.n_out;
  const uint64_t mask = kCapsuleAlignment - 1;
  return (n * sizeof(float) + mask) & ~mask;
}

bool same_bits(const float* values, const uint32_t* expected, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    if (to_bits(values[i]) != expected[i]) return false;
  }
  return true;
}

}  // namespace

Status selftest_bytes(const Capsule& capsule, size_t* n_bytes) {
  if (n_bytes == nullptr) return Status::kBadArgument;
  if (capsule.golden_record == nullptr) return Status::kMissingSection;
  size_t session_bytes = 0;
  const Status status =
      required_bytes(capsule, golden_options(capsule), &session_bytes);
  if (status != Status::kOk) return status;
  const uint64_t total = output_bytes(capsule) + session_bytes;
  if (total > SIZE_MAX) return Status::kBadArgument;
  *n_bytes = static_cast<size_t>(total);
  return Status::kOk;
}

Status selftest(Bytes bytes, const Op* const* ops, Arena arena) {
  if (arena.data == nullptr) return Status::kBadArgument;
  Capsule capsule;
  Status status = read_capsule(bytes.data, bytes.size, &capsule);
  if (status != Status::kOk) return status;
  size_t needed = 0;
  status = selftest_bytes(capsule, &needed);
  if (status != Status::kOk) return status;
  if (arena.size < needed) return Status::kArenaTooSmall;

  const SessionOptions options = golden_options(capsule);
  const Golden golden = golden_episode(capsule);
  const size_t n_output_bytes = static_cast<size_t>(output_bytes(capsule));
  float* const out = static_cast<float*>(arena.data);
  Session session;
  status = session.open(bytes,
                        ops,
                        {static_cast<uint8_t*>(arena.data) + n_output_bytes,
                         arena.size - n_output_bytes},
                        options);
  if (status != Status::kOk) return status;

  const SupportSet support = {golden.support_x,
                              golden.support_labels,
                              golden.support_targets,
                              golden.n_support};
  status = session.begin(support, golden.steps);
  if (status != Status::kOk) return status;
  for (uint32_t k = 0; k < golden.steps; ++k) {
    status = session.step();
    if (status != Status::kOk) return status;
    const float loss = session.last_loss();
    if (!same_bits(&loss, golden.losses + k, 1)) {
      return Status::kSelfTestFailed;
    }
  }
  status = session.end();
  if (status != Status::kOk) return status;
  if (session.hash() != golden.parameter_hash) return Status::kSelfTestFailed;

  const uint32_t n = options.max_predict;
  const size_t n_in = capsule.network.n_in;
  const size_t n_out = capsule.network.n_out;
  for (uint32_t q = 0; q < golden.n_query; q += n) {
    status = session.predict(golden.query_x + q * n_in, n, out);
    if (status != Status::kOk) return status;
    if (!same_bits(out, golden.outputs + q * n_out, n * n_out)) {
      return Status::kSelfTestFailed;
    }
  }
  return Status::kOk;
}

}  // namespace fewstep
