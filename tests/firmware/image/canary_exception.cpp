// Refused by symbols.sh: throws (built with exceptions on).
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
void canary_exception(int n) {
  if (n < 0) throw n;
}
