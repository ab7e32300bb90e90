// The live blocks of x^T @ g: every block is a small dense product of a panel of x and a panel of g.
#pragma once
#include "products.h"
#include "storage.h"

namespace sparta::ISA {

constexpr int64_t kRowsTogether = 256;  // rows of x and g that stay in the first-level cache while a block column passes

static inline int64_t block_rows(const Sddmm& p) { return divide_up(p.k, p.rows); }

// -- along n: panels are [m][rows of a block]

static void pack_rows(const float* from, int64_t size, int64_t first, int64_t width, int64_t m, float* to) {
  const int64_t live = least(width, size - first);
  for (int64_t i = 0; i < m; ++i, from += size, to += width) {
    int64_t c = 0;
    for (; c + kLanes <= live; c += kLanes) store(to + c, load(from + first + c));
    for (; c < width; ++c) to[c] = c < live ? from[first + c] : 0.f;
  }
}

// R rows and V vectors of columns of one block, over the rows [begin, end) of x and g; adds to what is there unless `begin` is 0.
template <int R, int V>
static void block_along_n(const Sddmm& p, const float* x, const float* g, int64_t begin, int64_t end, float* out) {
  constexpr int kParts = R * V < 8 ? 4 : 1;  // partial sums, enough to cover the latency of an FMA
  Vec sum[kParts][R][V] = {};
  const auto step = [&](Vec(&into)[R][V], int64_t i) {
    Vec v[V];
#pragma GCC unroll 4
    for (int c = 0; c < V; ++c) v[c] = load(g + i * p.cols + c * kLanes);
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
      float* to = out + r * p.cols + c * kLanes;
      Vec total = sum[0][r][c];
      if constexpr (kParts == 4) total = (total + sum[1][r][c]) + (sum[2][r][c] + sum[3][r][c]);
      store(to, begin ? load(to) + total : total);
    }
}

template <int V>
static void block_rows_along_n(const Sddmm& p, const float* x, const float* g, int64_t begin, int64_t end, float* out) {
  constexpr int kMost = kRegisters == 32 ? 8 : 4;
  int64_t r = 0;
  for (; r + kMost <= p.rows; r += kMost) block_along_n<kMost, V>(p, x + r, g, begin, end, out + r * p.cols);
  for (; r + 4 <= p.rows; r += 4) block_along_n<4, V>(p, x + r, g, begin, end, out + r * p.cols);
  for (; r < p.rows; ++r) block_along_n<1, V>(p, x + r, g, begin, end, out + r * p.cols);
}

static void entry_along_n(const Sddmm& p, int64_t row, int64_t column, int64_t begin, int64_t end, float* out) {
  const float* x = p.packed_x + row * p.rows * p.padded_m;
  const float* g = p.packed_g + column * p.cols * p.padded_m;
  int64_t c = 0;
  for (; c + 2 * kLanes <= p.cols; c += 2 * kLanes) block_rows_along_n<2>(p, x, g + c, begin, end, out + c);
  for (; c < p.cols; c += kLanes) block_rows_along_n<1>(p, x, g + c, begin, end, out + c);
}

// -- along m: panels are [rows of a block][m], m filled up with zeros to whole vectors; a tile's sums are added up across lanes

static void pack_columns(const float* from, int64_t size, int64_t first, int64_t width, const Sddmm& p, float* to) {
  for (int64_t i = 0; i < p.padded_m; i += kLanes)
    for (int64_t c = 0; c < width; c += kLanes) {
      Vec square[kLanes];
      for (int r = 0; r < kLanes; ++r) {
        const bool inside = i + r < p.m && first + c < size;
        square[r] = inside ? load_part(from + (i + r) * size + first + c, size - first - c) : Vec{};
      }
      transpose(square);
      for (int64_t r = 0; r < least(kLanes, width - c); ++r) store(to + (c + r) * p.padded_m + i, square[r]);
    }
}

// R x (kLanes / R) elements of a block at (row, column); what lies outside the block is computed from its edge and dropped.
template <int R>
static void tile_along_m(const Sddmm& p, const float* x, const float* g, int64_t row, int64_t column, int64_t begin, int64_t end, float* out) {
  constexpr int C = kLanes / R;
  const float *xs[R], *gs[C];
  for (int r = 0; r < R; ++r) xs[r] = x + least(row + r, p.rows - 1) * p.padded_m;
  for (int c = 0; c < C; ++c) gs[c] = g + least(column + c, p.cols - 1) * p.padded_m;
  Vec sum[kLanes] = {};
  for (int64_t i = begin; i < end; i += kLanes) {
    Vec v[C];
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) v[c] = load(gs[c] + i);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec u = load(xs[r] + i);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) sum[r * C + c] += u * v[c];
    }
  }
  transpose(sum);
  Vec total = {};
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) total += sum[i];
  for (int64_t r = 0; r < least(R, p.rows - row); ++r)
    for (int64_t c = 0; c < least(C, p.cols - column); ++c) {
      float& to = out[(row + r) * p.cols + column + c];
      to = (begin ? to : 0.f) + total[r * C + c];
    }
}

template <int R>
static void tiles_along_m(const Sddmm& p, const float* x, const float* g, int64_t begin, int64_t end, float* out) {
  for (int64_t r = 0; r < p.rows; r += R)
    for (int64_t c = 0; c < p.cols; c += kLanes / R) tile_along_m<R>(p, x, g, r, c, begin, end, out);
}

static void entry_along_m(const Sddmm& p, int64_t row, int64_t column, int64_t begin, int64_t end, float* out) {
  const float* x = p.packed_x + row * p.rows * p.padded_m;
  const float* g = p.packed_g + column * p.cols * p.padded_m;
  if (p.cols == 1) return tiles_along_m<kLanes>(p, x, g, begin, end, out);
  if (p.rows == 1) return tiles_along_m<1>(p, x, g, begin, end, out);
  tiles_along_m<kLanes == 16 ? 4 : 2>(p, x, g, begin, end, out);
}

// -- both

static void plan_sddmm(Sddmm& p) {
  p.along_n = p.cols % kLanes == 0;
  p.padded_m = p.along_n ? p.m : divide_up(p.m, kLanes) * kLanes;
}

static void pack_operand(const Sddmm& p, int64_t panel) {
  const int64_t rows = block_rows(p);
  const bool of_x = panel < rows;
  const float* from = of_x ? p.x : p.g;
  const int64_t size = of_x ? p.k : p.n, width = of_x ? p.rows : p.cols, first = (of_x ? panel : panel - rows) * width;
  float* to = (of_x ? p.packed_x : p.packed_g) + first * p.padded_m;
  p.along_n ? pack_rows(from, size, first, width, p.m, to) : pack_columns(from, size, first, width, p, to);
}

// Zeros behind the edges of the matrix, whatever x and g hold (0 * inf is not 0).
static void clear_overhang(const Sddmm& p, int64_t row, int64_t column, float* out) {
  const int64_t rows = least(p.rows, p.k - row * p.rows), cols = least(p.cols, p.n - column * p.cols);
  for (int64_t r = 0; r < p.rows; ++r)
    for (int64_t c = r < rows ? cols : 0; c < p.cols; ++c) out[r * p.cols + c] = 0.f;
}

static void sddmm(const Sddmm& p, Range columns) {
  const int64_t total = p.along_n ? p.m : p.padded_m;
  for (int64_t begin = 0; begin == 0 || begin < total; begin += kRowsTogether) {
    const int64_t end = least(begin + kRowsTogether, total);
    for (int64_t j = columns.begin; j < columns.end; ++j)
      for (int64_t e = p.indptr[j]; e < p.indptr[j + 1]; ++e) {
        float* out = p.blocks + e * p.rows * p.cols;
        (p.along_n ? entry_along_n : entry_along_m)(p, p.indices[e], j, begin, end, out);
        if (end == total) clear_overhang(p, p.indices[e], j, out);
      }
  }
}

}  // namespace sparta::ISA
