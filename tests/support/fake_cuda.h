// A CUDA runtime without a GPU, to link instead of NVIDIA's: what the code
// around the kernels does, above all when something goes wrong.
//
// Memory is the host's, a queue does its work at once, a captured one when its
// graph is launched. A kernel does nothing, unless the test says what. There is
// no GPU, an old driver, too little memory, or any call fails, as the test, or
// the environment variable FEWSTEP_FAKE_CUDA, asks for:
//
//   devices=N        GPUs there are (1)
//   driver=V         CUDA that the driver knows, as cudaDriverGetVersion (the
//                    runtime's)
//   kernels=0        the program has none for this GPU
//   memory=BYTES     of the GPU, pinned=BYTES of the host (2^34)
//   fail=CALL:N:E    the Nth call of function CALL fails with error E, and if E
//                    is the failure of a kernel, all after it
//
// separated by spaces.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_FAKE_CUDA_H_
#define FEWSTEP_TESTS_SUPPORT_FAKE_CUDA_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace fewstep::testing {

struct FakeCuda {
  int devices = 1;
  int driver = CUDART_VERSION;
  bool kernels = true;
  size_t memory = size_t{1} << 34;
  size_t pinned = size_t{1} << 34;
  int compute = 90;

  std::string failing_call;
  int fails_at = 0;  ///< 1: the first.
  cudaError_t error = cudaErrorUnknown;

  /// What kernels do, by a part of their (mangled) names: a copy of the
  /// arguments' values into work for later.
  std::map<std::string, std::function<std::function<void()>(void** arguments)>>
      work;

  // What the program has, and has done.
  size_t n_memory = 0;      ///< Pieces of the GPU's memory, and
  size_t n_pinned = 0;      ///< of pinned memory,
  size_t memory_bytes = 0;  ///< and their bytes.
  size_t pinned_bytes = 0;
  size_t n_streams = 0;
  size_t n_events = 0;
  size_t n_graphs = 0;       ///< Captured, and
  size_t n_executables = 0;  ///< made ready to launch.
  size_t n_kernels = 0;      ///< Run so far.
  std::map<std::string, int> calls;

  /// Everything as FEWSTEP_FAKE_CUDA says, or as above without it. What the
  /// program holds stays counted.
  void reset();
  /// Nothing that the program took is left.
  bool all_returned() const {
    return n_memory + n_pinned + n_streams + n_graphs + n_executables +
               n_events ==
           0;
  }
};

/// The one there is.
FakeCuda& fake_cuda();

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_FAKE_CUDA_H_
