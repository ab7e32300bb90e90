// The live elements of x^T @ g: each the dot product of a column of x with a column of g, which stays in registers for all
// elements of its column.
#pragma once
#include "csr_panels.h"

namespace sparta::ISA {

// Lane i of the result is the sum of all lanes of v[i].
static inline Vec sums_of(Vec (&v)[kLanes]) {
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) v[i] = zip_low(v[i], v[i + half]) + zip_high(v[i], v[i + half]);
  return v[0];
}

static inline Vector<double> sums_of(Vector<double> (&v)[kLanesOf<double>]) {
  transpose(v);
#pragma GCC unroll 8
  for (int i = 1; i < kLanesOf<double>; ++i) v[0] += v[i];
  return v[0];
}

// The elements of one column over V vectors of rows, added to `sums`; panels are [column][V vectors].
template <class C, int V>
static void column_dots(const C* x, const C* g, const int32_t* indices, int64_t count, bool first, C* sums) {
  constexpr int kWhole = kLanesOf<C>;
  constexpr int64_t kRows = V * kWhole;
  Vector<C> v[V];
#pragma GCC unroll 8
  for (int i = 0; i < V; ++i) v[i] = load(g + i * kWhole);
  for (int64_t e = 0; e < count; e += kWhole) {
    Vector<C> dot[kWhole];
#pragma GCC unroll 16
    for (int r = 0; r < kWhole; ++r) {
      const C* column = x + int64_t(indices[least(e + r, count - 1)]) * kRows;
      dot[r] = load(column) * v[0];
#pragma GCC unroll 8
      for (int i = 1; i < V; ++i) dot[r] += load(column + i * kWhole) * v[i];
    }
    Vector<C> total = sums_of(dot);
    if (!first) total += load_part(static_cast<const C*>(sums + e), count - e);
    store_part(sums + e, total, count - e);
  }
}

template <class C>
static auto column_dots_of(int64_t vectors) {
  switch (vectors) {
    case 1: return column_dots<C, 1>;
    case 2: return column_dots<C, 2>;
    case 4: return column_dots<C, 4>;
    default: return column_dots<C, 8>;
  }
}

template <class S>
struct CsrSddmmOf {
  using C = Compute<S>;
  static constexpr int kWhole = kLanesOf<C>;
  static constexpr int64_t kSampledBytes = 768 << 10;  // of packed x, to stay in the second-level cache

  static int64_t width(int64_t m, int64_t k) {
    int64_t vectors = kRegisters == 32 ? 8 : 4;
    while (vectors > 1 && (vectors * kWhole * k * int64_t(sizeof(C)) > kSampledBytes || vectors * kWhole >= 2 * m)) vectors /= 2;
    return vectors * kWhole;
  }

  static void pack_columns(const void* from, int64_t m, int64_t size, int64_t width, int64_t panel, Range columns, void* to) {
    turn(static_cast<const S*>(from), m, size, panel * width, width, columns, static_cast<C*>(to) + panel * size * width);
  }

  static bool sddmm(const CsrSddmm& p, const void* packed_x, const void* packed_g, Range columns, void* scratch) {
    const C *x = static_cast<const C*>(packed_x), *g = static_cast<const C*>(packed_g);
    C* sums = static_cast<C*>(scratch);
    const int64_t begin = p.w.indptr[columns.begin], end = p.w.indptr[columns.end];
    if (!all_below(p.w.indices + begin, end - begin, p.w.k)) return false;
    const auto dots = column_dots_of<C>(p.width / kWhole);
    for (int64_t panel = 0; panel < p.panels(); ++panel, x += p.w.k * p.width, g += p.w.n * p.width)
      for (int64_t j = columns.begin; j < columns.end; ++j) {
        const int64_t e = p.w.indptr[j];
        dots(x, g + j * p.width, p.w.indices + e, p.w.indptr[j + 1] - e, panel == 0, sums + e);
      }
    if constexpr (!__is_same(S, C))
      for (int64_t e = begin; e < end; e += kWhole) store_part(static_cast<S*>(p.values) + e, load_part(sums + e, end - e), end - e);
    return true;
  }
};

}  // namespace sparta::ISA
