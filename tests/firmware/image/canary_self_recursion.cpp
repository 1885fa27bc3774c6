// Refused by callgraph.sh: a local function that calls itself.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
static __attribute__((noinline)) unsigned visit(const unsigned* tree,
                                                unsigned i) {
  return i > 99 ? 0 : tree[i] + visit(tree, 2 * i + 1) * visit(tree, 2 * i + 2);
}
unsigned fewstep_canary_visit(const unsigned* tree) { return visit(tree, 0); }
