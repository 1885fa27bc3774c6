// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "print.h"

#include <string.h>

#include "port_example.h"

namespace {

uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// A positive number as significand * 2^exponent * 10^power, the significand's
/// highest bit set. Scaling by ten loses less than 2^-60 of it each time.
struct Scaled {
  uint64_t significand;
  int exponent;
  int power;

  void normalize() {
    while (significand >> 63 == 0) {
      significand <<= 1;
      --exponent;
    }
  }
};

/// Brings `s` to 10^5 <= significand * 2^exponent < 10^6, rounded to an
/// integer: the six digits.
uint32_t six_digits(Scaled* s) {
  s->normalize();
  for (;;) {
    // The value is below 2^(exponent + 64).
    if (s->exponent > -44) {  // At least 2^20 > 10^6.
      s->significand /= 10;
      ++s->power;
    } else if (s->exponent < -47) {  // Below 2^17 < 10^6 / 5.
      s->significand = s->significand / 16 * 10;
      s->exponent += 4;
      --s->power;
    } else {
      const int shift = -s->exponent;  // 44..47
      const uint64_t half = uint64_t{1} << (shift - 1);
      const uint64_t rounded = (s->significand >> shift) +
                               ((s->significand & (2 * half - 1)) >= half);
      if (rounded >= 1000000) {
        s->significand /= 10;
        ++s->power;
      } else if (rounded < 100000) {
        s->significand = s->significand / 16 * 10;
        s->exponent += 4;
        --s->power;
      } else {
        return static_cast<uint32_t>(rounded);
      }
    }
    s->normalize();
  }
}

}  // namespace

void print_unsigned(uint64_t value) {
  char text[21];
  uint32_t at = sizeof text - 1;
  text[at] = '\0';
  do {
    text[--at] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  port_print(text + at);
}

void print_hex(uint64_t value, uint32_t n_digits) {
  char text[17];
  for (uint32_t i = 0; i < n_digits; ++i) {
    text[i] = "0123456789abcdef"[value >> (4 * (n_digits - 1 - i)) & 15U];
  }
  text[n_digits] = '\0';
  port_print(text);
}

void print_bits(float value) { print_hex(bits_of(value), 8); }

void print_float(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t exponent = bits >> 23 & 0xffU;
  const uint32_t fraction = bits & 0x7fffffU;
  if (bits >> 31 != 0) port_print("-");
  if (exponent == 0xffU) return port_print(fraction != 0 ? "nan" : "inf");
  if (exponent == 0 && fraction == 0) return port_print("0");

  Scaled s =
      exponent == 0
          ? Scaled{fraction, -149, 0}
          : Scaled{fraction | 1U << 23, static_cast<int>(exponent) - 150, 0};
  uint32_t digits = six_digits(&s);
  const int power = s.power + 5;  // Of the first digit.

  const bool scientific = power < -4 || power > 5;
  const int point = scientific ? 1 : power + 1;  // Digits before the point.
  char text[16];
  int at = 0;
  if (point <= 0) {
    text[at++] = '0';
    text[at++] = '.';
    for (int i = point; i < 0; ++i) text[at++] = '0';
  }
  uint32_t unit = 100000;
  for (int i = 0; i < 6; ++i) {
    if (i == point && i > 0) text[at++] = '.';
    text[at++] = static_cast<char>('0' + digits / unit);
    digits %= unit;
    unit /= 10;
  }
  text[at] = '\0';
  port_print(text);
  if (scientific) {
    port_print(power < 0 ? "e-" : "e+");
    const uint32_t size = static_cast<uint32_t>(power < 0 ? -power : power);
    if (size < 10) port_print("0");
    print_unsigned(size);
  }
}
