// open() refuses a machine whose floats are not IEEE's: other rounding modes,
// flushed subnormals.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cfenv>
#include <cstdint>

#include "fewstep/device/session.h"
#include "support/device_case.h"

namespace fewstep::testing {
namespace {

// The control register that holds rounding and flushing.
#if defined(__x86_64__)
using Control = uint32_t;
Control read_control() {
  Control c;
  asm volatile("stmxcsr %0" : "=m"(c));
  return c;
}
void write_control(Control c) { asm volatile("ldmxcsr %0" : : "m"(c)); }
constexpr Control kFlush[] = {1U << 15, 1U << 6};  // FTZ, DAZ
#elif defined(__aarch64__)
using Control = uint64_t;
Control read_control() {
  Control c;
  asm volatile("mrs %0, fpcr" : "=r"(c));
  return c;
}
void write_control(Control c) { asm volatile("msr fpcr, %0" : : "r"(c)); }
constexpr Control kFlush[] = {1U << 24};  // FZ
#else
#error "no floating-point control register known for this machine"
#endif

class FloatEnvironment : public ::testing::Test {
 protected:
  FloatEnvironment()
      : loaded_(small_regressor()), arena_(bytes_for(loaded_.capsule, {})) {}

  Status open() {
    return session_.open(loaded_.view(), EveryOp::list, arena_.arena());
  }

  const LoadedCapsule loaded_;
  PaintedArena arena_;
  Session session_;
};

TEST_F(FloatEnvironment, TheUsualOneIsAccepted) {
  EXPECT_EQ(open(), Status::kOk);
}

TEST_F(FloatEnvironment, OtherRoundingIsRefused) {
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    ASSERT_EQ(std::fesetround(mode), 0);
    const Status status = open();
    std::fesetround(FE_TONEAREST);
    EXPECT_EQ(status, Status::kBadFloatEnvironment) << "mode " << mode;
    EXPECT_FALSE(session_.is_open());
  }
  EXPECT_EQ(open(), Status::kOk);
}

TEST_F(FloatEnvironment, FlushedSubnormalsAreRefused) {
  const Control control = read_control();
  for (const Control flush : kFlush) {
    write_control(control | flush);
    const Status status = open();
    write_control(control);
    EXPECT_EQ(status, Status::kBadFloatEnvironment) << "bit " << flush;
    EXPECT_FALSE(session_.is_open());
  }
  EXPECT_EQ(open(), Status::kOk);
}

}  // namespace
}  // namespace fewstep::testing
