// Every layer, loss and rule as CUDA device code: the inner loop at float, its
// Hessian-vector product at Dual<float>, and the rules' vector-Jacobian
// products, a task a thread block. Compiling it is the test; no GPU runs it.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/executor/block.h"
#include "fewstep/executor/called_ops.h"
#include "fewstep/inner_loop.h"

namespace fewstep {

/// A task's support set and buffers.
struct Task {
  Batch<float> support;
  Workspace<float> workspace;
  Workspace<Dual<float>> dual_workspace;
  float* grad;             ///< [P] -> theta_1
  Dual<float>* dual_grad;  ///< [P] tangents -> H v
  const float* direction;  ///< v, [P]
};

/// grad = theta_1 = rule(theta_0, gradient at theta_0)
template <class W, class R>
__global__ void adapt_tasks(
    Network network, Rule rule, W theta, R phi, const Task* tasks) {
  const BlockExecutor e;
  const CalledOps ops;
  const Task& task = tasks[blockIdx.x];
  gradient(e, ops, network, theta, task.workspace, task.support, task.grad);
  RuleCall<float> call = {};
  call.network = &network;
  call.rule = &rule;
  call.loss = batch_loss(task.workspace);
  call.grad = task.grad;
  update(e, ops, call, theta, phi);
}

/// tangents of dual_grad = H(theta) direction
template <class W>
__global__ void hessian_vector_products(Network network,
                                        W theta,
                                        const Task* tasks) {
  const Task& task = tasks[blockIdx.x];
  const Batch<Dual<float>> support = {task.support.x,
                                      task.support.labels,
                                      task.support.targets,
                                      task.support.n};
  gradient(BlockExecutor(),
           CalledOps(),
           network,
           DualView<W>{theta, task.direction},
           task.dual_workspace,
           support,
           task.dual_grad);
}

template <class R>
__global__ void rule_vjps(const RuleVjpCall<float>* calls, R phi) {
  CalledOps().vjp(BlockExecutor(),
                  calls[blockIdx.x],
                  PlainView<float>{calls[blockIdx.x].theta_bar},
                  phi);
}

__global__ void mean_losses(Network network,
                            PlainView<float> theta,
                            const Task* tasks) {
  const Task& task = tasks[blockIdx.x];
  mean_loss(BlockExecutor(),
            CalledOps(),
            network,
            theta,
            task.workspace,
            task.support);
}

// Parameters and rates as capsules store them, and the trainer's.
using F32 = PlainView<float>;
template __global__ void adapt_tasks(Network, Rule, F32, F32, const Task*);
template __global__ void adapt_tasks(Network, Rule, F32, F16View, const Task*);
template __global__ void adapt_tasks(Network, Rule, F32, Log8View, const Task*);
template __global__ void adapt_tasks(Network, Rule, F16View, F32, const Task*);
template __global__ void adapt_tasks(
    Network, Rule, F16View, F16View, const Task*);
template __global__ void adapt_tasks(
    Network, Rule, F16View, Log8View, const Task*);
template __global__ void hessian_vector_products(Network, F32, const Task*);
template __global__ void hessian_vector_products(Network, F16View, const Task*);
template __global__ void rule_vjps(const RuleVjpCall<float>*, F32);

}  // namespace fewstep
