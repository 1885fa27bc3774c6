// Refused by writable.sh: initialized state.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
int canary_data = 7;
