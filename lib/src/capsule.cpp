// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/capsule.h"

#include <string.h>

#include "fewstep/capsule_format.h"
#include "fewstep/numerics/log8.h"

namespace fewstep {
namespace {

// CRC-32 of each 4-bit value: 64 bytes of flash instead of 1 KiB.
constexpr uint32_t kCrcOfNibble[16] = {0x00000000,
                                       0x1db71064,
                                       0x3b6e20c8,
                                       0x26d930ac,
                                       0x76dc4190,
                                       0x6b6b51f4,
                                       0x4db26158,
                                       0x5005713c,
                                       0xedb88320,
                                       0xf00f9344,
                                       0xd6d6a3e8,
                                       0xcb61b38c,
                                       0x9b64c2b0,
                                       0x86d3d2d4,
                                       0xa00ae278,
                                       0xbdbdf21c};

// What is left of a section; `data` is null when the file has none of that
// type.
struct Section {
  const uint8_t* data;
  uint32_t bytes;
};

// Records lie at multiples of their alignment (sections are 16-byte aligned),
// so they are read in place.
template <class Record>
const Record* at(const void* bytes) {
  return static_cast<const Record*>(bytes);
}

// The record a section starts with, whose length has been checked.
template <class Record>
const Record& take_record(Section* section) {
  const Record* const record = at<Record>(section->data);
  section->data += sizeof(Record);
  section->bytes -= uint32_t{sizeof(Record)};
  return *record;
}

bool all_zero(const uint8_t* bytes, size_t n) {
  uint32_t any = 0;
  for (size_t i = 0; i < n; ++i) any |= bytes[i];
  return any == 0;
}

// The next `rows` x `row` values of a section. When it has fewer, or one is not
// finite, null, and the section is null from then on. rows * row is below 2^61.
const void* take_values(Section* section,
                        uint32_t rows,
                        uint32_t row,
                        Storage storage) {
  const uint32_t shift = 3 - static_cast<uint32_t>(storage);
  static_assert(static_cast<uint32_t>(Storage::kF32) == 1 &&
                    static_cast<uint32_t>(Storage::kF16) == 2 &&
                    static_cast<uint32_t>(Storage::kLog8) == 3,
                "a value has 4, 2 or 1 bytes");
  const uint64_t bytes = (uint64_t{rows} * row) << shift;
  if (bytes <= section->bytes) {
    const uint8_t* const values = section->data;
    const uint8_t* const end = values + bytes;
    section->data = end;
    section->bytes -= static_cast<uint32_t>(bytes);
    if (storage == Storage::kLog8) return values;
    const uint32_t exponent = storage == Storage::kF32 ? 0x7f800000U : 0x7c00U;
    for (const uint8_t* v = values;; v += size_t{1} << shift) {
      if (v == end) return values;
      const uint32_t bits =
          storage == Storage::kF32 ? *at<uint32_t>(v) : *at<uint16_t>(v);
      if ((bits & exponent) == exponent) break;
    }
  }
  *section = {nullptr, 0};
  return nullptr;
}

// Whether all of a section has been taken, and all of it was good.
bool is_finished(const Section& section) {
  return section.data != nullptr && section.bytes == 0;
}

// Points `array` at its values, which must be all that is left.
bool take_array(Section* section, StoredArray* array) {
  const uint32_t storage = static_cast<uint32_t>(array->storage);
  if (storage < 1 || storage > 3) return false;
  const int exponent = array->log8_exponent;
  const bool log8 = array->storage == Storage::kLog8;
  if (exponent < (log8 ? kLog8MinExponent : 0) ||
      exponent > (log8 ? kLog8MaxExponent : 0)) {
    return false;
  }
  array->data = take_values(section, 1, array->count, array->storage);
  return is_finished(*section);
}

// Plans the network again: what the file says must be what the planner gives,
// byte for byte.
bool read_network(Section* section, Network* network) {
  const NetworkRecord& r = take_record<NetworkRecord>(section);
  if (section->bytes != uint32_t{r.n_layers} * sizeof(Layer)) return false;
  const Layer* const layers = at<Layer>(section->data);
  NetworkPlanner planner(r.in_c, r.in_h, r.in_w, network);
  for (uint32_t i = 0; i < r.n_layers; ++i) {
    if (planner.add_stored(layers[i]) != Status::kOk) return false;
  }
  return planner.finish(layers, static_cast<LossOp>(r.loss)) == Status::kOk &&
         ((r.transductive ^ network->transductive) |
          (r.n_tensors ^ network->n_tensors) |
          (r.n_params ^ network->n_params)) == 0;
}

bool read_init(Section* section, uint32_t n_params, StoredArray* init) {
  const InitRecord& r = take_record<InitRecord>(section);
  init->storage = static_cast<Storage>(r.storage);
  init->log8_exponent = 0;
  init->count = n_params;
  return init->storage != Storage::kLog8 &&
         ((r.count ^ n_params) | r.reserved[0] | r.reserved[1] | r.reserved[2] |
          r.reserved2[0] | r.reserved2[1]) == 0 &&
         take_array(section, init);
}

// All but whether the rule fits the network, which is for its operation to say.
bool read_rule(Section* section, Rule* rule, StoredArray* rates) {
  const RuleRecord& r = take_record<RuleRecord>(section);
  // Weight decay and clipping are read_options()'s.
  rule->op = static_cast<RuleOp>(r.op);
  rule->learned_mask = false;
  rule->steps = r.steps;
  rule->options = {r.options};
  rule->n_phi = r.n_phi;
  rule->n_state_per_param = r.n_state_per_param;
  rule->n_scratch = r.n_scratch;
  rates->storage = static_cast<Storage>(r.storage);
  rates->log8_exponent = r.log8_exponent;
  rates->count = r.n_phi;
  return r.steps != 0 && take_array(section, rates);
}

// Three counts, each 1 to that of `most`; a golden episode starts with the
// same record.
__attribute__((noinline)) bool check_counts(const LimitsRecord& r,
                                            const Limits& most) {
  return r.support_max - 1 < most.support_max &&
         r.predict_max - 1 < most.predict_max && r.steps - 1 < most.steps &&
         r.reserved == 0;
}

bool read_limits(const Section& section, const Rule& rule, Limits* limits) {
  const LimitsRecord& r = *at<LimitsRecord>(section.data);
  Limits most = {kMaxCapsuleCount, kMaxCapsuleCount, kMaxCapsuleCount};
  if (bounds_steps(rule)) most.steps = rule.steps;
  limits->support_max = r.support_max;
  limits->predict_max = r.predict_max;
  limits->steps = r.steps;
  return section.bytes == sizeof r && check_counts(r, most);
}

// Bounds and values of a golden episode; golden_episode() knows what lies
// where.
bool check_golden(Section* section, const Network& network, Limits most) {
  if (section->bytes < sizeof(GoldenRecord)) return false;
  const LimitsRecord& counts = *at<LimitsRecord>(section->data);
  const GoldenRecord& r = take_record<GoldenRecord>(section);
  static_assert(
      offsetof(GoldenRecord, reserved) == offsetof(LimitsRecord, reserved),
      "a golden record starts with three counts");
  if (network.transductive == 0) most.predict_max = kMaxCapsuleCount;
  if (!check_counts(counts, most) || r.reserved2 != 0) return false;
  // Each array follows the one before it: neighbours are taken together.
  const bool has_labels = network.loss == LossOp::kSoftmaxCrossEntropy;
  const uint32_t n_out = network.n_out;
  const uint32_t n_both = network.n_in + n_out;
  take_values(
      section, r.n_support, has_labels ? network.n_in : n_both, Storage::kF32);
  take_values(section, r.n_query, n_both, Storage::kF32);
  take_values(section, r.steps, 1, Storage::kF32);
  if (has_labels) {
    // Two bytes each, of which any value is a number.
    const uint16_t* const labels =
        at<uint16_t>(take_values(section, r.n_support, 2, Storage::kLog8));
    if (labels == nullptr) return false;
    for (uint32_t i = 0; i < r.n_support; ++i) {
      if (labels[i] >= n_out) return false;
    }
  }
  return is_finished(*section);
}

// Finds the sections, by type - 1, of a file whose checksums hold.
Status find_sections(const uint8_t* bytes,
                     const CapsuleHeader& header,
                     Section* sections) {
  constexpr uint32_t kTable = sizeof(CapsuleHeader);
  const uint32_t total = header.total_bytes;
  if (header.n_sections > (total - kTable) / sizeof(SectionEntry)) {
    return Status::kBadCapsule;
  }
  const SectionEntry* table = at<SectionEntry>(bytes + kTable);
  // All of it is determined: a section starts where the one before it ends.
  uint32_t end = kTable + header.n_sections * uint32_t{sizeof(SectionEntry)};
  uint32_t last_type = 0;
  for (uint32_t i = 0; i < header.n_sections; ++i) {
    const SectionEntry& e = table[i];
    // Ascending types: none twice.
    if (e.type <= last_type || (e.flags & ~kSectionRequired) != 0 ||
        e.reserved != 0 || e.offset != end || e.bytes > total - end) {
      return Status::kBadCapsule;
    }
    last_type = e.type;
    end += e.bytes;
    // `total` is a multiple of 16: the padding lies in the file.
    const uint32_t padding = (0U - end) & (kCapsuleAlignment - 1);
    if (!all_zero(bytes + end, padding)) return Status::kBadCapsule;
    end += padding;
    if (e.type <= kSectionTypes) {
      sections[e.type - 1] = {bytes + e.offset, e.bytes};
    } else if ((e.flags & kSectionRequired) != 0) {
      return Status::kMissingSection;
    }
  }
  return end == total ? Status::kOk : Status::kBadCapsule;
}

}  // namespace

// What programs link that have no step options; step_options.cpp has the other.
__attribute__((weak)) Status read_options(const void* section,
                                          uint32_t,
                                          Capsule*) {
  return section == nullptr ? Status::kOk : Status::kUnsupportedOperation;
}

uint32_t crc32(const void* bytes, size_t n_bytes, uint32_t crc) {
  const uint8_t* p = static_cast<const uint8_t*>(bytes);
  crc = ~crc;
  for (size_t i = 0; i < n_bytes; ++i) {
    crc ^= p[i];
    crc = (crc >> 4) ^ kCrcOfNibble[crc & 15];
    crc = (crc >> 4) ^ kCrcOfNibble[crc & 15];
  }
  return ~crc;
}

uint64_t fnv1a(const void* bytes, size_t n_bytes, uint64_t hash) {
  const uint8_t* p = static_cast<const uint8_t*>(bytes);
  for (size_t i = 0; i < n_bytes; ++i) {
    hash = (hash ^ p[i]) * 0x00000100000001b3ULL;
  }
  return hash;
}

Status parse_capsule(const void* bytes, size_t n_bytes, Capsule* capsule) {
  if (bytes == nullptr || capsule == nullptr) return Status::kBadArgument;
  if (reinterpret_cast<uintptr_t>(bytes) % kCapsuleAlignment != 0) {
    return Status::kMisaligned;
  }
  const uint8_t* file = static_cast<const uint8_t*>(bytes);
  const CapsuleHeader& header = *at<CapsuleHeader>(file);
  if (n_bytes < sizeof header || header.magic != kCapsuleMagic) {
    return Status::kBadMagic;
  }
  // Versions come first: another version may checksum differently.
  if (header.format_version != kCapsuleVersion ||
      header.numerics_version != kNumericsVersion) {
    return Status::kBadVersion;
  }
  const uint32_t total = header.total_bytes;
  if (crc32(file, offsetof(CapsuleHeader, header_crc)) != header.header_crc ||
      total > n_bytes) {
    return Status::kBadChecksum;
  }
  if (total < sizeof header || total % kCapsuleAlignment != 0 ||
      !all_zero(header.reserved, sizeof header.reserved)) {
    return Status::kBadCapsule;
  }
  if (crc32(file + sizeof header, total - sizeof header) !=
      header.payload_crc) {
    return Status::kBadChecksum;
  }

  Section sections[kSectionTypes] = {};
  const Status found = find_sections(file, header, sections);
  if (found != Status::kOk) return found;
  const auto section = [&sections](SectionType type) {
    return &sections[static_cast<uint16_t>(type) - 1];
  };
  // The four that every capsule has, each at least one record long.
  uint64_t hash = fnv1a(nullptr, 0);
  for (uint32_t type = 1; type <= static_cast<uint32_t>(SectionType::kLimits);
       ++type) {
    const Section& s = sections[type - 1];
    if (s.data == nullptr) return Status::kMissingSection;
    if (s.bytes < 16) return Status::kBadCapsule;
    if (type <= static_cast<uint32_t>(SectionType::kRule)) {
      hash = fnv1a(s.data, s.bytes, hash);
    }
  }

  Capsule& c = *capsule;
  Section* const golden = section(SectionType::kGolden);
  c.golden_record = at<GoldenRecord>(golden->data);
  c.model_hash = hash;
  if (!read_network(section(SectionType::kNetwork), &c.network)) {
    return Status::kBadCapsule;
  }
  const Section& options = *section(SectionType::kOptions);
  const Status status = read_options(options.data, options.bytes, &c);
  if (status != Status::kOk) return status;
  if (c.model_hash != header.model_hash ||
      !read_init(section(SectionType::kInit), c.network.n_params, &c.init) ||
      !read_rule(section(SectionType::kRule), &c.rule, &c.rates) ||
      !read_limits(*section(SectionType::kLimits), c.rule, &c.limits) ||
      (golden->data != nullptr && !check_golden(golden, c.network, c.limits))) {
    return Status::kBadCapsule;
  }
  const Section& provenance = *section(SectionType::kProvenance);
  c.provenance = reinterpret_cast<const char*>(provenance.data);
  c.provenance_bytes = provenance.bytes;
  c.total_bytes = total;
  return Status::kOk;
}

Golden golden_episode(const Capsule& capsule) {
  Golden g = {};
  if (capsule.golden_record == nullptr) return g;
  const GoldenRecord& r = *capsule.golden_record;
  const Network& network = capsule.network;
  g.n_support = r.n_support;
  g.n_query = r.n_query;
  g.steps = r.steps;
  g.parameter_hash = r.parameter_hash;
  const float* values = at<float>(&r + 1);
  g.support_x = values;
  values += size_t{r.n_support} * network.n_in;
  const bool has_labels = network.loss == LossOp::kSoftmaxCrossEntropy;
  if (!has_labels) {
    g.support_targets = values;
    values += size_t{r.n_support} * network.n_out;
  }
  g.query_x = values;
  values += size_t{r.n_query} * network.n_in;
  g.losses = reinterpret_cast<const uint32_t*>(values);
  values += r.steps;
  g.outputs = reinterpret_cast<const uint32_t*>(values);
  values += size_t{r.n_query} * network.n_out;
  if (has_labels) g.support_labels = reinterpret_cast<const uint16_t*>(values);
  return g;
}

Status read_capsule(const void* bytes, size_t n_bytes, Capsule* capsule) {
  if (capsule == nullptr) return Status::kBadArgument;
  Capsule parsed;
  const Status status = parse_capsule(bytes, n_bytes, &parsed);
  if (status != Status::kOk) return status;
  const Rule& rule = parsed.rule;
  const Rule made =
      make_rule(rule.op, rule.steps, parsed.network, rule.options);
  if (!matches(rule, made)) return Status::kBadCapsule;
  *capsule = parsed;
  return Status::kOk;
}

}  // namespace fewstep
