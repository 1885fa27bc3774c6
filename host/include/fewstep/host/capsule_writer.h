// Writing capsules, and reading them back on the host.
//
//   CapsuleContents contents;                // what training produced
//   save_file_atomically("x.capsule", encode_capsule(contents));  // file.h
//   const CapsuleFile file = load_capsule("x.capsule");
//   std::vector<float> theta = decode_init(file.capsule);
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_CAPSULE_WRITER_H_
#define FEWSTEP_HOST_CAPSULE_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "fewstep/capsule.h"

namespace fewstep::host {

/// Allocates at kCapsuleAlignment, which read_capsule asks for.
template <class T>
struct CapsuleAllocator {
  using value_type = T;
  CapsuleAllocator() = default;
  template <class U>
  explicit CapsuleAllocator(const CapsuleAllocator<U>&) {}
  T* allocate(size_t n) {
    return static_cast<T*>(
        ::operator new (n * sizeof(T), std::align_val_t{kCapsuleAlignment}));
  }
  void deallocate(T* p, size_t) {
    ::operator delete (p, std::align_val_t{kCapsuleAlignment});
  }
  friend bool operator==(const CapsuleAllocator&, const CapsuleAllocator&) {
    return true;
  }
};
using CapsuleBytes = std::vector<uint8_t, CapsuleAllocator<uint8_t>>;

/// A recorded episode. losses, outputs and parameter_hash are what the firmware
/// library gave for the capsule *as stored*: encode without an episode, open a
/// session on that, record, then encode again with it.
struct GoldenEpisode {
  uint32_t steps = 0;                    ///< 1..limits.steps
  std::vector<float> support_x;          ///< [n_support][n_in]
  std::vector<uint16_t> support_labels;  ///< [n_support] (cross-entropy)
  std::vector<float> support_targets;    ///< [n_support][n_out] (squared error)
  std::vector<float> query_x;            ///< [n_query][n_in]
  std::vector<float> losses;    ///< [steps] at theta_0..theta_{steps-1}
  std::vector<float> outputs;   ///< [n_query][n_out] at theta_steps
  uint64_t parameter_hash = 0;  ///< parameter_hash() of theta_steps
};

/// What a capsule is made of.
struct CapsuleContents {
  /// From NetworkPlanner, and plan_adapted() or plan_mask() if part of it
  /// adapts; its arrays must live until encode_capsule returns.
  Network network = {};
  std::vector<float> theta;              ///< theta_0, [n_params]
  Storage init_storage = Storage::kF32;  ///< kF32 or kF16
  Rule rule = {};                        ///< From make_rule.
  std::vector<float> phi;                ///< Rates, [rule.n_phi]
  Storage rate_storage = Storage::kF32;  ///< kF32, kF16 or kLog8
  Limits limits = {};
  std::optional<GoldenEpisode> golden;
  std::string provenance;  ///< UTF-8 JSON; empty: no such section.
};

/// The bytes of a capsule, lib/FORMAT.md. The same contents give the same
/// bytes, and read_capsule() accepts them. Values are rounded to the nearest
/// their storage has.
///
/// @throws Error  kNumeric: theta or phi is NaN or infinite. kUsage: a value
///                does not fit its storage, or a limit or the golden episode is
///                out of range; the message names it and the remedy.
///                kInternal: sizes contradict the network or the rule.
CapsuleBytes encode_capsule(const CapsuleContents& contents);

/// What encode_capsule() would turn back into the same bytes, unknown optional
/// sections aside. `network` points into the capsule.
CapsuleContents decode_capsule(const Capsule& capsule);

/// theta_0 as the inner loop sees it: the stored values, decoded.
std::vector<float> decode_init(const Capsule& capsule);
/// phi as the inner loop sees it.
std::vector<float> decode_rates(const Capsule& capsule);

/// A capsule file in memory. `capsule` points into `bytes`, so it can be moved
/// but not copied.
struct CapsuleFile {
  CapsuleFile() = default;
  CapsuleFile(CapsuleFile&&) = default;
  CapsuleFile& operator=(CapsuleFile&&) = default;

  CapsuleBytes bytes;
  Capsule capsule = {};
};

/// Reads and verifies the capsule at `path`.
///
/// @throws Error  kBadData, naming the file, the status and the remedy.
CapsuleFile load_capsule(const std::filesystem::path& path);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_CAPSULE_WRITER_H_
