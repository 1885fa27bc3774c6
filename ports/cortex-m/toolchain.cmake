# Bare-metal Arm Cortex-M with gcc.
#
#   cmake --toolchain ports/cortex-m/toolchain.cmake -DFEWSTEP_CPU=cortex-m4 ...
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR arm)

set(FEWSTEP_CPU cortex-m4 CACHE STRING
    "Core to build for: cortex-m4, cortex-m7, cortex-m33 or cortex-m55")

# All with a hardware single-precision FPU: the numerics contract needs its
# fused multiply-add.
if(FEWSTEP_CPU STREQUAL "cortex-m4")
  set(cpu_flags "-mcpu=cortex-m4 -mfpu=fpv4-sp-d16")
elseif(FEWSTEP_CPU STREQUAL "cortex-m7")
  set(cpu_flags "-mcpu=cortex-m7 -mfpu=fpv5-sp-d16")
elseif(FEWSTEP_CPU STREQUAL "cortex-m33")
  set(cpu_flags "-mcpu=cortex-m33 -mfpu=fpv5-sp-d16")
elseif(FEWSTEP_CPU STREQUAL "cortex-m55")
  # The vector extension's floats flush subnormals.
  set(cpu_flags "-mcpu=cortex-m55+nomve.fp -mfpu=auto")
else()
  message(FATAL_ERROR "FEWSTEP_CPU=${FEWSTEP_CPU} is not one of cortex-m4, "
                      "cortex-m7, cortex-m33, cortex-m55")
endif()

set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_CXX_COMPILER arm-none-eabi-g++)
set(CMAKE_C_FLAGS_INIT "${cpu_flags} -mthumb -mfloat-abi=hard")
set(CMAKE_CXX_FLAGS_INIT "${CMAKE_C_FLAGS_INIT}")

# -O2 rather than CMake's -O3: as fast here, at half the code.
set(CMAKE_C_FLAGS_RELEASE "-O2 -DNDEBUG" CACHE STRING "")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG" CACHE STRING "")

# Last on every link line, whose programs say -nostdlib: libc for memcpy and its
# like, libgcc for 64-bit division.
set(CMAKE_C_STANDARD_LIBRARIES_INIT "-lc -lgcc")
set(CMAKE_CXX_STANDARD_LIBRARIES_INIT "-lc -lgcc")

# A program needs a linker script, which a compiler check does not have.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FEWSTEP_CPU)

set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
