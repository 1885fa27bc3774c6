// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "huge_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace fewstep::host {
namespace {

constexpr size_t kPage = size_t{2} << 20;

}  // namespace

HugePages::~HugePages() {
  for (void* block : blocks_) std::free(block);
}

void* HugePages::do_allocate(size_t bytes, size_t alignment) {
  void* at = at_;
  size_t left = static_cast<size_t>(end_ - at_);
  if (at_ == nullptr || std::align(alignment, bytes, at, left) == nullptr) {
    if (bytes > SIZE_MAX - kPage) throw std::bad_alloc();
    const size_t size =
        (std::max<size_t>(bytes, 1) + kPage - 1) / kPage * kPage;
    blocks_.reserve(blocks_.size() + 1);
    at = std::aligned_alloc(kPage, size);
    if (at == nullptr) throw std::bad_alloc();
    blocks_.push_back(at);
#if defined(MADV_HUGEPAGE)
    madvise(at, size, MADV_HUGEPAGE);  // Only a wish.
#endif
    end_ = static_cast<std::byte*>(at) + size;
  }
  at_ = static_cast<std::byte*>(at) + bytes;
  return at;
}

}  // namespace fewstep::host
