// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/capsule_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "fewstep/adapted.h"
#include "fewstep/capsule_format.h"
#include "fewstep/host/error.h"
#include "fewstep/host/file.h"
#include "fewstep/numerics/half.h"
#include "fewstep/numerics/log8.h"
#include "fewstep/sparse_mask.h"

namespace fewstep::host {
namespace {

// Links the planner that knows of contexts: a workstation reads every capsule.
[[gnu::used]] bool (*const kPlansContexts)(const Network&) = &has_context;

constexpr float kF16Max = 65504.0F;
constexpr uint64_t kMaxFileBytes = 0xfffffff0U;

[[noreturn]] void contradiction(const std::string& what) {
  throw Error(Exit::kInternal, "cannot write the capsule: " + what);
}

void check_size(const char* name, size_t got, uint64_t want) {
  if (got != want) {
    contradiction(fmt::format("{} has {} values, not {}", name, got, want));
  }
}

void check_finite(const char* name, std::span<const float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      throw Error(Exit::kNumeric,
                  fmt::format("cannot write the capsule: {}[{}] is {}; the "
                              "training diverged, take an earlier checkpoint",
                              name,
                              i,
                              values[i]));
    }
  }
}

// 1..kMaxCapsuleCount, and at most `most`.
void check_count(const char* name, uint32_t got, uint32_t most) {
  most = std::min(most, kMaxCapsuleCount);
  if (got < 1 || got > most) {
    throw Error(
        Exit::kUsage,
        fmt::format("{} = {} is outside 1 to {}: change it in the recipe",
                    name,
                    got,
                    most));
  }
}

// Which parameter of which layer theta[i] is, for a person.
std::string parameter_name(const Network& network, size_t i) {
  for (uint32_t k = 0; k < network.n_layers; ++k) {
    const Layer& l = network.layers[k];
    if (i < l.param_offset || i - l.param_offset >= l.n_params()) continue;
    const size_t at = i - l.param_offset;
    const bool is_bias = at >= l.n_weights;
    return fmt::format("layer {} ({}), {}[{}]",
                       k,
                       to_string(l.op),
                       is_bias ? "bias" : "weight",
                       is_bias ? at - l.n_weights : at);
  }
  return fmt::format("parameter {}", i);
}

// The sections, one after another.
class Writer {
 public:
  template <class T>
  void put(std::span<const T> values) {
    const auto* p = reinterpret_cast<const uint8_t*>(values.data());
    payload_.insert(payload_.end(), p, p + values.size_bytes());
  }
  template <class T>
  void put(const std::vector<T>& values) {
    put(std::span<const T>(values));
  }
  template <class Record>
  void put_record(const Record& record) {
    put(std::span<const Record>(&record, 1));
  }

  void begin(SectionType type, uint16_t flags) {
    SectionEntry e = {};
    e.type = static_cast<uint16_t>(type);
    e.flags = flags;
    e.offset = static_cast<uint32_t>(payload_.size());  // From the payload's
    table_.push_back(e);                                // start, until finish.
  }
  void end() {
    if (payload_.size() > kMaxFileBytes / 2) {
      throw Error(Exit::kUsage,
                  "the capsule exceeds 2 GiB: use a smaller network");
    }
    SectionEntry& e = table_.back();
    e.bytes = static_cast<uint32_t>(payload_.size()) - e.offset;
    payload_.resize((payload_.size() + kCapsuleAlignment - 1) /
                    kCapsuleAlignment * kCapsuleAlignment);
  }

  CapsuleBytes finish() {
    CapsuleHeader h = {};
    h.magic = kCapsuleMagic;
    h.format_version = kCapsuleVersion;
    h.numerics_version = kNumericsVersion;
    h.n_sections = static_cast<uint32_t>(table_.size());
    h.model_hash = fnv1a(nullptr, 0);
    const size_t start = sizeof h + table_.size() * sizeof(SectionEntry);
    for (SectionEntry& e : table_) {
      if (e.type <= static_cast<uint16_t>(SectionType::kRule) ||
          e.type == static_cast<uint16_t>(SectionType::kOptions)) {
        h.model_hash = fnv1a(payload_.data() + e.offset, e.bytes, h.model_hash);
      }
      e.offset += static_cast<uint32_t>(start);
    }
    CapsuleBytes file(start + payload_.size());
    h.total_bytes = static_cast<uint32_t>(file.size());
    std::memcpy(&file[sizeof h], table_.data(), start - sizeof h);
    std::copy(payload_.begin(), payload_.end(), file.begin() + start);
    h.payload_crc = crc32(&file[sizeof h], file.size() - sizeof h);
    h.header_crc = crc32(&h, offsetof(CapsuleHeader, header_crc));
    std::memcpy(file.data(), &h, sizeof h);
    return file;
  }

 private:
  std::vector<SectionEntry> table_;
  std::vector<uint8_t> payload_;
};

// `name(i)` names value i, `key` the recipe key of [capsule], and option of
// `fewstep pack`, that chose f16.
template <class Name>
std::vector<uint16_t> encode_as_f16(std::span<const float> values,
                                    const char* key,
                                    const Name& name) {
  std::vector<uint16_t> stored(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    stored[i] = half_from_float(values[i]);
    if ((stored[i] & kHalfInfinity) == kHalfInfinity) {
      throw Error(
          Exit::kUsage,
          fmt::format("{} is {}, beyond f16's largest value {}: store "
                      "with [capsule] {} = \"f32\", or pack a finished run "
                      "with --{} f32 (fewstep pack)",
                      name(i),
                      values[i],
                      kF16Max,
                      key,
                      key));
    }
  }
  return stored;
}

void write_network(Writer& w, const Network& n) {
  NetworkRecord r = {};
  r.in_c = n.in_c;
  r.in_h = n.in_h;
  r.in_w = n.in_w;
  r.n_layers = n.n_layers;
  r.loss = static_cast<uint8_t>(n.loss);
  r.transductive = n.transductive;
  r.n_tensors = n.n_tensors;
  r.n_params = n.n_params;
  w.begin(SectionType::kNetwork, kSectionRequired);
  w.put_record(r);
  w.put(std::span<const Layer>(n.layers, n.n_layers));
  w.end();
}

void write_init(Writer& w, const CapsuleContents& c) {
  check_size("theta", c.theta.size(), c.network.n_params);
  check_finite("theta", c.theta);
  InitRecord r = {};
  r.storage = static_cast<uint8_t>(c.init_storage);
  r.count = c.network.n_params;
  w.begin(SectionType::kInit, kSectionRequired);
  w.put_record(r);
  switch (c.init_storage) {
    case Storage::kF32: w.put(c.theta); break;
    case Storage::kF16:
      w.put(encode_as_f16(c.theta, "init", [&](size_t i) {
        return parameter_name(c.network, i);
      }));
      break;
    case Storage::kLog8:
      contradiction("the initialization cannot be stored as log8");
  }
  w.end();
}

void write_rule(Writer& w, const CapsuleContents& c) {
  check_count("[inner] steps", c.rule.steps, kMaxCapsuleCount);
  const Rule want =
      make_rule(c.rule.op, c.rule.steps, c.network, c.rule.options);
  check_size("the rule", c.rule.n_phi, want.n_phi);
  check_size("phi", c.phi.size(), want.n_phi);
  check_finite("phi", c.phi);
  RuleRecord r = {};
  r.op = static_cast<uint8_t>(c.rule.op);
  r.storage = static_cast<uint8_t>(c.rate_storage);
  r.steps = c.rule.steps;
  r.options = want.options.bits;
  r.n_phi = want.n_phi;
  r.n_state_per_param = want.n_state_per_param;
  r.n_scratch = want.n_scratch;

  std::vector<uint8_t> codes;
  if (c.rate_storage == Storage::kLog8) {
    float largest = 0.0F;
    for (const float rate : c.phi) {
      largest = std::max(largest, std::fabs(rate));
    }
    r.log8_exponent = log8_choose_exponent(largest);
    codes.resize(c.phi.size());
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = log8_encode(c.phi[i], r.log8_exponent);
    }
  }
  const bool learned = want.op == RuleOp::kRateNet || want.op == RuleOp::kLstm;
  if (learned && !codes.empty()) {
    throw Error(Exit::kUsage,
                fmt::format("cannot write the capsule: log8 is for rates, and "
                            "{} has the weights of a network; use [capsule] "
                            "rates = \"f16\" or \"f32\"",
                            to_string(want.op)));
  }
  const uint32_t at_gains = n_rates(want, c.network);
  for (uint32_t j = 0; j < n_means(want.op); ++j) {
    float gain = c.phi[at_gains + j];
    if (!codes.empty()) {
      gain = log8_decode(codes[at_gains + j], r.log8_exponent);
    }
    if (!(gain > 0.0F) || gain > 1.0F) {
      throw Error(
          Exit::kUsage,
          fmt::format("cannot write the capsule: phi[{}], 1 - beta = {}, is "
                      "not in (0, 1]{}",
                      at_gains + j,
                      c.phi[at_gains + j],
                      codes.empty() ? ""
                                    : " as log8 beside such large values; "
                                      "use [capsule] rates = \"f16\""));
    }
  }
  w.begin(SectionType::kRule, kSectionRequired);
  w.put_record(r);
  switch (c.rate_storage) {
    case Storage::kF32: w.put(c.phi); break;
    case Storage::kF16:
      w.put(encode_as_f16(
          c.phi, "rates", [](size_t i) { return fmt::format("rate {}", i); }));
      break;
    case Storage::kLog8: w.put(codes); break;
  }
  w.end();
}

// Only what differs from the default: capsules without stay as they were.
void write_options(Writer& w, const CapsuleContents& c) {
  const Network& n = c.network;
  if (n.adapted == nullptr && !c.rule.has_step_options()) return;
  for (const float value : {c.rule.weight_decay, c.rule.clip_norm}) {
    if (!(value >= 0.0F) || !std::isfinite(value) || std::signbit(value)) {
      contradiction("weight decay or clip norm is not a number >= 0");
    }
  }
  // The table must be plan_adapted()'s, or plan_mask()'s.
  const uint32_t n_layers = n.adapted != nullptr ? n.n_layers : 0;
  const uint32_t n_words = n.masked != 0 ? n_mask_words(n.n_params) : 0;
  std::vector<uint32_t> table(n.adapted, n.adapted + n_layers + 2 * n_words);
  Network copy = n;
  Status planned = Status::kOk;
  if (n_words != 0) {
    std::vector<MaskWord> words(n_words);
    std::memcpy(words.data(), &table[n_layers], n_words * sizeof(MaskWord));
    planned = plan_mask(words.data(), table.data(), &copy);
  } else if (n_layers != 0) {
    planned = plan_adapted(table.data(), &copy);
  }
  if (planned != Status::kOk || copy.n_adapted != n.n_adapted ||
      copy.masked != n.masked ||
      (n_layers != 0 && copy.adapted != table.data()) ||
      !std::equal(table.begin(), table.end(), n.adapted)) {
    contradiction("what adapts was not planned");
  }
  OptionsRecord r = {};
  r.weight_decay = c.rule.weight_decay;
  r.clip_norm = c.rule.clip_norm;
  r.n_adapted = n.n_adapted;
  r.n_layers = n_layers;
  w.begin(SectionType::kOptions, kSectionRequired);
  w.put_record(r);
  w.put(table);
  w.end();
}

void write_limits(Writer& w, const CapsuleContents& c) {
  check_count("[capsule] support_max", c.limits.support_max, kMaxCapsuleCount);
  check_count("[capsule] predict_max", c.limits.predict_max, kMaxCapsuleCount);
  check_count("[capsule] steps",
              c.limits.steps,
              bounds_steps(c.rule) ? c.rule.steps : kMaxCapsuleCount);
  LimitsRecord r = {};
  r.support_max = c.limits.support_max;
  r.predict_max = c.limits.predict_max;
  r.steps = c.limits.steps;
  w.begin(SectionType::kLimits, kSectionRequired);
  w.put_record(r);
  w.end();
}

void write_golden(Writer& w, const CapsuleContents& c) {
  const GoldenEpisode& g = *c.golden;
  const Network& n = c.network;
  const size_t n_support = g.support_x.size() / n.n_in;
  const size_t n_query = g.query_x.size() / n.n_in;
  const bool has_labels = n.loss == LossOp::kSoftmaxCrossEntropy;
  check_size(
      "golden support_x", g.support_x.size(), uint64_t{n_support} * n.n_in);
  check_size("golden query_x", g.query_x.size(), uint64_t{n_query} * n.n_in);
  check_size("golden support_labels",
             g.support_labels.size(),
             has_labels ? n_support : 0);
  check_size("golden support_targets",
             g.support_targets.size(),
             has_labels ? 0 : uint64_t{n_support} * n.n_out);
  check_size("golden losses", g.losses.size(), g.steps);
  check_size("golden outputs", g.outputs.size(), uint64_t{n_query} * n.n_out);
  const auto count = [](size_t size) {
    return static_cast<uint32_t>(std::min<size_t>(size, 0xffffffffU));
  };
  check_count("the golden episode's support examples",
              count(n_support),
              c.limits.support_max);
  check_count("the golden episode's queries",
              count(n_query),
              n.transductive != 0 ? c.limits.predict_max : kMaxCapsuleCount);
  check_count("the golden episode's steps", g.steps, c.limits.steps);
  check_finite("golden support_x", g.support_x);
  check_finite("golden support_targets", g.support_targets);
  check_finite("golden query_x", g.query_x);
  check_finite("golden losses", g.losses);
  check_finite("golden outputs", g.outputs);
  for (const uint16_t label : g.support_labels) {
    if (label >= n.n_out) {
      contradiction(
          fmt::format("golden label {} of {} classes", label, n.n_out));
    }
  }
  GoldenRecord r = {};
  r.n_support = count(n_support);
  r.n_query = count(n_query);
  r.steps = g.steps;
  r.parameter_hash = g.parameter_hash;
  w.begin(SectionType::kGolden, 0);
  w.put_record(r);
  w.put(g.support_x);
  w.put(g.support_targets);
  w.put(g.query_x);
  w.put(g.losses);
  w.put(g.outputs);
  w.put(g.support_labels);
  w.end();
}

std::vector<float> decode(const StoredArray& array) {
  std::vector<float> values(array.count);
  switch (array.storage) {
    case Storage::kF32:
      std::memcpy(values.data(), array.data, array.count * sizeof(float));
      break;
    case Storage::kF16: {
      const auto* stored = static_cast<const uint16_t*>(array.data);
      for (uint32_t i = 0; i < array.count; ++i) {
        values[i] = float_from_half(stored[i]);
      }
      break;
    }
    case Storage::kLog8: {
      const auto* stored = static_cast<const uint8_t*>(array.data);
      for (uint32_t i = 0; i < array.count; ++i) {
        values[i] = log8_decode(stored[i], array.log8_exponent);
      }
      break;
    }
  }
  return values;
}

// What a person should do about a capsule that read_capsule refuses.
const char* remedy(Status status) {
  switch (status) {
    case Status::kBadMagic:
      return "it is not a capsule: give a file that `fewstep train` or "
             "`fewstep pack` wrote";
    case Status::kBadVersion:
      return "it was written for another format or numerics version: pack it "
             "again from its run folder with this fewstep";
    case Status::kBadChecksum:
      return "it is truncated or corrupted: copy it again, or pack it again "
             "from its run folder";
    case Status::kMissingSection:
      return "it lacks a section, or needs one this fewstep does not know: "
             "use a newer fewstep, or pack it again";
    default:
      return "its contents contradict each other: pack it again from its run "
             "folder";
  }
}

}  // namespace

CapsuleBytes encode_capsule(const CapsuleContents& contents) {
  if (contents.network.layers == nullptr || contents.network.n_in == 0) {
    contradiction("it has no network");
  }
  Writer writer;
  write_network(writer, contents.network);
  write_init(writer, contents);
  write_rule(writer, contents);
  write_limits(writer, contents);
  if (contents.golden) write_golden(writer, contents);
  if (!contents.provenance.empty()) {
    writer.begin(SectionType::kProvenance, 0);
    writer.put(std::span<const char>(contents.provenance));
    writer.end();
  }
  write_options(writer, contents);
  CapsuleBytes file = writer.finish();
  // What leaves here opens: a layer record that no planner wrote, say, must not
  // reach a device.
  Capsule capsule;
  const Status status = read_capsule(file.data(), file.size(), &capsule);
  if (status != Status::kOk) {
    contradiction(
        fmt::format("the reader refuses it with {}", to_string(status)));
  }
  return file;
}

CapsuleContents decode_capsule(const Capsule& capsule) {
  CapsuleContents c;
  c.network = capsule.network;
  c.theta = decode_init(capsule);
  c.init_storage = capsule.init.storage;
  c.rule = capsule.rule;
  c.phi = decode_rates(capsule);
  c.rate_storage = capsule.rates.storage;
  c.limits = capsule.limits;
  if (capsule.provenance != nullptr) {
    c.provenance.assign(capsule.provenance, capsule.provenance_bytes);
  }
  const Golden g = golden_episode(capsule);
  if (g.n_support == 0) return c;
  const auto copy = []<class T>(const T* p, size_t n) {
    return p == nullptr ? std::vector<T>() : std::vector<T>(p, p + n);
  };
  const auto floats = [](const uint32_t* bits, size_t n) {
    std::vector<float> values(n);
    std::memcpy(values.data(), bits, n * sizeof(float));
    return values;
  };
  const size_t n_in = capsule.network.n_in;
  const size_t n_out = capsule.network.n_out;
  c.golden.emplace();
  c.golden->steps = g.steps;
  c.golden->support_x = copy(g.support_x, g.n_support * n_in);
  c.golden->support_labels = copy(g.support_labels, g.n_support);
  c.golden->support_targets = copy(g.support_targets, g.n_support * n_out);
  c.golden->query_x = copy(g.query_x, g.n_query * n_in);
  c.golden->losses = floats(g.losses, g.steps);
  c.golden->outputs = floats(g.outputs, g.n_query * n_out);
  c.golden->parameter_hash = g.parameter_hash;
  return c;
}

std::vector<float> decode_init(const Capsule& capsule) {
  return decode(capsule.init);
}

std::vector<float> decode_rates(const Capsule& capsule) {
  return decode(capsule.rates);
}

CapsuleFile load_capsule(const std::filesystem::path& path) {
  const std::vector<uint8_t> bytes = read_file(path);
  CapsuleFile file;
  file.bytes.assign(bytes.begin(), bytes.end());
  // An empty vector has no data to point to.
  const Status status =
      bytes.empty()
          ? Status::kBadMagic
          : read_capsule(file.bytes.data(), file.bytes.size(), &file.capsule);
  if (status != Status::kOk) {
    throw Error(
        Exit::kBadData,
        fmt::format(
            "{}: {}, {}", path.string(), to_string(status), remedy(status)));
  }
  return file;
}

}  // namespace fewstep::host
