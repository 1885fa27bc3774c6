// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "cuda_backend.h"

#include <stdio.h>

#include "fewstep/executor/block.h"

namespace fewstep::jetson {
namespace {

// Register tiles want up to 255 registers a thread, which 256 threads have.
constexpr int kThreads = 256;

thread_local char message[256] = "";

void say(const char* what, const char* why) {
  snprintf(message, sizeof message, "%s: %s", what, why);
}

// W0: the view of the stored theta_0. The workspace is in shared memory when it
// fits there.
template <class W0>
__global__ void __launch_bounds__(kThreads)
    session_kernel(BlockMemory<float> memory, bool shared) {
  extern __shared__ float values[];
  if (shared) memory.workspace.values = values;
  run_block<W0>(BlockExecutor(), AllOps(), memory);
}

using Kernel = void (*)(BlockMemory<float>, bool);

Kernel kernel_for(bool f16) {
  return f16 ? session_kernel<F16View> : session_kernel<PlainView<float>>;
}

}  // namespace

const char* cuda_message() { return message; }

// Whether a call succeeded; if not, says so.
bool CudaBackend::works(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return true;
  static_cast<void>(cudaGetLastError());  // Not the next call's.
  say(what, cudaGetErrorString(error));
  return false;
}

Status CudaBackend::open(size_t gpu_bytes,
                         size_t staging_bytes,
                         BlockAddresses* at) {
  int n_devices = 0;
  if (!works(cudaGetDeviceCount(&n_devices), "no CUDA device") ||
      n_devices == 0) {
    return Status::kNoDevice;
  }
  cudaFuncAttributes attributes;
  if (!works(cudaFuncGetAttributes(&attributes, kernel_for(false)),
             "this build is not for this GPU (CMAKE_CUDA_ARCHITECTURES)")) {
    return Status::kNoDevice;
  }
  if (!works(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
             "no stream")) {
    return Status::kDeviceFailed;
  }
  if (!works(cudaMalloc(&gpu_, gpu_bytes), "GPU memory for the session") ||
      !works(cudaHostAlloc(&staging_, staging_bytes, cudaHostAllocMapped),
             "pinned memory for the session")) {
    return Status::kArenaTooSmall;
  }
  void* staging_on_gpu = nullptr;
  if (!works(cudaHostGetDevicePointer(&staging_on_gpu, staging_, 0),
             "pinned memory cannot be mapped")) {
    return Status::kDeviceFailed;
  }
  at->gpu = static_cast<uint8_t*>(gpu_);
  at->staging = static_cast<uint8_t*>(staging_);
  at->staging_on_gpu = static_cast<uint8_t*>(staging_on_gpu);
  return Status::kOk;
}

Status CudaBackend::upload(uint8_t* gpu, const void* from, size_t bytes) {
  const cudaError_t error =
      cudaMemcpyAsync(gpu, from, bytes, cudaMemcpyHostToDevice, stream_);
  if (!works(error, "copy to the GPU") ||
      !works(cudaStreamSynchronize(stream_), "copy to the GPU")) {
    broken_ = true;
  }
  return broken_ ? Status::kDeviceFailed : Status::kOk;
}

Status CudaBackend::download(const uint8_t* gpu, void* to, size_t bytes) {
  if (broken_) return Status::kDeviceFailed;
  const cudaError_t error =
      cudaMemcpyAsync(to, gpu, bytes, cudaMemcpyDeviceToHost, stream_);
  if (!works(error, "copy from the GPU") ||
      !works(cudaStreamSynchronize(stream_), "copy from the GPU")) {
    broken_ = true;
  }
  return broken_ ? Status::kDeviceFailed : Status::kOk;
}

Status CudaBackend::prepare(const BlockMemory<float>& memory,
                            size_t workspace_bytes,
                            bool f16) {
  const Kernel kernel = kernel_for(f16);
  int device = 0;
  int most_shared = 0;
  if (!works(cudaGetDevice(&device), "no current device") ||
      !works(cudaDeviceGetAttribute(
                 &most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
             "shared memory a block")) {
    return Status::kDeviceFailed;
  }
  const bool shared = workspace_bytes <= static_cast<size_t>(most_shared);
  const size_t shared_bytes = shared ? workspace_bytes : 0;
  if (!works(cudaFuncSetAttribute(kernel,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shared_bytes)),
             "shared memory for the workspace")) {
    return Status::kDeviceFailed;
  }

  cudaGraph_t graph = nullptr;
  if (!works(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
             "capture")) {
    return Status::kDeviceFailed;
  }
  kernel<<<1, kThreads, shared_bytes, stream_>>>(memory, shared);
  const cudaError_t launched = cudaGetLastError();
  const cudaError_t captured = cudaStreamEndCapture(stream_, &graph);
  bool fine = works(launched, "capture of the kernel") &&
              works(captured, "capture of the graph");
  fine = fine && works(cudaGraphInstantiate(&graph_, graph, 0), "graph");
  if (graph != nullptr) {
    fine = works(cudaGraphDestroy(graph), "graph") && fine;
  }
  fine = fine && works(cudaGraphUpload(graph_, stream_), "graph") &&
         works(cudaStreamSynchronize(stream_), "graph");
  return fine ? Status::kOk : Status::kDeviceFailed;
}

Status CudaBackend::run() {
  if (broken_) return Status::kDeviceFailed;
  if (!works(cudaGraphLaunch(graph_, stream_), "launch") ||
      !works(cudaStreamSynchronize(stream_), "the session's kernel")) {
    broken_ = true;
  }
  return broken_ ? Status::kDeviceFailed : Status::kOk;
}

CudaBackend::~CudaBackend() {
  // After a failed kernel these fail, too, and there is nothing left to do.
  if (graph_ != nullptr) static_cast<void>(cudaGraphExecDestroy(graph_));
  if (staging_ != nullptr) static_cast<void>(cudaFreeHost(staging_));
  if (gpu_ != nullptr) static_cast<void>(cudaFree(gpu_));
  if (stream_ != nullptr) static_cast<void>(cudaStreamDestroy(stream_));
}

}  // namespace fewstep::jetson
