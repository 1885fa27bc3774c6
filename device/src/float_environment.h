// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_DEVICE_SRC_FLOAT_ENVIRONMENT_H_
#define FEWSTEP_DEVICE_SRC_FLOAT_ENVIRONMENT_H_

namespace fewstep {

/// True when arithmetic, as this library is compiled and as the processor is
/// set up now, rounds to nearest even, keeps subnormals, and fuses fma into one
/// rounding: the numerics contract at run time.
bool float_environment_is_ieee();

}  // namespace fewstep

#endif  // FEWSTEP_DEVICE_SRC_FLOAT_ENVIRONMENT_H_
