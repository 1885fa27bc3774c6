// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/adapter.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "fewstep/device/every_op.h"
#include "fewstep/host/error.h"

namespace fewstep::host {
namespace {

// Throws unless `status` is kOk; `what` names the call.
void require(Status status, const char* what) {
  if (status == Status::kOk) return;
  const Exit exit = status == Status::kBadFloatEnvironment ? Exit::kResource
                    : status == Status::kBadInput || status == Status::kBadLabel
                        ? Exit::kBadData
                        : Exit::kInternal;
  throw Error(exit, fmt::format("{}: {}", what, to_string(status)));
}

}  // namespace

Adapter::Adapter(const CapsuleFile& file,
                 const EpisodeShape& shape,
                 uint32_t steps,
                 bool one_at_a_time)
    : shape_(shape), steps_(steps) {
  const Capsule& capsule = file.capsule;
  const Network& network = capsule.network;
  const bool classes = network.loss == LossOp::kSoftmaxCrossEntropy;
  if (network.n_in != shape.n_in || classes != shape.classification ||
      network.n_out != shape.n_out) {
    throw Error(
        Exit::kBadData,
        fmt::format(
            "the capsule's network takes {} inputs and gives {} {}, the "
            "episodes have {} and {} {}; use a capsule and episodes of "
            "the same task",
            network.n_in,
            network.n_out,
            classes ? "classes" : "outputs",
            shape.n_in,
            shape.n_out,
            shape.classification ? "classes" : "outputs"));
  }
  if (bounds_steps(capsule.rule) && steps > capsule.rule.steps) {
    throw Error(Exit::kUsage,
                fmt::format("{} has rates for {} steps; ask for no more",
                            to_string(capsule.rule.op),
                            capsule.rule.steps));
  }
  n_together_ = one_at_a_time ? 1 : shape.n_query;
  SessionOptions options;
  // evaluate() on the queries is bounded by max_support, too.
  options.max_support = std::max(shape.n_support, n_together_);
  options.max_predict = n_together_;
  options.max_steps = steps;
  size_t bytes = 0;
  require(required_bytes(capsule, options, &bytes), "required_bytes");
  arena_.resize(bytes);
  require(session_.open({file.bytes.data(), file.bytes.size()},
                        EveryOp::list,
                        {arena_.data(), arena_.size()},
                        options),
          "open");
  outputs_.resize(size_t{shape.n_query} * shape.n_out);
}

SupportSet Adapter::support(const Episode& e) const {
  return {e.support_x.data(),
          shape_.classification ? e.support_labels.data() : nullptr,
          shape_.classification ? nullptr : e.support_targets.data(),
          shape_.n_support};
}

bool Adapter::adapt(const Episode& episode) {
  reset();
  const Status status = session_.adapt(support(episode), &report_, steps_);
  if (status == Status::kDiverged) return false;
  require(status, "adapt");
  return true;
}

float Adapter::loss(const SupportSet& set) {
  float value = 0.0F;
  const Status status = session_.evaluate(set, &value);
  if (status == Status::kDiverged) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  require(status, "evaluate");
  return value;
}

float Adapter::support_loss(const Episode& episode) {
  return loss(support(episode));
}

Score Adapter::score(const Episode& e) {
  const size_t n_in = shape_.n_in;
  const size_t n_out = shape_.n_out;
  Score s;
  uint32_t n_right = 0;
  for (uint32_t q = 0; q < shape_.n_query; q += n_together_) {
    const SupportSet set = {
        e.query_x.data() + q * n_in,
        shape_.classification ? e.query_labels.data() + q : nullptr,
        shape_.classification ? nullptr : e.query_targets.data() + q * n_out,
        n_together_};
    s.loss += loss(set);
    float* const y = outputs_.data() + q * n_out;
    require(session_.predict(set.x, n_together_, y), "predict");
    if (!shape_.classification) continue;
    for (uint32_t i = 0; i < n_together_; ++i) {
      const float* const z = y + i * n_out;
      if (std::max_element(z, z + n_out) - z == set.labels[i]) ++n_right;
    }
  }
  const float n_query = static_cast<float>(shape_.n_query);
  s.loss /= n_query / static_cast<float>(n_together_);
  s.accuracy = static_cast<float>(n_right) / n_query;
  return s;
}

void Adapter::reset() { require(session_.reset(), "reset"); }

}  // namespace fewstep::host
