// Load-multiple of the Cortex-M's floating-point unit.
//
// One instruction reads or writes several floats and moves its pointer on; gcc
// never makes one of several loads. It wants consecutive registers, so the
// values are pinned to the registers that its type names; gcc then computes
// them there.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_NUMERICS_CORTEX_M_H_
#define FEWSTEP_NUMERICS_CORTEX_M_H_

#include "fewstep/config.h"

/// Whether the kernels for float may use this header.
#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M' && \
    defined(__ARM_FP) && !defined(__clang__)
#define FEWSTEP_CORTEX_M 1
#else
#define FEWSTEP_CORTEX_M 0
#endif

#if FEWSTEP_CORTEX_M

// C++17 has no other way to name the register of a variable.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wregister"

namespace fewstep {

/// The registers s<first>, s<first + 1>, ...
template <int first>
struct Registers;

// pair   x, y = p[0], p[1];  p += 2
// triple x0 .. x2 = p[0] .. p[2]
// load   x0 .. x3 = p[0] .. p[3]
// next   the same;  p += 4
// store  p[0] .. p[3] = x0 .. x3
#define FEWSTEP_REGISTERS(first, r0, r1, r2, r3)                           \
  template <>                                                              \
  struct Registers<first> {                                                \
    static FEWSTEP_INLINE void pair(const float*& p, float& x, float& y) { \
      register float v0 __asm__(#r0);                                      \
      register float v1 __asm__(#r1);                                      \
      __asm__("vldmia %0!, {" #r0 "," #r1 "}"                              \
              : "+r"(p), "=t"(v0), "=t"(v1)                                \
              : "m"(*reinterpret_cast<const float(*)[2]>(p)));             \
      x = v0;                                                              \
      y = v1;                                                              \
    }                                                                      \
    static FEWSTEP_INLINE void triple(const float* p,                      \
                                      float& x0,                           \
                                      float& x1,                           \
                                      float& x2) {                         \
      register float v0 __asm__(#r0);                                      \
      register float v1 __asm__(#r1);                                      \
      register float v2 __asm__(#r2);                                      \
      __asm__("vldmia %3, {" #r0 "-" #r2 "}"                               \
              : "=t"(v0), "=t"(v1), "=t"(v2)                               \
              : "r"(p), "m"(*reinterpret_cast<const float(*)[3]>(p)));     \
      x0 = v0;                                                             \
      x1 = v1;                                                             \
      x2 = v2;                                                             \
    }                                                                      \
    static FEWSTEP_INLINE void load(                                       \
        const float* p, float& x0, float& x1, float& x2, float& x3) {      \
      register float v0 __asm__(#r0);                                      \
      register float v1 __asm__(#r1);                                      \
      register float v2 __asm__(#r2);                                      \
      register float v3 __asm__(#r3);                                      \
      __asm__("vldmia %4, {" #r0 "-" #r3 "}"                               \
              : "=t"(v0), "=t"(v1), "=t"(v2), "=t"(v3)                     \
              : "r"(p), "m"(*reinterpret_cast<const float(*)[4]>(p)));     \
      x0 = v0;                                                             \
      x1 = v1;                                                             \
      x2 = v2;                                                             \
      x3 = v3;                                                             \
    }                                                                      \
    static FEWSTEP_INLINE void next(                                       \
        const float*& p, float& x0, float& x1, float& x2, float& x3) {     \
      register float v0 __asm__(#r0);                                      \
      register float v1 __asm__(#r1);                                      \
      register float v2 __asm__(#r2);                                      \
      register float v3 __asm__(#r3);                                      \
      __asm__("vldmia %0!, {" #r0 "-" #r3 "}"                              \
              : "+r"(p), "=t"(v0), "=t"(v1), "=t"(v2), "=t"(v3)            \
              : "m"(*reinterpret_cast<const float(*)[4]>(p)));             \
      x0 = v0;                                                             \
      x1 = v1;                                                             \
      x2 = v2;                                                             \
      x3 = v3;                                                             \
    }                                                                      \
    static FEWSTEP_INLINE void store(                                      \
        float* p, float x0, float x1, float x2, float x3) {                \
      register float v0 __asm__(#r0) = x0;                                 \
      register float v1 __asm__(#r1) = x1;                                 \
      register float v2 __asm__(#r2) = x2;                                 \
      register float v3 __asm__(#r3) = x3;                                 \
      __asm__("vstmia %1, {" #r0 "-" #r3 "}"                               \
              : "=m"(*reinterpret_cast<float(*)[4]>(p))                    \
              : "r"(p), "t"(v0), "t"(v1), "t"(v2), "t"(v3));               \
    }                                                                      \
  }
FEWSTEP_REGISTERS(0, s0, s1, s2, s3);
FEWSTEP_REGISTERS(4, s4, s5, s6, s7);
FEWSTEP_REGISTERS(6, s6, s7, s8, s9);
FEWSTEP_REGISTERS(8, s8, s9, s10, s11);
FEWSTEP_REGISTERS(10, s10, s11, s12, s13);
FEWSTEP_REGISTERS(12, s12, s13, s14, s15);
FEWSTEP_REGISTERS(16, s16, s17, s18, s19);
FEWSTEP_REGISTERS(18, s18, s19, s20, s21);
FEWSTEP_REGISTERS(19, s19, s20, s21, s22);
FEWSTEP_REGISTERS(20, s20, s21, s22, s23);
FEWSTEP_REGISTERS(22, s22, s23, s24, s25);
FEWSTEP_REGISTERS(24, s24, s25, s26, s27);
FEWSTEP_REGISTERS(25, s25, s26, s27, s28);
FEWSTEP_REGISTERS(26, s26, s27, s28, s29);
FEWSTEP_REGISTERS(28, s28, s29, s30, s31);
#undef FEWSTEP_REGISTERS
// Pairs only: three floats beyond s30 do not exist.
template <>
struct Registers<30> {
  static FEWSTEP_INLINE void pair(const float*& p, float& x, float& y) {
    register float v0 __asm__("s30");
    register float v1 __asm__("s31");
    __asm__("vldmia %0!, {s30,s31}"
            : "+r"(p), "=t"(v0), "=t"(v1)
            : "m"(*reinterpret_cast<const float(*)[2]>(p)));
    x = v0;
    y = v1;
  }
};

}  // namespace fewstep

#pragma GCC diagnostic pop

#endif  // FEWSTEP_CORTEX_M

#endif  // FEWSTEP_NUMERICS_CORTEX_M_H_
