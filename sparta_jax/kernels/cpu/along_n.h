// SpMM with vectors along n: panels of few rows of x, packed as [k / 16][rows][16], so that every broadcast is at a constant offset.
#pragma once
#include "bsr.h"
#include "epilogue.h"

namespace sparta::ISA {

constexpr int kVecs = 2;                                                     // vectors side by side in a tile
constexpr int kPanelRows = kRegisters == 16 ? (kLanes == 8 ? 6 : 4) : 14;    // kPanelRows * kVecs sums, kVecs of W, one of x
constexpr int kDepth = 16;

// How numbers of type E are multiplied: the type of their sums, how many factors are packed into an E, and a multiply-add.
template <class E>
struct Factors {
  typedef E Sum;
  static constexpr int kPacked = 1;
  static Vector<E> add(Vector<E> sum, E x, Vector<E> w) { return sum + splat(x) * w; }
};

template <class E, int R, int V, class T = typename Factors<E>::Sum>
static void tile_along_n(const Spmm& p, const E* panel, const Column<E>& blocks, int64_t column, T* out, int64_t stride) {
  constexpr int kStep = kLanesOf<T>, kGroup = kDepth / Factors<E>::kPacked;
  const int64_t rows = p.rows / Factors<E>::kPacked;
  Vector<T> sum[R][V] = {};
  for (int64_t e = 0; e < blocks.count; ++e) {
    const E* x = panel + blocks.indices[e] * rows * R;
    const E* w = blocks.blocks + e * rows * p.cols + column;
    for (int64_t k0 = 0; k0 < rows; k0 += kGroup, x += kGroup * R) {
#pragma GCC unroll 2
      for (int k = 0; k < kGroup; ++k, w += p.cols) {
        Vector<E> v[V];
#pragma GCC unroll 4
        for (int c = 0; c < V; ++c) v[c] = load(w + c * kStep);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
          for (int c = 0; c < V; ++c) sum[r][c] = Factors<E>::add(sum[r][c], x[r * kGroup + k], v[c]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < V; ++c) store(out + r * stride + c * kStep, sum[r][c]);
}

template <class E, int V, int R = kPanelRows, class T>
static void tile_of_rows(int64_t rows, const Spmm& p, const E* panel, const Column<E>& blocks, int64_t column, T* out, int64_t stride) {
  if constexpr (R > 0) {
    if (rows == R) return tile_along_n<E, R, V>(p, panel, blocks, column, out, stride);
    tile_of_rows<E, V, R - 1>(rows, p, panel, blocks, column, out, stride);
  }
}

static inline int64_t first_row(const Spmm& p, int64_t panel) { return p.m * panel / p.panels; }

template <class S, class T>
static void pack_along_n(const Spmm& p, const S* x, int64_t first, int64_t last, T* packed) {
  const int64_t rows = last - first, whole = p.k / kDepth * kDepth, padded = padded_k(p);
  for (int64_t r = 0; r < rows; ++r, packed += kDepth) {
    const S* from = x + (first + r) * p.k;
    T* to = packed;
    const S* next = from + (first + r + 1 < p.m ? p.k : 0);
    for (int64_t k = 0; k < whole; k += kDepth, to += kDepth * rows) {
      __builtin_prefetch(next + k, 0, 2);
      for (int i = 0; i < kDepth; i += kLanesOf<T>) store(to + i, load(from + k + i));
    }
    for (int64_t k = whole; k < padded; k += kDepth, to += kDepth * rows)
      for (int i = 0; i < kDepth; i += kLanesOf<T>) store(to + i, k + i < p.k ? load_part(from + k + i, p.k - k - i) : Vector<T>{});
  }
}

// One tile and its epilogue. Where y has room for the whole tile the sums go there at once, else by way of `part`.
template <class E, int V>
static void column_along_n(const Spmm& p, int64_t first, int64_t last, const E* panel, const Column<E>& blocks, int64_t j, int64_t column) {
  typedef typename Factors<E>::Sum T;
  constexpr int64_t kWide = V * kLanesOf<T>;
  const int64_t at = j * p.cols + column, width = least(kWide, p.n - at);
  if (width <= 0) return;
  T part[kPanelRows * kWide];
  const bool direct = width == kWide && has_dtype<T>(p.epilogue.dtype);
  T* out = direct ? static_cast<T*>(p.epilogue.y) + first * p.n + at : part;
  const int64_t stride = direct ? p.n : kWide;
  if (direct)  // lines of y come into the cache while the sums are made
    for (int64_t r = 0; r < last - first; ++r)
      for (int64_t c = 0; c < kWide; c += 64 / sizeof(T)) __builtin_prefetch(out + r * stride + c, 1, 2);
  tile_of_rows<E, V>(last - first, p, panel, blocks, column, out, stride);
  if (!direct || !is_plain<T>(p.epilogue)) finish(p.epilogue, first, last - first, at, width, out, stride);
}

template <class E>
static void spmm_along_n(const Spmm& p, Range panels, const E* packed, E* copy, Range columns) {
  constexpr int64_t kStep = kLanesOf<typename Factors<E>::Sum>, kWide = kVecs * kStep;
  const int64_t start = first_row(p, panels.begin), padded = padded_k(p) / Factors<E>::kPacked;
  for (int64_t j = columns.begin; j < columns.end; ++j) {
    const Column<E> blocks = column_of<E>(p, j, copy);
    for (int64_t c = 0; c < p.cols;) {
      const bool whole = p.cols - c >= kWide;
      for (int64_t i = panels.begin; i < panels.end; ++i) {
        const int64_t first = first_row(p, i);
        const auto tile = whole ? column_along_n<E, kVecs> : column_along_n<E, 1>;
        tile(p, first, first_row(p, i + 1), packed + (first - start) * padded, blocks, j, c);
      }
      c += whole ? kWide : kStep;
    }
  }
}

}  // namespace sparta::ISA
