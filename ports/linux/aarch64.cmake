# Linux on AArch64 (Jetson, Raspberry Pi, servers), cross-compiled.
#
#   cmake --toolchain ports/linux/aarch64.cmake ...    (or --preset aarch64)
#
# Takes the cross compiler of Debian's g++-aarch64-linux-gnu, or with
# -DFEWSTEP_AARCH64_COMPILER=clang clang with that package's libraries. CMake
# runs what it built under qemu-aarch64 (qemu-user) where that is installed;
# by hand:
#
#   qemu-aarch64 -L /usr/aarch64-linux-gnu PROGRAM
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)

set(FEWSTEP_AARCH64_COMPILER gcc CACHE STRING
    "Compiler for AArch64: gcc (g++-aarch64-linux-gnu) or clang")
set_property(CACHE FEWSTEP_AARCH64_COMPILER PROPERTY STRINGS gcc clang)

set(triple aarch64-linux-gnu)
if(FEWSTEP_AARCH64_COMPILER STREQUAL "gcc")
  set(CMAKE_C_COMPILER ${triple}-gcc)
  set(CMAKE_CXX_COMPILER ${triple}-g++)
elseif(FEWSTEP_AARCH64_COMPILER STREQUAL "clang")
  foreach(language C CXX ASM)
    set(CMAKE_${language}_COMPILER_TARGET ${triple})
  endforeach()
  set(CMAKE_C_COMPILER clang)
  set(CMAKE_CXX_COMPILER clang++)
  set(CMAKE_ASM_COMPILER clang)
else()
  message(FATAL_ERROR "FEWSTEP_AARCH64_COMPILER is ${FEWSTEP_AARCH64_COMPILER}: "
                      "it takes gcc or clang")
endif()
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FEWSTEP_AARCH64_COMPILER)

find_program(FEWSTEP_QEMU_AARCH64 NAMES qemu-aarch64 qemu-aarch64-static)
if(FEWSTEP_QEMU_AARCH64)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${FEWSTEP_QEMU_AARCH64} -L /usr/${triple})
endif()

set(CMAKE_FIND_ROOT_PATH /usr/${triple})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
