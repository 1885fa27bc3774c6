// Definitions behind channel_ops.h; included by channel_ops*.cpp only.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CPU_CHANNEL_OPS_IMPL_H_
#define FEWSTEP_HOST_CPU_CHANNEL_OPS_IMPL_H_

#include <cstring>

#include "channel_ops.h"
#include "fewstep/layer_ops.h"
#include "fewstep/losses/loss.h"

namespace fewstep::host {

using ChannelLayers = StaticOps<
    OpList<Conv2d, BatchNorm, Relu, Tanh, MaxPool, GlobalAvgPool, Flatten>,
    OpList<>,
    OpList<>>;
/// Of tangents alone (tape.h) there is conv2d's kernel only.
template <class W>
struct ChannelLayersOf {
  using Type = ChannelLayers;
};
template <class View>
struct ChannelLayersOf<TangentView<View>> {
  using Type = StaticOps<OpList<Conv2d>, OpList<>, OpList<>>;
};
using ChannelLosses = StaticOps<OpList<>,
                                OpList<SoftmaxCrossEntropy, MeanSquaredError>,
                                OpList<>>;

// Channel o of a row of outputs.
inline float get_channel(const Channels* row, uint32_t o) {
  return reinterpret_cast<const float*>(row)[o];
}
inline Dual<float> get_channel(const Dual<Channels>* row, uint32_t o) {
  const Dual<Channels>& run = row[o / kLanes];
  return {get_channel(&run.value, o % kLanes),
          get_channel(&run.tangent, o % kLanes)};
}
inline void set_channel(Channels* row, uint32_t o, float x) {
  reinterpret_cast<float*>(row)[o] = x;
}
inline void set_channel(Dual<Channels>* row, uint32_t o, Dual<float> x) {
  Dual<Channels>& run = row[o / kLanes];
  set_channel(&run.value, o % kLanes, x.value);
  set_channel(&run.tangent, o % kLanes, x.tangent);
}

/// The operations of inner_loop.h at U.
template <class U>
struct ChannelRunner<U>::Ops {
  ChannelRunner* r;

  template <class W>
  void forward(const SerialExecutor& e,
               LayerOp op,
               const LayerCall<U>& c) const {
    typename ChannelLayersOf<W>::Type().template forward<W>(e, op, c);
  }
  template <class W>
  void weight_gradient(const SerialExecutor& e,
                       LayerOp op,
                       const LayerCall<U>& c) const {
    typename ChannelLayersOf<W>::Type().template weight_gradient<W>(e, op, c);
  }
  template <class W>
  void input_gradient(const SerialExecutor& e,
                      LayerOp op,
                      LayerCall<U> c) const {
    if (op == LayerOp::kConv2d) {
      const uint32_t at = r->channel_network_->transposed_offset(c.layer);
      c.weights.value = r->transposed_.data() + at;
      if constexpr (!std::is_same_v<U, Channels>) {
        c.weights.tangent = r->transposed_tangent_.data() + at;
      }
    }
    typename ChannelLayersOf<W>::Type().template input_gradient<W>(e, op, c);
  }
  void loss(const SerialExecutor& e, LossOp op, const LossCall<U>& c) const {
    const uint32_t n_out = r->n_out_;
    F* z = r->out_.data();
    for (uint32_t ex = 0; ex < c.n; ++ex) {
      for (uint32_t o = 0; o < n_out; ++o) {
        *z++ = get_channel(c.out + size_t{ex} * c.n_out, o);
      }
    }
    LossCall<F> f = {};
    f.n = c.n;
    f.n_total = c.n_total;
    f.n_out = n_out;
    f.activation = c.activation;
    f.labels = c.labels;
    f.targets = r->targets_;
    f.out = r->out_.data();
    f.row_loss = r->row_loss_.data();
    f.loss = &r->loss_;
    f.first = c.first;
    f.last = c.last;
    f.gradient = c.gradient;
    ChannelLosses().loss(e, op, f);
    if (r->targets_ != nullptr) r->targets_ += size_t{c.n} * n_out;
    if (!c.gradient) return;
    z = r->out_.data();
    for (uint32_t ex = 0; ex < c.n; ++ex) {
      U* const row = c.out + size_t{ex} * c.n_out;
      for (uint32_t i = 0; i < c.n_out; ++i) row[i] = constant<U>(0.0F);
      for (uint32_t o = 0; o < n_out; ++o) set_channel(row, o, *z++);
    }
  }
};

template <class U>
ChannelRunner<U>::ChannelRunner(const ChannelNetwork& network,
                                uint32_t tile,
                                Tape<Channels>* tape)
    : channel_network_(&network),
      tape_(tape),
      network_(network.network()),
      tile_(tile),
      n_out_(network.source().n_out),
      theta_(network.n_params()),
      tangent_(std::is_same_v<U, Channels> ? 0 : network.n_params()),
      transposed_(network.n_transposed()),
      transposed_tangent_(std::is_same_v<U, Channels> ? 0
                                                      : network.n_transposed()),
      values_(workspace_values(network_, tile)),
      grad_(network.n_params()),
      out_(size_t{tile} * n_out_),
      row_loss_(tile) {}

template <class U>
void ChannelRunner<U>::load(const float* theta,
                            const float* tangent,
                            bool backward) {
  const auto floats = [](std::vector<Channels>* v) {
    return reinterpret_cast<float*>(v->data());
  };
  channel_network_->pack(theta, floats(&theta_));
  if (backward) channel_network_->pack_transposed(theta, floats(&transposed_));
  if (tangent == nullptr) return;
  channel_network_->pack(tangent, floats(&tangent_));
  if (backward) {
    channel_network_->pack_transposed(tangent, floats(&transposed_tangent_));
  }
}

template <class U>
typename ChannelRunner<U>::View ChannelRunner<U>::view() const {
  if constexpr (std::is_same_v<U, Channels>) {
    return {theta_.data()};
  } else {
    return {{theta_.data()}, tangent_.data()};
  }
}

template <class U>
Workspace<U> ChannelRunner<U>::workspace() {
  return {values_.data(), tile_};
}

template <class U>
void ChannelRunner<U>::gradient(const float* theta,
                                const float* tangent,
                                const Batch<F>& batch,
                                F* grad,
                                F* loss) {
  load(theta, tangent, true);
  targets_ = batch.targets;
  fewstep::gradient(SerialExecutor(),
                    TapeOps<Ops, Channels>(Ops{this}, tape_),
                    network_,
                    view(),
                    workspace(),
                    packed(batch),
                    grad_.data());
  *loss = loss_;
  const float* const from = reinterpret_cast<const float*>(grad_.data());
  float* const to = reinterpret_cast<float*>(grad);
  constexpr size_t kParts = sizeof(U) / sizeof(Channels);
  for (size_t part = 0; part < kParts; ++part) {
    channel_network_->unpack(
        from + part * kLanes, kParts * kLanes, to + part, kParts);
  }
}

template <class U>
void ChannelRunner<U>::mean_loss(const float* theta,
                                 const Batch<F>& batch,
                                 F* loss) {
  load(theta, nullptr, false);
  targets_ = batch.targets;
  fewstep::mean_loss(SerialExecutor(),
                     Ops{this},
                     network_,
                     view(),
                     workspace(),
                     packed(batch));
  *loss = loss_;
}

template <class U>
void ChannelRunner<U>::forward(const float* theta,
                               const float* x,
                               uint32_t n,
                               F* out) {
  load(theta, nullptr, false);
  fewstep::forward(
      SerialExecutor(), Ops{this}, network_, view(), workspace(), x, n);
  const U* const z = outputs(network_, workspace());
  for (uint32_t ex = 0; ex < n; ++ex) {
    for (uint32_t o = 0; o < n_out_; ++o) {
      *out++ = get_channel(z + size_t{ex} * network_.n_out, o);
    }
  }
}

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CPU_CHANNEL_OPS_IMPL_H_
