# Compiler settings shared by every target: the numerics contract's flags
# (lib/README.md) and the warnings. None of them leaks to users.

# Same bits on every target: gcc fuses a*b+c by default where it can, and sets
# errno in sqrt.
set(FEWSTEP_NUMERICS_FLAGS -ffp-contract=off -fno-math-errno)

# x86-64-v3 has the fused multiply-add that the contract is built on.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND FEWSTEP_NUMERICS_FLAGS -march=x86-64-v3)
endif()

# Firmware code: no exceptions, no RTTI, each function in a section of its own.
set(FEWSTEP_FIRMWARE_FLAGS
    -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-unwind-tables
    -fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections)

add_library(fewstep_warnings INTERFACE)
target_compile_options(
  fewstep_warnings
  INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
            -Wdouble-promotion -Wcast-align -Wundef -Wvla
            $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor
            -Woverloaded-virtual -Wold-style-cast>
            $<$<BOOL:${FEWSTEP_WERROR}>:-Werror>)
