// Batches of one task through the kernels of lib/ at Channels.
//
// An Ops for MetaGradient<float>: it brings gradient(), mean_loss() and
// forward() of a whole batch, which pack the parameters, run inner_loop.h at
// Channels or Dual<Channels> and unpack the result. Losses and rules, whose
// sums run across channels and parameters, run at float.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_CHANNEL_OPS_H_
#define FEWSTEP_HOST_CPU_CHANNEL_OPS_H_

#include <vector>

#include "channel_network.h"
#include "channels.h"
#include "fewstep/executor/serial.h"
#include "fewstep/inner_loop.h"
#include "tape.h"

namespace fewstep {
template <class T>
struct RuleVjpCall;
}  // namespace fewstep

namespace fewstep::host {

/// Runs one number type's batches; U is Channels or Dual<Channels>, F float or
/// Dual<float>. One worker's: not to be shared between threads.
template <class U>
class ChannelRunner {
 public:
  using F = std::conditional_t<std::is_same_v<U, Channels>, float, Dual<float>>;
  using View = std::conditional_t<std::is_same_v<U, Channels>,
                                  PlainView<Channels>,
                                  DualView<PlainView<Channels>>>;

  /// `tile` examples at a time; gradients are recorded on `tape`, or replayed.
  ChannelRunner(const ChannelNetwork& network,
                uint32_t tile,
                Tape<Channels>* tape);

  /// grad [P] and *loss of `batch` at theta (Dual: and `tangent`).
  void gradient(const float* theta,
                const float* tangent,
                const Batch<F>& batch,
                F* grad,
                F* loss);
  /// The loss alone.
  void mean_loss(const float* theta, const Batch<F>& batch, F* loss);
  /// out [n][n_out] = network(theta, x), n <= tile.
  void forward(const float* theta, const float* x, uint32_t n, F* out);

 private:
  struct Ops;
  void load(const float* theta, const float* tangent, bool backward);
  View view() const;
  Workspace<U> workspace();
  static Batch<U> packed(const Batch<F>& b) {
    return {b.x, b.labels, nullptr, b.n};
  }

  const ChannelNetwork* channel_network_;
  Tape<Channels>* tape_;
  Network network_;
  uint32_t tile_;
  uint32_t n_out_;  // Outputs of the network, not runs of them.
  std::vector<Channels> theta_, tangent_;
  std::vector<Channels> transposed_, transposed_tangent_;
  std::vector<U> values_, grad_;
  std::vector<F> out_, row_loss_;
  F loss_ = {};
  const float* targets_ = nullptr;  // Of the examples to come.
};

extern template class ChannelRunner<Channels>;
extern template class ChannelRunner<Dual<Channels>>;

class ChannelOps {
 public:
  /// @param tile          Examples the kernels take at a time.
  /// @param support_tile  The same of a support set, at dual numbers.
  ChannelOps(const ChannelNetwork& network,
             uint32_t tile,
             uint32_t support_tile,
             Tape<Channels>* tape)
      : tape_(tape),
        runner_(network, tile, tape),
        dual_(network, support_tile, tape) {}

  void start(const BatchPass& pass, const float* x) { tape_->start(pass, x); }

  void gradient(const PlainView<float>& theta,
                const Workspace<float>& ws,
                const Batch<float>& batch,
                float* grad) {
    runner_.gradient(theta.data, nullptr, batch, grad, batch_loss(ws));
  }
  void gradient(const DualView<PlainView<float>>& theta,
                const Workspace<Dual<float>>& ws,
                const Batch<Dual<float>>& batch,
                Dual<float>* grad) {
    dual_.gradient(
        theta.value.data, theta.tangent, batch, grad, batch_loss(ws));
  }
  void mean_loss(const PlainView<float>& theta,
                 const Workspace<float>& ws,
                 const Batch<float>& batch) {
    runner_.mean_loss(theta.data, batch, batch_loss(ws));
  }
  void forward(const PlainView<float>& theta,
               const float* x,
               uint32_t n,
               float* out) {
    runner_.forward(theta.data, x, n, out);
  }

  template <class W, class R>
  void update(const SerialExecutor& e,
              const RuleCall<float>& c,
              const W& theta,
              const R& phi) const {
    float_update(e, c, theta, phi);
  }
  void vjp(const SerialExecutor& e,
           const RuleVjpCall<float>& c,
           const PlainView<float>& theta,
           const PlainView<float>& phi) const;

 private:
  static void float_update(const SerialExecutor& e,
                           const RuleCall<float>& c,
                           const PlainView<float>& theta,
                           const PlainView<float>& phi);

  Tape<Channels>* tape_;
  ChannelRunner<Channels> runner_;
  ChannelRunner<Dual<Channels>> dual_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CPU_CHANNEL_OPS_H_
