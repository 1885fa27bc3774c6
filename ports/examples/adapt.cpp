// A complete firmware program: adapt a capsule's network to one episode, then
// predict. The same source runs on every port; what it prints as bits is the
// same on all of them.
//
// The two headers are made by `fewstep export` (ports/README.md).
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "episode.h"
#include "fewstep/device/session.h"
#include "model.h"
#include "port_example.h"
#include "print.h"

// A larger arena takes more examples at a time: faster, the same bits.
#ifndef EXAMPLE_ARENA_BYTES
#define EXAMPLE_ARENA_BYTES MODEL_ARENA_BYTES
#endif

namespace {

using fewstep::Status;

// All the memory that adapting takes, beside the session and the stack.
alignas(16) unsigned char arena[EXAMPLE_ARENA_BYTES];
fewstep::Session session;

void require(Status status, const char* what) {
  if (status == Status::kOk) return;
  port_print("error: ");
  port_print(what);
  port_print(": ");
  port_print(to_string(status));
  port_print("\n");
  port_exit(1);
}

void print_count(const char* name, uint64_t value) {
  port_print(name);
  port_print(" ");
  print_unsigned(value);
  port_print("\n");
}

void print_value(const char* name, float value) {
  port_print(name);
  port_print(" ");
  print_float(value);
  port_print(" 0x");
  print_bits(value);
  port_print("\n");
}

fewstep::SupportSet support_set() {
  fewstep::SupportSet set = {};
  set.x = episode_support_x;
#if EPISODE_HAS_LABELS
  set.labels = episode_support_labels;
#else
  set.targets = episode_support_targets;
#endif
  set.n = EPISODE_N_SUPPORT;
  return set;
}

/// How far `output` is from the answer to query `q`: 0 or 1 (a wrong class), or
/// the squared error summed over the outputs.
float error_of(uint32_t q, const float* output, uint32_t n_out) {
#if EPISODE_HAS_LABELS
  uint32_t best = 0;
  for (uint32_t o = 1; o < n_out; ++o) {
    if (output[o] > output[best]) best = o;
  }
  return best == episode_query_labels[q] ? 0.0F : 1.0F;
#else
  float sum = 0.0F;
  for (uint32_t o = 0; o < n_out; ++o) {
    const float d = output[o] - episode_query_targets[q * n_out + o];
    sum += d * d;
  }
  return sum / static_cast<float>(n_out);
#endif
}

/// Predicts all queries and prints their mean error: each alone, as a device
/// meets them, unless the network normalizes over the batch.
void predict_queries(const char* name, bool print_outputs) {
  const fewstep::Network& network = session.capsule().network;
  const uint32_t together = network.transductive != 0 ? EPISODE_N_QUERY : 1;
  static float outputs[EPISODE_N_QUERY * MODEL_N_OUT];
  float error = 0.0F;
  for (uint32_t q = 0; q < EPISODE_N_QUERY; q += together) {
    float* out = outputs + q * network.n_out;
    require(session.predict(episode_query_x + q * network.n_in, together, out),
            "predict");
  }
  for (uint32_t q = 0; q < EPISODE_N_QUERY; ++q) {
    const float* out = outputs + q * network.n_out;
    error += error_of(q, out, network.n_out);
    if (!print_outputs) continue;
    port_print("output ");
    print_unsigned(q);
    for (uint32_t o = 0; o < network.n_out; ++o) {
      port_print(" 0x");
      print_bits(out[o]);
    }
    port_print("\n");
  }
  print_value(name, error / EPISODE_N_QUERY);
}

}  // namespace

int main() {
  require(session.open(
              {model_capsule, MODEL_BYTES}, model_ops, {arena, sizeof arena}),
          "open");
  const fewstep::Capsule& capsule = session.capsule();
  const fewstep::SupportSet support = support_set();

  float loss;
  require(session.evaluate(support, &loss), "evaluate");
  print_value("support_loss_before", loss);
  predict_queries("query_error_before", false);

  // adapt() in one call would do; step by step shows what each one costs.
  require(session.begin(support), "begin");
  for (uint32_t k = 0; k < capsule.limits.steps; ++k) {
    const uint64_t start = port_counter();
    require(session.step(), "step");
    const uint64_t cost = port_counter() - start;
    port_print("step ");
    print_unsigned(k);
    port_print(" ");
    print_unsigned(cost);
    port_print(" ");
    port_print(port_counter_unit());
    port_print("\n");
  }
  fewstep::AdaptReport report;
  require(session.end(&report), "end");

  require(session.evaluate(support, &loss), "evaluate");
  print_value("support_loss_after", loss);
  predict_queries("query_error_after", true);

  port_print("parameter_hash 0x");
  print_hex(session.hash(), 16);
  port_print("\n");
  print_count("tile", report.tile);
  print_count("arena_bytes", sizeof arena);
  print_count("high_water_bytes", session.high_water_bytes());
  print_count("session_bytes", sizeof session);
  print_count("stack_bytes", port_stack_high_water());
  return 0;
}
