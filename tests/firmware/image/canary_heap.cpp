// Refused by symbols.sh: allocates.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
int* canary_heap(int n) { return new int[static_cast<unsigned>(n)]; }
