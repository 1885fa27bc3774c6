// An executor that runs the items of every parallel region in random order.
//
// A kernel that keeps the contract of executor/serial.h gives the same bits.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_SHUFFLED_EXECUTOR_H_
#define FEWSTEP_TESTS_SUPPORT_SHUFFLED_EXECUTOR_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

namespace fewstep::testing {

class ShuffledExecutor {
 public:
  explicit ShuffledExecutor(uint32_t seed)
      : random_(std::make_unique<std::mt19937>(seed)) {}

  template <class Body>
  void for_each(uint32_t n, const Body& body) const {
    for (const uint32_t i : order(n)) body(i);
  }
  template <class Body>
  void for_each(uint32_t n_i, uint32_t n_j, const Body& body) const {
    for (const uint32_t k : order(n_i * n_j)) body(k / n_j, k % n_j);
  }
  void barrier() const {}

 private:
  std::vector<uint32_t> order(uint32_t n) const {
    std::vector<uint32_t> items(n);
    std::iota(items.begin(), items.end(), 0U);
    std::shuffle(items.begin(), items.end(), *random_);
    return items;
  }

  std::unique_ptr<std::mt19937> random_;
};

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_SHUFFLED_EXECUTOR_H_
