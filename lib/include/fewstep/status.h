// Status codes of every fallible call in lib/ and device/.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_STATUS_H_
#define FEWSTEP_STATUS_H_

#include "fewstep/config.h"

namespace fewstep {

/// Outcome of a fallible call. Zero is success; every failure is negative, so
/// the C API can return either a count (>= 0) or one of these.
///
/// Values are part of the C ABI and of persisted reports: append, never
/// renumber, never reuse. The tens digit is the class of failure, which is what
/// a caller usually branches on.
enum class [[nodiscard]] Status : int8_t{
    kOk = 0,

    // -1x  The caller broke the contract. Fix the call; retrying cannot help.
    kBadArgument = -10,  ///< A size, pointer or option is outside its range.
    kBadState = -11,     ///< Calls arrived in the wrong order.
    kBadLabel = -12,     ///< A class index is >= the number of outputs.
    kBadInput = -13,     ///< An input or a target is NaN or infinite.
    kTooManyExamples = -14,  ///< More examples than the session was opened for.

    // -2x  The capsule is unusable here. Ship another one.
    kBadMagic = -20,        ///< Not a capsule.
    kBadVersion = -21,      ///< Written for another format or numerics version.
    kBadChecksum = -22,     ///< Truncated or corrupted.
    kBadCapsule = -23,      ///< Checksums hold but the contents contradict.
    kMisaligned = -24,      ///< Capsule or arena is not 16-byte aligned.
    kMissingSection = -25,  ///< A section this call needs is not there.

    // -3x  This build or device cannot run it. Link or provide more.
    kArenaTooSmall = -30,         ///< The buffer is below required_bytes().
    kUnsupportedOperation = -31,  ///< The program does not link an operation.
    kBadFloatEnvironment = -32,   ///< Rounding, subnormals or fma are not IEEE.
    kNoDevice = -33,      ///< No GPU, no driver, or none this build is for.
    kDeviceFailed = -34,  ///< The GPU or its driver failed a call.

    // -4x  The numbers went wrong. State as stated by the call.
    kDiverged = -40,        ///< A loss or parameter became NaN or infinite.
    kSelfTestFailed = -41,  ///< The golden episode gave other bits.
};

/// Static, never-null name, e.g. "kBadLabel". No `default:` on purpose: adding
/// an enumerator without a name is a -Wswitch error.
constexpr const char* to_string(Status s) {
  switch (s) {
    case Status::kOk: return "kOk";
    case Status::kBadArgument: return "kBadArgument";
    case Status::kBadState: return "kBadState";
    case Status::kBadLabel: return "kBadLabel";
    case Status::kBadInput: return "kBadInput";
    case Status::kTooManyExamples: return "kTooManyExamples";
    case Status::kBadMagic: return "kBadMagic";
    case Status::kBadVersion: return "kBadVersion";
    case Status::kBadChecksum: return "kBadChecksum";
    case Status::kBadCapsule: return "kBadCapsule";
    case Status::kMisaligned: return "kMisaligned";
    case Status::kMissingSection: return "kMissingSection";
    case Status::kArenaTooSmall: return "kArenaTooSmall";
    case Status::kUnsupportedOperation: return "kUnsupportedOperation";
    case Status::kBadFloatEnvironment: return "kBadFloatEnvironment";
    case Status::kNoDevice: return "kNoDevice";
    case Status::kDeviceFailed: return "kDeviceFailed";
    case Status::kDiverged: return "kDiverged";
    case Status::kSelfTestFailed: return "kSelfTestFailed";
  }
  return "unknown status";  // Only for a value read from outside, e.g. a log.
}

}  // namespace fewstep

#endif  // FEWSTEP_STATUS_H_
