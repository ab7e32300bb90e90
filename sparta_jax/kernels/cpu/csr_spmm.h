// y = activation(x @ W + bias) + residual and x @ W^T, W by its live elements. Vectors run over rows of x: an element costs one
// load and one multiply-add for each vector of rows.
#pragma once
#include "activation.h"
#include "csr_panels.h"

namespace sparta::ISA {

constexpr int64_t kStripColumns = 16;  // columns that are turned back together
constexpr int kMostVectors = kRegisters == 32 ? 3 : 4;
constexpr int64_t kPanelBytes = 640 << 10;  // of what a panel keeps turned, to stay in the second-level cache

// -- back to rows: `columns[width of the strip][rows]`, with the epilogue, to y at (row, column)

template <Activation A, class S>
struct Turned {
  using C = Compute<S>;

  static void run(const CsrSpmm& p, const C* columns, int64_t row, int64_t column, int64_t count) {
    constexpr int kWhole = kLanesOf<C>;
    const S *bias = static_cast<const S*>(p.bias), *residual = static_cast<const S*>(p.residual);
    S* y = static_cast<S*>(p.y);
    const int64_t rows = least(p.width, p.m - row), size = p.out();
    for (int64_t c = 0; c < count; c += kWhole) {
      const int64_t live = least(kWhole, count - c);
      const Vector<C> added = bias ? load_part(bias + column + c, live) : Vector<C>{};
      const auto write = [&](int64_t at, Vector<C> v) {
        v = activate<A>(v + added);
        if (residual) v += load_part(residual + at, live), __builtin_prefetch(residual + at + kStripColumns);
        store_part(y + at, v, live);
        __builtin_prefetch(y + at + kStripColumns, 1);
      };
      if (p.width == 1) {
        write(row * size + column + c, load_part(columns + c, live));
        continue;
      }
      for (int64_t i = 0; i < rows; i += kWhole) {
        Vector<C> square[kWhole];
        for (int r = 0; r < kWhole; ++r)
          square[r] = r < live ? load_part(columns + (c + r) * p.width + i, p.width - i) : Vector<C>{};
        transpose(square);
        for (int64_t r = 0; r < least(kWhole, rows - i); ++r) write((row + i + r) * size + column + c, square[r]);
      }
    }
  }
};

template <class S, template <Activation, class> class Finish>
static auto by_activation(Activation activation) {
  switch (activation) {
    case Activation::kRelu: return Finish<Activation::kRelu, S>::run;
    case Activation::kGeluTanh: return Finish<Activation::kGeluTanh, S>::run;
    case Activation::kGeluErf: return Finish<Activation::kGeluErf, S>::run;
    case Activation::kSilu: return Finish<Activation::kSilu, S>::run;
    case Activation::kTanh: return Finish<Activation::kTanh, S>::run;
    case Activation::kSigmoid: return Finish<Activation::kSigmoid, S>::run;
    default: return Finish<Activation::kNone, S>::run;
  }
}

// -- columns of y, each a sum over its elements

// C columns for V vectors of T of rows, side by side so that their sums hide each other's latency and they meet in what they read
// of x: `out[C][V * T]`. One address serves an entry's index and its value: two for each column would be more than there are
// registers for.
template <class S, class T, int V, int C>
static inline void column_sums(const CsrSpmm& p, const Compute<S>* panel, int64_t j, Compute<S>* out) {
  constexpr int64_t kRows = V * kCount<T>;
  const int32_t *starts = p.w.indptr + j, *entries[C];
  int64_t together = starts[1] - starts[0];
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) entries[c] = p.w.indices + starts[c], together = least(together, starts[c + 1] - starts[c]);
  const auto value_of = [&](const int32_t* entry) {
    const int64_t bytes = reinterpret_cast<const char*>(entry) - reinterpret_cast<const char*>(p.w.indices);
    return reinterpret_cast<const S*>(static_cast<const char*>(p.w.values) + bytes * int64_t(sizeof(S)) / int64_t(sizeof(int32_t)));
  };
  const auto step = [&](T(&into)[V], const int32_t* entry) {
    const Compute<S>* x = panel + int64_t(*entry) * kRows;
    const T w = number(*value_of(entry)) - T{};
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) into[i] += w * load<T>(x + i * kCount<T>);
  };
  const int64_t ahead = starts[C] - starts[0];  // the next columns: these are too short for hardware to foresee them
  T sum[C][V] = {};
  for (int64_t e = 0; e < together; ++e) {
    __builtin_prefetch(entries[0] + ahead + C * e);  // beyond the last entry at the end, which does no harm
    __builtin_prefetch(value_of(entries[0] + ahead + C * e));
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) step(sum[c], entries[c] + e);
  }
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) {
    for (int64_t e = together; e < starts[c + 1] - starts[c]; ++e) step(sum[c], entries[c] + e);
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) store(out + c * kRows + i * kCount<T>, sum[c][i]);
  }
}

// `count` columns from column j on: `out[count][V * T]`. False where an index is out of range, if that is to be checked.
template <class S, class T, int V>
static bool strip_sums(const CsrSpmm& p, const Compute<S>* packed, int64_t j, int64_t count, bool check, Compute<S>* out) {
  constexpr int kSums = kRegisters - 8, kTogether = 8 * V <= kSums ? 8 : 4 * V <= kSums ? 4 : 2;
  constexpr int64_t kRows = V * kCount<T>;
  const int64_t first = p.w.indptr[j];
  if (check && !all_below(p.w.indices + first, p.w.indptr[j + count] - first, p.w.k)) return false;
  int64_t c = 0;
  for (; c + kTogether <= count; c += kTogether) column_sums<S, T, V, kTogether>(p, packed, j + c, out + c * kRows);
  for (; c < count; ++c) column_sums<S, T, V, 1>(p, packed, j + c, out + c * kRows);
  return true;
}

template <class S, class T, int V>
static bool sums(const CsrSpmm& p, int64_t panel, const Compute<S>* packed, Range columns, bool check) {
  const auto finish = by_activation<S, Turned>(p.activation);
  alignas(64) Compute<S> strip[kStripColumns * V * kCount<T>];
  for (int64_t j = columns.begin; j < columns.end; j += kStripColumns) {
    const int64_t count = least(kStripColumns, columns.end - j);
    if (!strip_sums<S, T, V>(p, packed, j, count, check, strip)) return false;
    finish(p, strip, panel * p.width, j, count);
  }
  return true;
}

// -- transposed: the sums of all columns of y that a slice owns stay in memory, every element adds to one of them

template <class T, int V, class S>
static void add_column(const CsrSpmm& p, int64_t j, const Compute<S>* x, const S* values, Range out, Compute<S>* sums) {
  const int32_t* indices = p.w.indices;
  T v[V];
#pragma GCC unroll 4
  for (int i = 0; i < V; ++i) v[i] = load<T>(x + i * kCount<T>);
  for (int64_t e = p.w.indptr[j]; e < p.w.indptr[j + 1]; ++e) {
    if (indices[e] < out.begin || indices[e] >= out.end) continue;
    Compute<S>* to = sums + int64_t(indices[e]) * V * kCount<T>;
    const T w = number(values[e]) - T{};
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) store(to + i * kCount<T>, load<T>(to + i * kCount<T>) + w * v[i]);
  }
}

template <class S, class T, int V>
static bool spread(const CsrSpmm& p, int64_t panel, Compute<S>* packed, Range columns, bool) {
  const S* values = static_cast<const S*>(p.w.values);
  Compute<S>* sums = packed + p.w.n * p.width;
  for (int64_t i = columns.begin * p.width; i < columns.end * p.width; ++i) sums[i] = 0;
  for (int64_t j = 0; j < p.w.n; ++j) add_column<T, V>(p, j, packed + j * p.width, values, columns, sums);
  const auto finish = by_activation<S, Turned>(p.activation);
  for (int64_t j = columns.begin; j < columns.end; j += kStripColumns)
    finish(p, sums + j * p.width, panel * p.width, j, least(kStripColumns, columns.end - j));
  return columns.begin > 0 || all_below(p.w.indices, p.w.indptr[p.w.n], p.w.k);
}

// -- one row: bound by the bytes of W

// Four elements to a vector: numbers of x put together one by one, which no current CPU does slower than gather instructions.
template <class S>
static inline Compute<S> row_sum(const Compute<S>* x, const S* values, const int32_t* indices, int64_t count) {
  using Four = Vector<Compute<S>, 4>;
  constexpr int kParts = 4;
  Four sum[kParts] = {};
  const auto step = [&](Four& into, int64_t e) {
    const int32_t* at = indices + e;
    into += load<Four>(values + e) * Four{x[at[0]], x[at[1]], x[at[2]], x[at[3]]};
  };
  int64_t e = 0;
  for (; e + 4 * kParts <= count; e += 4 * kParts) {
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) step(sum[i], e + 4 * i);
  }
  for (; e + 4 <= count; e += 4) step(sum[0], e);
  const Four total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  Compute<S> rest = (total[0] + total[1]) + (total[2] + total[3]);
  for (; e < count; ++e) rest += number(values[e]) * x[indices[e]];
  return rest;
}

template <class S>
static bool row_sums(const CsrSpmm& p, const Compute<S>* x, Range columns) {
  using C = Compute<S>;
  const auto finish = by_activation<S, Turned>(p.activation);
  alignas(64) C strip[kStripColumns];
  for (int64_t j = columns.begin; j < columns.end; j += kStripColumns) {
    const int64_t count = least(kStripColumns, columns.end - j), first = p.w.indptr[j];
    if (!all_below(p.w.indices + first, p.w.indptr[j + count] - first, p.w.k)) return false;
    for (int64_t c = 0; c < count; ++c) {
      const int64_t begin = p.w.indptr[j + c], entries = p.w.indptr[j + c + 1] - begin;
      strip[c] = row_sum<S>(x, static_cast<const S*>(p.w.values) + begin, p.w.indices + begin, entries);
    }
    finish(p, strip, 0, j, count);
  }
  return true;
}

// -- the choice by the width of a panel

template <class S, template <class, class, int> class Run>
static auto by_width(int64_t width) {
  using C = Compute<S>;
  constexpr int kWhole = kLanesOf<C>;
  if constexpr (kMostVectors > 3)
    if (width == 4 * kWhole) return Run<S, Vector<C>, 4>::run;
  if (width == 3 * kWhole) return Run<S, Vector<C>, 3>::run;
  if (width == 2 * kWhole) return Run<S, Vector<C>, 2>::run;
  if (width == kWhole) return Run<S, Vector<C>, 1>::run;
  if (width == 8) return Run<S, Vector<C, 8>, 1>::run;
  if (width == 4) return Run<S, Vector<C, 4>, 1>::run;
  return Run<S, Vector<C, 1>, 1>::run;  // one row
}

template <class S, class T, int V>
struct Sums {
  static bool run(const CsrSpmm& p, int64_t panel, Compute<S>* scratch, Range columns, bool check) {
    return sums<S, T, V>(p, panel, scratch, columns, check);
  }
};

template <class S, class T, int V>
struct Spread {
  static bool run(const CsrSpmm& p, int64_t panel, Compute<S>* scratch, Range columns, bool check) {
    return spread<S, T, V>(p, panel, scratch, columns, check);
  }
};

template <class S>
struct CsrOf {
  using C = Compute<S>;
  static constexpr int kWhole = kLanesOf<C>;
  static constexpr int64_t kNearBytes = 96 << 10;   // of packed x, of which the first-level cache holds enough

  static int64_t width(int64_t m, int64_t contracted) {
    if (m <= 1) return 1;
    if (m <= 4 && kWhole >= 4) return 4;
    if (m <= 8 && kWhole >= 8) return 8;
    int64_t most = 2 * kWhole * contracted * int64_t(sizeof(C)) <= kNearBytes ? 2 : kMostVectors;
    while (most > 1 && most * kWhole * contracted * int64_t(sizeof(C)) > kPanelBytes) --most;
    const int64_t vectors = divide_up(m, kWhole), panels = divide_up(vectors, most);
    return divide_up(vectors, panels) * kWhole;
  }

  static int64_t scratch(const CsrSpmm& p) { return p.width * (p.in() + (p.transposed ? p.out() : 0)); }

  static void pack(const CsrSpmm& p, int64_t panel, void* scratch) {
    turn(static_cast<const S*>(p.x), p.m, p.in(), panel * p.width, p.width, {0, p.in()}, static_cast<C*>(scratch));
  }

  static bool spmm(const CsrSpmm& p, int64_t panel, void* scratch, Range columns, bool check) {
    if (p.width == 1 && !p.transposed) return row_sums<S>(p, static_cast<const C*>(scratch), columns);
    const auto run = p.transposed ? by_width<S, Spread>(p.width) : by_width<S, Sums>(p.width);
    return run(p, panel, static_cast<C*>(scratch), columns, check);
  }
};

}  // namespace sparta::ISA
