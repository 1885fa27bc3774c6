// Refused by callgraph.sh: an operation, reached through a table, calls back
// into the function that runs the table.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
using Operation = int (*)(int);

struct Table {
  Operation operations[2];
};

__attribute__((noinline)) int fewstep_canary_run(const Table& table, int n) {
  return table.operations[n & 1](n) + 1;
}

static int twice(int n) { return 2 * n; }
static int again(int n);

extern const Table fewstep_canary_table;
const Table fewstep_canary_table = {{twice, again}};

static int again(int n) {
  return fewstep_canary_run(fewstep_canary_table, n - 1) * 3;
}
