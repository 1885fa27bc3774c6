// Cases that end every way a case can: what run_cases_test.sh runs, a few at a
// time by filter, to see run_cases.sh count and name them.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace {

/// Ends the process with this status once all cases have passed.
class LateExit : public ::testing::Environment {
 public:
  void TearDown() override {
    if (std::getenv("CANARY_LATE_EXIT") != nullptr) std::_Exit(23);
  }
};
[[maybe_unused]] ::testing::Environment* const kLateExit =
    ::testing::AddGlobalTestEnvironment(new LateExit);

TEST(Canary, APasses) { std::puts("of one that passed"); }
TEST(Canary, BPassesBehindText) { std::fputs("no newline", stdout); }
TEST(Canary, CFails) { EXPECT_EQ(1, 2) << "of one that failed"; }
TEST(Canary, DSkips) { GTEST_SKIP() << "its reason"; }
TEST(Canary, ECrashes) { std::abort(); }
TEST(Canary, FExits) { std::_Exit(0); }
TEST(Canary, GPasses) {}
TEST(Canary, HPasses) {}
TEST(Canary, IHangs) { std::this_thread::sleep_for(std::chrono::hours(1)); }

class Rows : public ::testing::TestWithParam<int> {};
TEST_P(Rows, FailAtThree) { EXPECT_NE(GetParam(), 3); }
INSTANTIATE_TEST_SUITE_P(Canary, Rows, ::testing::Range(0, 7));

}  // namespace
