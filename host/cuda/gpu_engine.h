// The GPU engine over Devices (device.h): what make_cuda_engine() gives, on any
// device.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CUDA_GPU_ENGINE_H_
#define FEWSTEP_HOST_CUDA_GPU_ENGINE_H_

#include <functional>
#include <memory>

#include "device.h"
#include "fewstep/host/engine.h"

namespace fewstep::host {

/// Makes device number `index`; called again when an iteration has more tasks
/// than any before, after the old ones have ended.
using DeviceFactory = std::function<std::unique_ptr<Device>(uint32_t index)>;

/// An engine on config.n_gpus devices that plans its memory for config.n_tasks
/// tasks at once and takes it now.
///
/// The device draws the episodes of sources that say how (drawing.h). Others
/// are drawn on the host, by the same code and threads as the CPU engine's;
/// those of the next iteration while the devices compute this one.
///
/// Its outer loop (Engine::start()) keeps parameters and moments on the
/// devices: of an iteration the host gets losses and flags only.
///
/// Several devices have a run of tasks each. The sums over tasks go from device
/// to device, each adding its own in task order, and the last takes the outer
/// step and hands the parameters round: the order of one device, and its bits.
///
/// @throws Error kResource when a device lacks memory.
std::unique_ptr<Engine> make_gpu_engine(const EngineConfig& config,
                                        DeviceFactory make_device);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CUDA_GPU_ENGINE_H_
