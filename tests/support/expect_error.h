// Expecting a host::Error: its exit status, and words its message must have.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_EXPECT_ERROR_H_
#define FEWSTEP_TESTS_SUPPORT_EXPECT_ERROR_H_

#include <gtest/gtest.h>

#include <functional>
#include <initializer_list>
#include <string>

#include "fewstep/host/error.h"

namespace fewstep::testing {

/// Fails the test unless `call` throws Error with `exit` and a message that
/// contains each of `words`.
inline void expect_error(const std::function<void()>& call,
                         host::Exit exit,
                         std::initializer_list<const char*> words) {
  try {
    call();
  } catch (const host::Error& e) {
    const std::string message = e.what();
    EXPECT_EQ(static_cast<int>(e.exit()), static_cast<int>(exit)) << message;
    for (const char* word : words) {
      EXPECT_NE(message.find(word), std::string::npos)
          << "'" << word << "' is not in: " << message;
    }
    return;
  }
  ADD_FAILURE() << "no Error was thrown";
}

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_EXPECT_ERROR_H_
