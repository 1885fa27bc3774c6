// The program of a convolutional classifier with group norm, by size only: it
// runs nothing (dense_only.cpp).
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/device/session.h"

namespace {

alignas(16) unsigned char arena[4096];
fewstep::Session session;

}  // namespace

extern const unsigned char capsule[] __asm__("vectors");

int main() {
  using Operations = fewstep::Ops<fewstep::Conv2d,
                                  fewstep::GroupNorm,
                                  fewstep::Relu,
                                  fewstep::Dense,
                                  fewstep::SoftmaxCrossEntropy,
                                  fewstep::Sgd>;
  if (session.open({capsule, 64}, Operations::list, {arena, sizeof arena}) !=
      fewstep::Status::kOk) {
    return 1;
  }
  const float x[1] = {0.5F};
  const uint16_t label[1] = {0};
  float output[2];
  if (session.adapt({x, label, nullptr, 1}) != fewstep::Status::kOk) return 2;
  if (session.predict(x, 1, output) != fewstep::Status::kOk) return 3;
  return output[0] > output[1] ? 0 : 4;
}
