// Register tiles: the one inner kernel of dense and conv2d.
//
// A tile is `rows` x `cols` independent outputs whose sums are kept in
// registers and advance together, each in its own ascending order. The size of
// a tile never changes a bit.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_LAYERS_TILE_H_
#define FEWSTEP_LAYERS_TILE_H_

#include "fewstep/descent.h"
#include "fewstep/layers/layer.h"
#include "fewstep/layers/tile_shape.h"
#include "fewstep/numerics/cortex_m.h"

namespace fewstep {

/// p, of which the compiler is to know nothing: it then addresses p[0], p[1],
/// .. from one register instead of computing each address.
template <class T>
FEWSTEP_INLINE T* opaque(T* p) {
#if defined(__GNUC__) && !defined(__CUDACC__)
  __asm__("" : "+r"(p));
#endif
  return p;
}

/// sums[r][c] = fma(a[r], b[c], sums[r][c])
template <int kRows, int kCols, class T, class A, class B>
FEWSTEP_INLINE void multiply_add(T (&sums)[kRows][kCols],
                                 const A (&a)[kRows],
                                 const B (&b)[kCols]) {
  FEWSTEP_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    FEWSTEP_UNROLL(8)
    for (int c = 0; c < kCols; ++c) sums[r][c] = fma(a[r], b[c], sums[r][c]);
  }
}

/// v[i] = load(i)
template <int n, class T, class Load>
FEWSTEP_INLINE void load_all(T (&v)[n], const Load& load) {
  FEWSTEP_UNROLL(8)
  for (int i = 0; i < n; ++i) v[i] = load(i);
}

/// sums[r][c] = fma(a[r], b(c), sums[r][c]), b read column by column.
template <int kRows, int kCols, class T, class B>
FEWSTEP_INLINE void multiply_add_columns(T (&sums)[kRows][kCols],
                                         const T (&a)[kRows],
                                         const B& b) {
  FEWSTEP_UNROLL(8)
  for (int c = 0; c < kCols; ++c) {
    const T bc = b(c);
    FEWSTEP_UNROLL(8)
    for (int r = 0; r < kRows; ++r) sums[r][c] = fma(a[r], bc, sums[r][c]);
  }
}

/// One term of every sum: sums[r][c] = fma(a(r), b(c), sums[r][c]), or its
/// tangent where a gives dual numbers of Sums:
///
///   fma(a.value, b.tangent, fma(a.tangent, b.value, sums[r][c]))
///
/// the inner multiply-adds of the whole tile first, so that only half of the
/// factors take registers at a time. B is b's type; one without tangents has
/// but the inner ones.
template <class B, int kRows, int kCols, class Sum, class LoadA, class LoadB>
FEWSTEP_INLINE void add_term(Sum (&sums)[kRows][kCols],
                             const LoadA& a,
                             const LoadB& b) {
  Sum va[kRows];
  if constexpr (!IsSame<decltype(a(0)), Dual<Sum>>::value) {
    B vb[kCols];
    load_all(va, a);
    load_all(vb, b);
    multiply_add(sums, va, vb);
  } else if constexpr (IsSame<B, Sum>::value) {
    load_all(va, [&](int r) { return a(r).tangent; });
    multiply_add_columns(sums, va, b);
  } else {
    load_all(va, [&](int r) { return a(r).tangent; });
    multiply_add_columns(sums, va, [&](int c) { return b(c).value; });
    load_all(va, [&](int r) { return a(r).value; });
    multiply_add_columns(sums, va, [&](int c) { return b(c).tangent; });
  }
}

/// sums[r][c] = init(r, c)
template <int kRows, int kCols, class T, class Init>
FEWSTEP_INLINE void init_sums(T (&sums)[kRows][kCols], const Init& init) {
  FEWSTEP_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    FEWSTEP_UNROLL(8)
    for (int c = 0; c < kCols; ++c) sums[r][c] = init(r, c);
  }
}

/// store(r, c, sums[r][c])
template <int kRows, int kCols, class T, class Store>
FEWSTEP_INLINE void store_sums(const T (&sums)[kRows][kCols],
                               const Store& store) {
  FEWSTEP_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    FEWSTEP_UNROLL(8)
    for (int c = 0; c < kCols; ++c) store(r, c, sums[r][c]);
  }
}

/// The same for a `store` that is more than a store. The sums are spilled first
/// so that the store is a loop, not 16 copies of its code. Not on a GPU, where
/// an array under an index that is not constant leaves the registers.
template <int kRows, int kCols, class T, class Store>
FEWSTEP_INLINE void spill_sums(const T (&sums)[kRows][kCols],
                               const Store& store) {
#if defined(__CUDACC__)
  store_sums(sums, store);
#else
  T spilled[kRows][kCols];
  FEWSTEP_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    FEWSTEP_UNROLL(8)
    for (int c = 0; c < kCols; ++c) spilled[r][c] = sums[r][c];
  }
  FEWSTEP_UNROLL(1)
  for (int r = 0; r < kRows; ++r) {
    FEWSTEP_UNROLL(1)
    for (int c = 0; c < kCols; ++c) store(r, c, spilled[r][c]);
  }
#endif
}

/// sums[r][c] = p[r * step + c]
template <int kRows, int kCols, class Sum, class T>
FEWSTEP_INLINE void load_rows(Sum (&sums)[kRows][kCols],
                              const T* p,
                              uint32_t step) {
  const T* row[kRows];
  load_all(row,
           [&](int r) { return opaque(p + static_cast<uint32_t>(r) * step); });
  init_sums(sums, [&](int r, int c) { return as_sum<Sum>(row[r][c]); });
}

/// sums[r][c] = view(r)
template <int kRows, int kCols, class Sum, class V>
FEWSTEP_INLINE void start_columns(Sum (&sums)[kRows][kCols], const V& view) {
  init_sums(sums, [&](int r, int) {
    return as_sum<Sum>(view(static_cast<uint32_t>(r)));
  });
}

/// sums[r][c] = +0, for store_columns().
template <int kRows, int kCols, class T>
FEWSTEP_INLINE void clear_columns(T (&sums)[kRows][kCols]) {
  init_sums(sums, [](int, int) { return constant<T>(0.0F); });
}

/// p[r * step + c] = sums[r][c]
template <int kRows, int kCols, class Sum, class T>
FEWSTEP_INLINE void store_rows(const Sum (&sums)[kRows][kCols],
                               T* p,
                               uint32_t step) {
  T* row[kRows];
  load_all(row,
           [&](int r) { return opaque(p + static_cast<uint32_t>(r) * step); });
  store_sums(sums,
             [&](int r, int c, const Sum& sum) { put_sum(&row[r][c], sum); });
}

/// sums[r][c] = activation(sums[r][c]): a relu, or none.
template <int kRows, int kCols, class Sum>
FEWSTEP_INLINE void activate(Sum (&sums)[kRows][kCols], uint8_t activation) {
  if (activation != static_cast<uint8_t>(LayerOp::kRelu)) return;
  init_sums(sums, [&](int r, int c) { return relu(sums[r][c]); });
}

/// p[c * step + r] = sums[r][c]
template <int kRows, int kCols, class Sum, class T>
FEWSTEP_INLINE void store_columns(const Sum (&sums)[kRows][kCols],
                                  T* p,
                                  uint32_t step) {
  T* col[kCols];
  load_all(col,
           [&](int c) { return opaque(p + static_cast<uint32_t>(c) * step); });
  store_sums(sums,
             [&](int r, int c, const Sum& sum) { put_sum(&col[c][r], sum); });
}

/// The same with store_delta(); SIMD types, whose code may be long, do not
/// spill.
template <int kRows, int kCols, class Sum, class T>
FEWSTEP_INLINE void store_delta_columns(const Sum (&sums)[kRows][kCols],
                                        T* p,
                                        uint32_t step,
                                        uint8_t activation) {
  const auto store = [&](int r, int c, const Sum& sum) {
    store_delta(p + static_cast<uint32_t>(c) * step + static_cast<uint32_t>(r),
                activation,
                sum);
  };
  if constexpr (TileShape<T>::kExactCols) {
    store_sums(sums, store);
  } else {
    spill_sums(sums, store);
  }
}

/// load_rows() and store_rows() of sums that go elsewhere.
template <int kRows, int kCols, class Sum, class Put>
FEWSTEP_INLINE void load_rows(Sum (&sums)[kRows][kCols],
                              const SumsTo<Put>&,
                              uint32_t) {
  init_sums(sums, [](int, int) { return constant<Sum>(0.0F); });
}
template <int kRows, int kCols, class Sum, class Put>
FEWSTEP_INLINE void store_rows(const Sum (&sums)[kRows][kCols],
                               const SumsTo<Put>& to,
                               uint32_t step) {
  store_sums(sums, [&](int r, int c, const Sum& sum) {
    put_sum(to + (static_cast<uint32_t>(r) * step + static_cast<uint32_t>(c)),
            sum);
  });
}

/// v[i] = *p[i]++
template <int i = 0, int n, class T>
FEWSTEP_INLINE void load_next(const T* (&p)[n], T (&v)[n]) {
  if constexpr (i < n) {
    v[i] = *p[i]++;
    load_next<i + 1>(p, v);
  }
}

/// row[i] = p + i * step
template <int i = 0, int n, class T>
FEWSTEP_INLINE void row_pointers(T* (&row)[n], T* p, uint32_t step) {
  if constexpr (i < n) {
    row[i] = opaque(p);
    row_pointers<i + 1, n, T>(row, row[i] + step, step);
  }
}

// `first` names the register that v begins at where a target can make use of
// it (tile_cortex_m.h).

/// v[i] = p[i]
template <int first, int n, class T>
FEWSTEP_INLINE void load_run(T (&v)[n], const T* p) {
  load_all(v, [&](int i) { return p[i]; });
}

/// v[i][t] = view(i * step + t)
template <int first, int i = 0, int n, int kTaps, class T, class V>
FEWSTEP_INLINE void load_tap_rows(T (&v)[n][kTaps],
                                  const V& view,
                                  uint32_t step) {
  load_all(v[i], [&](int t) { return view(static_cast<uint32_t>(t)); });
  if constexpr (i + 1 < n) {
    load_tap_rows<first, i + 1>(v, view.at(step), step);
  }
}

/// store_delta(p + j * step + i, activation, delta[4 j + i]) for j < n_runs,
/// i < n.
template <class T>
FEWSTEP_NOINLINE inline void store_delta_runs(T* p,
                                              uint32_t step,
                                              const T* delta,
                                              uint32_t n_runs,
                                              uint32_t n,
                                              uint8_t activation) {
  do {
    uint32_t i = 0;
    do {
      store_delta(p + i, activation, delta[i]);
    } while (++i != n);
    p += step;
    delta += 4;
  } while (--n_runs != 0);
}

/// The same for runs of four.
template <class T>
FEWSTEP_INLINE void store_delta_fours(
    T* p, uint32_t step, const T* delta, uint32_t n_runs, uint8_t activation) {
  store_delta_runs(p, step, delta, n_runs, 4, activation);
}

// The inner loops: k ascends over the n terms of every sum. They differ in
// which way of a matrix is contiguous.

/// sums[r][c] += sum over k of a(r * a_step + k) b[c * b_step + k]
template <int kRows, int kCols, class Sum, class A, class B>
FEWSTEP_INLINE void multiply_rows(Sum (&sums)[kRows][kCols],
                                  const A& a,
                                  uint32_t a_step,
                                  const B* b,
                                  uint32_t b_step,
                                  uint32_t n) {
  for (uint32_t k = 0; k < n; ++k) {
    add_term<B>(
        sums,
        [&](int r) { return a(static_cast<uint32_t>(r) * a_step + k); },
        [&](int c) { return b[static_cast<uint32_t>(c) * b_step + k]; });
  }
}

/// sums[r][c] += sum over k of a[k * a_step + r] b[k * b_step + c]
template <int kRows, int kCols, class Sum, class T, class B>
FEWSTEP_INLINE void multiply_columns(Sum (&sums)[kRows][kCols],
                                     const T* a,
                                     uint32_t a_step,
                                     const B* b,
                                     uint32_t b_step,
                                     uint32_t n) {
  for (uint32_t k = 0; k < n; ++k, a += a_step, b += b_step) {
    add_term<B>(
        sums, [&](int r) { return a[r]; }, [&](int c) { return b[c]; });
  }
}

/// sums[r][c] += sum over k of a(k * a_step + r) b[c * b_step + k]
template <int kRows, int kCols, class Sum, class A, class B>
FEWSTEP_INLINE void multiply_column_by_rows(Sum (&sums)[kRows][kCols],
                                            const A& a,
                                            uint32_t a_step,
                                            const B* b,
                                            uint32_t b_step,
                                            uint32_t n) {
  for (uint32_t k = 0; k < n; ++k) {
    const A ak = a.at(k * a_step);
    add_term<B>(
        sums,
        [&](int r) { return ak(static_cast<uint32_t>(r)); },
        [&](int c) { return b[static_cast<uint32_t>(c) * b_step + k]; });
  }
}

/// f(where the call's weight gradient goes, whether its sums start at +0): to
/// `grad`, or where its FusedCall says.
template <class W, class T, class F>
FEWSTEP_INLINE void with_gradient(const LayerCall<T>& c, const F& f) {
  using Sum = typename SumOf<W, T>::Type;
  if constexpr (FusedCall<T>::kTangents && !IsSame<Sum, T>::value) {
    if (c.tangents != nullptr) {
      Sum* const at = c.tangents;
      f(sums_to([=](uint32_t i, const Sum& sum) { at[i] = at[i] + sum; }),
        true);
      return;
    }
  }
  if constexpr (FusedCall<T>::kDescends) {
    if (c.rate != nullptr) {
      T* const grad = c.grad;
      T* const grad_bar = c.grad_bar;
      const T rate = *c.rate;
      if (grad_bar != nullptr) {
        f(sums_to([=](uint32_t i, const T& g) {
            grad[i] = g;
            grad_bar[i] = descent_bar(rate, g);
          }),
          true);
      } else {
        const W theta = W::from(c.weights);
        f(sums_to([=](uint32_t i, const T& g) {
            grad[i] = descended(theta(i), rate, g);
          }),
          true);
      }
      return;
    }
  }
  f(c.grad, c.first);
}

/// f(Int<n>) for a count n in [1, max].
template <int max, class F>
FEWSTEP_INLINE void with_count(uint32_t n, const F& f) {
  if constexpr (max == 1) {
    f(Int<1>());
  } else {
    if (n == max) {
      f(Int<max>());
    } else {
      with_count<max - 1>(n, f);
    }
  }
}

/// body(Int<rows>, Int<cols>, row, col) for tiles that cover
/// [row, row_end) x [col, col_end), at most kRows x kCols: whole if it fits,
/// else in strips of one.
template <int kRows, int kCols, bool kExactCols = false, class Body>
FEWSTEP_INLINE void cover_tile(uint32_t row,
                               uint32_t row_end,
                               uint32_t col,
                               uint32_t col_end,
                               const Body& body) {
  if constexpr (kExactCols) {
    with_count<kCols>(col_end - col, [&](auto cols) FEWSTEP_INLINE_LAMBDA {
      if (row + kRows <= row_end) {
        body(Int<kRows>(), cols, row, col);
      } else {
        for (uint32_t r = row; r < row_end; ++r) body(Int<1>(), cols, r, col);
      }
    });
    return;
  }
  const bool whole_rows = row + kRows <= row_end;
  const bool whole_cols = col + kCols <= col_end;
  if (whole_rows && whole_cols) {
    body(Int<kRows>(), Int<kCols>(), row, col);
  } else if (whole_rows) {
    for (; col < col_end; ++col) body(Int<kRows>(), Int<1>(), row, col);
  } else if (whole_cols) {
    for (; row < row_end; ++row) body(Int<1>(), Int<kCols>(), row, col);
  } else {
    for (; row < row_end; ++row) {
      for (uint32_t c = col; c < col_end; ++c) {
        body(Int<1>(), Int<1>(), row, c);
      }
    }
  }
}

/// Runs `body` over all tiles of [0, n_rows) x [0, n_cols), one item a tile.
template <int kRows, int kCols, bool kExactCols = false, class E, class Body>
FEWSTEP_INLINE void for_each_tile(const E& e,
                                  uint32_t n_rows,
                                  uint32_t n_cols,
                                  const Body& body) {
  e.for_each(
      (n_rows + kRows - 1) / kRows,
      (n_cols + kCols - 1) / kCols,
      [&](uint32_t i, uint32_t j) FEWSTEP_INLINE_LAMBDA {
        const uint32_t row = i * kRows;
        const uint32_t col = j * kCols;
        const uint32_t row_end = row + kRows < n_rows ? row + kRows : n_rows;
        const uint32_t col_end = col + kCols < n_cols ? col + kCols : n_cols;
        cover_tile<kRows, kCols, kExactCols>(row, row_end, col, col_end, body);
      });
}

/// g[r * n_cols + c] += sum over k of a[k * a_step + r] b[k * b_step + c];
/// `first`: the sums start at +0 and g is only written. Sums: a SumOf; g: an
/// array, or SumsTo.
template <class Sums, class E, class G, class T, class B>
FEWSTEP_INLINE void add_products(const E& e,
                                 G g,
                                 bool first,
                                 const T* a,
                                 uint32_t a_step,
                                 uint32_t n_rows,
                                 const B* b,
                                 uint32_t b_step,
                                 uint32_t n_cols,
                                 uint32_t n) {
  using Sum = typename Sums::Type;
  using Shape = typename Sums::Shape;
  for_each_tile<Shape::kRows, Shape::kCols, Shape::kExactCols>(
      e, n_rows, n_cols, [=](auto rows, auto cols, uint32_t row, uint32_t col) {
        Sum sums[decltype(rows)::value][decltype(cols)::value];
        const G at = g + (row * n_cols + col);
        if (first) {
          init_sums(sums, [](int, int) { return constant<Sum>(0.0F); });
        } else {
          load_rows(sums, at, n_cols);
        }
        multiply_columns(sums, a + row, a_step, b + col, b_step, n);
        store_rows(sums, at, n_cols);
      });
}

/// g[r] += sum over k of a[k * a_step + r]; `first` as above.
template <class Sums, class E, class G, class T>
FEWSTEP_INLINE void add_sums(const E& e,
                             G g,
                             bool first,
                             const T* a,
                             uint32_t a_step,
                             uint32_t n_rows,
                             uint32_t n) {
  e.for_each(n_rows, [&](uint32_t r) {
    using Sum = typename Sums::Type;
    Sum sum = start_sum<Sum>(g + r, first);
    for (uint32_t k = 0; k < n; ++k) {
      sum = sum + as_sum<Sum>(a[k * a_step + r]);
    }
    put_sum(g + r, sum);
  });
}

}  // namespace fewstep

#if FEWSTEP_CORTEX_M
#include "fewstep/layers/tile_cortex_m.h"
#endif

#endif  // FEWSTEP_LAYERS_TILE_H_
