// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "support/allocation_guard.h"

#include <atomic>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#define FEWSTEP_TESTS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FEWSTEP_TESTS_ASAN 1
#endif
#endif

namespace {

std::atomic<size_t> n_allocations = 0;

}  // namespace

#if defined(FEWSTEP_TESTS_ASAN)

// AddressSanitizer owns malloc, and offers hooks.
extern "C" int __sanitizer_install_malloc_and_free_hooks(
    void (*malloc_hook)(const volatile void*, size_t),
    void (*free_hook)(const volatile void*));

namespace {

[[maybe_unused]] const int installed =
    __sanitizer_install_malloc_and_free_hooks(
        [](const volatile void*, size_t) { ++n_allocations; },
        [](const volatile void*) {});

}  // namespace

#else

// The program's malloc replaces the C library's; operator new calls it.
extern "C" {

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t n) noexcept {
  ++n_allocations;
  return __libc_malloc(n);
}
void* calloc(size_t n, size_t size) noexcept {
  ++n_allocations;
  return __libc_calloc(n, size);
}
void* realloc(void* p, size_t n) noexcept {
  ++n_allocations;
  return __libc_realloc(p, n);
}
void* aligned_alloc(size_t alignment, size_t n) noexcept {
  ++n_allocations;
  return __libc_memalign(alignment, n);
}

}  // extern "C"

#endif

namespace fewstep::testing {

AllocationGuard::AllocationGuard() : before_(n_allocations) {}

size_t AllocationGuard::count() const { return n_allocations - before_; }

}  // namespace fewstep::testing
