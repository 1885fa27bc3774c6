// Sums over lanes: as one lane after another, of those in use.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "lane_sums.h"

#include <gtest/gtest.h>

#include <vector>

#include "support/test_network.h"

namespace fewstep::host {
namespace {

TEST(LaneSums, EqualOneLaneAfterAnother) {
  const uint32_t all = static_cast<uint32_t>((uint64_t{1} << kLanes) - 1);
  testing::Uniform uniform(1);
  for (const uint32_t n : {0U, 1U, 7U, 8U, 9U, 16U, 43U}) {
    for (const uint32_t used : {all, 0U, 1U, all ^ 1U, all & 0x5a5aU}) {
      for (const bool first : {true, false}) {
        SCOPED_TRACE(n);
        const std::vector<float> values = uniform.vector(n * kLanes);
        std::vector<float> sums = uniform.vector(n + 1);
        std::vector<float> expected = sums;
        for (uint32_t i = 0; i < n; ++i) {
          if (first) expected[i] = 0.0F;
          for (uint32_t l = 0; l < kLanes; ++l) {
            if ((used >> l & 1U) == 0) continue;
            expected[i] = expected[i] + values[i * kLanes + l];
          }
        }
        add_lanes(values.data(), n, used, first, sums.data());
        for (uint32_t i = 0; i <= n; ++i) {
          ASSERT_EQ(to_bits(sums[i]), to_bits(expected[i])) << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace fewstep::host
