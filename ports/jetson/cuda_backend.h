// The GPU behind a BlockSession: memory, one captured graph, its launch.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_PORTS_JETSON_CUDA_BACKEND_H_
#define FEWSTEP_PORTS_JETSON_CUDA_BACKEND_H_

#include <cuda_runtime_api.h>

#include "block_session.h"

namespace fewstep::jetson {

/// BlockSession's backend on the current CUDA device. Not copyable.
class CudaBackend {
 public:
  using Number = float;

  CudaBackend() = default;
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;
  ~CudaBackend();

  Status open(size_t gpu_bytes, size_t staging_bytes, BlockAddresses* at);
  Status upload(uint8_t* gpu, const void* from, size_t bytes);
  Status download(const uint8_t* gpu, void* to, size_t bytes);
  Status prepare(const BlockMemory<float>& memory, size_t workspace_bytes);
  Status run();

 private:
  bool works(cudaError_t error, const char* what);

  bool broken_ = false;  // A failed kernel leaves a CUDA context of no use.
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  void* gpu_ = nullptr;
  void* staging_ = nullptr;
};

/// Why the last call of this thread failed; never null.
const char* cuda_message();

}  // namespace fewstep::jetson

#endif  // FEWSTEP_PORTS_JETSON_CUDA_BACKEND_H_
