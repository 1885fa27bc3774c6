// dense_only.cpp through the C API.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/fewstep.h"

namespace {

alignas(16) unsigned char arena[4096];
fewstep_session session;
const fewstep_op* const operations[] = {&fewstep_op_dense,
                                        &fewstep_op_relu,
                                        &fewstep_op_mean_squared_error,
                                        &fewstep_op_sgd,
                                        nullptr};

}  // namespace

extern const unsigned char capsule[] __asm__("vectors");

int main() {
  if (fewstep_open(
          &session, capsule, 64, operations, arena, sizeof arena, nullptr) !=
      FEWSTEP_OK) {
    return 1;
  }
  const float x[1] = {0.5F};
  const float y[1] = {1.0F};
  const fewstep_support support = {x, nullptr, y, 1};
  float output[1];
  if (fewstep_adapt(&session, &support, 0, nullptr) != FEWSTEP_OK) return 2;
  if (fewstep_predict(&session, x, 1, output) != FEWSTEP_OK) return 3;
  return output[0] > 0.0F ? 0 : 4;
}
