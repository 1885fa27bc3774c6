// The Device that is a GPU, by the CUDA runtime; nothing else calls it.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "fewstep/host/engine.h"
#include "fewstep/host/error.h"
#include "gpu_engine.h"
#include "kernels.h"

namespace fewstep::host {
namespace {

[[noreturn]] void fail(cudaError_t status, const char* what) {
  std::string remedy;
  switch (status) {
    case cudaErrorNoDevice:
      remedy = "there is no NVIDIA GPU here; use --engine cpu";
      break;
    case cudaErrorInsufficientDriver: {
      int driver = 0;
      int runtime = 0;
      static_cast<void>(cudaDriverGetVersion(&driver));
      static_cast<void>(cudaRuntimeGetVersion(&runtime));
      remedy =
          driver == 0
              ? std::string(
                    "no NVIDIA driver is loaded, so there is no GPU to use; "
                    "install the driver, or use --engine cpu")
              : fmt::format(
                    "the driver knows CUDA {}.{}, this program needs "
                    "{}.{}; update the driver, or use --engine cpu",
                    driver / 1000,
                    driver % 1000 / 10,
                    runtime / 1000,
                    runtime % 1000 / 10);
      break;
    }
    case cudaErrorMemoryAllocation:
      remedy =
          "the GPU's or the host's memory is used up; lower outer.tasks, "
          "task.shots, task.queries or the network's filters, end other "
          "programs on the GPU, or use --engine cpu";
      break;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
      remedy =
          "this program was built for other GPUs; build it with "
          "-DCMAKE_CUDA_ARCHITECTURES=<this GPU's>, or use --engine cpu";
      break;
    default:
      remedy =
          "the GPU failed; the last checkpoint is intact: go on with "
          "--resume, or use --engine cpu";
  }
  throw Error(Exit::kResource,
              fmt::format("--engine cuda: {}: {} ({})",
                          what,
                          remedy,
                          cudaGetErrorString(status)));
}

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) fail(status, what);
}

class CudaGraph final : public Device::Graph {
 public:
  CudaGraph(cudaStream_t stream, cudaGraph_t graph) : stream_(stream) {
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    static_cast<void>(cudaGraphDestroy(graph));
    check(status, "preparing the work");
  }
  ~CudaGraph() override {
    static_cast<void>(cudaGraphExecDestroy(executable_));
  }
  void run() override {
    check(cudaGraphLaunch(executable_, stream_), "starting the work");
  }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t executable_ = nullptr;
};

class CudaDevice final : public Device {
 public:
  CudaDevice() {
    int n_devices = 0;
    check(cudaGetDeviceCount(&n_devices), "looking for a GPU");
    if (n_devices == 0) fail(cudaErrorNoDevice, "looking for a GPU");
    check(cudaSetDevice(0), "opening the GPU");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, 0), "asking the GPU");
    size_t free = 0;
    size_t total = 0;
    check(cudaMemGetInfo(&free, &total), "asking the GPU");
    limits_.name = properties.name;
    limits_.compute =
        static_cast<uint32_t>(10 * properties.major + properties.minor);
    limits_.n_multiprocessors =
        static_cast<uint32_t>(properties.multiProcessorCount);
    limits_.shared_per_block = properties.sharedMemPerBlockOptin;
    limits_.shared_per_multiprocessor = properties.sharedMemPerMultiprocessor;
    limits_.total_memory = total;
    limits_.free_memory = free;
    for (const void* kernel : {meta_gradients_of_blocks(),
                               evaluations_of_blocks(),
                               meta_gradients_of_clusters(),
                               evaluations_of_clusters(),
                               reduction()}) {
      cudaFuncAttributes attributes;
      check(cudaFuncGetAttributes(&attributes, kernel), "loading the kernels");
    }
    for (const void* kernel :
         {meta_gradients_of_blocks(), evaluations_of_blocks()}) {
      check(cudaFuncSetAttribute(kernel,
                                 cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(limits_.shared_per_block)),
            "loading the kernels");
    }
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
          "opening the GPU");
  }

  ~CudaDevice() override {
    // Whatever these say, nothing is left to do about it.
    static_cast<void>(cudaStreamSynchronize(stream_));
    for (void* p : device_memory_) static_cast<void>(cudaFree(p));
    for (void* p : host_memory_) static_cast<void>(cudaFreeHost(p));
    static_cast<void>(cudaStreamDestroy(stream_));
  }

  const DeviceLimits& limits() const override { return limits_; }

  void* allocate(uint64_t bytes) override {
    void* p = nullptr;
    device_memory_.reserve(device_memory_.size() + 1);
    check(cudaMalloc(&p, std::max<uint64_t>(bytes, 1)), "taking memory");
    device_memory_.push_back(p);
    return p;
  }
  void* allocate_host(uint64_t bytes) override {
    void* p = nullptr;
    host_memory_.reserve(host_memory_.size() + 1);
    check(cudaMallocHost(&p, std::max<uint64_t>(bytes, 1)), "taking memory");
    host_memory_.push_back(p);
    return p;
  }

  void upload(void* to, const void* from, uint64_t bytes) override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_),
          "copying to the GPU");
  }
  void download(void* to, const void* from, uint64_t bytes) override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_),
          "copying from the GPU");
  }

  void run_meta_gradients(const TaskLaunch& launch) override {
    launch_tasks(launch.blocks > 1 ? meta_gradients_of_clusters()
                                   : meta_gradients_of_blocks(),
                 launch);
  }
  void run_evaluations(const TaskLaunch& launch) override {
    launch_tasks(
        launch.blocks > 1 ? evaluations_of_clusters() : evaluations_of_blocks(),
        launch);
  }
  void run_reduction(const TaskLaunch& launch) override {
    const uint32_t n =
        launch.program.network.n_params + launch.program.rule.n_phi;
    cudaLaunchConfig_t config = {};
    config.gridDim =
        dim3((n + kReductionThreads - 1) / kReductionThreads, 1, 1);
    config.blockDim = dim3(kReductionThreads, 1, 1);
    config.stream = stream_;
    launch_kernel(reduction(), config, launch);
  }

  std::unique_ptr<Graph> record(const std::function<void()>& queue) override {
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
          "recording the work");
    cudaGraph_t graph = nullptr;
    try {
      queue();
    } catch (...) {
      static_cast<void>(cudaStreamEndCapture(stream_, &graph));
      if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
      throw;
    }
    check(cudaStreamEndCapture(stream_, &graph), "recording the work");
    return std::make_unique<CudaGraph>(stream_, graph);
  }

  void wait() override { check(cudaStreamSynchronize(stream_), "computing"); }

 private:
  void launch_tasks(const void* kernel, const TaskLaunch& launch) {
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = launch.blocks;
    cluster.val.clusterDim.y = 1;
    cluster.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(launch.teams * launch.blocks, 1, 1);
    config.blockDim = dim3(launch.threads, 1, 1);
    config.dynamicSmemBytes =
        launch.program.layout.shared_values * sizeof(float);
    config.stream = stream_;
    if (launch.blocks > 1) {
      config.attrs = &cluster;
      config.numAttrs = 1;
    }
    launch_kernel(kernel, config, launch);
  }
  static void launch_kernel(const void* kernel,
                            const cudaLaunchConfig_t& config,
                            const TaskLaunch& launch) {
    TaskKernelArguments arguments = {
        launch.program, launch.arrays, launch.wave};
    void* pointers[] = {&arguments};
    check(cudaLaunchKernelExC(&config, kernel, pointers), "starting a kernel");
  }

  DeviceLimits limits_;
  cudaStream_t stream_ = nullptr;
  std::vector<void*> device_memory_, host_memory_;
};

}  // namespace

DeviceLimits cuda_device_limits() { return CudaDevice().limits(); }

std::unique_ptr<Engine> make_cuda_engine(const EngineConfig& config) {
  return make_gpu_engine(config, [] { return std::make_unique<CudaDevice>(); });
}

}  // namespace fewstep::host
