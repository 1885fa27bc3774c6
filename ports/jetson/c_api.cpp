// The C API of GPU sessions: every call is one C++ call.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <new>
#include <vector>

#include "block_session.h"
#include "cuda_backend.h"
#include "fewstep/adapted.h"
#include "fewstep/jetson.h"

using fewstep::SessionOptions;
using fewstep::Status;
using fewstep::SupportSet;
using fewstep::jetson::BlockSession;
using fewstep::jetson::CudaBackend;

struct fewstep_gpu_session {
  CudaBackend backend;
  BlockSession<CudaBackend> session{&backend};
};

namespace {

// Links the reader of capsules with step options (read_options, capsule.h).
__attribute__((used))
Status (*const kReader)(uint32_t*, fewstep::Network*) = &fewstep::plan_adapted;

int code(Status status) { return static_cast<int>(status); }

SessionOptions cpp(const fewstep_options* o) {
  SessionOptions options;
  if (o == nullptr) return options;
  options.max_support = o->max_support;
  options.max_predict = o->max_predict;
  options.max_steps = o->max_steps;
  options.tile = o->tile;
  options.on_failure = static_cast<fewstep::OnFailure>(o->on_failure);
  options.continue_from_current = o->continue_from_current != 0;
  return options;
}

SupportSet cpp(const fewstep_support& s) {
  return {s.x, s.labels, s.targets, s.n};
}

}  // namespace

extern "C" {

int fewstep_gpu_required_bytes(const void* capsule,
                               size_t capsule_bytes,
                               const fewstep_options* options,
                               size_t* gpu_bytes,
                               size_t* pinned_bytes) {
  if (gpu_bytes == nullptr || pinned_bytes == nullptr) {
    return code(Status::kBadArgument);
  }
  fewstep::Capsule read;
  Status status = fewstep::read_capsule(capsule, capsule_bytes, &read);
  if (status != Status::kOk) return code(status);
  fewstep::jetson::BlockLayout layout;
  status = fewstep::jetson::plan_block(read, cpp(options), &layout);
  if (status != Status::kOk) return code(status);
  *gpu_bytes = layout.gpu_bytes;
  *pinned_bytes = layout.staging_bytes;
  return 0;
}

int fewstep_gpu_open(fewstep_gpu_session** session,
                     const void* capsule,
                     size_t capsule_bytes,
                     const fewstep_options* options) {
  if (session == nullptr) return code(Status::kBadArgument);
  std::unique_ptr<fewstep_gpu_session> opened(new (std::nothrow)
                                                  fewstep_gpu_session);
  if (opened == nullptr) return code(Status::kArenaTooSmall);
  const Status status =
      opened->session.open({capsule, capsule_bytes}, cpp(options));
  if (status == Status::kOk) *session = opened.release();
  return code(status);
}

void fewstep_gpu_close(fewstep_gpu_session* session) { delete session; }

int fewstep_gpu_adapt(fewstep_gpu_session* session,
                      const fewstep_support* support,
                      uint32_t steps,
                      fewstep_report* report) {
  if (session == nullptr || support == nullptr) {
    return code(Status::kBadArgument);
  }
  fewstep::AdaptReport r;
  const Status status = session->session.adapt(cpp(*support), &r, steps);
  if (status == Status::kOk && report != nullptr) {
    report->loss_first = r.loss_first;
    report->loss_last = r.loss_last;
    report->steps = r.steps;
    report->tile = r.tile;
    report->high_water_bytes = r.high_water_bytes;
  }
  return code(status);
}

int fewstep_gpu_predict(fewstep_gpu_session* session,
                        const float* x,
                        uint32_t n,
                        float* outputs) {
  if (session == nullptr) return code(Status::kBadArgument);
  return code(session->session.predict(x, n, outputs));
}

int fewstep_gpu_evaluate(fewstep_gpu_session* session,
                         const fewstep_support* set,
                         float* loss) {
  if (session == nullptr || set == nullptr) return code(Status::kBadArgument);
  return code(session->session.evaluate(cpp(*set), loss));
}

int fewstep_gpu_reset(fewstep_gpu_session* session) {
  if (session == nullptr) return code(Status::kBadArgument);
  return code(session->session.reset());
}

int fewstep_gpu_copy_parameters(fewstep_gpu_session* session, float* theta) {
  if (session == nullptr || theta == nullptr) {
    return code(Status::kBadArgument);
  }
  return code(session->session.parameters(theta));
}

uint64_t fewstep_gpu_hash(fewstep_gpu_session* session) {
  if (session == nullptr) return 0;
  return session->session.hash();
}

uint32_t fewstep_gpu_inputs(const fewstep_gpu_session* session) {
  return session == nullptr ? 0 : session->session.capsule().network.n_in;
}

uint32_t fewstep_gpu_outputs(const fewstep_gpu_session* session) {
  return session == nullptr ? 0 : session->session.capsule().network.n_out;
}

uint32_t fewstep_gpu_parameters(const fewstep_gpu_session* session) {
  return session == nullptr ? 0 : session->session.capsule().network.n_params;
}

int fewstep_gpu_selftest(const void* capsule, size_t capsule_bytes) {
  CudaBackend backend;
  return code(fewstep::jetson::selftest(&backend, {capsule, capsule_bytes}));
}

const char* fewstep_gpu_message(void) {
  return fewstep::jetson::cuda_message();
}

}  // extern "C"
