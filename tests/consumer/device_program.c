/* The same in C.
 *
 * SPDX-FileCopyrightText: The fewstep authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include "fewstep/fewstep.h"
#include "model.h"

static fewstep_session session;
MODEL_ALIGN16 static unsigned char arena[MODEL_ARENA_BYTES];

int main(void) {
  const float x[] = {-1.0F, -0.5F, 0.5F, 1.0F};
  const float y[] = {-2.0F, -1.0F, 1.0F, 2.0F};
  const float at = 0.25F;
  fewstep_support support = {0};
  fewstep_report report;
  float out = 0.0F;

  support.x = x;
  support.targets = y;
  support.n = 4;
  if (fewstep_open(&session,
                   model_capsule,
                   MODEL_BYTES,
                   model_ops,
                   arena,
                   sizeof arena,
                   NULL) != FEWSTEP_OK) {
    return 1;
  }
  if (fewstep_adapt(&session, &support, 0, &report) != FEWSTEP_OK) return 2;
  if (fewstep_predict(&session, &at, 1, &out) != FEWSTEP_OK) return 3;
  return fewstep_hash(&session) != 0 ? 0 : 4;
}
