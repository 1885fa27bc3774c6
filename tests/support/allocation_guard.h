// Counts heap allocations, to show that a call makes none.
//
//   AllocationGuard guard;
//   call();
//   EXPECT_EQ(guard.count(), 0U);
//
// The count is of the whole process: malloc and its kin, and through them
// operator new. A test that uses it must first see it count (a canary): a
// platform where the hook does not take must fail, not pass.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_ALLOCATION_GUARD_H_
#define FEWSTEP_TESTS_SUPPORT_ALLOCATION_GUARD_H_

#include <cstddef>

namespace fewstep::testing {

class AllocationGuard {
 public:
  AllocationGuard();
  /// Allocations since construction.
  size_t count() const;

 private:
  size_t before_;
};

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_ALLOCATION_GUARD_H_
