// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/device/session.h"

#include "checks.h"
#include "fewstep/inner_loop.h"
#include "float_environment.h"
#include "op_table.h"
#include "session_layout.h"

namespace fewstep {
namespace {

// The one instance of it.
bool all_finite(const float* values, size_t n) {
  return values_are_finite(values, n);
}

// A power of two above every max_support.
constexpr uint32_t kAnyTile = uint32_t{1} << 16;

// The operation for the storage of theta_0, or null.
const Op* find(const Op* const* ops, bool f16, OpKind kind, uint8_t code) {
  const Op* const op = find_op(ops, kind, code);
  return op != nullptr && (op->f16 || !f16) ? op : nullptr;
}

// Whether `ops` has everything the capsule needs, and its rule is one of the
// rule's operation.
Status check_ops(const Capsule& capsule, const Op* const* ops) {
  const bool f16 = capsule.init.storage == Storage::kF16;
  const Network& network = capsule.network;
  const auto links = [&](OpKind kind, uint8_t code) {
    return find(ops, f16, kind, code);
  };
  for (uint32_t i = 0; i < network.n_layers; ++i) {
    const uint8_t op = static_cast<uint8_t>(network.layers[i].op);
    if (links(OpKind::kLayer, op) == nullptr) {
      return Status::kUnsupportedOperation;
    }
  }
  const Op* const rule =
      links(OpKind::kRule, static_cast<uint8_t>(capsule.rule.op));
  if (rule == nullptr ||
      links(OpKind::kLoss, static_cast<uint8_t>(network.loss)) == nullptr) {
    return Status::kUnsupportedOperation;
  }
  return rule->rule.fits(capsule.rule, network) ? Status::kOk
                                                : Status::kBadCapsule;
}

}  // namespace

Status required_bytes(const Capsule& capsule,
                      const SessionOptions& options,
                      size_t* n_bytes) {
  if (n_bytes == nullptr) return Status::kBadArgument;
  Layout layout;
  const Status status = plan_session(capsule, options, options.tile, &layout);
  if (status == Status::kOk) *n_bytes = layout.bytes;
  return status;
}

Status Session::open(Bytes bytes,
                     const Op* const* ops,
                     Arena arena,
                     const SessionOptions& options) {
  if (ops == nullptr || arena.data == nullptr) return Status::kBadArgument;
  Capsule capsule;
  Status status = parse_capsule(bytes.data, bytes.size, &capsule);
  if (status != Status::kOk) return status;
  if (reinterpret_cast<uintptr_t>(arena.data) % kCapsuleAlignment != 0) {
    return Status::kMisaligned;
  }
  status = check_ops(capsule, ops);
  if (status != Status::kOk) return status;
  if (!float_environment_is_ieee()) return Status::kBadFloatEnvironment;

  // The tile asked for, or the largest that fits: from one that is as good as
  // any support set, downwards.
  Layout layout;
  for (uint32_t tile = options.tile != 0 ? options.tile : kAnyTile;;
       tile /= 2) {
    status = plan_session(capsule, options, tile, &layout);
    if (status == Status::kOk && layout.bytes > arena.size) {
      status = Status::kArenaTooSmall;
    }
    if (status == Status::kOk) break;
    if (options.tile != 0 || tile == 1) return status;
  }

  capsule_ = capsule;
  ops_ = ops;
  workspace_ = static_cast<float*>(arena.data);
  buffers_ = workspace_ + layout.buffers_at;
  high_water_ = 0;
  max_support_ = static_cast<uint16_t>(layout.max_support);
  max_predict_ = static_cast<uint16_t>(layout.max_predict);
  max_steps_ = static_cast<uint16_t>(layout.max_steps);
  tile_ = static_cast<uint16_t>(layout.tile);
  loss_first_ = 0.0F;
  loss_last_ = 0.0F;
  on_failure_ = options.on_failure;
  continue_ = options.continue_from_current;
  phase_ = Phase::kIdle;
  current_ = kTheta0;
  open_ = true;
  return Status::kOk;
}

float* Session::buffer(uint8_t index) const {
  return buffers_ + size_t{index - 1U} * capsule_.network.n_adapted;
}

// Records that the arena is in use up to `end`.
void Session::note_use(const float* end) {
  const size_t used = static_cast<size_t>(end - workspace_) * sizeof(float);
  if (used > high_water_) high_water_ = used;
}

// The current parameters, theta_0 being read in the capsule.
StoredView Session::theta() const {
  if (current_ != kTheta0) return {buffer(current_), false};
  return {capsule_.init.data, capsule_.init.storage == Storage::kF16};
}

Workspace<float> Session::workspace() const { return {workspace_, tile_}; }

Status Session::check(const float* x,
                      uint32_t n,
                      uint32_t n_max,
                      const void* other) const {
  const bool ready = open_ && phase_ == Phase::kIdle;
  return check_examples(
      ready, capsule_.network, x, n, n_max, other, all_finite);
}

Status Session::check(const SupportSet& set) const {
  const auto examples = [&](const void* answers) {
    return check(set.x, set.n, max_support_, answers);
  };
  return check_answers(capsule_.network, set, examples, all_finite);
}

Status Session::begin(const SupportSet& support, uint32_t steps) {
  const Status status = check(support);
  if (status != Status::kOk) return status;
  steps = steps_of(capsule_.limits, steps, max_steps_);
  if (steps > max_steps_) return Status::kBadArgument;
  support_ = support;
  steps_ = static_cast<uint16_t>(steps);
  step_ = 0;
  next_ = 0;
  entry_ = current_;
  if (!continue_) current_ = kTheta0;
  phase_ = Phase::kAdapting;
  return Status::kOk;
}

uint8_t Session::free_buffer() const {
  const bool keeps_entry = on_failure_ == OnFailure::kEntry;
  return static_cast<uint8_t>(
      free_vector(current_, keeps_entry ? entry_ : kTheta0));
}

// Ends an adaptation that cannot go on.
Status Session::fail() {
  phase_ = Phase::kIdle;
  current_ = on_failure_ == OnFailure::kEntry ? entry_ : kTheta0;
  return Status::kDiverged;
}

// The passes of a tile are functions of their own, so that the frame of one is
// gone when the next one calls its kernels.
//
// What is weak here is for networks of which everything adapts, the gradient as
// it is; programs that name step_options link ops/step_options.cpp's instead.

__attribute__((weak)) void Session::run_forward(const float* x, uint32_t n) {
  forward(SerialExecutor(),
          TableOps{ops_},
          capsule_.network,
          theta(),
          workspace(),
          x,
          n);
}

__attribute__((noinline)) void Session::run_loss(const SupportSet& set,
                                                 uint32_t begin,
                                                 uint32_t n,
                                                 bool gradient) {
  tile_loss(SerialExecutor(),
            TableOps{ops_},
            capsule_.network,
            workspace(),
            {set.x, set.labels, set.targets, set.n},
            begin,
            n,
            gradient);
}

__attribute__((weak)) void Session::run_backward(const float* x, uint32_t n) {
  backward(SerialExecutor(),
           TableOps{ops_},
           capsule_.network,
           theta(),
           workspace(),
           x,
           n,
           next_ == 0,
           buffer(dest_));
}

// Outputs and losses of the tile of `set` that starts at example `begin`, and
// with `gradient` its part of the gradient. Returns the next tile's start.
uint32_t Session::run_tile(const SupportSet& set,
                           uint32_t begin,
                           bool gradient) {
  const uint32_t left = set.n - begin;
  const uint32_t n = left < tile_ ? left : tile_;
  const float* const x = set.x + size_t{begin} * capsule_.network.n_in;
  run_forward(x, n);
  run_loss(set, begin, n, gradient);
  if (gradient) run_backward(x, n);
  return begin + n;
}

__attribute__((weak)) void Session::run_update(const RuleCall<float>& call) {
  TableOps{ops_}.update(SerialExecutor(), call, theta(), capsule_.rates);
}

// Turns the gradient into theta_{k+1}, and accepts it if it is finite.
Status Session::finish_step() {
  const float* const loss = batch_loss(workspace());
  if (!is_finite(*loss)) return fail();
  // The rule's state lies below the buffers. There is none in the capsule, and
  // what the last step would store nobody reads.
  const uint32_t n = capsule_.network.n_adapted;
  float* const state = buffers_ - size_t{capsule_.rule.n_state_per_param} * n;
  RuleCall<float> call;  // Every field, none zeroed first.
  call.network = &capsule_.network;
  call.rule = &capsule_.rule;
  call.begin = 0;
  call.n = n;
  call.step = step_;
  call.loss = loss;
  call.grad = buffer(dest_);
  call.state = step_ != 0 ? state : nullptr;
  call.next_state = step_ + 1 != steps_ ? state : nullptr;
  call.scratch = workspace_ + 1;  // Behind the loss; nobody needs the rest.
  run_update(call);
  if (!all_finite(call.grad, n)) return fail();
  if (step_ == 0) loss_first_ = *loss;
  loss_last_ = *loss;
  current_ = dest_;
  next_ = 0;
  ++step_;
  return Status::kOk;
}

Status Session::step_slice(bool* step_done) {
  if (phase_ != Phase::kAdapting || step_ == steps_) return Status::kBadState;
  if (next_ == 0) {
    dest_ = free_buffer();
    note_use(buffer(dest_) + capsule_.network.n_adapted);
  }
  next_ = static_cast<uint16_t>(run_tile(support_, next_, true));
  const bool last = next_ == support_.n;
  const Status status = last ? finish_step() : Status::kOk;
  if (status == Status::kOk && step_done != nullptr) *step_done = last;
  return status;
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
  while (status == Status::kOk && step_ < steps_) status = step_slice(nullptr);
  return status == Status::kOk ? end(report) : status;
}

Status Session::predict(const float* x, uint32_t n, float* result) {
  const Network& network = capsule_.network;
  const uint32_t n_max = network.transductive != 0 ? max_predict_ : UINT32_MAX;
  const Status status = check(x, n, n_max, result);
  if (status != Status::kOk) return status;
  note_use(buffers_);
  const float* const from = outputs(network, workspace());
  while (n != 0) {
    const uint32_t count = n < tile_ ? n : tile_;
    run_forward(x, count);
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
  note_use(buffers_);
  uint32_t next = 0;
  while (next < set.n) next = run_tile(set, next, false);
  const float result = *batch_loss(workspace());
  if (!is_finite(result)) return Status::kDiverged;
  *loss = result;
  return Status::kOk;
}

Status Session::reset() {
  if (!open_) return Status::kBadState;
  phase_ = Phase::kIdle;
  current_ = kTheta0;
  return Status::kOk;
}

__attribute__((weak)) float Session::parameter(uint32_t i) const {
  return open_ && i < capsule_.network.n_params ? theta()(i) : 0.0F;
}

uint64_t Session::hash() const {
  if (!open_) return 0;
  const uint32_t n = capsule_.network.n_params;
  uint64_t hash = fnv1a(nullptr, 0);
  for (uint32_t i = 0; i < n; ++i) {
    const float value = parameter(i);
    hash = fnv1a(&value, sizeof value, hash);
  }
  return hash;
}

}  // namespace fewstep
