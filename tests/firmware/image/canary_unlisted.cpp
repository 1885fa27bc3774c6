// Refused by symbols.sh: needs something nobody listed.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
void somebody_elses_function();
void canary_unlisted() { somebody_elses_function(); }
