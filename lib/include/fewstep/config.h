// What the compiler must promise before any number is computed.
//
// Included by every header of lib/. Holds the markers that let one source be
// compiled as host, firmware and CUDA device code, and refuses the compiler
// settings under which the numerics contract (lib/README.md) cannot hold.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_CONFIG_H_
#define FEWSTEP_CONFIG_H_

#include <float.h>
#include <stddef.h>
#include <stdint.h>

#define FEWSTEP_VERSION_MAJOR 0
#define FEWSTEP_VERSION_MINOR 1
#define FEWSTEP_VERSION_PATCH 0

#if defined(__FAST_MATH__)
#error "fewstep needs IEEE arithmetic: compile without -ffast-math"
#endif
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "fewstep needs NaN and infinity: compile without -ffinite-math-only"
#endif
#if defined(__ASSOCIATIVE_MATH__)
#error "fewstep fixes the order of sums: compile without -fassociative-math"
#endif
#if defined(__RECIPROCAL_MATH__)
#error "fewstep needs exact division: compile without -freciprocal-math"
#endif
#if defined(__NO_SIGNED_ZEROS__)
#error "fewstep needs signed zeros: compile without -fno-signed-zeros"
#endif
#if defined(FLT_EVAL_METHOD) && (FLT_EVAL_METHOD == 1 || FLT_EVAL_METHOD == 2)
#error "fewstep needs float evaluated as float (on x86: SSE, not x87)"
#endif
#if defined(__CUDA_FTZ) && __CUDA_FTZ
#error "fewstep keeps subnormals: compile without --ftz=true"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "fewstep capsules are read in place: the target must be little-endian"
#endif

/// Marks a function that is also compiled for the GPU.
#if defined(__CUDACC__)
#define FEWSTEP_HD __host__ __device__
#else
#define FEWSTEP_HD
#endif

/// A function the optimizer may not leave as a call (register tiles).
#if defined(__CUDACC__)
#define FEWSTEP_INLINE FEWSTEP_HD __forceinline__
#else
#define FEWSTEP_INLINE inline __attribute__((always_inline))
#endif

/// The same where the compiler optimizes for speed; where it optimizes for size
/// (-Os), a function that is linked once.
#if defined(__OPTIMIZE_SIZE__)
#define FEWSTEP_LONG_INLINE FEWSTEP_HD inline __attribute__((noinline))
#else
#define FEWSTEP_LONG_INLINE FEWSTEP_INLINE
#endif

/// A function that stays one: its registers are its own.
#if defined(__CUDACC__)
#define FEWSTEP_NOINLINE FEWSTEP_HD
#else
#define FEWSTEP_NOINLINE __attribute__((noinline))
#endif

/// A function template that a GPU calls wherever it is used, instead of having
/// its code there: what callers keep in registers waits for it as a whole.
#if defined(__CUDACC__)
#define FEWSTEP_CALLED __noinline__ FEWSTEP_HD
#else
#define FEWSTEP_CALLED
#endif

/// The same as FEWSTEP_INLINE for a lambda, between its parameters and its
/// body.
#if defined(__CUDACC__)
#define FEWSTEP_INLINE_LAMBDA
#else
#define FEWSTEP_INLINE_LAMBDA __attribute__((always_inline))
#endif

/// Unrolls the loop that follows `n` times. Without it gcc -O2 keeps register
/// tiles in memory.
#define FEWSTEP_PRAGMA(x) _Pragma(#x)
#if defined(__CUDACC__)
#define FEWSTEP_UNROLL(n) FEWSTEP_PRAGMA(unroll n)
#elif defined(__clang__)
#define FEWSTEP_UNROLL(n) FEWSTEP_PRAGMA(clang loop unroll_count(n))
#else
#define FEWSTEP_UNROLL(n) FEWSTEP_PRAGMA(GCC unroll n)
#endif

namespace fewstep {

/// Version of the numerics contract. Two builds with the same number give the
/// same bits; a capsule names the one it was validated under.
constexpr uint16_t kNumericsVersion = 1;

}  // namespace fewstep

#endif  // FEWSTEP_CONFIG_H_
