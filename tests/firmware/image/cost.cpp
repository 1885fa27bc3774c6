// What one step on a whole support set costs: instructions, and memory besides
// the data.
//
//   cost.elf CAPSULE TILE DATA
//
//   TILE  examples taken at a time; rounded as SessionOptions::tile says
//   DATA  0 to 3, what the support set's inputs are; a step must cost the same:
//         0  in [-2, 2)
//         1  all 0, and one class
//         2  in [-2^20, 2^20)
//         3  in [-3, -2): many a relu is dead for all examples
//
// Of a capsule for several steps it is the second one, which reads what the
// first left of the rule's state and of the parameters.
//
// Prints one fact a line, among them
//
//   instructions 115080        of step(), in units of 40
//   ram_bytes 9480             arena + session + stack
//
// Built with FEWSTEP_COST_OF_ALL it knows every operation but batch_norm, and
// f16 (cost_of_all.elf).
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/device/session.h"
#include "port_example.h"
#include "semihosting.h"

namespace {

using fewstep::Status;

// A program looks its operations up in this list, so those of the three
// networks come first.
template <template <class...> class List, class... More>
using OperationsAnd = List<fewstep::Dense,
                           fewstep::Relu,
                           fewstep::Conv2d,
                           fewstep::Mse,
                           fewstep::SoftmaxCrossEntropy,
                           fewstep::MetaSgd,
                           fewstep::Tanh,
                           fewstep::GroupNorm,
                           fewstep::MaxPool,
                           fewstep::GlobalAvgPool,
                           fewstep::Flatten,
                           fewstep::Momentum,
                           fewstep::Adam,
                           More...>;
#ifdef FEWSTEP_COST_OF_ALL
using Operations = OperationsAnd<fewstep::OpsF16,
                                 fewstep::Sgd,
                                 fewstep::Lslr,
                                 fewstep::RateNet,
                                 fewstep::Lstm,
                                 fewstep::OnlineMetaSgd,
                                 fewstep::Context,
                                 fewstep::StepOptions,
                                 fewstep::SparseMask>;
#else
using Operations = OperationsAnd<fewstep::Ops>;
#endif

alignas(16) unsigned char capsule_bytes[1 << 18];
alignas(16) unsigned char arena[1 << 18];
float support_x[1 << 14];
float support_targets[1 << 10];
uint16_t support_labels[1 << 10];
char line[1024];
fewstep::Session session;

__attribute__((noinline)) void print_count(const char* name, uint64_t value) {
  char text[24];
  uint32_t at = sizeof text;
  text[--at] = '\0';
  text[--at] = '\n';
  do {
    text[--at] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  text[--at] = ' ';
  port_print(name);
  port_print(text + at);
}

__attribute__((noinline)) void require(const char* what, Status status) {
  if (status == Status::kOk) return;
  port_print(what);
  port_print(": ");
  port_print(to_string(status));
  port_print("\n");
  port_exit(1);
}

/// Ends `*rest`'s first word, moves `*rest` past it and returns it.
const char* next_word(char** rest) {
  char* at = *rest;
  while (*at == ' ') ++at;
  const char* word = at;
  while (*at != ' ' && *at != '\0') ++at;
  if (*at == ' ') *at++ = '\0';
  *rest = at;
  return word;
}

/// What DATA stands for: inputs scale * u + offset, u in [-2, 2).
struct Data {
  float scale;
  float offset;
  uint32_t label_step;
};
constexpr Data kData[] = {
    {1.0F, 0.0F, 3}, {0.0F, 0.0F, 0}, {0x1p19F, 0.0F, 1}, {0.25F, -2.5F, 2}};

/// Fills the support set. Costs the same for every `data`, so that the counter
/// ticks at the same points of the step.
__attribute__((noinline)) void fill(const fewstep::Capsule& capsule,
                                    const Data& data) {
  uint32_t state = 1;
  const auto next = [&] {  // In [-2, 2).
    state = state * 1664525U + 1013904223U;
    return static_cast<float>(static_cast<int32_t>(state)) * 0x1p-30F;
  };
  const uint32_t n = capsule.limits.support_max;
  const uint32_t n_in = n * capsule.network.n_in;
  const uint32_t n_out = capsule.network.n_out;
  for (uint32_t i = 0; i < n_in; ++i) {
    support_x[i] = data.scale * next() + data.offset;
  }
  for (uint32_t i = 0; i < n * n_out; ++i) support_targets[i] = next();
  for (uint32_t i = 0; i < n; ++i) {
    support_labels[i] = static_cast<uint16_t>(i * data.label_step % n_out);
  }
}

/// Opens the session for the command line; its frame is gone when the step
/// runs.
__attribute__((noinline)) void open_session(const Data** data) {
  if (!semihosting::command_line(line, sizeof line)) port_exit(2);
  char* rest = line;
  next_word(&rest);  // The image itself.
  const char* const path = next_word(&rest);
  static fewstep::SessionOptions options;
  for (const char* c = next_word(&rest); *c != '\0'; ++c) {
    options.tile = options.tile * 10 + static_cast<uint32_t>(*c - '0');
  }
  *data = &kData[(*next_word(&rest) - '0') & 3];
  const int32_t size =
      semihosting::read_file(path, capsule_bytes, sizeof capsule_bytes);
  if (size < 0) {
    port_print("the capsule cannot be read\n");
    port_exit(2);
  }
  require("open",
          session.open({capsule_bytes, static_cast<size_t>(size)},
                       Operations::list,
                       {arena, sizeof arena},
                       options));
}

}  // namespace

int main() {
  const Data* data = nullptr;
  open_session(&data);
  const fewstep::Capsule& capsule = session.capsule();
  fill(capsule, *data);
  const bool classes =
      capsule.network.loss == fewstep::LossOp::kSoftmaxCrossEntropy;
  static fewstep::SupportSet support;
  support.x = support_x;
  if (classes) {
    support.labels = support_labels;
  } else {
    support.targets = support_targets;
  }
  support.n = capsule.limits.support_max;
  require("begin", session.begin(support, capsule.limits.steps));
  if (capsule.limits.steps > 1) require("step", session.step());
  const uint64_t start = port_counter();
  const Status stepped = session.step();
  const uint64_t cost = port_counter() - start;
  require("step", stepped);
  for (uint32_t k = 2; k < capsule.limits.steps; ++k) {
    require("step", session.step());
  }
  static fewstep::AdaptReport report;
  require("end", session.end(&report));

  const uint32_t stack = port_stack_high_water();
  print_count("instructions", cost);
  print_count("tile", report.tile);
  print_count("arena_bytes", report.high_water_bytes);
  print_count("session_bytes", sizeof session);
  print_count("stack_bytes", stack);
  print_count("ram_bytes", report.high_water_bytes + sizeof session + stack);
  return 0;
}
