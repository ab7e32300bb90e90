// The live blocks of x^T @ g: every block is a small dense product of a panel of x and a panel of g.
#pragma once
#include "products.h"
#include "storage.h"

namespace sparta::ISA {

constexpr int64_t kRowsTogether = 256;  // rows of x and g that stay in the first-level cache while a block column passes

static inline int64_t block_rows(const Sddmm& p) { return divide_up(p.k, p.rows); }

static inline bool is_double(const Sddmm& p) { return p.x_dtype == Dtype::kF64; }

template <class T>
struct Panels {
  const T *x, *g;
};

template <class T>
static Panels<T> panels_at(const Sddmm& p, int64_t row, int64_t column) {
  return {static_cast<const T*>(p.packed_x) + row * p.rows * p.padded_m, static_cast<const T*>(p.packed_g) + column * p.cols * p.padded_m};
}

// -- along n: panels are [m][rows of a block]

template <class S, class T>
static void pack_rows(const S* from, int64_t size, int64_t first, int64_t width, int64_t m, T* to) {
  constexpr int64_t kStep = kLanesOf<T>;
  const int64_t live = least(width, size - first);
  for (int64_t i = 0; i < m; ++i, from += size, to += width) {
    int64_t c = 0;
    for (; c + kStep <= live; c += kStep) store(to + c, load(from + first + c));
    for (; c < width; c += kStep) store_part(to + c, c < live ? load_part(from + first + c, live - c) : Vector<T>{}, width - c);
  }
}

// R rows and V vectors of columns of one block, over the rows [begin, end) of x and g; adds to what is there unless `begin` is 0.
template <class T, int R, int V>
static void block_along_n(const Sddmm& p, const T* x, const T* g, int64_t begin, int64_t end, T* out) {
  constexpr int kParts = R * V < 8 ? 4 : 1;  // partial sums, enough to cover the latency of an FMA
  Vector<T> sum[kParts][R][V] = {};
  const auto step = [&](Vector<T>(&into)[R][V], int64_t i) {
    Vector<T> v[V];
#pragma GCC unroll 4
    for (int c = 0; c < V; ++c) v[c] = load(g + i * p.cols + c * kLanesOf<T>);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < V; ++c) into[r][c] += splat(x[i * p.rows + r]) * v[c];
  };
  int64_t i = begin;
  for (; i + kParts <= end; i += kParts) {
#pragma GCC unroll 4
    for (int part = 0; part < kParts; ++part) step(sum[part], i + part);
  }
  for (; i < end; ++i) step(sum[0], i);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < V; ++c) {
      T* to = out + r * p.cols + c * kLanesOf<T>;
      Vector<T> total = sum[0][r][c];
      if constexpr (kParts == 4) total = (total + sum[1][r][c]) + (sum[2][r][c] + sum[3][r][c]);
      store(to, begin ? load(to) + total : total);
    }
}

template <class T, int V>
static void block_rows_along_n(const Sddmm& p, const T* x, const T* g, int64_t begin, int64_t end, T* out) {
  constexpr int kMost = kRegisters == 32 ? 8 : 4;
  int64_t r = 0;
  for (; r + kMost <= p.rows; r += kMost) block_along_n<T, kMost, V>(p, x + r, g, begin, end, out + r * p.cols);
  for (; r + 4 <= p.rows; r += 4) block_along_n<T, 4, V>(p, x + r, g, begin, end, out + r * p.cols);
  for (; r < p.rows; ++r) block_along_n<T, 1, V>(p, x + r, g, begin, end, out + r * p.cols);
}

template <class T>
static void entry_along_n(const Sddmm& p, const T* x, const T* g, int64_t begin, int64_t end, T* out) {
  int64_t c = 0;
  for (; c + 2 * kLanesOf<T> <= p.cols; c += 2 * kLanesOf<T>) block_rows_along_n<T, 2>(p, x, g + c, begin, end, out + c);
  for (; c < p.cols; c += kLanesOf<T>) block_rows_along_n<T, 1>(p, x, g + c, begin, end, out + c);
}

// -- along m: panels are [rows of a block][m], m filled up with zeros to whole vectors; a tile's sums are added up across lanes

template <class S, class T>
static void pack_columns(const S* from, int64_t size, int64_t first, int64_t width, const Sddmm& p, T* to) {
  for (int64_t i = 0; i < p.padded_m; i += kLanesOf<T>)
    for (int64_t c = 0; c < width; c += kLanesOf<T>) {
      Vector<T> square[kLanesOf<T>];
      for (int r = 0; r < kLanesOf<T>; ++r) {
        const bool inside = i + r < p.m && first + c < size;
        square[r] = inside ? load_part(from + (i + r) * size + first + c, size - first - c) : Vector<T>{};
      }
      transpose(square);
      for (int64_t r = 0; r < least(kLanesOf<T>, width - c); ++r) store(to + (c + r) * p.padded_m + i, square[r]);
    }
}

// R x (lanes / R) elements of a block at (row, column); what lies outside the block is computed from its edge and dropped.
template <class T, int R>
static void tile_along_m(const Sddmm& p, const T* x, const T* g, int64_t row, int64_t column, int64_t begin, int64_t end, T* out) {
  constexpr int C = kLanesOf<T> / R;
  const T *xs[R], *gs[C];
  for (int r = 0; r < R; ++r) xs[r] = x + least(row + r, p.rows - 1) * p.padded_m;
  for (int c = 0; c < C; ++c) gs[c] = g + least(column + c, p.cols - 1) * p.padded_m;
  Vector<T> sum[kLanesOf<T>] = {};
  for (int64_t i = begin; i < end; i += kLanesOf<T>) {
    Vector<T> v[C];
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) v[c] = load(gs[c] + i);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vector<T> u = load(xs[r] + i);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) sum[r * C + c] += u * v[c];
    }
  }
  transpose(sum);
  Vector<T> total = {};
#pragma GCC unroll 16
  for (int i = 0; i < kLanesOf<T>; ++i) total += sum[i];
  for (int64_t r = 0; r < least(R, p.rows - row); ++r)
    for (int64_t c = 0; c < least(C, p.cols - column); ++c) {
      T& to = out[(row + r) * p.cols + column + c];
      to = (begin ? to : T{}) + total[r * C + c];
    }
}

template <class T, int R>
static void tiles_along_m(const Sddmm& p, const T* x, const T* g, int64_t begin, int64_t end, T* out) {
  for (int64_t r = 0; r < p.rows; r += R)
    for (int64_t c = 0; c < p.cols; c += kLanesOf<T> / R) tile_along_m<T, R>(p, x, g, r, c, begin, end, out);
}

template <class T>
static void entry_along_m(const Sddmm& p, const T* x, const T* g, int64_t begin, int64_t end, T* out) {
  if (p.cols == 1) return tiles_along_m<T, kLanesOf<T>>(p, x, g, begin, end, out);
  if (p.rows == 1) return tiles_along_m<T, 1>(p, x, g, begin, end, out);
  tiles_along_m<T, kLanesOf<T> >= 16 ? 4 : 2>(p, x, g, begin, end, out);
}

// -- both

static void plan_sddmm(Sddmm& p) {
  const int64_t lanes = is_double(p) ? kLanesOf<double> : kLanes;
  p.along_n = p.cols % lanes == 0;
  p.padded_m = p.along_n ? p.m : divide_up(p.m, lanes) * lanes;
}

static void pack_operand(const Sddmm& p, int64_t panel) {
  const int64_t rows = block_rows(p);
  const bool of_x = panel < rows;
  const int64_t size = of_x ? p.k : p.n, width = of_x ? p.rows : p.cols, first = (of_x ? panel : panel - rows) * width;
  with_storage(of_x ? p.x_dtype : p.g_dtype, [&](auto storage) {
    typedef decltype(storage) S;
    typedef Compute<S> T;
    const S* from = static_cast<const S*>(of_x ? p.x : p.g);
    T* to = static_cast<T*>(of_x ? p.packed_x : p.packed_g) + first * p.padded_m;
    p.along_n ? pack_rows(from, size, first, width, p.m, to) : pack_columns(from, size, first, width, p, to);
  });
}

// Zeros behind the edges of the matrix, whatever x and g hold (0 * inf is not 0).
template <class T>
static void clear_overhang(const Sddmm& p, int64_t row, int64_t column, T* out) {
  const int64_t rows = least(p.rows, p.k - row * p.rows), cols = least(p.cols, p.n - column * p.cols);
  for (int64_t r = 0; r < p.rows; ++r)
    for (int64_t c = r < rows ? cols : 0; c < p.cols; ++c) out[r * p.cols + c] = T{};
}

// The finished sums of one block, rounded to the result's dtype.
template <class T>
static void round_entry(const Sddmm& p, int64_t entry, const T* sums) {
  const int64_t size = p.rows * p.cols;
  with_storage(p.dtype, [&](auto storage) {
    typedef decltype(storage) S;
    if constexpr (__is_same(Compute<S>, T)) {
      S* out = static_cast<S*>(p.blocks) + entry * size;
      for (int64_t i = 0; i < size; i += kLanesOf<T>) store_part(out + i, load_part(sums + i, size - i), size - i);
    }
  });
}

template <class T>
static void sddmm_of(const Sddmm& p, Range columns) {
  const int64_t total = p.along_n ? p.m : p.padded_m;
  for (int64_t begin = 0; begin == 0 || begin < total; begin += kRowsTogether) {
    const int64_t end = least(begin + kRowsTogether, total);
    for (int64_t j = columns.begin; j < columns.end; ++j)
      for (int64_t e = p.indptr[j]; e < p.indptr[j + 1]; ++e) {
        T* out = static_cast<T*>(p.sums) + e * p.rows * p.cols;
        const Panels<T> panels = panels_at<T>(p, p.indices[e], j);
        (p.along_n ? entry_along_n<T> : entry_along_m<T>)(p, panels.x, panels.g, begin, end, out);
        if (end < total) continue;
        clear_overhang(p, p.indices[e], j, out);
        if (p.sums != p.blocks) round_entry(p, e, out);
      }
  }
}

static void sddmm(const Sddmm& p, Range columns) { is_double(p) ? sddmm_of<double>(p, columns) : sddmm_of<float>(p, columns); }

}  // namespace sparta::ISA
