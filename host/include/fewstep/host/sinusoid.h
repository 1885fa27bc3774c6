// Task source `sinusoid`: regression of sine curves, the two published
// families.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_SINUSOID_H_
#define FEWSTEP_HOST_SINUSOID_H_

#include "fewstep/host/task_source.h"

namespace fewstep::host {

struct SinusoidOptions {
  SinusoidFamily family = SinusoidFamily::kMaml;
  uint32_t shots = 5;     ///< Support points, >= 1.
  uint32_t queries = 10;  ///< Query points, >= 1.
};

/// Curves with uniform parameters and uniform x in [-5, 5], drawn in the order
/// amplitude, phase, omega (kMetaSgd only), support x, query x. The three
/// splits are the same distribution, from streams that share no number.
class Sinusoid final : public TaskSource {
 public:
  /// @throws Error kUsage when shots or queries is 0.
  explicit Sinusoid(const SinusoidOptions& options);

  const EpisodeShape& shape() const override { return shape_; }
  InputShape input_shape() const override { return {1, 1, 1}; }
  void sample(Split split,
              uint64_t seed,
              uint64_t iteration,
              uint32_t task,
              Episode* out) const override;
  DrawingProgram drawing() const override;

 private:
  SinusoidFamily family_;
  EpisodeShape shape_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_SINUSOID_H_
