// fewstep on a device: adapt a capsule's network to new examples.
//
// Start here. A Session lives in memory the caller provides (an arena), never
// allocates, and does one thing: take a support set, run the capsule's K
// gradient steps on it, and predict with the adapted network.
//
//   Session session;
//   session.open(capsule, ops, arena, options);
//   session.adapt(support, &report);
//   session.predict(x, n, outputs);
//
// device/DESIGN.md says why it is built this way; fewstep/fewstep.h is the
// same for C.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_DEVICE_SESSION_H_
#define FEWSTEP_DEVICE_SESSION_H_

#include "fewstep/capsule.h"
#include "fewstep/config.h"
#include "fewstep/device/ops.h"
#include "fewstep/status.h"

namespace fewstep {

struct StoredView;
template <class V>
struct AdaptedView;
template <class V>
struct MaskedView;
template <class T>
struct RuleCall;
template <class T>
struct Workspace;

/// Read-only bytes of the caller.
struct Bytes {
  const void* data;
  size_t size;
};

/// Writable buffer of the caller.
struct Arena {
  void* data;  ///< 16-byte aligned.
  size_t size;
};

/// Where a session is after a step that failed.
enum class OnFailure : uint8_t {
  kFactory = 0,  ///< At theta_0, the capsule's initialization.
  kEntry = 1,    ///< At the parameters the failed call started from; costs up
                 ///< to P floats more.
};

/// What a session is opened for. Zero means the default everywhere.
struct SessionOptions {
  /// Examples a support set may have. 0: the capsule's support_max. Any value
  /// >= 1; with batch_norm it sets the memory.
  uint32_t max_support = 0;
  /// Examples predicted together; matters with batch_norm only. 0: the
  /// capsule's predict_max.
  uint32_t max_predict = 0;
  /// Gradient steps an adaptation may take. 0: the capsule's steps. For lslr at
  /// most the steps it was trained for.
  uint32_t max_steps = 0;
  /// Examples taken at a time: speed and memory, never other bits. A power of
  /// two, or >= max_support for the whole support set at once. 0: open() takes
  /// the largest that fits the arena, required_bytes() the smallest (1).
  /// Ignored with batch_norm, which needs the whole batch.
  uint32_t tile = 0;
  OnFailure on_failure = OnFailure::kFactory;
  /// Start an adaptation at the current parameters instead of theta_0.
  bool continue_from_current = false;
};

/// One task's examples. Non-owning; must not point into the arena, and must not
/// change between begin() and end().
struct SupportSet {
  const float* x;          ///< [n][n_in] row-major, scaled as in training.
  const uint16_t* labels;  ///< [n] classes < n_out (cross-entropy), or null.
  const float* targets;    ///< [n][n_out] (mean squared error), or null.
  uint32_t n;              ///< Examples, 1 <= n <= max_support.
};

/// What one adaptation did. Losses are the mean over the support set: nats per
/// example (cross-entropy) or squared units (mean squared error).
struct AdaptReport {
  float loss_first;         ///< At the parameters the first step started from.
  float loss_last;          ///< At the parameters the last step started from.
  uint32_t steps;           ///< Gradient steps taken.
  uint32_t tile;            ///< Examples taken at a time.
  size_t high_water_bytes;  ///< Most arena bytes in use since open().
};

/// Exact arena bytes of a session with these options.
///
/// Runs on host and target alike: the answer depends on nothing but the
/// arguments. With `options.tile` = 0 it is the smallest arena that works.
///
/// @retval kOk           `*n_bytes` is written.
/// @retval kBadArgument  An option is out of range, or the size overflows.
Status required_bytes(const Capsule& capsule,
                      const SessionOptions& options,
                      size_t* n_bytes);

/// One network being adapted. Not copyable; not reentrant; independent sessions
/// may run concurrently, also on one capsule. Needs no destructor; all bytes
/// zero is a closed session, so a static one costs no flash.
class Session {
 public:
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Verifies the capsule, probes the float environment and lays out the arena.
  /// A session may be opened again; what it held is gone.
  ///
  /// @param capsule  Read in place: must stay readable and unchanged.
  /// @param ops      The operations this program links: Ops<...>::list, or the
  ///                 list an exported capsule header names. Null-terminated.
  /// @param arena    16-byte aligned; the session's alone until reopened.
  ///
  /// @retval kOk                    Open, at theta_0.
  /// @retval (read_capsule's)       The capsule is unusable.
  /// @retval kBadArgument           A null pointer, or an option out of range.
  /// @retval kMisaligned            The arena is not 16-byte aligned.
  /// @retval kArenaTooSmall         Below required_bytes() of these options.
  /// @retval kUnsupportedOperation  `ops` lacks an operation of the capsule.
  /// @retval kBadFloatEnvironment   Rounding, subnormals or fma are not IEEE.
  /// On any failure the session is as it was before the call.
  Status open(Bytes capsule,
              const Op* const* ops,
              Arena arena,
              const SessionOptions& options = {});

  /// Adapts to one task: `steps` full-batch gradient steps on `support`. The
  /// same as begin(), `steps` times step(), end().
  ///
  /// theta_{k+1} = rule(theta_k, gradient of the mean loss at theta_k)
  ///
  /// Cost: steps * n * (forward + backward) + steps passes over the parameters,
  /// the same for any data. Never allocates, locks, logs, recurses or reads a
  /// clock.
  ///
  /// @param steps   0: the capsule's, at most max_steps; else 1..max_steps.
  /// @param report  May be null. Written only on kOk.
  ///
  /// @retval kOk               At theta_K.
  /// @retval kBadState         Not open, or between begin() and end().
  /// @retval kBadArgument      A null pointer the loss needs, n == 0, or steps
  ///                           out of range.
  /// @retval kTooManyExamples  n > max_support.
  /// @retval kBadLabel         Some label >= n_out.
  /// @retval kBadInput         An input or target is NaN or infinite.
  ///                           All of these change nothing.
  /// @retval kDiverged         A loss or a parameter is not finite; the session
  ///                           is where `on_failure` says.
  Status adapt(const SupportSet& support,
               AdaptReport* report = nullptr,
               uint32_t steps = 0);

  /// Checks `support` and starts an adaptation that the caller drives. Until
  /// end(), predict(), evaluate() and adapt() are refused, and the current
  /// parameters (parameter(), hash()) are theta_k. Errors as adapt(), all of
  /// which change nothing.
  Status begin(const SupportSet& support, uint32_t steps = 0);

  /// One gradient step.
  ///
  /// @retval kOk         theta_{k+1} is in place.
  /// @retval kBadState   Not between begin() and end(), or all steps are done.
  /// @retval kDiverged   The adaptation is over; state as `on_failure` says.
  Status step();

  /// The next tile of examples of the current step, for callers that must
  /// return often; the last slice of a step also updates the parameters.
  /// Statuses as step(). `*step_done` (may be null) is written on kOk.
  Status step_slice(bool* step_done);

  /// Ends the adaptation with the steps taken so far (at least one, none in
  /// progress).
  ///
  /// @retval kOk        At theta_k; `report` (may be null) is filled.
  /// @retval kBadState  Not between begin() and end(), no step taken, or in the
  ///                    middle of a sliced one; nothing changes.
  Status end(AdaptReport* report = nullptr);

  /// Gives up an adaptation between begin() and end(): state as after a failed
  /// step. kBadState otherwise.
  Status abort();

  /// Outputs (logits or regression values) of `n` examples at the current
  /// parameters. With batch_norm the n examples are normalized together.
  ///
  /// Finite inputs that overflow give outputs that are not finite: no error.
  ///
  /// @param x        [n][n_in]
  /// @param outputs  [n][n_out], written only on kOk.
  ///
  /// @retval kOk               `outputs` is written.
  /// @retval kBadState         Not open, or between begin() and end().
  /// @retval kBadArgument      A null pointer or n == 0.
  /// @retval kTooManyExamples  batch_norm and n > max_predict.
  /// @retval kBadInput         An input is NaN or infinite.
  Status predict(const float* x, uint32_t n, float* outputs);

  /// Mean loss of `set` at the current parameters. Errors as adapt(), and
  /// kDiverged when the loss is not finite; parameters never change, and
  /// `*loss` is written only on kOk.
  Status evaluate(const SupportSet& set, float* loss);

  /// Back to theta_0; an adaptation between begin() and end() is given up.
  /// kBadState when not open.
  Status reset();

  /// The current parameter i (theta_0 as stored in the capsule, or adapted).
  /// i < n_params; 0 when not open.
  float parameter(uint32_t i) const;
  /// parameter_hash() of the current parameters; 0 when not open.
  uint64_t hash() const;

  /// Mean support loss at the parameters the last step started from; 0 before
  /// the first.
  float last_loss() const { return loss_last_; }
  bool is_open() const { return open_; }
  /// Meaningful while open.
  const Capsule& capsule() const { return capsule_; }
  uint32_t tile() const { return tile_; }
  size_t high_water_bytes() const { return high_water_; }

 private:
  enum class Phase : uint8_t { kIdle, kAdapting };

  Status check(const float* x,
               uint32_t n,
               uint32_t n_max,
               const void* other) const;
  Status check(const SupportSet& set) const;
  void run_forward(const float* x, uint32_t n);
  void run_loss(const SupportSet& set,
                uint32_t begin,
                uint32_t n,
                bool gradient);
  void run_backward(const float* x, uint32_t n);
  uint32_t run_tile(const SupportSet& set, uint32_t begin, bool gradient);
  void run_update(const RuleCall<float>& call);
  Status finish_step();
  Status fail();
  uint8_t free_buffer() const;
  float* buffer(uint8_t index) const;
  void note_use(const float* end);
  StoredView theta() const;
  AdaptedView<StoredView> adapted_theta() const;  // ops/step_options.cpp
  Workspace<float> workspace() const;

  // The same of a masked network: ops/sparse_mask.cpp.
  void masked_forward(const float* x, uint32_t n);
  void masked_backward(const float* x, uint32_t n);
  void masked_options(float* grad);
  void masked_update(const RuleCall<float>& call);
  float masked_parameter(uint32_t i) const;
  MaskedView<StoredView> masked_theta() const;

  // Zero everywhere is the closed session: static ones lie in .bss, and a
  // zeroed fewstep_session is one. What is used most, and smallest, comes
  // first: Thumb instructions reach it in two bytes.
  OnFailure on_failure_ = OnFailure::kFactory;
  Phase phase_ = Phase::kIdle;
  bool open_ = false;
  bool continue_ = false;
  // Parameter vectors by index: theta_0 in the capsule, or buffer 1, 2, 3.
  static constexpr uint8_t kTheta0 = 0;
  uint8_t current_ = kTheta0;  // The parameters; theta_k while adapting.
  uint8_t entry_ = kTheta0;    // While adapting: the parameters at begin() ...
  uint8_t dest_ = kTheta0;     // ... and the gradient that becomes theta_{k+1}.
  float* workspace_ = nullptr;
  float* buffers_ = nullptr;  // Parameter vectors, Layout::n_buffers of them.
  const Op* const* ops_ = nullptr;
  size_t high_water_ = 0;
  // Counts are at most kMaxCapsuleCount.
  uint16_t tile_ = 0;
  uint16_t steps_ = 0;  // Of the adaptation in progress.
  uint16_t step_ = 0;   // Done.
  uint16_t next_ = 0;   // Example the next slice starts at.
  uint16_t max_support_ = 0;
  uint16_t max_predict_ = 0;
  uint16_t max_steps_ = 0;
  SupportSet support_ = {};
  float loss_first_ = 0.0F;
  float loss_last_ = 0.0F;
  Capsule capsule_ = {};
};

/// Arena bytes selftest() needs. kMissingSection without a golden episode;
/// else as required_bytes().
Status selftest_bytes(const Capsule& capsule, size_t* n_bytes);

/// Replays the capsule's golden episode and compares every bit: losses, outputs
/// and adapted parameters. Needs no session; proves a port on real silicon.
///
/// @retval kOk              This machine gives the bits of the host.
/// @retval kSelfTestFailed  It does not.
/// @retval kMissingSection  The capsule carries no golden episode.
/// @retval (Session::open's and Session::adapt's)
Status selftest(Bytes capsule, const Op* const* ops, Arena arena);

}  // namespace fewstep

#endif  // FEWSTEP_DEVICE_SESSION_H_
