// The Device that is a GPU, by the CUDA runtime; nothing else calls it.
//
// The runtime's calls go to the thread's current device: every member makes its
// own the current one first.
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

// Makes GPU `index` the current one.
void use(int index) { check(cudaSetDevice(index), "opening the GPU"); }

int count_devices() {
  int n = 0;
  check(cudaGetDeviceCount(&n), "looking for a GPU");
  if (n == 0) fail(cudaErrorNoDevice, "looking for a GPU");
  return n;
}

class CudaGraph final : public Device::Graph {
 public:
  CudaGraph(int index, cudaStream_t stream, cudaGraph_t graph)
      : index_(index), stream_(stream) {
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    static_cast<void>(cudaGraphDestroy(graph));
    check(status, "preparing the work");
  }
  ~CudaGraph() override {
    static_cast<void>(cudaGraphExecDestroy(executable_));
  }
  void run() override {
    use(index_);
    check(cudaGraphLaunch(executable_, stream_), "starting the work");
  }

 private:
  int index_;
  cudaStream_t stream_;
  cudaGraphExec_t executable_ = nullptr;
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index) : index_(index) {
    static_cast<void>(count_devices());
    use(index_);
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, index_), "asking the GPU");
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
                               reduction(),
                               outer_preparation(),
                               outer_step_of_elements(),
                               episode_drawing(),
                               image_fetching()}) {
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
    check(cudaEventCreateWithFlags(&reached_, cudaEventDisableTiming),
          "opening the GPU");
  }

  ~CudaDevice() override {
    // Whatever these say, nothing is left to do about it.
    static_cast<void>(cudaSetDevice(index_));
    static_cast<void>(cudaStreamSynchronize(stream_));
    static_cast<void>(cudaEventDestroy(reached_));
    for (void* p : device_memory_) static_cast<void>(cudaFree(p));
    for (void* p : host_memory_) static_cast<void>(cudaFreeHost(p));
    static_cast<void>(cudaStreamDestroy(stream_));
  }

  const DeviceLimits& limits() const override { return limits_; }

  void* allocate(uint64_t bytes) override {
    use(index_);
    void* p = nullptr;
    device_memory_.reserve(device_memory_.size() + 1);
    check(cudaMalloc(&p, std::max<uint64_t>(bytes, 1)), "taking memory");
    device_memory_.push_back(p);
    return p;
  }
  void* allocate_host(uint64_t bytes) override {
    use(index_);
    void* p = nullptr;
    host_memory_.reserve(host_memory_.size() + 1);
    check(cudaMallocHost(&p, std::max<uint64_t>(bytes, 1)), "taking memory");
    host_memory_.push_back(p);
    return p;
  }

  void upload(void* to, const void* from, uint64_t bytes) override {
    use(index_);
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_),
          "copying to the GPU");
  }
  void download(void* to, const void* from, uint64_t bytes) override {
    use(index_);
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
    const uint64_t n =
        uint64_t{launch.program.network.n_params} + launch.program.rule.n_phi;
    TaskKernelArguments arguments = {
        launch.program, launch.arrays, launch.wave};
    launch_kernel(reduction(), grid_of(n + 1, kGridThreads), &arguments);
  }
  void run_drawing(const DrawingLaunch& launch) override {
    DrawingLaunch arguments = launch;
    launch_kernel(episode_drawing(),
                  grid_of(launch.n_tasks, kDrawingThreads),
                  &arguments);
    if (launch.program.kind != DrawingProgram::Kind::kImages) return;
    const uint64_t n_examples =
        uint64_t{launch.n_tasks} * (launch.n_support + launch.n_query);
    launch_kernel(image_fetching(),
                  grid_of(n_examples * kGridThreads, kGridThreads),
                  &arguments);
  }
  void run_outer_step(const OuterArrays<float>& arrays) override {
    OuterArrays<float> arguments = arrays;
    launch_kernel(
        outer_preparation(), grid_of(kPartials, kPartials), &arguments);
    launch_kernel(outer_step_of_elements(),
                  grid_of(arrays.n_learned, kGridThreads),
                  &arguments);
  }
  void copy_from(Device& other,
                 void* to,
                 const void* from,
                 uint64_t bytes) override {
    CudaDevice& source = static_cast<CudaDevice&>(other);
    use(source.index_);
    check(cudaEventRecord(source.reached_, source.stream_),
          "waiting for another GPU");
    use(index_);
    open_path_from(source.index_);
    check(cudaStreamWaitEvent(stream_, source.reached_, 0),
          "waiting for another GPU");
    check(cudaMemcpyPeerAsync(to, index_, from, source.index_, bytes, stream_),
          "copying from another GPU");
  }

  std::unique_ptr<Graph> record(const std::function<void()>& queue) override {
    use(index_);
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
    return std::make_unique<CudaGraph>(index_, stream_, graph);
  }

  void wait() override {
    use(index_);
    check(cudaStreamSynchronize(stream_), "computing");
  }

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
    TaskKernelArguments arguments = {
        launch.program, launch.arrays, launch.wave};
    launch_kernel(kernel, config, &arguments);
  }
  // Lets copies from GPU `source` go from memory to memory, where the machine
  // can; where it cannot, the runtime takes them through the host.
  void open_path_from(int source) {
    if (std::find(paths_.begin(), paths_.end(), source) != paths_.end()) return;
    paths_.push_back(source);
    int possible = 0;
    check(cudaDeviceCanAccessPeer(&possible, index_, source), "asking the GPU");
    if (possible == 0) return;
    const cudaError_t status = cudaDeviceEnablePeerAccess(source, 0);
    if (status == cudaErrorPeerAccessAlreadyEnabled) {
      static_cast<void>(cudaGetLastError());  // It would be reported again.
      return;
    }
    check(status, "opening a path between GPUs");
  }
  // Blocks of `threads` for `n` items; where there are more, threads take
  // several.
  cudaLaunchConfig_t grid_of(uint64_t n, uint32_t threads) const {
    constexpr uint64_t kMaxBlocks = 1U << 30;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<uint32_t>(std::min(
                              kMaxBlocks, (n + threads - 1) / threads)),
                          1,
                          1);
    config.blockDim = dim3(threads, 1, 1);
    config.stream = stream_;
    return config;
  }
  void launch_kernel(const void* kernel,
                     const cudaLaunchConfig_t& config,
                     void* arguments) {
    use(index_);
    check(cudaLaunchKernelExC(&config, kernel, &arguments),
          "starting a kernel");
  }

  int index_;
  DeviceLimits limits_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t reached_ = nullptr;  // Where its queue was at the last copy.
  std::vector<int> paths_;         // GPUs copied from so far.
  std::vector<void*> device_memory_, host_memory_;
};

}  // namespace

DeviceLimits cuda_device_limits() { return CudaDevice(0).limits(); }

std::unique_ptr<Engine> make_cuda_engine(const EngineConfig& config) {
  const int n_there = count_devices();
  if (config.n_gpus > static_cast<uint32_t>(n_there)) {
    throw Error(
        Exit::kResource,
        fmt::format("--engine cuda --gpus {}: there {} here; lower "
                    "--gpus: the results are the same",
                    config.n_gpus,
                    n_there == 1 ? std::string("is one GPU")
                                 : fmt::format("are {} GPUs", n_there)));
  }
  return make_gpu_engine(config, [](uint32_t index) {
    return std::make_unique<CudaDevice>(static_cast<int>(index));
  });
}

}  // namespace fewstep::host
