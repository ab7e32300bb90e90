// SpMM of one row of x: bound by the bytes of W, which are read once, in order, in the dtype in which they are stored.
#pragma once
#include "bsr.h"
#include "epilogue.h"

namespace sparta::ISA {

template <class S>
static const S* stored_block(const Spmm& p, int64_t entry) {
  return static_cast<const S*>(p.blocks) + (p.order ? p.order[entry] : entry) * p.rows * p.cols;
}

// Columns [column, column + V * N) of the block column j.
template <class S, int N, int V>
static int row_by_columns(const Spmm& p, const Compute<S>* packed, int64_t j, int64_t column, Compute<S>* out) {
  typedef Vector<Compute<S>, N> T;
  constexpr int kParts = 4;
  T sum[kParts][V] = {};
  const auto step = [&](T(&into)[V], Compute<S> x, const S* w) {
#pragma GCC unroll 4
    for (int c = 0; c < V; ++c) into[c] += (x - T{}) * load<T>(w + c * N);
  };
  int64_t e = p.indptr[j];
  const int64_t end = p.indptr[j + 1];
  if (p.rows == 1)
    for (; e + kParts <= end; e += kParts) {
#pragma GCC unroll 4
      for (int i = 0; i < kParts; ++i) step(sum[i], packed[p.indices[e + i]], stored_block<S>(p, e + i) + column);
    }
  for (; e < end; ++e) {
    const Compute<S>* x = packed + p.indices[e] * p.rows;
    const S* w = stored_block<S>(p, e) + column;
    int64_t k = 0;
    for (; k + kParts <= p.rows; k += kParts, w += kParts * p.cols) {
#pragma GCC unroll 4
      for (int i = 0; i < kParts; ++i) step(sum[i], x[k + i], w + i * p.cols);
    }
    for (; k < p.rows; ++k, w += p.cols) step(sum[0], x[k], w);
  }
#pragma GCC unroll 4
  for (int c = 0; c < V; ++c) store(out + c * N, (sum[0][c] + sum[1][c]) + (sum[2][c] + sum[3][c]));
  return N * V;
}

// Whether a vector is whole rows of narrow blocks that lie one behind the other, `cols` wide.
template <class S, int kCols>
static bool is_narrow(const Spmm& p) {
  return kCols < kLanes && p.cols == kCols && p.rows % (kLanes / kCols) == 0 && !p.order;
}

// The block column j of blocks of few columns: a vector holds neighbouring rows of a block, which meet as many numbers of x.
template <class S, int kCols>
static int row_by_blocks(const Spmm& p, const float* packed, int64_t j, float* out) {
  typedef Vector<float, kCols> Row;
  constexpr int kParts = 4, kRows = kLanes / kCols;
  Vec sum[kParts] = {};
  const int64_t steps = p.rows / kRows;
  const S* w = static_cast<const S*>(p.blocks) + p.indptr[j] * p.rows * kCols;
  const auto step = [&](Vec& into, const float* x, const S* w) { into += repeat<kCols>(load(x)) * load(w); };
  int64_t e = p.indptr[j];
  const int64_t end = p.indptr[j + 1];
  if (steps == 1)
    for (; e + kParts <= end; e += kParts, w += kParts * kLanes) {
#pragma GCC unroll 4
      for (int i = 0; i < kParts; ++i) step(sum[i], packed + p.indices[e + i] * kRows, w + i * kLanes);
    }
  for (; e < end; ++e) {
    const float* x = packed + p.indices[e] * p.rows;
    int64_t i = 0;
    for (; i + 2 <= steps; i += 2, x += 2 * kRows, w += 2 * kLanes) step(sum[0], x, w), step(sum[1], x + kRows, w + kLanes);
    if (i < steps) step(sum[2], x, w), w += kLanes;
  }
  const Vec all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  const Unaligned<Row>* rows = reinterpret_cast<const Unaligned<Row>*>(&all);
  Row y = rows[0].value;
  for (int r = 1; r < kRows; ++r) y += rows[r].value;
  store(out, y);
  return kCols;
}

// The sum of a vector's numbers, by halves.
template <class T>
static inline auto total(T v) {
  constexpr int kHalf = kCount<T> / 2;
  if constexpr (kHalf == 0) {
    return v[0];
  } else {
    typedef Vector<decltype(v[0] + v[0]), kHalf> Half;
    const auto* halves = reinterpret_cast<const Unaligned<Half>*>(&v);
    return total<Half>(halves[0].value + halves[1].value);
  }
}

// Columns [column, column + C) of the block column j, where each column of a block is contiguous.
template <class S, int N, int C>
static int row_by_dots(const Spmm& p, const Compute<S>* packed, int64_t j, int64_t column, Compute<S>* out) {
  typedef Vector<Compute<S>, N> T;
  T sum[C] = {};
  Compute<S> rest[C] = {};
  for (int64_t e = p.indptr[j], end = p.indptr[j + 1]; e < end; ++e) {
    const Compute<S>* x = packed + p.indices[e] * p.rows;
    const S* w = stored_block<S>(p, e) + column * p.col_stride;
    int64_t k = 0;
    for (; k + N <= p.rows; k += N) {
      const T v = load<T>(x + k);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[c] += v * load<T>(w + c * p.col_stride + k);
    }
    for (; k < p.rows; ++k)
      for (int c = 0; c < C; ++c) rest[c] += x[k] * load<Vector<Compute<S>, 1>>(w + c * p.col_stride + k)[0];
  }
  for (int c = 0; c < C; ++c) out[c] = rest[c] + total(sum[c]);
  return C;
}

// The above with the widest vectors that blocks of so many rows fill.
template <class S, int C>
static auto dots(int64_t rows) {
  constexpr int kStep = kLanesOf<Compute<S>>;
  if constexpr (kStep > 8)
    if (rows >= 8 && rows < kStep) return row_by_dots<S, 8, C>;
  return rows < kStep ? row_by_dots<S, 4, C> : row_by_dots<S, kStep, C>;
}

constexpr int kMostColumns = 4 * kLanes;

// As many columns from `column` on as one of the above takes at once; returns how many.
template <class S>
static int row_piece(const Spmm& p, const Compute<S>* x, int64_t j, int64_t column, Compute<S>* out) {
  constexpr int kStep = kLanesOf<Compute<S>>;
  const int64_t left = p.cols - column;
  if constexpr (__is_same(Compute<S>, float) && kLanes > 4) {
    if (is_narrow<S, 4>(p)) return row_by_blocks<S, 4>(p, x, j, out);
    if (is_narrow<S, 8>(p)) return row_by_blocks<S, 8>(p, x, j, out);
  }
  if (p.col_stride != 1 || p.cols == 1) {
    if (left >= 8) return dots<S, 8>(p.rows)(p, x, j, column, out);
    if (left >= 4) return dots<S, 4>(p.rows)(p, x, j, column, out);
    return dots<S, 1>(p.rows)(p, x, j, column, out);
  }
  if (left >= 4 * kStep) return row_by_columns<S, kStep, 4>(p, x, j, column, out);
  if (left >= 2 * kStep) return row_by_columns<S, kStep, 2>(p, x, j, column, out);
  if (left >= kStep) return row_by_columns<S, kStep, 1>(p, x, j, column, out);
  if constexpr (kStep > 8)
    if (left >= 8) return row_by_columns<S, 8, 1>(p, x, j, column, out);
  if (left >= 4) return row_by_columns<S, 4, 1>(p, x, j, column, out);
  return row_by_columns<S, 1, 1>(p, x, j, column, out);
}

template <class S, class T>
static void pack_row(const Spmm& p, const S* x, T* packed) {
  const int64_t padded = padded_k(p);
  widen(x, p.k, packed);
  for (int64_t k = p.k; k < padded; ++k) packed[k] = 0;
}

// Sums are kept until there are enough of them for whole vectors: a part of one takes longer to finish than to sum up.
template <class S>
static void spmm_one_row(const Spmm& p, const Compute<S>* x, Range columns) {
  constexpr int64_t kEnough = 256;
  Compute<S> sums[kEnough + kMostColumns];
  int64_t at = columns.begin * p.cols, held = 0;
  const auto finish_held = [&] {
    finish<Compute<S>>(p.epilogue, 0, 1, at, least(held, p.n - at), sums, 0);
    at += held, held = 0;
  };
  for (int64_t j = columns.begin; j < columns.end; ++j)
    for (int64_t c = 0, done; c < p.cols && j * p.cols + c < p.n; c += done) {
      done = row_piece<S>(p, x, j, c, sums + held);
      held += done;
      if (held >= kEnough) finish_held();
    }
  if (held) finish_held();
}

}  // namespace sparta::ISA
