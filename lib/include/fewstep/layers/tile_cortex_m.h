// The inner loops of tile.h for float on Cortex-M: the same sums in the same
// order, with as few loads as the instruction set allows and one function for
// each size of tile.
//
// Sizes are 1 at least, so loops test at their end.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_TILE_CORTEX_M_H_
#define FEWSTEP_LAYERS_TILE_CORTEX_M_H_

#include "fewstep/executor/serial.h"
#include "fewstep/layers/tile.h"
#include "fewstep/numerics/cortex_m.h"

namespace fewstep {

/// Where the registers begin that hold what is multiplied: behind the sums. A
/// function may use s0..s15 without saving them.
template <int kRows, int kCols>
constexpr int kFactors = kRows* kCols <= 4 ? 4 : 16;

/// v0[i] = *p[i]++, v1[i] = *p[i]++
template <int first, int i = 0, int n>
FEWSTEP_INLINE void load_pairs(const float* (&p)[n],
                               float (&v0)[n],
                               float (&v1)[n]) {
  if constexpr (i < n) {
    Registers<first + 2 * i>::pair(p[i], v0[i], v1[i]);
    load_pairs<first, i + 1>(p, v0, v1);
  }
}

template <int first>
FEWSTEP_INLINE void load_run(float (&v)[4], const float* p) {
  Registers<first>::load(p, v[0], v[1], v[2], v[3]);
}
template <int first>
FEWSTEP_INLINE void load_run(float (&v)[3], const float* p) {
  Registers<first>::triple(p, v[0], v[1], v[2]);
}

template <int first, int i = 0, int n, int kTaps>
FEWSTEP_INLINE void load_tap_rows(float (&v)[n][kTaps],
                                  const PlainView<float>& view,
                                  uint32_t step) {
  load_run<first + i * kTaps>(v[i], view.data);
  if constexpr (i + 1 < n) {
    load_tap_rows<first, i + 1>(
        v, PlainView<float>{opaque(view.data + step)}, step);
  }
}

template <int r = 0, int kRows>
FEWSTEP_INLINE void load_rows(float (&sums)[kRows][4],
                              const float* p,
                              uint32_t step) {
  if constexpr (r < kRows) {
    load_run<4 * r>(sums[r], p);
    load_rows<r + 1>(sums, opaque(p + step), step);
  }
}

/// A quad of these is one load, a register's +0 one move.
constexpr float kZeros[4] = {};

template <int c = 0, int kCols>
FEWSTEP_INLINE void start_columns(float (&sums)[4][kCols],
                                  const PlainView<float>& view) {
  if constexpr (c < kCols) {
    Registers<4 * c>::load(
        view.data, sums[0][c], sums[1][c], sums[2][c], sums[3][c]);
    start_columns<c + 1>(sums, view);
  }
}

template <int kCols>
FEWSTEP_INLINE void clear_columns(float (&sums)[4][kCols]) {
  start_columns(sums, PlainView<float>{kZeros});
}

template <int r = 0, int kRows>
FEWSTEP_INLINE void store_rows(const float (&sums)[kRows][4],
                               float* p,
                               uint32_t step) {
  if constexpr (r < kRows) {
    Registers<4 * r>::store(p, sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
    store_rows<r + 1>(sums, opaque(p + step), step);
  }
}

template <int c = 0, int kCols>
FEWSTEP_INLINE void store_columns(const float (&sums)[4][kCols],
                                  float* p,
                                  uint32_t step) {
  if constexpr (c < kCols) {
    Registers<4 * c>::store(p, sums[0][c], sums[1][c], sums[2][c], sums[3][c]);
    store_columns<c + 1>(sums, opaque(p + step), step);
  }
}

/// The rows of sums[.][c] as a run.
template <int c = 0, int kCols>
FEWSTEP_INLINE void spill_columns(const float (&sums)[4][kCols],
                                  float (&spilled)[kCols][4]) {
  if constexpr (c < kCols) {
    Registers<4 * c>::store(
        spilled[c], sums[0][c], sums[1][c], sums[2][c], sums[3][c]);
    spill_columns<c + 1>(sums, spilled);
  }
}

/// The same for runs of four.
FEWSTEP_INLINE void store_delta_fours(float* p,
                                      uint32_t step,
                                      const float* delta,
                                      uint32_t n_runs,
                                      uint8_t activation) {
  if (activation == static_cast<uint8_t>(LayerOp::kRelu)) {
    do {
      float d[4];
      Registers<0>::next(delta, d[0], d[1], d[2], d[3]);
      Registers<0>::store(p,
                          relu_delta(p[0], d[0]),
                          relu_delta(p[1], d[1]),
                          relu_delta(p[2], d[2]),
                          relu_delta(p[3], d[3]));
      p += step;
    } while (--n_runs != 0);
  } else {
    store_delta_runs(p, step, delta, n_runs, 4, activation);
  }
}

template <int kCols>
FEWSTEP_INLINE void store_delta_columns(const float (&sums)[4][kCols],
                                        float* p,
                                        uint32_t step,
                                        uint8_t activation) {
  float spilled[kCols][4];
  spill_columns(sums, spilled);
  store_delta_fours(p, step, spilled[0], kCols, activation);
}

FEWSTEP_INLINE void store_delta_columns(const float (&sums)[1][1],
                                        float* p,
                                        uint32_t,
                                        uint8_t activation) {
  store_delta_runs(p, 0, sums[0], 1, 1, activation);
}

FEWSTEP_INLINE void multiply_rows(float (&sums)[1][1],
                                  const PlainView<float>& view,
                                  uint32_t,
                                  const float* b,
                                  uint32_t,
                                  uint32_t n) {
  const float* a = view.data;
  do {
    sums[0][0] = fma(*a++, *b++, sums[0][0]);
  } while (--n != 0);
}

template <int kRows, int kCols>
FEWSTEP_INLINE void multiply_rows(float (&sums)[kRows][kCols],
                                  const PlainView<float>& a,
                                  uint32_t a_step,
                                  const float* b,
                                  uint32_t b_step,
                                  uint32_t n) {
  const float* pa[kRows];
  const float* pb[kCols];
  row_pointers(pa, a.data, a_step);
  row_pointers(pb, b, b_step);
  float va[kRows];
  float vb[kCols];
  uint32_t pairs = n >> 1;
  if (pairs != 0) {
    do {
      float va1[kRows];
      float vb1[kCols];
      load_pairs<kFactors<kRows, kCols>>(pa, va, va1);
      load_pairs<kFactors<kRows, kCols> + 2 * kRows>(pb, vb, vb1);
      multiply_add(sums, va, vb);
      multiply_add(sums, va1, vb1);
    } while (--pairs != 0);
  }
  if ((n & 1U) != 0) {
    load_next(pa, va);
    load_next(pb, vb);
    multiply_add(sums, va, vb);
  }
}

template <int kRows, int kCols>
FEWSTEP_INLINE void multiply_columns(float (&sums)[kRows][kCols],
                                     const float* a,
                                     uint32_t a_step,
                                     const float* b,
                                     uint32_t b_step,
                                     uint32_t n) {
  do {
    float va[kRows];
    float vb[kCols];
    load_run<kFactors<kRows, kCols>>(va, a);
    load_run<kFactors<kRows, kCols> + 4>(vb, b);
    multiply_add(sums, va, vb);
    a += a_step;
    b += b_step;
  } while (--n != 0);
}

template <int kRows, int kCols>
FEWSTEP_INLINE void multiply_column_by_rows(float (&sums)[kRows][kCols],
                                            const PlainView<float>& view,
                                            uint32_t a_step,
                                            const float* b,
                                            uint32_t b_step,
                                            uint32_t n) {
  const float* a = view.data;
  const float* pb[kCols];
  row_pointers(pb, b, b_step);
  do {
    float va[kRows];
    float vb[kCols];
    load_run<kFactors<kRows, kCols>>(va, a);
    load_next(pb, vb);
    multiply_add(sums, va, vb);
    a += a_step;
  } while (--n != 0);
}

/// body(Int<kRows>, Int<kCols>, row, col) for all tiles of
/// [row, row_end) x [col_begin, col_end), which they divide. A function of its
/// own, with a copy of `body`: its registers are its own.
template <int kRows, int kCols, class Body>
__attribute__((noinline)) void cover(const Body& captured,
                                     uint32_t row,
                                     uint32_t row_end,
                                     uint32_t col_begin,
                                     uint32_t col_end) {
  const Body body = captured;
  do {
    uint32_t col = col_begin;
    do {
      body(Int<kRows>(), Int<kCols>(), row, col);
      col += kCols;
    } while (col != col_end);
    row += kRows;
  } while (row != row_end);
}

/// Whole tiles first; then strips of four rows; rows that are left value by
/// value.
template <int kRows, int kCols, bool kExactCols, class Body>
FEWSTEP_INLINE void for_each_tile(const SerialExecutor&,
                                  uint32_t n_rows,
                                  uint32_t n_cols,
                                  const Body& body) {
  const uint32_t rows = n_rows - n_rows % kRows;
  const uint32_t cols = n_cols - n_cols % kCols;
  if (rows != 0) {
    if (cols != 0) cover<kRows, kCols>(body, 0, rows, 0, cols);
    if (cols != n_cols) cover<kRows, 1>(body, 0, rows, cols, n_cols);
  }
  if (rows != n_rows) cover<1, 1>(body, rows, n_rows, 0, n_cols);
}

/// A vector instead of a matrix is taken as one row, whichever way it lies, so
/// that four of its values are neighbours.
__attribute__((noinline)) inline void add_products_of(float* g,
                                                      bool first,
                                                      const float* a,
                                                      uint32_t a_step,
                                                      uint32_t n_rows,
                                                      const float* b,
                                                      uint32_t b_step,
                                                      uint32_t n_cols,
                                                      uint32_t n) {
  const auto body = [=](auto rows, auto cols, uint32_t row, uint32_t col) {
    float sums[decltype(rows)::value][decltype(cols)::value];
    float* const at = g + row * n_cols + col;
    load_rows(sums, first ? kZeros : at, first ? 0 : n_cols);
    multiply_columns(sums, a + row, a_step, b + col, b_step, n);
    store_rows(sums, at, n_cols);
  };
  const uint32_t rows = n_rows & ~3U;
  const uint32_t cols = n_cols & ~3U;
  if (cols != 0) {
    if (rows != 0) cover<4, 4>(body, 0, rows, 0, cols);
    if (rows != n_rows) cover<1, 4>(body, rows, n_rows, 0, cols);
  }
  if (cols != n_cols) cover<1, 1>(body, 0, n_rows, cols, n_cols);
}

template <class Sums>
FEWSTEP_INLINE void add_products(const SerialExecutor&,
                                 float* g,
                                 bool first,
                                 const float* a,
                                 uint32_t a_step,
                                 uint32_t n_rows,
                                 const float* b,
                                 uint32_t b_step,
                                 uint32_t n_cols,
                                 uint32_t n) {
  if (n_cols == 1) {
    add_products_of(g, first, b, b_step, 1, a, a_step, n_rows, n);
  } else {
    add_products_of(g, first, a, a_step, n_rows, b, b_step, n_cols, n);
  }
}

/// sum + a = fma(1, a, sum), bit for bit.
template <class Sums>
FEWSTEP_INLINE void add_sums(const SerialExecutor&,
                             float* g,
                             bool first,
                             const float* a,
                             uint32_t a_step,
                             uint32_t n_rows,
                             uint32_t n) {
  static constexpr float kOne = 1.0F;
  add_products_of(g, first, &kOne, 0, 1, a, a_step, n_rows, n);
}

}  // namespace fewstep

#endif  // FEWSTEP_LAYERS_TILE_CORTEX_M_H_
