// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/device/session.h"

#include "fewstep/inner_loop.h"
#include "float_environment.h"
#include "op_table.h"
#include "session_layout.h"

namespace fewstep {
namespace {

// True when every value is finite: v * 0 is +-0 then, and NaN otherwise. One
// instruction a value, no branch.
bool all_finite(const float* values, size_t n) {
  float sum = 0.0F;
  for (size_t i = 0; i < n; ++i) sum = fma(values[i], 0.0F, sum);
  return is_finite(sum);
}

// True when `ops` has everything `capsule` needs.
bool links_all(const Capsule& capsule, const Op* const* ops) {
  const bool f16 = capsule.init.storage == Storage::kF16;
  const auto has = [&](OpKind kind, uint8_t code) {
    const Op* const op = find_op(ops, kind, code);
    return op != nullptr && (op->f16 || !f16);
  };
  const Network& network = capsule.network;
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const LayerOp op = network.layers[i].op;
    if (!has(OpKind::kLayer, static_cast<uint8_t>(op))) return false;
  }
  return has(OpKind::kLoss, static_cast<uint8_t>(network.loss)) &&
         has(OpKind::kRule, static_cast<uint8_t>(capsule.rule.op));
}

}  // namespace

Status required_bytes(const Capsule& capsule,
                      const SessionOptions& options,
                      size_t* n_bytes) {
  if (n_bytes == nullptr) return Status::kBadArgument;
  Layout layout;
  const Status status = plan_session(capsule, options, &layout);
  if (status == Status::kOk) *n_bytes = layout.bytes;
  return status;
}

Status Session::open(Bytes bytes,
                     const Op* const* ops,
                     Arena arena,
                     const SessionOptions& requested) {
  if (ops == nullptr || arena.data == nullptr) return Status::kBadArgument;
  Capsule capsule;
  Status status = read_capsule(bytes.data, bytes.size, &capsule);
  if (status != Status::kOk) return status;
  if (reinterpret_cast<uintptr_t>(arena.data) % kCapsuleAlignment != 0) {
    return Status::kMisaligned;
  }
  if (!links_all(capsule, ops)) return Status::kUnsupportedOperation;
  if (!float_environment_is_ieee()) return Status::kBadFloatEnvironment;

  Layout layout;
  status = plan_session(capsule, requested, &layout);
  if (status != Status::kOk) return status;
  if (layout.bytes > arena.size) return Status::kArenaTooSmall;
  if (requested.tile == 0 && capsule.network.transductive == 0) {
    // The largest tile that fits.
    SessionOptions options = requested;
    for (uint64_t tile = 2; layout.tile < layout.max_support; tile *= 2) {
      options.tile = tile < layout.max_support ? static_cast<uint32_t>(tile)
                                               : layout.max_support;
      Layout larger;
      if (plan_session(capsule, options, &larger) != Status::kOk ||
          larger.bytes > arena.size) {
        break;
      }
      layout = larger;
    }
  }

  capsule_ = capsule;
  ops_ = ops;
  workspace_ = static_cast<float*>(arena.data);
  buffers_ = workspace_ + layout.workspace_floats;
  high_water_ = 0;
  max_support_ = layout.max_support;
  max_predict_ = layout.max_predict;
  max_steps_ = layout.max_steps;
  tile_ = layout.tile;
  loss_first_ = 0.0F;
  loss_last_ = 0.0F;
  on_failure_ = requested.on_failure;
  continue_ = requested.continue_from_current;
  phase_ = Phase::kIdle;
  current_ = kTheta0;
  open_ = true;
  return Status::kOk;
}

float* Session::buffer(uint8_t index) const {
  return buffers_ + size_t{index - 1U} * capsule_.network.n_params;
}

// Records that the arena is in use up to `end`.
void Session::note_use(const float* end) {
  const size_t used = static_cast<size_t>(end - workspace_) * sizeof(float);
  if (used > high_water_) high_water_ = used;
}

// f(view of the current parameters), theta_0 being read in the capsule.
template <class F>
auto Session::with_theta(const F& f) const {
  if (current_ != kTheta0) return f(PlainView<float>{buffer(current_)});
  if (capsule_.init.storage == Storage::kF16) {
    return f(F16View{static_cast<const uint16_t*>(capsule_.init.data)});
  }
  return f(PlainView<float>{static_cast<const float*>(capsule_.init.data)});
}

Status Session::check(const SupportSet& set) const {
  if (!open_ || phase_ != Phase::kIdle) return Status::kBadState;
  const Network& network = capsule_.network;
  const bool classes = network.loss == LossOp::kSoftmaxCrossEntropy;
  if (set.x == nullptr || set.n == 0) return Status::kBadArgument;
  if (classes ? set.labels == nullptr : set.targets == nullptr) {
    return Status::kBadArgument;
  }
  if (set.n > max_support_) return Status::kTooManyExamples;
  if (classes) {
    for (uint32_t i = 0; i < set.n; ++i) {
      if (set.labels[i] >= network.n_out) return Status::kBadLabel;
    }
  } else if (!all_finite(set.targets, size_t{set.n} * network.n_out)) {
    return Status::kBadInput;
  }
  if (!all_finite(set.x, size_t{set.n} * network.n_in)) {
    return Status::kBadInput;
  }
  return Status::kOk;
}

Status Session::begin(const SupportSet& support, uint32_t steps) {
  const Status status = check(support);
  if (status != Status::kOk) return status;
  if (steps == 0) {
    steps =
        capsule_.limits.steps < max_steps_ ? capsule_.limits.steps : max_steps_;
  }
  if (steps > max_steps_) return Status::kBadArgument;
  support_ = support;
  steps_ = steps;
  step_ = 0;
  next_ = 0;
  entry_ = current_;
  if (!continue_) current_ = kTheta0;
  phase_ = Phase::kAdapting;
  return Status::kOk;
}

// A buffer that holds neither theta_k nor, where they must survive, the
// parameters of entry. The layout has as many as this can return.
uint8_t Session::free_buffer() const {
  const bool keeps_entry = on_failure_ == OnFailure::kEntry;
  uint8_t index = 1;
  while (index == current_ || (keeps_entry && index == entry_)) ++index;
  return index;
}

// Ends an adaptation that cannot go on.
Status Session::fail() {
  phase_ = Phase::kIdle;
  current_ = on_failure_ == OnFailure::kEntry ? entry_ : kTheta0;
  return Status::kDiverged;
}

Status Session::step_slice(bool* step_done) {
  if (phase_ != Phase::kAdapting || step_ == steps_) return Status::kBadState;
  const Network& network = capsule_.network;
  const SerialExecutor executor;
  const TableOps ops = {ops_};
  const Workspace<float> workspace = {workspace_, tile_};
  const Batch<float> batch = {
      support_.x, support_.labels, support_.targets, support_.n};
  if (next_ == 0) {
    dest_ = free_buffer();
    note_use(buffer(dest_) + network.n_params);
  }
  float* const grad = buffer(dest_);
  const uint32_t left = support_.n - next_;
  const uint32_t n = left < tile_ ? left : tile_;
  with_theta([&](const auto& theta) {
    gradient_tile(
        executor, ops, network, theta, workspace, batch, next_, n, grad);
  });
  next_ += n;
  if (next_ < support_.n) {
    if (step_done != nullptr) *step_done = false;
    return Status::kOk;
  }

  const float* const loss = batch_loss(workspace);
  if (!is_finite(*loss)) return fail();
  RuleCall<float> call = {};
  call.network = &network;
  call.rule = &capsule_.rule;
  call.step = step_;
  call.loss = loss;
  call.grad = grad;
  with_theta([&](const auto& theta) {
    update(executor, ops, call, theta, capsule_.rates);
  });
  if (!all_finite(grad, network.n_params)) return fail();
  if (step_ == 0) loss_first_ = *loss;
  loss_last_ = *loss;
  current_ = dest_;
  next_ = 0;
  ++step_;
  if (step_done != nullptr) *step_done = true;
  return Status::kOk;
}

Status Session::step() {
  bool done = false;
  Status status = Status::kOk;
  while (!done && status == Status::kOk) status = step_slice(&done);
  return status;
}

Status Session::end(AdaptReport* report) {
  if (phase_ != Phase::kAdapting || step_ == 0 || next_ != 0) {
    return Status::kBadState;
  }
  phase_ = Phase::kIdle;
  if (report != nullptr) {
    report->loss_first = loss_first_;
    report->loss_last = loss_last_;
    report->steps = step_;
    report->tile = tile_;
    report->high_water_bytes = high_water_;
  }
  return Status::kOk;
}

Status Session::abort() {
  if (phase_ != Phase::kAdapting) return Status::kBadState;
  static_cast<void>(fail());
  return Status::kOk;
}

Status Session::adapt(const SupportSet& support,
                      AdaptReport* report,
                      uint32_t steps) {
  Status status = begin(support, steps);
  if (status != Status::kOk) return status;
  while (status == Status::kOk && step_ < steps_) status = step();
  return status == Status::kOk ? end(report) : status;
}

Status Session::predict(const float* x, uint32_t n, float* result) {
  if (!open_ || phase_ != Phase::kIdle) return Status::kBadState;
  if (x == nullptr || result == nullptr || n == 0) return Status::kBadArgument;
  const Network& network = capsule_.network;
  if (network.transductive != 0 && n > max_predict_) {
    return Status::kTooManyExamples;
  }
  if (!all_finite(x, size_t{n} * network.n_in)) return Status::kBadInput;
  const Workspace<float> workspace = {workspace_, tile_};
  note_use(buffers_);
  while (n != 0) {
    const uint32_t count = n < tile_ ? n : tile_;
    with_theta([&](const auto& theta) {
      forward(SerialExecutor(),
              TableOps{ops_},
              network,
              theta,
              workspace,
              x,
              count);
    });
    const float* const from = outputs(network, workspace);
    const size_t n_values = size_t{count} * network.n_out;
    for (size_t i = 0; i < n_values; ++i) result[i] = from[i];
    x += size_t{count} * network.n_in;
    result += n_values;
    n -= count;
  }
  return Status::kOk;
}

Status Session::evaluate(const SupportSet& set, float* loss) {
  const Status status = check(set);
  if (status != Status::kOk) return status;
  if (loss == nullptr) return Status::kBadArgument;
  const Workspace<float> workspace = {workspace_, tile_};
  note_use(buffers_);
  const Batch<float> batch = {set.x, set.labels, set.targets, set.n};
  with_theta([&](const auto& theta) {
    mean_loss(SerialExecutor(),
              TableOps{ops_},
              capsule_.network,
              theta,
              workspace,
              batch);
  });
  if (!is_finite(*batch_loss(workspace))) return Status::kDiverged;
  *loss = *batch_loss(workspace);
  return Status::kOk;
}

Status Session::reset() {
  if (!open_) return Status::kBadState;
  phase_ = Phase::kIdle;
  current_ = kTheta0;
  return Status::kOk;
}

float Session::parameter(uint32_t i) const {
  if (!open_ || i >= capsule_.network.n_params) return 0.0F;
  return with_theta([&](const auto& theta) { return theta(i); });
}

uint64_t Session::hash() const {
  if (!open_) return 0;
  const uint32_t n = capsule_.network.n_params;
  return with_theta([&](const auto& theta) {
    uint64_t hash = fnv1a(nullptr, 0);
    for (uint32_t i = 0; i < n; ++i) {
      const float value = theta(i);
      hash = fnv1a(&value, sizeof value, hash);
    }
    return hash;
  });
}

}  // namespace fewstep
