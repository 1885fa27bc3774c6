// Refused by symbols.sh: a virtual table.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
struct CanaryRtti {
  virtual int value() const;
};
int CanaryRtti::value() const { return 1; }
