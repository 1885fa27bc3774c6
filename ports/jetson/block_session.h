// A session whose numbers one thread block computes: the host's side.
//
// Session's contract (fewstep/device/session.h) with all memory allocated once,
// in open(), and one launch a call. Checks, limits, buffers and reports are
// here; a Backend has memory and runs the block (block_program.h):
// CudaBackend, and in tests one that runs it in this thread.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_PORTS_JETSON_BLOCK_SESSION_H_
#define FEWSTEP_PORTS_JETSON_BLOCK_SESSION_H_

#include <string.h>

#include <vector>

#include "block_program.h"
#include "checks.h"
#include "fewstep/device/session.h"
#include "session_layout.h"

namespace fewstep::jetson {

/// Where everything lies: byte offsets in the GPU's memory and in the staging
/// memory, which the host reaches, too.
struct BlockLayout {
  Layout session;   ///< device/'s: tile, limits, number of vectors.
  uint32_t staged;  ///< Examples the staging memory has room for.

  size_t capsule, workspace, vectors, state, scratch, sums, x, labels, targets;
  size_t gpu_bytes;
  size_t workspace_bytes;
  size_t call, losses, staged_x, staged_labels, staged_targets, outputs;
  size_t staging_bytes;
};

/// Links the planner that knows of contexts: all operations are here.
[[gnu::used]] inline bool (*const kPlansContexts)(const Network&) =
    &has_context;

/// Examples of one launch of a prediction that has no limit of its own.
constexpr uint32_t kPredictTogether = 64;

/// Plans a session. kBadArgument as required_bytes().
inline Status plan_block(const Capsule& capsule,
                         const SessionOptions& options,
                         BlockLayout* layout) {
  BlockLayout& l = *layout;
  const Network& network = capsule.network;
  // Memory is not scarce here: the whole support set is one tile.
  constexpr uint32_t kWholeSet = uint32_t{1} << 16;
  const Status status =
      plan_session(capsule,
                   options,
                   options.tile != 0 ? options.tile : kWholeSet,
                   &l.session);
  if (status != Status::kOk) return status;
  const uint32_t predicted =
      network.transductive != 0 ? l.session.max_predict : kPredictTogether;
  l.staged =
      l.session.max_support > predicted ? l.session.max_support : predicted;

  size_t at = 0;
  bool fits = true;
  const auto place = [&](uint64_t count, size_t size) {
    constexpr uint64_t kAlignment = 256;
    const size_t begin = at;
    const uint64_t bytes =
        (count * size + kAlignment - 1) / kAlignment * kAlignment;
    fits = fits && bytes <= SIZE_MAX - at;
    at += static_cast<size_t>(bytes);
    return begin;
  };
  const uint64_t n = l.staged;
  const uint64_t n_adapted = network.n_adapted;
  const bool classes = network.loss == LossOp::kSoftmaxCrossEntropy;
  const uint64_t n_labels = classes ? n : 0;
  const uint64_t n_targets = classes ? 0 : n * network.n_out;
  l.capsule = place(capsule.total_bytes, 1);
  const uint64_t workspace = workspace_values(network, l.session.tile);
  l.workspace_bytes = static_cast<size_t>(workspace) * sizeof(float);
  l.workspace = place(workspace, sizeof(float));
  l.vectors = place(l.session.n_buffers * n_adapted, sizeof(float));
  l.state = place(
      l.session.max_steps > 1 ? n_adapted * capsule.rule.n_state_per_param : 0,
      sizeof(float));
  l.scratch = place(capsule.rule.n_scratch, sizeof(float));
  l.sums = place(kSumValues, sizeof(float));
  l.x = place(n * network.n_in, sizeof(float));
  l.labels = place(n_labels, sizeof(uint16_t));
  l.targets = place(n_targets, sizeof(float));
  l.gpu_bytes = at;
  at = 0;
  l.call = place(1, sizeof(BlockCall));
  l.losses = place(l.session.max_steps, sizeof(float));
  l.staged_x = place(n * network.n_in, sizeof(float));
  l.staged_labels = place(n_labels, sizeof(uint16_t));
  l.staged_targets = place(n_targets, sizeof(float));
  l.outputs = place(n * network.n_out, sizeof(float));
  l.staging_bytes = at;
  return fits ? Status::kOk : Status::kBadArgument;
}

/// Memory of an open backend.
struct BlockAddresses {
  uint8_t* gpu;             ///< gpu_bytes; not for the host.
  uint8_t* staging;         ///< staging_bytes, as the host
  uint8_t* staging_on_gpu;  ///< and as the block sees them.
};

/// One network being adapted by a thread block.
///
/// Backend:
///   using Number = ...            float, or a test's
///   Status open(size_t gpu_bytes, size_t staging_bytes, BlockAddresses*)
///   Status upload(uint8_t* gpu, const void* from, size_t bytes)
///   Status download(const uint8_t* gpu, void* to, size_t bytes)
///   Status prepare(const BlockMemory<Number>&, size_t workspace_bytes)
///   Status run()                  the prepared block, to its end
/// Closed by its destructor; kNoDevice and kDeviceFailed are its statuses.
template <class Backend>
class BlockSession {
 public:
  using T = typename Backend::Number;

  explicit BlockSession(Backend* backend) : backend_(*backend) {}
  BlockSession(const BlockSession&) = delete;
  BlockSession& operator=(const BlockSession&) = delete;

  /// As Session::open, for all operations there are; once. `capsule` must stay
  /// readable.
  ///
  /// @retval kUnsupportedOperation  A mask says of single parameters whether
  ///                         they adapt: not on a GPU yet.
  /// @retval kArenaTooSmall  The GPU or the host has not enough memory.
  /// @retval kNoDevice       No GPU, or none that this build is for.
  /// @retval kDeviceFailed   The GPU or its driver failed.
  Status open(Bytes bytes, const SessionOptions& options) {
    if (open_) return Status::kBadState;
    Status status = read_capsule(bytes.data, bytes.size, &capsule_);
    if (status != Status::kOk) return status;
    if (capsule_.network.masked != 0) return Status::kUnsupportedOperation;
    status = plan_block(capsule_, options, &layout_);
    if (status != Status::kOk) return status;
    const BlockLayout& l = layout_;
    status = backend_.open(l.gpu_bytes, l.staging_bytes, &at_);
    if (status != Status::kOk) return status;
    status =
        backend_.upload(at_.gpu + l.capsule, bytes.data, capsule_.total_bytes);
    if (status != Status::kOk) return status;
    status = backend_.prepare(memory(static_cast<const uint8_t*>(bytes.data)),
                              l.workspace_bytes);
    if (status != Status::kOk) return status;
    options_ = options;
    open_ = true;
    return Status::kOk;
  }

  /// As Session::adapt; report->high_water_bytes is all memory of the GPU. One
  /// launch.
  ///
  /// @retval kDeviceFailed  The GPU failed; every further call says so.
  Status adapt(const SupportSet& support, AdaptReport* report, uint32_t steps) {
    Status status = check(support);
    if (status != Status::kOk) return status;
    const uint32_t most = layout_.session.max_steps;
    steps = steps_of(capsule_.limits, steps, most);
    if (steps > most) return Status::kBadArgument;
    stage(support);
    BlockCall& c = call();
    const bool keeps_entry = options_.on_failure == OnFailure::kEntry;
    c.command = BlockCommand::kAdapt;
    c.steps = steps;
    c.current = options_.continue_from_current ? current_ : kTheta0;
    c.entry = keeps_entry ? current_ : kTheta0;
    status = run();
    if (status == Status::kDeviceFailed) return status;
    if (status != Status::kOk) {
      if (!keeps_entry) current_ = kTheta0;
      return status;
    }
    current_ = c.dest;
    if (report != nullptr) {
      report->loss_first = losses()[0];
      report->loss_last = losses()[steps - 1];
      report->steps = steps;
      report->tile = layout_.session.tile;
      report->high_water_bytes = layout_.gpu_bytes;
    }
    return Status::kOk;
  }

  /// As Session::predict. One launch for BlockLayout::staged examples.
  Status predict(const float* x, uint32_t n, float* outputs) {
    const Network& network = capsule_.network;
    const uint32_t n_max =
        network.transductive != 0 ? layout_.session.max_predict : UINT32_MAX;
    Status status = check(x, n, n_max, outputs);
    if (status != Status::kOk) return status;
    while (n != 0) {
      const uint32_t count = n < layout_.staged ? n : layout_.staged;
      memcpy(at_.staging + layout_.staged_x,
             x,
             sizeof(float) * count * network.n_in);
      BlockCall& c = call();
      c.command = BlockCommand::kPredict;
      c.n = count;
      c.current = current_;
      status = run();
      if (status != Status::kOk) return status;
      const size_t n_values = size_t{count} * network.n_out;
      memcpy(outputs, at_.staging + layout_.outputs, sizeof(float) * n_values);
      x += size_t{count} * network.n_in;
      outputs += n_values;
      n -= count;
    }
    return Status::kOk;
  }

  /// As Session::evaluate. One launch.
  Status evaluate(const SupportSet& set, float* loss) {
    Status status = check(set);
    if (status != Status::kOk) return status;
    if (loss == nullptr) return Status::kBadArgument;
    stage(set);
    BlockCall& c = call();
    c.command = BlockCommand::kEvaluate;
    c.current = current_;
    status = run();
    if (status != Status::kOk) return status;
    if (!is_finite(losses()[0])) return Status::kDiverged;
    *loss = losses()[0];
    return Status::kOk;
  }

  /// As Session::reset.
  Status reset() {
    if (!open_) return Status::kBadState;
    current_ = kTheta0;
    return Status::kOk;
  }

  /// Copies the P current parameters, decoded.
  ///
  /// @retval kBadState      Not open.
  /// @retval kDeviceFailed  They cannot be had.
  Status parameters(float* to) {
    if (!open_) return Status::kBadState;
    const Network& network = capsule_.network;
    const uint32_t n = network.n_params;
    const uint32_t n_adapted = network.n_adapted;
    const StoredView initial = {capsule_.init.data,
                                capsule_.init.storage == Storage::kF16};
    if (current_ == kTheta0) {
      for (uint32_t i = 0; i < n; ++i) to[i] = initial(i);
      return Status::kOk;
    }
    std::vector<float> adapted(n_adapted);
    const size_t bytes = sizeof(float) * n_adapted;
    const size_t offset = layout_.vectors + (current_ - 1U) * bytes;
    const Status status =
        backend_.download(at_.gpu + offset, adapted.data(), bytes);
    if (status != Status::kOk) return status;
    // What is frozen, then what adapts.
    for (uint32_t i = 0; n != n_adapted && i < n; ++i) to[i] = initial(i);
    scatter_adapted(SerialExecutor(), network, adapted.data(), to);
    return Status::kOk;
  }

  /// parameter_hash() of the current parameters; 0 when they cannot be had.
  uint64_t hash() {
    std::vector<float> theta(capsule_.network.n_params);
    const Status status = parameters(theta.data());
    return status == Status::kOk ? parameter_hash(theta.data(), theta.size())
                                 : 0;
  }

  bool is_open() const { return open_; }
  const Capsule& capsule() const { return capsule_; }
  const BlockLayout& layout() const { return layout_; }
  /// Mean support loss at theta_k, for each step of the last adaptation.
  const float* losses() const {
    return reinterpret_cast<const float*>(at_.staging + layout_.losses);
  }

 private:
  BlockCall& call() const {
    return *reinterpret_cast<BlockCall*>(at_.staging + layout_.call);
  }

  template <class X>
  static X* place(uint8_t* memory, size_t offset) {
    return reinterpret_cast<X*>(memory + offset);
  }

  // `data` within the capsule, in the GPU's copy of it.
  template <class X>
  const X* in_copy(const X* data, const uint8_t* capsule) const {
    const size_t offset =
        static_cast<size_t>(reinterpret_cast<const uint8_t*>(data) - capsule);
    return place<const X>(at_.gpu, layout_.capsule + offset);
  }
  StoredArray in_copy(StoredArray array, const uint8_t* capsule) const {
    array.data = in_copy(static_cast<const uint8_t*>(array.data), capsule);
    return array;
  }

  BlockMemory<T> memory(const uint8_t* capsule) const {
    const BlockLayout& l = layout_;
    const bool classes = capsule_.network.loss == LossOp::kSoftmaxCrossEntropy;
    BlockMemory<T> m = {};
    m.network = capsule_.network;
    m.network.layers = in_copy(capsule_.network.layers, capsule);
    if (capsule_.network.adapted != nullptr) {
      m.network.adapted = in_copy(capsule_.network.adapted, capsule);
    }
    m.rule = capsule_.rule;
    m.init = in_copy(capsule_.init, capsule);
    m.rates = in_copy(capsule_.rates, capsule);
    m.workspace = {place<T>(at_.gpu, l.workspace), l.session.tile};
    m.vectors = place<T>(at_.gpu, l.vectors);
    m.state = place<T>(at_.gpu, l.state);
    m.scratch = place<T>(at_.gpu, l.scratch);
    m.sums = place<T>(at_.gpu, l.sums);
    m.x = place<T>(at_.gpu, l.x);
    m.call = place<BlockCall>(at_.staging_on_gpu, l.call);
    m.staged_x = place<T>(at_.staging_on_gpu, l.staged_x);
    if (classes) {
      m.labels = place<uint16_t>(at_.gpu, l.labels);
      m.staged_labels = place<uint16_t>(at_.staging_on_gpu, l.staged_labels);
    } else {
      m.targets = place<T>(at_.gpu, l.targets);
      m.staged_targets = place<T>(at_.staging_on_gpu, l.staged_targets);
    }
    m.losses = place<T>(at_.staging_on_gpu, l.losses);
    m.outputs = place<T>(at_.staging_on_gpu, l.outputs);
    return m;
  }

  Status check(const float* x, uint32_t n, uint32_t n_max, const void* other) {
    return check_examples(
        open_, capsule_.network, x, n, n_max, other, values_are_finite);
  }

  Status check(const SupportSet& set) {
    const auto examples = [&](const void* answers) {
      return check(set.x, set.n, layout_.session.max_support, answers);
    };
    return check_answers(capsule_.network, set, examples, values_are_finite);
  }

  void stage(const SupportSet& set) {
    const BlockLayout& l = layout_;
    const Network& network = capsule_.network;
    call().n = set.n;
    const size_t n = set.n;
    memcpy(at_.staging + l.staged_x, set.x, sizeof(float) * n * network.n_in);
    if (network.loss == LossOp::kSoftmaxCrossEntropy) {
      memcpy(at_.staging + l.staged_labels, set.labels, sizeof(uint16_t) * n);
    } else {
      memcpy(at_.staging + l.staged_targets,
             set.targets,
             sizeof(float) * n * network.n_out);
    }
  }

  // Runs the staged call and answers what the block or the backend says.
  Status run() {
    const Status status = backend_.run();
    return status != Status::kOk ? status : call().status;
  }

  Backend& backend_;
  bool open_ = false;
  uint32_t current_ = kTheta0;
  SessionOptions options_;
  Capsule capsule_ = {};
  BlockLayout layout_ = {};
  BlockAddresses at_ = {};
};

/// As selftest() of fewstep/device/session.h, by `backend`: proves a GPU, its
/// driver and this build by one call.
template <class Backend>
Status selftest(Backend* backend, Bytes bytes) {
  Capsule capsule;
  Status status = read_capsule(bytes.data, bytes.size, &capsule);
  if (status != Status::kOk) return status;
  if (capsule.golden_record == nullptr) return Status::kMissingSection;
  const Golden golden = golden_episode(capsule);
  SessionOptions options;
  options.max_support = golden.n_support;
  options.max_predict = golden.n_query;
  options.max_steps = golden.steps;
  BlockSession<Backend> session(backend);
  status = session.open(bytes, options);
  if (status != Status::kOk) return status;
  const SupportSet support = {golden.support_x,
                              golden.support_labels,
                              golden.support_targets,
                              golden.n_support};
  status = session.adapt(support, nullptr, golden.steps);
  if (status != Status::kOk) return status;
  const auto differ = [](const void* a, const void* b, size_t n) {
    return memcmp(a, b, n * sizeof(float)) != 0;
  };
  if (differ(session.losses(), golden.losses, golden.steps)) {
    return Status::kSelfTestFailed;
  }
  const Network& network = capsule.network;
  if (session.hash() != golden.parameter_hash) return Status::kSelfTestFailed;
  std::vector<float> values(size_t{golden.n_query} * network.n_out);
  status = session.predict(golden.query_x, golden.n_query, values.data());
  if (status != Status::kOk) return status;
  return differ(values.data(), golden.outputs, values.size())
             ? Status::kSelfTestFailed
             : Status::kOk;
}

}  // namespace fewstep::jetson

#endif  // FEWSTEP_PORTS_JETSON_BLOCK_SESSION_H_
