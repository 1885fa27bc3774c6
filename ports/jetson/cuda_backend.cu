// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "cuda_backend.h"

#include <stdio.h>

#include "fewstep/executor/block.h"
#include "fewstep/executor/called_ops.h"
#include "fewstep/executor/gpu_tiles.h"

namespace fewstep::jetson {
namespace {

// Register tiles (gpu_tiles.h) may take up to 255 registers a thread, which 256
// threads have.
constexpr int kThreads = 256;

thread_local char message[384] = "";

// "what: why; what to do about it"
void say(const char* what, cudaError_t error) {
  const char* remedy =
      "the GPU or its driver failed, and this process may have no more use of "
      "it: restart it, or go on on the CPU (fewstep/fewstep.h)";
  char versions[128];
  switch (error) {
    case cudaErrorNoDevice:
      remedy = "use the CPU's session (fewstep/fewstep.h)";
      break;
    case cudaErrorInsufficientDriver: {
      int driver = 0;
      int runtime = 0;
      static_cast<void>(cudaDriverGetVersion(&driver));
      static_cast<void>(cudaRuntimeGetVersion(&runtime));
      remedy =
          "no NVIDIA driver is loaded: install it, or use the CPU's session "
          "(fewstep/fewstep.h)";
      if (driver != 0) {
        snprintf(versions,
                 sizeof versions,
                 "it knows CUDA %d.%d, this program needs %d.%d: update it, or "
                 "use the CPU's session (fewstep/fewstep.h)",
                 driver / 1000,
                 driver % 1000 / 10,
                 runtime / 1000,
                 runtime % 1000 / 10);
        remedy = versions;
      }
      break;
    }
    case cudaErrorMemoryAllocation:
      remedy =
          "lower max_support, max_predict or tile, close other sessions, or "
          "use "
          "the CPU's (fewstep/fewstep.h)";
      break;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
      remedy =
          "this program was built for other GPUs: build it with "
          "-DFEWSTEP_JETSON_ARCHITECTURES=<this GPU's>";
      break;
    default: break;
  }
  snprintf(message,
           sizeof message,
           "%s: %s; %s",
           what,
           cudaGetErrorString(error),
           remedy);
}

// The workspace is in shared memory when it fits there.
__global__ void __launch_bounds__(kThreads)
    session_kernel(const __grid_constant__ BlockMemory<float> memory,
                   bool shared) {
  extern __shared__ float4 values[];
  run_block(
      BlockExecutor(),
      CalledOps(),
      memory,
      shared ? reinterpret_cast<float*>(values) : memory.workspace.values);
}

}  // namespace

const char* cuda_message() { return message; }

// Whether a call succeeded; if not, says so.
bool CudaBackend::works(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return true;
  static_cast<void>(cudaGetLastError());  // Not the next call's.
  say(what, error);
  return false;
}

Status CudaBackend::open(size_t gpu_bytes,
                         size_t staging_bytes,
                         BlockAddresses* at) {
  int n_devices = 0;
  cudaError_t found = cudaGetDeviceCount(&n_devices);
  if (found == cudaSuccess && n_devices == 0) found = cudaErrorNoDevice;
  if (!works(found, "no CUDA device")) return Status::kNoDevice;
  cudaFuncAttributes attributes;
  if (!works(cudaFuncGetAttributes(&attributes, session_kernel),
             "the session's kernel")) {
    return Status::kNoDevice;
  }
  if (!works(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
             "no stream")) {
    return Status::kDeviceFailed;
  }
  char what[64];
  snprintf(what, sizeof what, "%zu bytes of GPU memory", gpu_bytes);
  if (!works(cudaMalloc(&gpu_, gpu_bytes), what)) {
    return Status::kArenaTooSmall;
  }
  snprintf(what, sizeof what, "%zu bytes of pinned memory", staging_bytes);
  if (!works(cudaHostAlloc(&staging_, staging_bytes, cudaHostAllocMapped),
             what)) {
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
                            size_t workspace_bytes) {
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
  if (!works(cudaFuncSetAttribute(session_kernel,
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
  session_kernel<<<1, kThreads, shared_bytes, stream_>>>(memory, shared);
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
