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

// One section's bytes; `data` is null when the file has none of that type.
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

bool all_zero(const uint8_t* bytes, size_t n) {
  uint32_t any = 0;
  for (size_t i = 0; i < n; ++i) any |= bytes[i];
  return any == 0;
}

// No NaN or infinity among n values whose exponent bits are `exponent`.
template <class Bits>
bool all_finite(const void* data, uint32_t n, Bits exponent) {
  const Bits* bits = static_cast<const Bits*>(data);
  for (uint32_t i = 0; i < n; ++i) {
    if ((bits[i] & exponent) == exponent) return false;
  }
  return true;
}

// Whether `array` (data following a record of `record` bytes) fills `section`
// exactly and every value is finite.
bool check_array(const Section& section,
                 uint32_t record,
                 const StoredArray& array) {
  uint32_t width = 1;
  if (array.storage == Storage::kF32) width = 4;
  if (array.storage == Storage::kF16) width = 2;
  if (uint64_t{record} + uint64_t{array.count} * width != section.bytes) {
    return false;
  }
  switch (array.storage) {
    case Storage::kF32:
      return array.log8_exponent == 0 &&
             all_finite<uint32_t>(array.data, array.count, 0x7f800000U);
    case Storage::kF16:
      return array.log8_exponent == 0 &&
             all_finite<uint16_t>(array.data, array.count, 0x7c00U);
    case Storage::kLog8:
      return array.log8_exponent >= kLog8MinExponent &&
             array.log8_exponent <= kLog8MaxExponent;
  }
  return false;
}

bool in_count_range(uint32_t n) { return n >= 1 && n <= kMaxCapsuleCount; }

// Plans the network again: what the file says must be what the planner gives,
// byte for byte.
bool read_network(const Section& section, Network* network) {
  const NetworkRecord& r = *at<NetworkRecord>(section.data);
  if (section.bytes != sizeof r + uint32_t{r.n_layers} * sizeof(Layer)) {
    return false;
  }
  const Layer* layers = at<Layer>(section.data + sizeof r);
  NetworkPlanner planner(r.in_c, r.in_h, r.in_w);
  for (uint32_t i = 0; i < r.n_layers; ++i) {
    Layer layer = layers[i];
    if (planner.add(&layer) != Status::kOk ||
        memcmp(&layer, &layers[i], sizeof layer) != 0) {
      return false;
    }
  }
  return planner.finish(layers, static_cast<LossOp>(r.loss), network) ==
             Status::kOk &&
         r.transductive == network->transductive &&
         r.n_tensors == network->n_tensors && r.n_params == network->n_params;
}

bool read_init(const Section& section, uint32_t n_params, StoredArray* init) {
  const InitRecord& r = *at<InitRecord>(section.data);
  *init = {
      static_cast<Storage>(r.storage), 0, r.count, section.data + sizeof r};
  return init->storage != Storage::kLog8 && r.count == n_params &&
         (r.reserved[0] | r.reserved[1] | r.reserved[2] | r.reserved2[0] |
          r.reserved2[1]) == 0 &&
         check_array(section, sizeof r, *init);
}

bool read_rule(const Section& section,
               const Network& network,
               Rule* rule,
               StoredArray* rates) {
  const RuleRecord& r = *at<RuleRecord>(section.data);
  const RuleOp op = static_cast<RuleOp>(r.op);
  if (op != RuleOp::kSgd && op != RuleOp::kLslr && op != RuleOp::kMetaSgd) {
    return false;
  }
  *rule = make_rule(op, r.steps, network);
  *rates = {static_cast<Storage>(r.storage),
            r.log8_exponent,
            r.n_phi,
            section.data + sizeof r};
  return r.steps >= 1 && r.reserved == 0 && r.n_phi == rule->n_phi &&
         r.n_state_per_param == rule->n_state_per_param &&
         check_array(section, sizeof r, *rates);
}

bool read_limits(const Section& section, const Rule& rule, Limits* limits) {
  const LimitsRecord& r = *at<LimitsRecord>(section.data);
  *limits = {r.support_max, r.predict_max, r.steps};
  return section.bytes == sizeof r && r.reserved == 0 &&
         in_count_range(r.support_max) && in_count_range(r.predict_max) &&
         in_count_range(r.steps) &&
         (rule.op != RuleOp::kLslr || r.steps <= rule.steps);
}

bool read_golden(const Section& section,
                 const Network& network,
                 const Limits& limits,
                 Golden* golden) {
  if (section.bytes < sizeof(GoldenRecord)) return false;
  const GoldenRecord& r = *at<GoldenRecord>(section.data);
  if (r.reserved != 0 || r.reserved2 != 0 || !in_count_range(r.n_support) ||
      !in_count_range(r.n_query) || !in_count_range(r.steps) ||
      r.n_support > limits.support_max || r.steps > limits.steps ||
      (network.transductive != 0 && r.n_query > limits.predict_max)) {
    return false;
  }
  // Counts are at most 2^16 and sizes at most 2^26: no overflow in 64 bits.
  const bool has_labels = network.loss == LossOp::kSoftmaxCrossEntropy;
  const uint64_t n_support_x = uint64_t{r.n_support} * network.n_in;
  const uint64_t n_targets =
      has_labels ? 0 : uint64_t{r.n_support} * network.n_out;
  const uint64_t n_query_x = uint64_t{r.n_query} * network.n_in;
  const uint64_t n_outputs = uint64_t{r.n_query} * network.n_out;
  const uint64_t n_floats =
      n_support_x + n_targets + n_query_x + r.steps + n_outputs;
  const uint32_t n_labels = has_labels ? r.n_support : 0;
  if (sizeof r + 4 * n_floats + 2 * n_labels != section.bytes) return false;

  const float* floats = at<float>(section.data + sizeof r);
  if (!all_finite<uint32_t>(
          floats, static_cast<uint32_t>(n_floats), 0x7f800000U)) {
    return false;
  }
  golden->n_support = r.n_support;
  golden->n_query = r.n_query;
  golden->steps = r.steps;
  golden->parameter_hash = r.parameter_hash;
  golden->support_x = floats;
  floats += n_support_x;
  golden->support_targets = has_labels ? nullptr : floats;
  floats += n_targets;
  golden->query_x = floats;
  floats += n_query_x;
  golden->losses = reinterpret_cast<const uint32_t*>(floats);
  floats += r.steps;
  golden->outputs = reinterpret_cast<const uint32_t*>(floats);
  floats += n_outputs;
  const uint16_t* labels = reinterpret_cast<const uint16_t*>(floats);
  golden->support_labels = has_labels ? labels : nullptr;
  for (uint32_t i = 0; i < n_labels; ++i) {
    if (labels[i] >= network.n_out) return false;
  }
  return true;
}

// Finds the sections of a file whose checksums hold.
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
    if (e.type < kSectionTypes) {
      sections[e.type] = {bytes + e.offset, e.bytes};
    } else if ((e.flags & kSectionRequired) != 0) {
      return Status::kMissingSection;
    }
  }
  return end == total ? Status::kOk : Status::kBadCapsule;
}

}  // namespace

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

Status read_capsule(const void* bytes, size_t n_bytes, Capsule* capsule) {
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
  const auto section = [&sections](SectionType type) -> const Section& {
    return sections[static_cast<uint16_t>(type)];
  };
  // The four that every capsule has, each at least one record long.
  for (uint32_t type = 1; type <= static_cast<uint32_t>(SectionType::kLimits);
       ++type) {
    if (sections[type].data == nullptr) return Status::kMissingSection;
    if (sections[type].bytes < 16) return Status::kBadCapsule;
  }
  uint64_t hash = fnv1a(nullptr, 0);
  for (uint32_t type = 1; type <= static_cast<uint32_t>(SectionType::kRule);
       ++type) {
    hash = fnv1a(sections[type].data, sections[type].bytes, hash);
  }

  Capsule c = {};
  if (hash != header.model_hash ||
      !read_network(section(SectionType::kNetwork), &c.network) ||
      !read_init(section(SectionType::kInit), c.network.n_params, &c.init) ||
      !read_rule(section(SectionType::kRule), c.network, &c.rule, &c.rates) ||
      !read_limits(section(SectionType::kLimits), c.rule, &c.limits)) {
    return Status::kBadCapsule;
  }
  const Section& golden = section(SectionType::kGolden);
  if (golden.data != nullptr &&
      !read_golden(golden, c.network, c.limits, &c.golden)) {
    return Status::kBadCapsule;
  }
  const Section& provenance = section(SectionType::kProvenance);
  c.model_hash = hash;
  c.provenance = reinterpret_cast<const char*>(provenance.data);
  c.provenance_bytes = provenance.bytes;
  c.total_bytes = total;
  *capsule = c;
  return Status::kOk;
}

}  // namespace fewstep
