// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "support/fake_cuda.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <vector>

// Opaque to the program.
struct CUstream_st {
  bool capturing = false;
  std::vector<std::function<void()>> captured;
};
struct CUgraph_st {
  std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
  std::vector<std::function<void()>> work;
};
struct CUevent_st {};

namespace fewstep::testing {
namespace {

struct Registry {
  std::map<const void*, std::string> kernels;  // Host function to name.
  std::map<void*, size_t> memory, pinned;
  cudaError_t last = cudaSuccess;
  cudaError_t sticky = cudaSuccess;
  dim3 grid, block;
  size_t shared = 0;
  void* stream = nullptr;
};

// Kernels register before main().
Registry& registry() {
  static Registry r;
  return r;
}

bool is_sticky(cudaError_t error) {
  return error == cudaErrorLaunchFailure || error == cudaErrorIllegalAddress ||
         error == cudaErrorIllegalInstruction || error == cudaErrorAssert;
}

cudaError_t answer(cudaError_t error) {
  Registry& r = registry();
  if (is_sticky(error)) r.sticky = error;
  if (error != cudaSuccess) r.last = error;
  return error;
}

// What a call answers before it does anything.
cudaError_t enter(const char* call) {
  FakeCuda& fake = fake_cuda();
  const int n = ++fake.calls[call];
  if (fake.failing_call == call && n == fake.fails_at) {
    return answer(fake.error);
  }
  return answer(registry().sticky);
}

// What a call that needs a GPU answers.
cudaError_t enter_gpu(const char* call) {
  const cudaError_t error = enter(call);
  if (error != cudaSuccess) return error;
  const FakeCuda& fake = fake_cuda();
  if (fake.driver < CUDART_VERSION) return answer(cudaErrorInsufficientDriver);
  if (fake.devices == 0) return answer(cudaErrorNoDevice);
  return cudaSuccess;
}

void queue(cudaStream_t stream, std::function<void()> work) {
  if (stream != nullptr && stream->capturing) {
    stream->captured.push_back(std::move(work));
  } else {
    work();
  }
}

cudaError_t launch(const void* function, void** arguments, cudaStream_t s) {
  FakeCuda& fake = fake_cuda();
  if (!fake.kernels) return answer(cudaErrorNoKernelImageForDevice);
  const auto named = registry().kernels.find(function);
  if (named == registry().kernels.end()) {
    return answer(cudaErrorInvalidDeviceFunction);
  }
  std::function<void()> work;
  for (const auto& [part, make] : fake.work) {
    if (named->second.find(part) != std::string::npos) work = make(arguments);
  }
  queue(s, [work] {
    ++fake_cuda().n_kernels;
    if (work) work();
  });
  return cudaSuccess;
}

cudaError_t allocate(void** p,
                     size_t bytes,
                     size_t limit,
                     size_t* used,
                     size_t* n,
                     std::map<void*, size_t>* pieces) {
  if (bytes > limit - *used) return answer(cudaErrorMemoryAllocation);
  constexpr size_t kAlignment = 256;
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  *p = std::aligned_alloc(kAlignment, rounded);
  if (*p == nullptr) return answer(cudaErrorMemoryAllocation);
  std::memset(*p, 0xff, rounded);  // NaN wherever nobody wrote.
  *used += bytes;
  ++*n;
  (*pieces)[*p] = bytes;
  return cudaSuccess;
}

cudaError_t release(void* p,
                    size_t* used,
                    size_t* n,
                    std::map<void*, size_t>* pieces) {
  if (p == nullptr) return cudaSuccess;
  const auto piece = pieces->find(p);
  if (piece == pieces->end()) return answer(cudaErrorInvalidValue);
  *used -= piece->second;
  --*n;
  pieces->erase(piece);
  std::free(p);
  return cudaSuccess;
}

}  // namespace

FakeCuda& fake_cuda() {
  static FakeCuda fake;
  static const bool from_environment = (fake.reset(), true);
  static_cast<void>(from_environment);
  return fake;
}

void FakeCuda::reset() {
  registry().last = cudaSuccess;
  registry().sticky = cudaSuccess;
  FakeCuda fresh;
  fresh.n_memory = n_memory;
  fresh.n_pinned = n_pinned;
  fresh.memory_bytes = memory_bytes;
  fresh.pinned_bytes = pinned_bytes;
  fresh.n_streams = n_streams;
  fresh.n_graphs = n_graphs;
  fresh.n_executables = n_executables;
  fresh.n_events = n_events;
  *this = fresh;
  const char* const text = std::getenv("FEWSTEP_FAKE_CUDA");
  if (text == nullptr) return;
  std::istringstream words(text);
  std::string word;
  while (words >> word) {
    const size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    const std::string value =
        equals == std::string::npos ? "" : word.substr(equals + 1);
    char call[64] = "";
    int code = 0;
    if (key == "devices") {
      devices = std::stoi(value);
    } else if (key == "driver") {
      driver = std::stoi(value);
    } else if (key == "kernels") {
      kernels = value != "0";
    } else if (key == "memory") {
      memory = std::stoull(value);
    } else if (key == "pinned") {
      pinned = std::stoull(value);
    } else if (key == "fail" &&
               std::sscanf(
                   value.c_str(), "%63[^:]:%d:%d", call, &fails_at, &code) ==
                   3) {
      failing_call = call;
      error = static_cast<cudaError_t>(code);
    } else {
      std::fprintf(stderr, "FEWSTEP_FAKE_CUDA: what is %s?\n", word.c_str());
      std::abort();
    }
  }
}

}  // namespace fewstep::testing

using namespace fewstep::testing;

// --------------------------------------------------------------- the runtime

extern "C" {

cudaError_t cudaGetDeviceCount(int* n) {
  *n = 0;
  const cudaError_t error = enter_gpu("cudaGetDeviceCount");
  if (error == cudaSuccess) *n = fake_cuda().devices;
  return error;
}
cudaError_t cudaSetDevice(int device) {
  const cudaError_t error = enter_gpu("cudaSetDevice");
  if (error != cudaSuccess) return error;
  return device < fake_cuda().devices ? cudaSuccess
                                      : answer(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return enter_gpu("cudaGetDevice");
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  *p = {};
  std::snprintf(p->name, sizeof p->name, "fake");
  p->major = fake_cuda().compute / 10;
  p->minor = fake_cuda().compute % 10;
  p->multiProcessorCount = 4;
  p->sharedMemPerBlockOptin = 232448;
  p->sharedMemPerMultiprocessor = 233472;
  return enter_gpu("cudaGetDeviceProperties");
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 232448 : 0;
  return enter_gpu("cudaDeviceGetAttribute");
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = fake_cuda().memory - fake_cuda().memory_bytes;
  *total = fake_cuda().memory;
  return enter_gpu("cudaMemGetInfo");
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = fake_cuda().driver;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetLastError(void) {
  const cudaError_t error = registry().last;
  registry().last = registry().sticky;
  return error;
}
cudaError_t cudaPeekAtLastError(void) { return registry().last; }
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorNoKernelImageForDevice:
      return "no kernel image is available for execution on the device";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    default: return "some other error";
  }
}
const char* cudaGetErrorName(cudaError_t error) {
  return cudaGetErrorString(error);
}

cudaError_t cudaMalloc(void** p, size_t bytes) {
  const cudaError_t error = enter_gpu("cudaMalloc");
  if (error != cudaSuccess) return error;
  FakeCuda& f = fake_cuda();
  return allocate(
      p, bytes, f.memory, &f.memory_bytes, &f.n_memory, &registry().memory);
}
cudaError_t cudaFree(void* p) {
  FakeCuda& f = fake_cuda();
  return release(p, &f.memory_bytes, &f.n_memory, &registry().memory);
}
cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned) {
  const cudaError_t error = enter_gpu("cudaHostAlloc");
  if (error != cudaSuccess) return error;
  FakeCuda& f = fake_cuda();
  return allocate(
      p, bytes, f.pinned, &f.pinned_bytes, &f.n_pinned, &registry().pinned);
}
cudaError_t cudaMallocHost(void** p, size_t bytes) {
  return cudaHostAlloc(p, bytes, 0);
}
cudaError_t cudaFreeHost(void* p) {
  FakeCuda& f = fake_cuda();
  return release(p, &f.pinned_bytes, &f.n_pinned, &registry().pinned);
}
cudaError_t cudaHostGetDevicePointer(void** gpu, void* host, unsigned) {
  *gpu = host;
  return enter_gpu("cudaHostGetDevicePointer");
}
cudaError_t cudaMemcpyAsync(void* to,
                            const void* from,
                            size_t bytes,
                            cudaMemcpyKind,
                            cudaStream_t stream) {
  const cudaError_t error = enter_gpu("cudaMemcpyAsync");
  if (error != cudaSuccess) return error;
  queue(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int v, size_t bytes, cudaStream_t s) {
  const cudaError_t error = enter_gpu("cudaMemsetAsync");
  if (error != cudaSuccess) return error;
  queue(s, [=] { std::memset(to, v, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const cudaError_t error = enter_gpu("cudaStreamCreateWithFlags");
  if (error != cudaSuccess) return error;
  *stream = new CUstream_st;
  ++fake_cuda().n_streams;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return answer(cudaErrorInvalidResourceHandle);
  delete stream;
  --fake_cuda().n_streams;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return enter_gpu("cudaStreamSynchronize");
}
// Work is done at once: what an event waits for has happened.
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const cudaError_t error = enter_gpu("cudaEventCreateWithFlags");
  if (error != cudaSuccess) return error;
  *event = new CUevent_st;
  ++fake_cuda().n_events;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return answer(cudaErrorInvalidResourceHandle);
  delete event;
  --fake_cuda().n_events;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
  return enter_gpu("cudaEventRecord");
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return enter_gpu("cudaStreamWaitEvent");
}
cudaError_t cudaDeviceCanAccessPeer(int* possible, int, int) {
  *possible = 1;
  return enter_gpu("cudaDeviceCanAccessPeer");
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) {
  return enter_gpu("cudaDeviceEnablePeerAccess");
}
cudaError_t cudaMemcpyPeerAsync(
    void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  const cudaError_t error = enter_gpu("cudaMemcpyPeerAsync");
  if (error != cudaSuccess) return error;
  queue(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const cudaError_t error = enter_gpu("cudaStreamBeginCapture");
  if (error != cudaSuccess) return error;
  stream->capturing = true;
  stream->captured.clear();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  stream->capturing = false;
  *graph = nullptr;
  const cudaError_t error = enter_gpu("cudaStreamEndCapture");
  if (error != cudaSuccess) return error;
  *graph = new CUgraph_st{std::move(stream->captured)};
  ++fake_cuda().n_graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable,
                                 cudaGraph_t graph,
                                 unsigned long long) {
  const cudaError_t error = enter_gpu("cudaGraphInstantiate");
  if (error != cudaSuccess) return error;
  *executable = new CUgraphExec_st{graph->work};
  ++fake_cuda().n_executables;
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  return enter_gpu("cudaGraphUpload");
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  const cudaError_t error = enter_gpu("cudaGraphLaunch");
  if (error != cudaSuccess) return error;
  for (const auto& work : executable->work) work();
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  --fake_cuda().n_graphs;
  return enter("cudaGraphDestroy");
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  --fake_cuda().n_executables;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes,
                                  const void* function) {
  *attributes = {};
  const cudaError_t error = enter_gpu("cudaFuncGetAttributes");
  if (error != cudaSuccess) return error;
  if (!fake_cuda().kernels) return answer(cudaErrorNoKernelImageForDevice);
  return registry().kernels.count(function) != 0
             ? cudaSuccess
             : answer(cudaErrorInvalidDeviceFunction);
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) {
  return enter_gpu("cudaFuncSetAttribute");
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config,
                                const void* function,
                                void** arguments) {
  const cudaError_t error = enter_gpu("cudaLaunchKernelExC");
  if (error != cudaSuccess) return error;
  return launch(function, arguments, config->stream);
}
cudaError_t cudaLaunchKernel(const void* function,
                             dim3,
                             dim3,
                             void** arguments,
                             size_t,
                             cudaStream_t stream) {
  const cudaError_t error = enter_gpu("cudaLaunchKernel");
  return error != cudaSuccess ? error : launch(function, arguments, stream);
}

// What nvcc's code for kernel<<<..>>>() calls. Names are CUDA's.
// NOLINTBEGIN(bugprone-reserved-identifier)
void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**,
                            const char* host_function,
                            char*,
                            const char* name,
                            int,
                            uint3*,
                            uint3*,
                            dim3*,
                            dim3*,
                            int*) {
  registry().kernels[host_function] = name;
}
unsigned __cudaPushCallConfiguration(dim3 grid,
                                     dim3 block,
                                     size_t shared,
                                     void* stream) {
  Registry& r = registry();
  r.grid = grid;
  r.block = block;
  r.shared = shared;
  r.stream = stream;
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid,
                                       dim3* block,
                                       size_t* shared,
                                       void* stream) {
  const Registry& r = registry();
  *grid = r.grid;
  *block = r.block;
  *shared = r.shared;
  *static_cast<void**>(stream) = r.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  // A handle of the fake's: the function itself.
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel,
                               dim3 grid,
                               dim3 block,
                               void** arguments,
                               size_t shared,
                               cudaStream_t stream) {
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel),
                          grid,
                          block,
                          arguments,
                          shared,
                          stream);
}
// NOLINTEND(bugprone-reserved-identifier)

}  // extern "C"
