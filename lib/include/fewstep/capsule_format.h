// The records of a capsule file, as lib/FORMAT.md lays them out.
//
// Shared by the reader (lib/src/capsule.cpp) and the writer (host). Users need
// fewstep/capsule.h only.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_CAPSULE_FORMAT_H_
#define FEWSTEP_CAPSULE_FORMAT_H_

#include "fewstep/config.h"

namespace fewstep {

constexpr uint32_t kCapsuleMagic = 0x50545346U;  ///< "FSTP"
constexpr uint16_t kCapsuleVersion = 1;
/// Bound of support_max, predict_max, steps, and a golden episode's counts: a
/// count times a network's sizes (<= 2^26 each) fits 64 bits with room.
constexpr uint32_t kMaxCapsuleCount = 0xffff;

/// Kinds of section. A file lists them in ascending order.
enum class SectionType : uint16_t {
  kNetwork = 1,
  kInit = 2,
  kRule = 3,
  kLimits = 4,
  kGolden = 5,
  kProvenance = 6,
  kOptions = 7,
};
constexpr uint32_t kSectionTypes = 7;  ///< Known ones, from 1.

/// SectionEntry::flags: a reader that does not know the section must refuse.
constexpr uint16_t kSectionRequired = 1;

/// First 64 bytes of the file.
struct CapsuleHeader {
  uint32_t magic;
  uint16_t format_version;
  uint16_t numerics_version;
  uint32_t total_bytes;  ///< Of the file, a multiple of 16.
  uint32_t n_sections;
  uint64_t model_hash;   ///< FNV-1a of network, init, rule, options sections.
  uint8_t reserved[32];  ///< 0
  uint32_t payload_crc;  ///< CRC-32 of bytes 64 .. total_bytes.
  uint32_t header_crc;   ///< CRC-32 of bytes 0 .. 60.
};
static_assert(sizeof(CapsuleHeader) == 64, "CapsuleHeader is a file format");

/// The section table follows the header.
struct SectionEntry {
  uint16_t type;
  uint16_t flags;
  uint32_t offset;    ///< From the file's start: where the previous section (or
                      ///< the table) ends, rounded up to 16.
  uint32_t bytes;     ///< Without the zeros that pad to 16.
  uint32_t reserved;  ///< 0
};
static_assert(sizeof(SectionEntry) == 16, "SectionEntry is a file format");

/// Network section: this, then n_layers Layer records.
struct NetworkRecord {
  uint16_t in_c, in_h, in_w;
  uint16_t n_layers;
  uint8_t loss;
  uint8_t transductive;
  uint16_t n_tensors;
  uint32_t n_params;
};
static_assert(sizeof(NetworkRecord) == 16, "NetworkRecord is a file format");

/// Initialization section: this, then theta_0.
struct InitRecord {
  uint8_t storage;
  uint8_t reserved[3];  ///< 0
  uint32_t count;
  uint32_t reserved2[2];  ///< 0
};
static_assert(sizeof(InitRecord) == 16, "InitRecord is a file format");

/// Rule section: this, then phi.
struct RuleRecord {
  uint8_t op;
  uint8_t storage;
  int16_t log8_exponent;
  uint16_t steps;
  uint16_t options;  ///< RuleOptions
  uint32_t n_phi;
  uint16_t n_state_per_param;
  uint16_t n_scratch;
};
static_assert(sizeof(RuleRecord) == 16, "RuleRecord is a file format");

/// Limits section.
struct LimitsRecord {
  uint32_t support_max;
  uint32_t predict_max;
  uint32_t steps;
  uint32_t reserved;  ///< 0
};
static_assert(sizeof(LimitsRecord) == 16, "LimitsRecord is a file format");

/// Golden section: this, then support_x, support targets (mean squared error),
/// query_x, losses, outputs, support labels (cross-entropy), with no padding
/// between them.
struct GoldenRecord {
  uint32_t n_support;
  uint32_t n_query;
  uint32_t steps;
  uint32_t reserved;  ///< 0
  uint64_t parameter_hash;
  uint64_t reserved2;  ///< 0
};
static_assert(sizeof(GoldenRecord) == 32, "GoldenRecord is a file format");

/// Options section: this, then Network::adapted, uint32_t[n_layers], then, for
/// a masked network, MaskWord[n_mask_words(P)] (sparse_mask.h).
struct OptionsRecord {
  float weight_decay;
  float clip_norm;
  uint32_t n_adapted;  ///< Parameters that adapt.
  uint32_t n_layers;   ///< 0: all of them do, and no table follows.
};
static_assert(sizeof(OptionsRecord) == 16, "OptionsRecord is a file format");

}  // namespace fewstep

#endif  // FEWSTEP_CAPSULE_FORMAT_H_
