// The C API: every call is one C++ call.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/fewstep.h"

#include "fewstep/device/session.h"

namespace {

using fewstep::Session;
using fewstep::Status;

static_assert(sizeof(Session) <= sizeof(fewstep_session),
              "fewstep_session is too small for a Session");
static_assert(alignof(Session) <= alignof(fewstep_session),
              "fewstep_session is not aligned for a Session");

// All bytes zero is a closed Session, and a Session needs no destructor, so a
// zeroed fewstep_session is the object.
Session* cpp(fewstep_session* s) { return reinterpret_cast<Session*>(s); }
const Session* cpp(const fewstep_session* s) {
  return reinterpret_cast<const Session*>(s);
}

int code(Status status) { return static_cast<int>(status); }

fewstep::SessionOptions cpp(const fewstep_options* o) {
  fewstep::SessionOptions options;
  if (o == nullptr) return options;
  options.max_support = o->max_support;
  options.max_predict = o->max_predict;
  options.max_steps = o->max_steps;
  options.tile = o->tile;
  options.on_failure = static_cast<fewstep::OnFailure>(o->on_failure);
  options.continue_from_current = o->continue_from_current != 0;
  return options;
}

fewstep::SupportSet cpp(const fewstep_support& s) {
  return {s.x, s.labels, s.targets, s.n};
}

void copy(const fewstep::AdaptReport& from, fewstep_report* to) {
  to->loss_first = from.loss_first;
  to->loss_last = from.loss_last;
  to->steps = from.steps;
  to->tile = from.tile;
  to->high_water_bytes = from.high_water_bytes;
}

}  // namespace

extern "C" {

const char* fewstep_status_name(int status) {
  // A value that no status has must not wrap around to one that some has.
  const bool fits = status >= INT8_MIN && status <= INT8_MAX;
  return fewstep::to_string(static_cast<Status>(fits ? status : INT8_MAX));
}

int fewstep_required_bytes(const void* capsule,
                           size_t capsule_bytes,
                           const fewstep_options* options,
                           size_t* n_bytes) {
  fewstep::Capsule read;
  const Status status = fewstep::read_capsule(capsule, capsule_bytes, &read);
  if (status != Status::kOk) return code(status);
  return code(fewstep::required_bytes(read, cpp(options), n_bytes));
}

int fewstep_open(fewstep_session* session,
                 const void* capsule,
                 size_t capsule_bytes,
                 const fewstep_op* const* ops,
                 void* arena,
                 size_t arena_bytes,
                 const fewstep_options* options) {
  if (session == nullptr) return code(Status::kBadArgument);
  return code(cpp(session)->open(
      {capsule, capsule_bytes}, ops, {arena, arena_bytes}, cpp(options)));
}

int fewstep_adapt(fewstep_session* session,
                  const fewstep_support* support,
                  uint32_t steps,
                  fewstep_report* report) {
  if (session == nullptr || support == nullptr) {
    return code(Status::kBadArgument);
  }
  fewstep::AdaptReport r;
  const Status status = cpp(session)->adapt(cpp(*support), &r, steps);
  if (status == Status::kOk && report != nullptr) copy(r, report);
  return code(status);
}

int fewstep_begin(fewstep_session* session,
                  const fewstep_support* support,
                  uint32_t steps) {
  if (session == nullptr || support == nullptr) {
    return code(Status::kBadArgument);
  }
  return code(cpp(session)->begin(cpp(*support), steps));
}

int fewstep_step(fewstep_session* session) {
  if (session == nullptr) return code(Status::kBadArgument);
  return code(cpp(session)->step());
}

int fewstep_step_slice(fewstep_session* session, int* step_done) {
  if (session == nullptr) return code(Status::kBadArgument);
  bool done = false;
  const Status status = cpp(session)->step_slice(&done);
  if (status == Status::kOk && step_done != nullptr) *step_done = done ? 1 : 0;
  return code(status);
}

int fewstep_end(fewstep_session* session, fewstep_report* report) {
  if (session == nullptr) return code(Status::kBadArgument);
  fewstep::AdaptReport r;
  const Status status = cpp(session)->end(&r);
  if (status == Status::kOk && report != nullptr) copy(r, report);
  return code(status);
}

int fewstep_abort(fewstep_session* session) {
  if (session == nullptr) return code(Status::kBadArgument);
  return code(cpp(session)->abort());
}

int fewstep_predict(fewstep_session* session,
                    const float* x,
                    uint32_t n,
                    float* outputs) {
  if (session == nullptr) return code(Status::kBadArgument);
  return code(cpp(session)->predict(x, n, outputs));
}

int fewstep_evaluate(fewstep_session* session,
                     const fewstep_support* set,
                     float* loss) {
  if (session == nullptr || set == nullptr) return code(Status::kBadArgument);
  return code(cpp(session)->evaluate(cpp(*set), loss));
}

int fewstep_reset(fewstep_session* session) {
  if (session == nullptr) return code(Status::kBadArgument);
  return code(cpp(session)->reset());
}

uint64_t fewstep_hash(const fewstep_session* session) {
  return session == nullptr ? 0 : cpp(session)->hash();
}

uint32_t fewstep_inputs(const fewstep_session* session) {
  return session == nullptr ? 0 : cpp(session)->capsule().network.n_in;
}

uint32_t fewstep_outputs(const fewstep_session* session) {
  return session == nullptr ? 0 : cpp(session)->capsule().network.n_out;
}

uint32_t fewstep_parameters(const fewstep_session* session) {
  return session == nullptr ? 0 : cpp(session)->capsule().network.n_params;
}

int fewstep_selftest_bytes(const void* capsule,
                           size_t capsule_bytes,
                           size_t* n_bytes) {
  fewstep::Capsule read;
  const Status status = fewstep::read_capsule(capsule, capsule_bytes, &read);
  if (status != Status::kOk) return code(status);
  return code(fewstep::selftest_bytes(read, n_bytes));
}

int fewstep_selftest(const void* capsule,
                     size_t capsule_bytes,
                     const fewstep_op* const* ops,
                     void* arena,
                     size_t arena_bytes) {
  return code(
      fewstep::selftest({capsule, capsule_bytes}, ops, {arena, arena_bytes}));
}

}  // extern "C"
