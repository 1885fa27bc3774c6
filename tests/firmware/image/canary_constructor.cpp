// Refused by writable.sh: a static constructor.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
int canary_seed();
extern const int canary_constructor;
const int canary_constructor = canary_seed();
