// A program of the port alone: the base line of dense_only's size.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
int main() { return 0; }
