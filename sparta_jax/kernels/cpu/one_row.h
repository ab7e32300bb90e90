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
  for (int64_t e = p.indptr[j], end = p.indptr[j + 1]; e < end; ++e) {
    const Compute<S>* x = packed + p.indices[e] * p.rows;
    const S* w = stored_block<S>(p, e) + column;
    const auto step = [&](T(&into)[V], int64_t k) {
#pragma GCC unroll 4
      for (int c = 0; c < V; ++c) into[c] += (x[k] - T{}) * load<T>(w + k * p.cols + c * N);
    };
    int64_t k = 0;
    for (; k + kParts <= p.rows; k += kParts) {
#pragma GCC unroll 4
      for (int i = 0; i < kParts; ++i) step(sum[i], k + i);
    }
    for (; k < p.rows; ++k) step(sum[0], k);
  }
#pragma GCC unroll 4
  for (int c = 0; c < V; ++c) store(out + c * N, (sum[0][c] + sum[1][c]) + (sum[2][c] + sum[3][c]));
  return N * V;
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
  for (int c = 0; c < C; ++c) {
    for (int i = 0; i < N; ++i) rest[c] += sum[c][i];
    out[c] = rest[c];
  }
  return C;
}

constexpr int kMostColumns = 4 * kLanes;

// As many columns from `column` on as one of the above takes at once; returns how many.
template <class S>
static int row_piece(const Spmm& p, const Compute<S>* x, int64_t j, int64_t column, Compute<S>* out) {
  constexpr int kStep = kLanesOf<Compute<S>>;
  const int64_t left = p.cols - column;
  if (p.col_stride != 1 || p.cols == 1) {
    const bool quads = p.rows < kStep;
    if (left >= 8) return (quads ? row_by_dots<S, 4, 8> : row_by_dots<S, kStep, 8>)(p, x, j, column, out);
    if (left >= 4) return (quads ? row_by_dots<S, 4, 4> : row_by_dots<S, kStep, 4>)(p, x, j, column, out);
    return (quads ? row_by_dots<S, 4, 1> : row_by_dots<S, kStep, 1>)(p, x, j, column, out);
  }
  if (left >= 4 * kStep) return row_by_columns<S, kStep, 4>(p, x, j, column, out);
  if (left >= 2 * kStep) return row_by_columns<S, kStep, 2>(p, x, j, column, out);
  if (left >= kStep) return row_by_columns<S, kStep, 1>(p, x, j, column, out);
  if (left >= 4) return row_by_columns<S, 4, 1>(p, x, j, column, out);
  return row_by_columns<S, 1, 1>(p, x, j, column, out);
}

template <class S, class T>
static void pack_row(const Spmm& p, const S* x, T* packed) {
  const int64_t padded = padded_k(p);
  widen(x, p.k, packed);
  for (int64_t k = p.k; k < padded; ++k) packed[k] = 0;
}

template <class S>
static void spmm_one_row(const Spmm& p, const Compute<S>* x, Range columns) {
  Compute<S> sums[kMostColumns];
  for (int64_t j = columns.begin; j < columns.end; ++j)
    for (int64_t c = 0, done; c < p.cols && j * p.cols + c < p.n; c += done) {
      done = row_piece<S>(p, x, j, c, sums);
      const int64_t at = j * p.cols + c;
      finish<Compute<S>>(p.epilogue, 0, 1, at, least(done, p.n - at), sums, 0);
    }
}

}  // namespace sparta::ISA
