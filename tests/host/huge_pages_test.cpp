// Arrays in huge pages: apart, aligned, and of any size.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "huge_pages.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <new>
#include <vector>

namespace fewstep::host {
namespace {

TEST(HugePages, GivesArraysThatDoNotMeet) {
  HugePages memory;
  struct Array {
    unsigned char* at;
    size_t size;
  };
  std::vector<Array> arrays;
  unsigned char name = 0;
  for (const size_t size : {size_t{1},
                            size_t{100},
                            size_t{112704},
                            size_t{1} << 20,
                            size_t{5} << 20,
                            size_t{0},
                            size_t{3},
                            size_t{900000}}) {
    for (const size_t alignment : {1, 64, 4096}) {
      void* const at = memory.allocate(size, alignment);
      ASSERT_NE(at, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(at) % alignment, 0U);
      memset(at, ++name, size);
      arrays.push_back({static_cast<unsigned char*>(at), size});
    }
  }
  name = 0;
  for (const Array& a : arrays) {
    ++name;
    for (size_t i = 0; i < a.size; ++i) ASSERT_EQ(a.at[i], name);
  }
}

TEST(HugePages, HoldsWhatGrows) {
  HugePages memory;
  std::pmr::vector<int> numbers(&memory);
  for (int i = 0; i < 100000; ++i) numbers.push_back(i);
  for (int i = 0; i < 100000; ++i)
    ASSERT_EQ(numbers[static_cast<size_t>(i)], i);
}

TEST(HugePages, SaysWhenThereIsNoMemory) {
  HugePages memory;
  EXPECT_THROW(static_cast<void>(memory.allocate(SIZE_MAX, 1)), std::bad_alloc);
  EXPECT_NE(memory.allocate(10, 8), nullptr);
}

}  // namespace
}  // namespace fewstep::host
