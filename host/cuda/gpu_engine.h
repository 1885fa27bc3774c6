// The GPU engine over a Device (device.h): what make_cuda_engine() gives, on
// any device.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_GPU_ENGINE_H_
#define FEWSTEP_HOST_CUDA_GPU_ENGINE_H_

#include <memory>

#include "device.h"
#include "fewstep/host/engine.h"

namespace fewstep::host {

/// Makes a device; called again when an iteration has more tasks than any
/// before, after the old one has ended.
using DeviceFactory = std::function<std::unique_ptr<Device>()>;

/// An engine that plans its memory for config.n_tasks tasks at once and takes
/// it now.
///
/// Episodes are drawn on the host, by the same code and threads as the CPU
/// engine's; those of the next iteration while the device computes this one.
///
/// @throws Error kResource when the device lacks memory.
std::unique_ptr<Engine> make_gpu_engine(const EngineConfig& config,
                                        DeviceFactory make_device);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_GPU_ENGINE_H_
