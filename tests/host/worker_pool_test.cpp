// The worker pool: every item once, whoever comes, and in any weather.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace fewstep::host {
namespace {

// Workers that come late find the round over, or the next one begun: items are
// run once all the same, by workers that then have their say.
TEST(WorkerPool, RunsEachItemOnceInManyShortRounds) {
  for (const uint32_t n_workers : {1U, 2U, 5U}) {
    WorkerPool pool(n_workers);
    EXPECT_EQ(pool.size(), n_workers);
    for (uint32_t round = 0; round < 3000; ++round) {
      const uint32_t n_items = round % 7;
      std::atomic<uint32_t> runs[8] = {};
      std::atomic<uint32_t> items_of[8] = {};
      std::atomic<uint32_t> ends_of[8] = {};
      pool.run(
          n_items,
          [&](uint32_t item, uint32_t worker) {
            ++runs[item];
            ++items_of[worker];
            if (round % 50 == 0) std::this_thread::yield();
          },
          [&](uint32_t worker) { ++ends_of[worker]; });
      for (uint32_t i = 0; i < 8; ++i) {
        ASSERT_EQ(runs[i], i < n_items ? 1U : 0U);
        ASSERT_EQ(ends_of[i], items_of[i] != 0 ? 1U : 0U);
        if (i >= n_workers) {
          ASSERT_EQ(items_of[i], 0U);
        }
      }
    }
  }
}

// Sharing an item's work is possible where another worker is there; here all
// others sleep in an item of theirs, and one worker runs the rest.
TEST(WorkerPool, OneWorkerTakesWhatOthersDoNotComeFor) {
  WorkerPool pool(3);
  for (int round = 0; round < 20; ++round) {
    std::atomic<uint32_t> n_done = 0;
    std::atomic<uint32_t> most = 0;
    std::atomic<uint32_t> count[3] = {};
    constexpr uint32_t kItems = 40;
    pool.run(kItems, [&](uint32_t, uint32_t worker) {
      if (worker != 0) {
        // Until worker 0 has run all that nobody has taken.
        while (n_done < kItems - 2) std::this_thread::yield();
      }
      ++n_done;
      if (++count[worker] > most) most = count[worker].load();
    });
    EXPECT_EQ(n_done, kItems);
    EXPECT_GE(most, kItems - 2);
  }
}

TEST(WorkerPool, WorkersMayWaitForEachOtherAtTheEnd) {
  WorkerPool pool(4);
  for (int round = 0; round < 500; ++round) {
    constexpr uint32_t kItems = 9;
    std::vector<uint32_t> own[4];
    std::atomic<uint32_t> turn = 0;
    std::vector<uint32_t> order;
    pool.run(
        kItems,
        [&](uint32_t item, uint32_t worker) { own[worker].push_back(item); },
        [&](uint32_t worker) {
          for (const uint32_t item : own[worker]) {
            for (uint32_t t = turn; t != item; t = turn) {
              wait_for_change(turn, t);
            }
            order.push_back(item);
            ++turn;
            turn.notify_all();
          }
        });
    ASSERT_EQ(order.size(), kItems);
    for (uint32_t i = 0; i < kItems; ++i) ASSERT_EQ(order[i], i);
  }
}

TEST(WorkerPool, ThrowsAnItemsExceptionAndGoesOn) {
  WorkerPool pool(3);
  for (int round = 0; round < 200; ++round) {
    EXPECT_THROW(pool.run(10,
                          [&](uint32_t item, uint32_t) {
                            if (item == 4) throw std::runtime_error("4");
                          }),
                 std::runtime_error);
    std::atomic<uint32_t> n = 0;
    pool.run(10, [&](uint32_t, uint32_t) { ++n; });
    ASSERT_EQ(n, 10U);
  }
}

// Of all rounds, those that ended before a worker came are left out.
TEST(WorkerPool, AWorkerThatSleptFindsTheLatestRound) {
  WorkerPool pool(2);
  std::atomic<uint32_t> n = 0;
  for (int burst = 0; burst < 5; ++burst) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // Asleep now.
    for (int round = 0; round < 100; ++round) {
      pool.run(1, [&](uint32_t, uint32_t) { ++n; });
    }
  }
  EXPECT_EQ(n, 500U);
}

}  // namespace
}  // namespace fewstep::host
