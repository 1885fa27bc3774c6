// The smallest useful program: a dense network under mean squared error. Its
// size is what a user pays who names no other operation; it runs nothing.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/device/session.h"

namespace {

// The capsule and the buffers of a real program, by address only.
alignas(16) unsigned char arena[4096];
fewstep::Session session;

}  // namespace

extern const unsigned char capsule[] __asm__("vectors");

int main() {
  using Operations =
      fewstep::Ops<fewstep::Dense, fewstep::Relu, fewstep::Mse, fewstep::Sgd>;
  if (session.open({capsule, 64}, Operations::list, {arena, sizeof arena}) !=
      fewstep::Status::kOk) {
    return 1;
  }
  const float x[1] = {0.5F};
  const float y[1] = {1.0F};
  float output[1];
  if (session.adapt({x, nullptr, y, 1}) != fewstep::Status::kOk) return 2;
  if (session.predict(x, 1, output) != fewstep::Status::kOk) return 3;
  return output[0] > 0.0F ? 0 : 4;
}
