// y = activation(x @ W + bias) + residual, W in live blocks: the choice among the ways to use vectors. In each of them a block
// column's sums stay in registers over all its live blocks.
#pragma once
#include "along_m.h"
#include "along_n.h"
#include "one_row.h"

namespace sparta::ISA {

template <class T>
static void plan_for(Spmm& p) {
  const int64_t unit = kLanes == 16 ? kLanesOf<T> : kVecs * kLanesOf<T>;
  if (p.m <= 1) {
    p.path = Path::kVector, p.panels = p.m;
  } else if (p.rows % kDepth == 0 && p.cols % unit == 0 && (!p.order || p.m > kLanesOf<T>)) {
    p.path = Path::kAlongN, p.panels = divide_up(p.m, kPanelRows);
  } else {
    const bool wide = kRegisters == 32 && p.cols >= 8;
    p.path = Path::kAlongM, p.panels = divide_up(row_vectors<T>(p), wide ? 3 : kPanelVecs);
  }
}

static void plan_spmm(Spmm& p) { is_double(p) ? plan_for<double>(p) : plan_for<float>(p); }

// How many numbers the packed rows of x in these panels are.
template <class T>
static int64_t packed_size(const Spmm& p, Range panels) {
  if (p.path == Path::kVector) return padded_k(p) + kLanesOf<T>;  // a vector may begin at the last number
  if (p.path == Path::kAlongN) return (first_row(p, panels.end) - first_row(p, panels.begin)) * padded_k(p);
  return (first_vector<T>(p, panels.end) - first_vector<T>(p, panels.begin)) * kLanesOf<T> * padded_k(p);
}

// The same in whole cache lines: copied blocks stand behind.
template <class T>
static int64_t packed_lines(const Spmm& p, Range panels) { return divide_up(packed_size<T>(p, panels), 64 / sizeof(T)) * (64 / sizeof(T)); }

static int64_t packed_bytes(const Spmm& p, Range panels) {
  const int64_t x = is_double(p) ? 8 * packed_lines<double>(p, panels) : 4 * packed_lines<float>(p, panels);
  if (!is_copied(p) || p.path == Path::kVector) return x;
  return x + (is_double(p) ? 8 : 4) * p.longest * p.rows * p.cols * (p.path == Path::kAlongM ? columns_together(p) : 1);
}

template <class S, class T>
static void pack_panels(const Spmm& p, Range panels, T* packed) {
  const S* x = static_cast<const S*>(p.x);
  for (int64_t i = panels.begin; i < panels.end; ++i) {
    if (p.path == Path::kVector) pack_row(p, x, packed);
    if (p.path == Path::kAlongN) pack_along_n(p, x, first_row(p, i), first_row(p, i + 1), packed);
    if (p.path == Path::kAlongM) pack_along_m(p, x, first_vector<T>(p, i), first_vector<T>(p, i + 1), packed);
    packed += packed_size<T>(p, {i, i + 1});
  }
}

static void pack_x(const Spmm& p, Range panels, void* packed) {
  with_storage(p.x_dtype, [&](auto storage) {
    typedef decltype(storage) S;
    pack_panels<S>(p, panels, static_cast<Compute<S>*>(packed));
  });
}

template <class T>
static void spmm_of(const Spmm& p, Range panels, T* packed, Range columns) {
  T* copy = packed + packed_lines<T>(p, panels);
  if (p.path == Path::kAlongN) return spmm_along_n(p, panels, packed, copy, columns);
  spmm_along_m(p, panels, packed, copy, columns);
}

static void spmm(const Spmm& p, Range panels, void* packed, Range columns) {
  if (p.path != Path::kVector)
    return is_double(p) ? spmm_of(p, panels, static_cast<double*>(packed), columns)
                        : spmm_of(p, panels, static_cast<float*>(packed), columns);
  with_storage(p.w_dtype, [&](auto storage) {
    typedef decltype(storage) S;
    spmm_one_row<S>(p, static_cast<const Compute<S>*>(packed), columns);
  });
}

}  // namespace sparta::ISA
