// The GPU engine on devices that compute on the host, and comparisons with the
// CPU engine.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_GPU_ENGINE_ON_HOST_H_
#define FEWSTEP_TESTS_SUPPORT_GPU_ENGINE_ON_HOST_H_

#include <gtest/gtest.h>

#include <memory>

#include "fewstep/host/outer_loop.h"
#include "fewstep/host/recipe.h"
#include "gpu_engine.h"
#include "support/engine_problem.h"
#include "support/host_device.h"

namespace fewstep::testing {

/// A GPU with this much memory beyond the reserve.
inline host::DeviceLimits gpu_with(uint64_t bytes) {
  constexpr uint64_t kReserve = 256 << 20;
  return {"small", 90, 4, 16384, 17408, kReserve + bytes, kReserve + bytes};
}
constexpr uint64_t kPlenty = uint64_t{1} << 30;

/// The GPU engine of `config` on `n_gpus` devices, by default with plenty of
/// memory.
template <class E>
std::unique_ptr<host::Engine> engine_on(HostDeviceLog* log,
                                        const E& executor,
                                        host::EngineConfig config,
                                        uint32_t n_tasks,
                                        uint32_t n_gpus) {
  if (log->limits.name.empty()) log->limits = gpu_with(kPlenty);
  config.n_tasks = n_tasks;
  config.n_gpus = n_gpus;
  return host::make_gpu_engine(config, [log, &executor](uint32_t) {
    return host_device(log, executor);
  });
}

inline void expect_same_state(const host::OuterState& a,
                              const host::OuterState& b) {
  EXPECT_TRUE(same_bits(a.theta, b.theta)) << "theta";
  EXPECT_TRUE(same_bits(a.phi, b.phi)) << "phi";
  EXPECT_TRUE(same_bits(a.m, b.m)) << "m";
  EXPECT_TRUE(same_bits(a.v, b.v)) << "v";
  EXPECT_EQ(a.beta1_power, b.beta1_power);
  EXPECT_EQ(a.beta2_power, b.beta2_power);
  EXPECT_EQ(a.iteration, b.iteration);
}
inline void expect_same_scores(const host::TaskScores& a,
                               const host::TaskScores& b) {
  EXPECT_TRUE(same_bits(a.loss, b.loss)) << "loss";
  EXPECT_TRUE(same_bits(a.accuracy, b.accuracy)) << "accuracy";
}

inline host::OuterState first_state(const Problem& s) {
  host::OuterState state;
  state.theta = s.theta;
  state.phi = s.phi;
  return state;
}

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_GPU_ENGINE_ON_HOST_H_
