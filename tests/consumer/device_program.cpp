// A user's device program: proves the port by the capsule's golden episode,
// adapts to four points of a line and predicts. Exit status 0: all as it should
// be. No output, so that it runs anywhere.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/device/session.h"
#include "model.h"  // fewstep export sinusoid.capsule -o model.h

namespace {

alignas(16) unsigned char arena[MODEL_ARENA_BYTES_FULL];
alignas(16) unsigned char selftest_arena[32768];
fewstep::Session session;

}  // namespace

int main() {
  using fewstep::Status;
  const fewstep::Bytes capsule = {model_capsule, MODEL_BYTES};
  if (fewstep::selftest(
          capsule, model_ops, {selftest_arena, sizeof selftest_arena}) !=
      Status::kOk) {
    return 1;
  }
  // The list that names operations by type links the same objects.
  using Ops = fewstep::
      Ops<fewstep::Dense, fewstep::Relu, fewstep::Mse, fewstep::MetaSgd>;
  if (session.open(capsule, Ops::list, {arena, sizeof arena}) != Status::kOk) {
    return 2;
  }
  const float x[] = {-1.0F, -0.5F, 0.5F, 1.0F};
  const float y[] = {-2.0F, -1.0F, 1.0F, 2.0F};
  fewstep::AdaptReport report;
  if (session.adapt({x, nullptr, y, 4}, &report) != Status::kOk) return 3;
  if (report.steps != MODEL_STEPS) return 4;
  if (report.high_water_bytes > sizeof arena) return 5;
  float out = 0.0F;
  const float at = 0.25F;
  if (session.predict(&at, 1, &out) != Status::kOk) return 6;
  return out == out ? 0 : 7;
}
