// How host code fails: an exit status and a message for a person.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_ERROR_H_
#define FEWSTEP_HOST_ERROR_H_

#include <stdexcept>
#include <string>

namespace fewstep::host {

/// Exit statuses of the `fewstep` command.
enum class Exit {
  kOk = 0,
  kInternal = 1,  ///< A bug of ours.
  kUsage = 2,     ///< The command line or the recipe is wrong.
  kBadData = 3,   ///< Input data or a capsule is unusable.
  kNumeric = 4,   ///< The numbers went wrong.
  kResource = 5,  ///< Something is missing: GPU, AVX2, memory, disk.
  kInterrupted = 130,
};

/// A failure a person can act on. The message names the file or key and says
/// how to mend it.
class Error : public std::runtime_error {
 public:
  Error(Exit exit, const std::string& message)
      : std::runtime_error(message), exit_(exit) {}
  Exit exit() const { return exit_; }

 private:
  Exit exit_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_ERROR_H_
