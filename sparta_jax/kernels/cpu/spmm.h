// y = activation(x @ W + bias) + residual, W in live blocks. A block column's sums stay in registers over all its live blocks.
#pragma once
#include "activation.h"
#include "products.h"

namespace sparta::ISA {

// -- the epilogue: `rows` x `width` sums at `from` (rows `stride` apart), to y at (row, column)

template <Activation A>
static void finish_as(const Spmm& p, int64_t row, int64_t rows, int64_t column, int64_t width, const float* from, int64_t stride) {
  for (int64_t c = 0; c < width; c += kLanes) {
    const int64_t count = least(kLanes, width - c);
    const Vec bias = p.bias ? load_part(p.bias + column + c, count) : Vec{};
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = (row + r) * p.n + column + c;
      Vec v = activate<A>(load_part(from + r * stride + c, count) + bias);
      if (p.residual) v += load_part(p.residual + at, count);
      store_part(p.y + at, v, count);
    }
  }
}

static void finish(const Spmm& p, int64_t row, int64_t rows, int64_t column, int64_t width, const float* from, int64_t stride) {
  const auto as = [&] {
    switch (p.activation) {
      case Activation::kRelu: return finish_as<Activation::kRelu>;
      case Activation::kGeluTanh: return finish_as<Activation::kGeluTanh>;
      case Activation::kGeluErf: return finish_as<Activation::kGeluErf>;
      case Activation::kSilu: return finish_as<Activation::kSilu>;
      case Activation::kTanh: return finish_as<Activation::kTanh>;
      case Activation::kSigmoid: return finish_as<Activation::kSigmoid>;
      default: return finish_as<Activation::kNone>;
    }
  }();
  as(p, row, rows, column, width, from, stride);
}

static inline bool has_epilogue(const Spmm& p) { return p.bias || p.residual || p.activation != Activation::kNone; }

static inline const float* block_at(const Spmm& p, int64_t entry) {
  return p.blocks + (p.order ? p.order[entry] : entry) * p.rows * p.cols;
}

static inline int64_t padded_k(const Spmm& p) { return divide_up(p.k, p.rows) * p.rows; }

// -- along n: panels of few rows, packed as [k / 16][rows][16], so that every broadcast is at a constant offset

constexpr int kVecs = 2;                                                     // vectors side by side in a tile
constexpr int kPanelRows = kRegisters == 16 ? (kLanes == 8 ? 6 : 4) : 14;    // kPanelRows * kVecs sums, kVecs of W, one of x
constexpr int kDepth = 16;

template <int R, int V>
static void tile_along_n(const Spmm& p, const float* panel, int64_t j, int64_t column, float* out, int64_t stride) {
  Vec sum[R][V] = {};
  for (int64_t e = p.indptr[j], end = p.indptr[j + 1]; e < end; ++e) {
    const float* x = panel + p.indices[e] * p.rows * R;
    const float* w = p.blocks + e * p.rows * p.cols + column;
    for (int64_t k0 = 0; k0 < p.rows; k0 += kDepth, x += kDepth * R) {
#pragma GCC unroll 2
      for (int k = 0; k < kDepth; ++k, w += p.cols) {
        Vec v[V];
#pragma GCC unroll 4
        for (int c = 0; c < V; ++c) v[c] = load(w + c * kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
          for (int c = 0; c < V; ++c) sum[r][c] += splat(x[r * kDepth + k]) * v[c];
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < V; ++c) store(out + r * stride + c * kLanes, sum[r][c]);
}

template <int V, int R = kPanelRows>
static void tile_of_rows(int64_t rows, const Spmm& p, const float* panel, int64_t j, int64_t column, float* out, int64_t stride) {
  if constexpr (R > 0) {
    if (rows == R) return tile_along_n<R, V>(p, panel, j, column, out, stride);
    tile_of_rows<V, R - 1>(rows, p, panel, j, column, out, stride);
  }
}

static inline int64_t first_row(const Spmm& p, int64_t panel) { return p.m * panel / p.panels; }

static void pack_along_n(const Spmm& p, int64_t first, int64_t last, float* packed) {
  const int64_t rows = last - first, whole = p.k / kDepth * kDepth, padded = padded_k(p);
  for (int64_t r = 0; r < rows; ++r, packed += kDepth) {
    const float* from = p.x + (first + r) * p.k;
    float* to = packed;
    for (int64_t k = 0; k < whole; k += kDepth, to += kDepth * rows)
      for (int i = 0; i < kDepth; i += kLanes) store(to + i, load(from + k + i));
    for (int64_t k = whole; k < padded; k += kDepth, to += kDepth * rows)
      for (int i = 0; i < kDepth; ++i) to[i] = k + i < p.k ? from[k + i] : 0.f;
  }
}

// One tile and its epilogue. Where y has room for the whole tile the sums go there at once, else by way of `part`.
template <int V>
static void column_along_n(const Spmm& p, int64_t first, int64_t last, const float* panel, int64_t j, int64_t column) {
  const int64_t at = j * p.cols + column, width = least(V * kLanes, p.n - at);
  if (width <= 0) return;
  float part[kPanelRows * V * kLanes];
  const bool whole = width == V * kLanes;
  float* out = whole ? p.y + first * p.n + at : part;
  const int64_t stride = whole ? p.n : V * kLanes;
  tile_of_rows<V>(last - first, p, panel, j, column, out, stride);
  if (!whole || has_epilogue(p)) finish(p, first, last - first, at, width, out, stride);
}

static void spmm_along_n(const Spmm& p, Range panels, const float* packed, Range columns) {
  const int64_t start = first_row(p, panels.begin), padded = padded_k(p);
  for (int64_t j = columns.begin; j < columns.end; ++j)
    for (int64_t c = 0; c < p.cols;) {
      const bool wide = p.cols - c >= kVecs * kLanes;
      for (int64_t i = panels.begin; i < panels.end; ++i) {
        const int64_t first = first_row(p, i);
        (wide ? column_along_n<kVecs> : column_along_n<1>)(p, first, first_row(p, i + 1), packed + (first - start) * padded, j, c);
      }
      c += wide ? kVecs * kLanes : kLanes;
    }
}

// -- along m: panels of `vectors` vectors of rows, packed as [k][rows]; sums of up to kStrip columns, transposed at the end

constexpr int kPanelVecs = kRegisters == 16 ? 3 : 4;
constexpr int kStrip = 16;

template <int C, int V>
static void tile_along_m(const Spmm& p, const float* panel, int64_t j, int64_t column, float* out) {
  constexpr int kParts = C * V < 8 ? 2 : 1;  // partial sums, enough to cover the latency of an FMA
  constexpr int64_t kRows = V * kLanes;
  Vec sum[kParts][C][V] = {};
  for (int64_t e = p.indptr[j], end = p.indptr[j + 1]; e < end; ++e) {
    const float* x = panel + p.indices[e] * p.rows * kRows;
    const float* w = block_at(p, e) + column * p.col_stride;
    const auto step = [&](Vec(&into)[C][V]) {
      Vec v[V];
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) v[i] = load(x + i * kLanes);
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
    for (int i = 0; i < V; ++i) store(out + c * kRows + i * kLanes, kParts == 2 ? sum[0][c][i] + sum[kParts - 1][c][i] : sum[0][c][i]);
}

template <int C, int V = kPanelVecs>
static void tile_of_vectors(int64_t vectors, const Spmm& p, const float* panel, int64_t j, int64_t column, float* out) {
  if constexpr (V > 0) {
    if (vectors == V) return tile_along_m<C, V>(p, panel, j, column, out);
    tile_of_vectors<C, V - 1>(vectors, p, panel, j, column, out);
  }
}

static inline int64_t row_vectors(const Spmm& p) { return divide_up(p.m, kLanes); }
static inline int64_t first_vector(const Spmm& p, int64_t panel) { return row_vectors(p) * panel / p.panels; }

static void pack_along_m(const Spmm& p, int64_t first, int64_t last, float* packed) {
  const int64_t padded = padded_k(p), rows = (last - first) * kLanes;
  for (int64_t i = 0; i < rows; i += kLanes)
    for (int64_t k = 0; k < padded; k += kLanes) {
      Vec square[kLanes];
      for (int r = 0; r < kLanes; ++r) {
        const int64_t row = first * kLanes + i + r;
        square[r] = row < p.m && k < p.k ? load_part(p.x + row * p.k + k, p.k - k) : Vec{};
      }
      transpose(square);
      for (int64_t r = 0; r < least(kLanes, padded - k); ++r) store(packed + (k + r) * rows + i, square[r]);
    }
}

// The sums of a strip, `columns[width][rows]`, to y.
static void finish_strip(const Spmm& p, const float* columns, int64_t rows, int64_t row, int64_t column, int64_t width) {
  for (int64_t i = 0; i < rows && row + i < p.m; i += kLanes)
    for (int64_t c = 0; c < width; c += kLanes) {
      Vec square[kLanes];
      for (int r = 0; r < kLanes; ++r) square[r] = c + r < width ? load(columns + (c + r) * rows + i) : Vec{};
      transpose(square);
      finish(p, row + i, least(kLanes, p.m - row - i), column + c, least(kLanes, width - c), reinterpret_cast<float*>(square), kLanes);
    }
}

// Columns [c, c + width) of the block column j, for one panel, into `out[width][rows]`.
static void columns_along_m(const Spmm& p, int64_t vectors, const float* panel, int64_t j, int64_t c, int64_t width, float* out) {
  const int64_t rows = vectors * kLanes;
  while (width > 0) {
    int64_t done = 1;
    if (kRegisters == 32 && width >= 8 && vectors <= 3) {
      tile_of_vectors<8, 3>(vectors, p, panel, j, c, out);
      done = 8;
    } else if (width >= 4) {
      tile_of_vectors<4>(vectors, p, panel, j, c, out);
      done = 4;
    } else if (width >= 2) {
      tile_of_vectors<2>(vectors, p, panel, j, c, out);
      done = 2;
    } else {
      tile_of_vectors<1>(vectors, p, panel, j, c, out);
    }
    c += done, width -= done, out += done * rows;
  }
}

static void spmm_along_m(const Spmm& p, Range panels, const float* packed, Range columns) {
  const int64_t together = p.cols < kStrip ? kStrip / p.cols : 1;  // block columns in a strip
  const int64_t piece = least(p.cols, kStrip), start = first_vector(p, panels.begin), padded = padded_k(p);
  alignas(64) float sums[kStrip * kPanelVecs * kLanes];
  for (int64_t j = columns.begin; j < columns.end; j += together)
    for (int64_t c = 0; c < p.cols; c += piece)
      for (int64_t i = panels.begin; i < panels.end; ++i) {
        const int64_t vector = first_vector(p, i), vectors = first_vector(p, i + 1) - vector, rows = vectors * kLanes;
        const float* panel = packed + (vector - start) * kLanes * padded;
        const int64_t width = least(piece, p.cols - c), group = least(together, columns.end - j), at = j * p.cols + c;
        for (int64_t g = 0; g < group; ++g) columns_along_m(p, vectors, panel, j + g, c, width, sums + g * width * rows);
        finish_strip(p, sums, rows, vector * kLanes, at, least(group * width, p.n - at));
      }
}

// -- one row of x: bound by the bytes of W, which are read once, in order

// Columns [column, column + V vectors of T) of the block column j.
template <class T, int V>
static void vector_columns(const Spmm& p, int64_t j, int64_t column, float* out) {
  constexpr int kWidth = sizeof(T) / 4, kParts = 4;
  T sum[kParts][V] = {};
  for (int64_t e = p.indptr[j], end = p.indptr[j + 1]; e < end; ++e) {
    const float* x = p.x + p.indices[e] * p.rows;
    const float* w = block_at(p, e) + column;
    const int64_t rows = least(p.rows, p.k - p.indices[e] * p.rows);
    const auto step = [&](T(&into)[V], int64_t k) {
#pragma GCC unroll 4
      for (int c = 0; c < V; ++c) into[c] += (x[k] - T{}) * load<T>(w + k * p.cols + c * kWidth);
    };
    int64_t k = 0;
    for (; k + kParts <= rows; k += kParts) {
#pragma GCC unroll 4
      for (int i = 0; i < kParts; ++i) step(sum[i], k + i);
    }
    for (; k < rows; ++k) step(sum[0], k);
  }
#pragma GCC unroll 4
  for (int c = 0; c < V; ++c) store(out + c * kWidth, (sum[0][c] + sum[1][c]) + (sum[2][c] + sum[3][c]));
}

// Columns [column, column + C) of the block column j, where each column of a block is contiguous.
template <class T, int C>
static void vector_dots(const Spmm& p, int64_t j, int64_t column, float* out) {
  constexpr int kWidth = sizeof(T) / 4;
  T sum[C] = {};
  float rest[C] = {};
  for (int64_t e = p.indptr[j], end = p.indptr[j + 1]; e < end; ++e) {
    const float* x = p.x + p.indices[e] * p.rows;
    const float* w = block_at(p, e) + column * p.col_stride;
    const int64_t rows = least(p.rows, p.k - p.indices[e] * p.rows);
    int64_t k = 0;
    for (; k + kWidth <= rows; k += kWidth) {
      const T v = load<T>(x + k);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[c] += v * load<T>(w + c * p.col_stride + k);
    }
    for (; k < rows; ++k)
      for (int c = 0; c < C; ++c) rest[c] += x[k] * w[c * p.col_stride + k];
  }
  for (int c = 0; c < C; ++c) {
    for (int i = 0; i < kWidth; ++i) rest[c] += sum[c][i];
    out[c] = rest[c];
  }
}

constexpr int kMostColumns = 4 * kLanes;

static int vector_piece(const Spmm& p, int64_t j, int64_t column, float* out) {
  const int64_t left = p.cols - column;
  if (p.col_stride != 1 || p.cols == 1) {
    const bool quads = p.rows < kLanes;
    if (left >= 8) return quads ? vector_dots<Quad, 8>(p, j, column, out) : vector_dots<Vec, 8>(p, j, column, out), 8;
    if (left >= 4) return quads ? vector_dots<Quad, 4>(p, j, column, out) : vector_dots<Vec, 4>(p, j, column, out), 4;
    return quads ? vector_dots<Quad, 1>(p, j, column, out) : vector_dots<Vec, 1>(p, j, column, out), 1;
  }
  if (left >= 4 * kLanes) return vector_columns<Vec, 4>(p, j, column, out), 4 * kLanes;
  if (left >= 2 * kLanes) return vector_columns<Vec, 2>(p, j, column, out), 2 * kLanes;
  if (left >= kLanes) return vector_columns<Vec, 1>(p, j, column, out), kLanes;
  if (left >= 4) return vector_columns<Quad, 1>(p, j, column, out), 4;
  typedef float Single __attribute__((vector_size(4)));
  return vector_columns<Single, 1>(p, j, column, out), 1;
}

static void spmm_vector(const Spmm& p, Range columns) {
  float sums[kMostColumns];
  for (int64_t j = columns.begin; j < columns.end; ++j)
    for (int64_t c = 0, done; c < p.cols && j * p.cols + c < p.n; c += done) {
      done = vector_piece(p, j, c, sums);
      const int64_t at = j * p.cols + c;
      finish(p, 0, 1, at, least(done, p.n - at), sums, 0);
    }
}

// -- the choice among the three

static void plan_spmm(Spmm& p) {
  const bool contiguous = p.col_stride == 1 && !p.order;
  const int64_t unit = kLanes == 16 ? kLanes : kVecs * kLanes;
  if (p.m <= 1) {
    p.path = Path::kVector, p.panels = p.m;
  } else if (contiguous && p.rows % kDepth == 0 && p.cols % unit == 0) {
    p.path = Path::kAlongN, p.panels = divide_up(p.m, kPanelRows);
  } else {
    const bool wide = kRegisters == 32 && p.cols >= 8;
    p.path = Path::kAlongM, p.panels = divide_up(row_vectors(p), wide ? 3 : kPanelVecs);
  }
}

static int64_t packed_size(const Spmm& p, Range panels) {
  if (p.path == Path::kAlongN) return (first_row(p, panels.end) - first_row(p, panels.begin)) * padded_k(p);
  if (p.path == Path::kAlongM) return (first_vector(p, panels.end) - first_vector(p, panels.begin)) * kLanes * padded_k(p);
  return 0;
}

static void pack_x(const Spmm& p, Range panels, float* packed) {
  if (p.path == Path::kVector) return;
  for (int64_t i = panels.begin; i < panels.end; ++i) {
    if (p.path == Path::kAlongN) pack_along_n(p, first_row(p, i), first_row(p, i + 1), packed);
    if (p.path == Path::kAlongM) pack_along_m(p, first_vector(p, i), first_vector(p, i + 1), packed);
    packed += packed_size(p, {i, i + 1});
  }
}

static void spmm(const Spmm& p, Range panels, const float* packed, Range columns) {
  if (p.path == Path::kVector) return spmm_vector(p, columns);
  if (p.path == Path::kAlongN) return spmm_along_n(p, panels, packed, columns);
  spmm_along_m(p, panels, packed, columns);
}

}  // namespace sparta::ISA
