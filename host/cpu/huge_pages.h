// Memory for arrays that a core goes through again and again.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_HUGE_PAGES_H_
#define FEWSTEP_HOST_CPU_HUGE_PAGES_H_

#include <cstddef>
#include <memory_resource>
#include <vector>

namespace fewstep::host {

/// Arrays one after the other in pages of 2 MiB, where the system has such
/// pages (Linux, transparent huge pages at `madvise` or `always`); else in
/// ordinary ones.
///
/// What lies in ordinary pages may meet in the same sets of the second-level
/// cache although it would fit, by the luck of where the system found the
/// pages: of ten runs of a small network five were 4 % slower than the others.
///
/// Nothing is given back before the end, so arrays should get their size once.
/// For one thread at a time. Throws std::bad_alloc.
class HugePages final : public std::pmr::memory_resource {
 public:
  HugePages() = default;
  ~HugePages() override;
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;

 private:
  void* do_allocate(size_t bytes, size_t alignment) override;
  void do_deallocate(void*, size_t, size_t) override {}
  bool do_is_equal(const memory_resource& other) const noexcept override {
    return this == &other;
  }

  std::vector<void*> blocks_;
  std::byte* at_ = nullptr;  // What is free of the last block: [at_, end_).
  std::byte* end_ = nullptr;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CPU_HUGE_PAGES_H_
