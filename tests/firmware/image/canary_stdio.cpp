// Refused by symbols.sh: prints.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>

void canary_stdio(int n) { printf("%d\n", n); }
