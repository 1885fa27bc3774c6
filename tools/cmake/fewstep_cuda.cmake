# Finds nvcc: FEWSTEP_CUDA AUTO takes it where it is, ON insists, OFF does not
# look. Sets FEWSTEP_CUDA_COMPILER (true or false) and FEWSTEP_CUDA_FLAGS, the
# numerics contract's flags for CUDA.
set(FEWSTEP_CUDA_COMPILER OFF)
if(NOT FEWSTEP_CUDA STREQUAL "OFF")
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(FEWSTEP_CUDA_COMPILER ON)
    # CMake 3.25 does not know that nvcc 13 has C++20.
    if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
  elseif(FEWSTEP_CUDA STREQUAL "ON")
    message(FATAL_ERROR "FEWSTEP_CUDA is ON, but there is no working nvcc: "
                        "name it with CMAKE_CUDA_COMPILER or CUDACXX")
  endif()
endif()
set(FEWSTEP_CUDA_FLAGS
    --fmad=false --ftz=false --prec-div=true --prec-sqrt=true
    -Xcompiler=-ffp-contract=off)
