// SpMM with vectors along m: panels of a few vectors of rows of x, packed as [k][rows]; sums of up to kStrip columns, transposed at
// the end.
#pragma once
#include "bsr.h"
#include "epilogue.h"

namespace sparta::ISA {

constexpr int kPanelVecs = kRegisters == 16 ? 3 : 4;
constexpr int kStrip = 16;

template <class T, int C, int V>
static void tile_along_m(const Spmm& p, const T* panel, const Column<T>& blocks, int64_t column, T* out) {
  constexpr int kParts = C * V < 8 ? 2 : 1;  // partial sums, enough to cover the latency of an FMA
  constexpr int64_t kRows = V * kLanesOf<T>;
  Vector<T> sum[kParts][C][V] = {};
  for (int64_t e = 0; e < blocks.count; ++e) {
    const T* x = panel + blocks.indices[e] * p.rows * kRows;
    const T* w = blocks.block(e, p.rows * p.cols) + column * p.col_stride;
    const auto step = [&](Vector<T>(&into)[C][V]) {
      Vector<T> v[V];
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) v[i] = load(x + i * kLanesOf<T>);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c)
#pragma GCC unroll 4
        for (int i = 0; i < V; ++i) into[c][i] += splat(w[c * p.col_stride]) * v[i];
      x += kRows;
      w += p.row_stride;
    };
    int64_t k = p.rows;
    for (; k >= kParts; k -= kParts) {
      step(sum[0]);
      if constexpr (kParts == 2) step(sum[1]);
    }
    if (k) step(sum[0]);
  }
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c)
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i)
      store(out + c * kRows + i * kLanesOf<T>, kParts == 2 ? sum[0][c][i] + sum[kParts - 1][c][i] : sum[0][c][i]);
}

template <class T, int C, int V = kPanelVecs>
static void tile_of_vectors(int64_t vectors, const Spmm& p, const T* panel, const Column<T>& blocks, int64_t column, T* out) {
  if constexpr (V > 0) {
    if (vectors == V) return tile_along_m<T, C, V>(p, panel, blocks, column, out);
    tile_of_vectors<T, C, V - 1>(vectors, p, panel, blocks, column, out);
  }
}

template <class T>
static int64_t row_vectors(const Spmm& p) { return divide_up(p.m, kLanesOf<T>); }
template <class T>
static int64_t first_vector(const Spmm& p, int64_t panel) { return row_vectors<T>(p) * panel / p.panels; }

template <class S, class T>
static void pack_along_m(const Spmm& p, const S* x, int64_t first, int64_t last, T* packed) {
  constexpr int64_t kStep = kLanesOf<T>;
  const int64_t padded = padded_k(p), rows = (last - first) * kStep;
  for (int64_t i = 0; i < rows; i += kStep)
    for (int64_t k = 0; k < padded; k += kStep) {
      Vector<T> square[kStep];
      for (int r = 0; r < kStep; ++r) {
        const int64_t row = first * kStep + i + r;
        square[r] = row < p.m && k < p.k ? load_part(x + row * p.k + k, p.k - k) : Vector<T>{};
      }
      transpose(square);
      for (int64_t r = 0; r < least(kStep, padded - k); ++r) store(packed + (k + r) * rows + i, square[r]);
    }
}

// The sums of a strip, `columns[width][rows]`, to y.
template <class T>
static void finish_strip(const Spmm& p, const T* columns, int64_t rows, int64_t row, int64_t column, int64_t width) {
  constexpr int64_t kStep = kLanesOf<T>;
  for (int64_t i = 0; i < rows && row + i < p.m; i += kStep)
    for (int64_t c = 0; c < width; c += kStep) {
      Vector<T> square[kStep];
      for (int r = 0; r < kStep; ++r) square[r] = c + r < width ? load(columns + (c + r) * rows + i) : Vector<T>{};
      transpose(square);
      const T* sums = reinterpret_cast<T*>(square);
      finish(p.epilogue, row + i, least(kStep, p.m - row - i), column + c, least(kStep, width - c), sums, kStep);
    }
}

// Columns [c, c + width) of a block column, for one panel, into `out[width][rows]`.
template <class T>
static void columns_along_m(const Spmm& p, int64_t vectors, const T* panel, const Column<T>& blocks, int64_t c, int64_t width, T* out) {
  const int64_t rows = vectors * kLanesOf<T>;
  while (width > 0) {
    int64_t done = 1;
    if (kRegisters == 32 && width >= 8 && vectors <= 3) {
      tile_of_vectors<T, 8, 3>(vectors, p, panel, blocks, c, out);
      done = 8;
    } else if (width >= 4) {
      tile_of_vectors<T, 4>(vectors, p, panel, blocks, c, out);
      done = 4;
    } else if (width >= 2) {
      tile_of_vectors<T, 2>(vectors, p, panel, blocks, c, out);
      done = 2;
    } else {
      tile_of_vectors<T, 1>(vectors, p, panel, blocks, c, out);
    }
    c += done, width -= done, out += done * rows;
  }
}

// Block columns whose sums make up one strip.
static inline int64_t columns_together(const Spmm& p) { return p.cols < kStrip ? kStrip / p.cols : 1; }

template <class T>
static void spmm_along_m(const Spmm& p, Range panels, const T* packed, T* copy, Range columns) {
  const int64_t together = columns_together(p), piece = least(p.cols, kStrip), start = first_vector<T>(p, panels.begin);
  const int64_t padded = padded_k(p), longest = p.longest * p.rows * p.cols;
  alignas(64) T sums[kStrip * kPanelVecs * kLanesOf<T>];
  Column<T> blocks[kStrip];
  for (int64_t j = columns.begin; j < columns.end; j += together) {
    const int64_t group = least(together, columns.end - j);
    for (int64_t g = 0; g < group; ++g) blocks[g] = column_of<T>(p, j + g, copy + g * longest);
    for (int64_t c = 0; c < p.cols; c += piece)
      for (int64_t i = panels.begin; i < panels.end; ++i) {
        const int64_t vector = first_vector<T>(p, i), vectors = first_vector<T>(p, i + 1) - vector, rows = vectors * kLanesOf<T>;
        const T* panel = packed + (vector - start) * kLanesOf<T> * padded;
        const int64_t width = least(piece, p.cols - c), at = j * p.cols + c;
        for (int64_t g = 0; g < group; ++g) columns_along_m(p, vectors, panel, blocks[g], c, width, sums + g * width * rows);
        finish_strip(p, sums, rows, vector * kLanesOf<T>, at, least(group * width, p.n - at));
      }
  }
}

}  // namespace sparta::ISA
