// Refused by symbols.sh: double precision, in software on this core.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
double canary_double(double a, double b) { return a * b; }
