// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/sinusoid.h"

#include <fmt/format.h>

#include <vector>

#include "fewstep/host/error.h"
#include "fewstep/numerics/elementary.h"
#include "fewstep/numerics/real.h"

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
  constexpr float kPi = 0x1.921fb6p+1F;
  Random random(seed, iteration, task, episode_purpose(split));
  const float amplitude = random.uniform(0.1F, 5.0F);
  const float phase = random.uniform(0.0F, kPi);
  const float omega =
      family_ == SinusoidFamily::kMetaSgd ? random.uniform(0.8F, 1.2F) : 1.0F;
  const float offset = family_ == SinusoidFamily::kMetaSgd ? phase : -phase;

  out->resize(shape_);
  out->drawn.clear();
  const auto fill = [&](std::vector<float>* xs, std::vector<float>* ys) {
    for (size_t i = 0; i < xs->size(); ++i) {
      const float x = random.uniform(-5.0F, 5.0F);
      (*xs)[i] = x;
      (*ys)[i] = amplitude * fewstep::sin(fma(omega, x, offset));
    }
  };
  fill(&out->support_x, &out->support_targets);
  fill(&out->query_x, &out->query_targets);
}

}  // namespace fewstep::host
