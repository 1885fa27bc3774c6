// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/sinusoid.h"

#include <fmt/format.h>

#include "fewstep/host/error.h"

namespace fewstep::host {

Sinusoid::Sinusoid(const SinusoidOptions& options) : family_(options.family) {
  if (options.shots == 0 || options.queries == 0)
    throw Error(Exit::kUsage,
                fmt::format("task.{} is 0; the sinusoid needs at least 1",
                            options.shots == 0 ? "shots" : "queries"));
  shape_ = {.ways = 0,
            .n_support = options.shots,
            .n_query = options.queries,
            .n_in = 1,
            .n_out = 1,
            .classification = false};
}

void Sinusoid::sample(Split split,
                      uint64_t seed,
                      uint64_t iteration,
                      uint32_t task,
                      Episode* out) const {
  out->resize(shape_);
  out->drawn.clear();
  draw_sinusoid(
      family_,
      RandomStream(seed, iteration, task, episode_purpose(split)),
      {out->support_x.data(), out->support_targets.data(), shape_.n_support},
      {out->query_x.data(), out->query_targets.data(), shape_.n_query});
}

DrawingProgram Sinusoid::drawing() const {
  DrawingProgram program;
  program.kind = DrawingProgram::Kind::kSinusoid;
  program.family = family_;
  return program;
}

}  // namespace fewstep::host
