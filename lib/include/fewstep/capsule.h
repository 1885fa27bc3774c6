// Reading a capsule: verify everything once, then trust it.
//
// lib/FORMAT.md describes the bytes. The reader copies nothing: the views it
// returns point into the caller's bytes, which must stay where they are.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_CAPSULE_H_
#define FEWSTEP_CAPSULE_H_

#include "fewstep/config.h"
#include "fewstep/network.h"
#include "fewstep/rules/rule.h"
#include "fewstep/status.h"

namespace fewstep {

constexpr size_t kCapsuleAlignment = 16;

/// How an array of values is stored. Values are part of the capsule format.
enum class Storage : uint8_t {
  kF32 = 1,   ///< IEEE binary32.
  kF16 = 2,   ///< IEEE binary16.
  kLog8 = 3,  ///< Sign and a 7-bit logarithmic magnitude (rates only).
};

/// A stored array. `data` points into the capsule.
struct StoredArray {
  Storage storage;
  int16_t log8_exponent;  ///< kLog8: exponent of the largest code; else 0.
  uint32_t count;         ///< Values.
  const void* data;       ///< 16-byte aligned.
};

/// What the author promises of the tasks this capsule is for.
struct Limits {
  uint32_t support_max;  ///< Examples a support set may have, >= 1.
  uint32_t predict_max;  ///< Examples predicted together (batch_norm), >= 1.
  uint32_t steps;  ///< Recommended gradient steps; with rates per step at most
                   ///< rule.steps.
};

struct GoldenRecord;
struct OptionsRecord;

/// A recorded episode and the bits it must give: FORMAT.md, "golden".
struct Golden {
  uint32_t n_support;  ///< 0: the capsule carries none.
  uint32_t n_query;
  uint32_t steps;
  const float* support_x;          ///< [n_support][n_in]
  const uint16_t* support_labels;  ///< [n_support], or null
  const float* support_targets;    ///< [n_support][n_out], or null
  const float* query_x;            ///< [n_query][n_in]
  const uint32_t* losses;          ///< [steps] bits of the support loss at
                                   ///< theta_0 .. theta_{steps-1}
  const uint32_t* outputs;         ///< [n_query][n_out] bits
  uint64_t parameter_hash;         ///< parameter_hash() of theta_steps
};

/// A verified capsule.
struct Capsule {
  Network network;
  StoredArray init;  ///< theta_0, [n_params]; kF32 or kF16.
  Rule rule;
  StoredArray rates;  ///< phi, [rule.n_phi].
  Limits limits;
  const GoldenRecord* golden_record;  ///< golden_episode() reads it; or null.
  uint64_t model_hash;     ///< Of network, initialization, rule and options.
  const char* provenance;  ///< UTF-8 JSON, not zero-terminated; null if none.
  uint32_t provenance_bytes;
  uint32_t total_bytes;
};

/// Verifies `bytes` completely: alignment, magic, versions, sizes, both
/// CRC-32s, bounds and kinds of all sections, the derived fields of every layer
/// record (by planning the network again), storage formats and limits, and that
/// every stored float is finite.
///
/// Nothing is read outside [bytes, bytes + n_bytes), whatever they hold, and a
/// capsule that passes cannot make any later call leave its buffers.
///
/// Cost: at most three passes over the bytes (checksum, model hash, values).
/// No heap, no recursion.
///
/// @param bytes    16-byte aligned; must outlive every use of `*capsule`.
/// @param n_bytes  At least the capsule's size; longer is fine (flash pages).
///
/// @retval kOk              `*capsule` is written.
/// @retval kBadArgument     A null pointer.
/// @retval kMisaligned      `bytes` is not 16-byte aligned.
/// @retval kBadMagic        Not a capsule, or shorter than a header.
/// @retval kBadVersion      Another format or numerics version.
/// @retval kBadChecksum     Truncated or corrupted.
/// @retval kMissingSection  No network, initialization, rule or limits, or a
///                          required section this version does not know.
/// @retval kBadCapsule      Contents contradict each other.
/// @retval kUnsupportedOperation  The capsule has step options (part of the
///                          parameters adapt, weight decay, clipping) and the
///                          program does not link them.
/// On any failure `*capsule` is unchanged.
Status read_capsule(const void* bytes, size_t n_bytes, Capsule* capsule);

/// The same for a caller that looks up the rule's operation: whether the rule
/// is one of it and has the sizes it must have is not looked at, so that
/// programs link what they need to know of the rules they use (op_table.h). On
/// failure `*capsule` holds anything.
Status parse_capsule(const void* bytes, size_t n_bytes, Capsule* capsule);

/// Reads section "options" at `section`, null when there is none: what adapts,
/// weight decay, clipping, and the section's part of the model hash. For
/// parse_capsule(), which links a version that refuses every section with
/// kUnsupportedOperation, unless a program asks for this one: by naming
/// step_options among its operations, or by calling plan_adapted().
Status read_options(const void* section, uint32_t n_bytes, Capsule* capsule);

/// Reads the mask in section "options", `n_mask_bytes` behind its table, and
/// the table. For read_options(), which links a version that refuses every mask
/// with kUnsupportedOperation, unless a program asks for this one: by naming
/// sparse_mask among its operations, or by calling plan_mask().
Status read_mask(const OptionsRecord& options,
                 uint32_t n_mask_bytes,
                 Capsule* capsule);

/// The golden episode of a verified capsule.
Golden golden_episode(const Capsule& capsule);

/// CRC-32 (IEEE 802.3, reflected 0xEDB88320, as in zlib and PNG) of `bytes`,
/// continuing from `crc` (0 to start).
uint32_t crc32(const void* bytes, size_t n_bytes, uint32_t crc = 0);

/// 64-bit FNV-1a of `bytes`, continuing from `hash`.
uint64_t fnv1a(const void* bytes,
               size_t n_bytes,
               uint64_t hash = 0xcbf29ce484222325ULL);

/// Hash that stands for a parameter vector in golden episodes and reports:
/// FNV-1a of theta[0..n) as little-endian binary32.
inline uint64_t parameter_hash(const float* theta, size_t n) {
  return fnv1a(theta, n * sizeof(float));
}

}  // namespace fewstep

#endif  // FEWSTEP_CAPSULE_H_
