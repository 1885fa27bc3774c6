# Compiler settings shared by every target: the numerics contract's flags
# (lib/README.md) and the warnings. None of them leaks to users.

# Same bits on every target: gcc fuses a*b+c by default where it can, and sets
# errno in sqrt.
set(FEWSTEP_NUMERICS_FLAGS -ffp-contract=off -fno-math-errno)

# x86-64-v3 has the fused multiply-add that the contract is built on; v4 has
# AVX-512: twice the lanes, twice the registers, the same bits. AUTO takes v4
# where the machine that builds has it; programs for other machines want v3.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(FEWSTEP_X86_64 "AUTO" CACHE STRING
      "x86-64 level the programs need: v3 (AVX2), v4 (AVX-512) or AUTO")
  set_property(CACHE FEWSTEP_X86_64 PROPERTY STRINGS AUTO v3 v4)
  set(fewstep_x86_64 ${FEWSTEP_X86_64})
  if(FEWSTEP_X86_64 STREQUAL "AUTO")
    set(fewstep_x86_64 v3)
    if(NOT CMAKE_CROSSCOMPILING)
      execute_process(
        COMMAND ${CMAKE_CXX_COMPILER} -march=native -dM -E -x c++ /dev/null
        OUTPUT_VARIABLE native_macros ERROR_QUIET)
      set(has_v4 ON)
      foreach(part F CD BW DQ VL)
        if(NOT native_macros MATCHES "__AVX512${part}__")
          set(has_v4 OFF)
        endif()
      endforeach()
      if(has_v4)
        set(fewstep_x86_64 v4)
      endif()
    endif()
  elseif(NOT FEWSTEP_X86_64 MATCHES "^v[34]$")
    message(FATAL_ERROR "FEWSTEP_X86_64 is ${FEWSTEP_X86_64}: it takes AUTO, v3 "
                        "or v4")
  endif()
  list(APPEND FEWSTEP_NUMERICS_FLAGS -march=x86-64-${fewstep_x86_64})
endif()

# Firmware code: no exceptions, no RTTI, each function in a section of its own.
set(FEWSTEP_FIRMWARE_FLAGS
    -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-unwind-tables
    -fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections)

# fewstep_small(<source>...): code that runs once a call or once a layer is
# compiled for size. Kernels keep the build's own level, and debug builds theirs.
# On Cortex-M, instructions that gcc 12.2 reorders for speed take 1 % more.
function(fewstep_small)
  set(small -Os)
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL "arm" AND CMAKE_CXX_COMPILER_ID STREQUAL
                                               "GNU")
    list(APPEND small -fno-schedule-insns2)
  endif()
  set_property(
    SOURCE ${ARGN}
    APPEND
    PROPERTY COMPILE_OPTIONS
             "$<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:${small}>")
endfunction()

# fewstep_smaller(<source> <flag>...): for Arm gcc besides, what makes this source
# smaller still: -Os alone is not the least (measured with gcc 12.2). No flag
# touches a number.
function(fewstep_smaller source)
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL "arm" AND CMAKE_CXX_COMPILER_ID STREQUAL
                                               "GNU")
    set_property(SOURCE ${source} APPEND PROPERTY COMPILE_OPTIONS ${ARGN})
  endif()
endfunction()

add_library(fewstep_warnings INTERFACE)
target_compile_options(
  fewstep_warnings
  INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
            -Wdouble-promotion -Wcast-align -Wundef -Wvla
            $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor
            -Woverloaded-virtual -Wold-style-cast>
            $<$<BOOL:${FEWSTEP_WERROR}>:-Werror>)
if(fewstep_x86_64 STREQUAL "v4" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # gcc 12 warns of its own AVX-512 header (gcc bug 105593).
  target_compile_options(fewstep_warnings INTERFACE -Wno-maybe-uninitialized
                                                   -Wno-uninitialized)
endif()
