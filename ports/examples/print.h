// Numbers as text without stdio, heap or double, through port_print().
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_PORTS_EXAMPLES_PRINT_H_
#define FEWSTEP_PORTS_EXAMPLES_PRINT_H_

#include <stdint.h>

/// `value` in decimal.
void print_unsigned(uint64_t value);

/// The lowest 4 * n_digits bits of `value`, n_digits <= 16 hexadecimal digits.
void print_hex(uint64_t value, uint32_t n_digits);

/// `value` with six significant digits, as 0.123456 or 1.23456e-07; "nan",
/// "inf". For people: programs compare print_bits().
void print_float(float value);

/// The eight hexadecimal digits of `value`'s bits.
void print_bits(float value);

#endif  // FEWSTEP_PORTS_EXAMPLES_PRINT_H_
