// A block column of a weight as the kernels read it: blocks of the compute type, which are those of the weight or made from them.
#pragma once
#include "products.h"
#include "storage.h"

namespace sparta::ISA {

template <class T>
struct Column {
  int64_t count;
  const int32_t *indices, *order;
  const T* blocks;

  const T* block(int64_t entry, int64_t size) const { return blocks + (order ? order[entry] : entry) * size; }
};

static inline int64_t padded_k(const Spmm& p) { return divide_up(p.k, p.rows) * p.rows; }

static inline bool is_double(const Spmm& p) { return p.w_dtype == Dtype::kF64; }

// Whether blocks are copied before they are read: to widen them, or to turn those that are stored as their transpose.
static inline bool is_copied(const Spmm& p) { return size_of(p.w_dtype) < 4 || (p.order && p.path == Path::kAlongN); }

template <class S, class T>
static void widen(const S* from, int64_t size, T* to) {
  constexpr int64_t kStep = kLanesOf<T>;
  int64_t i = 0;
  for (; i + kStep <= size; i += kStep) store(to + i, load(from + i));
  if (i < size) store_part(to + i, load_part(from + i, size - i), size - i);
}

// A block that is stored as [cols][rows], both multiples of a vector, to [rows][cols].
template <class S, class T>
static void turn(const S* from, int64_t rows, int64_t cols, T* to) {
  constexpr int64_t kStep = kLanesOf<T>;
  for (int64_t r = 0; r < rows; r += kStep)
    for (int64_t c = 0; c < cols; c += kStep) {
      Vector<T> square[kStep];
#pragma GCC unroll 16
      for (int i = 0; i < kStep; ++i) square[i] = load(from + (c + i) * rows + r);
      transpose(square);
#pragma GCC unroll 16
      for (int i = 0; i < kStep; ++i) store(to + (r + i) * cols + c, square[i]);
    }
}

// Block column j; blocks that have to be copied are written to `copy`, one after the other.
template <class T>
static Column<T> column_of(const Spmm& p, int64_t j, T* copy) {
  const int64_t first = p.indptr[j], count = p.indptr[j + 1] - first, size = p.rows * p.cols;
  Column<T> column{count, p.indices + first, p.order ? p.order + first : nullptr, nullptr};
  if (!is_copied(p)) {
    column.blocks = static_cast<const T*>(p.blocks) + (p.order ? 0 : first * size);
    return column;
  }
  with_storage(p.w_dtype, [&](auto storage) {
    const auto* blocks = static_cast<const decltype(storage)*>(p.blocks);
    if constexpr (__is_same(Compute<decltype(storage)>, T)) {
      if (!p.order) return widen(blocks + first * size, count * size, copy);
      for (int64_t e = 0; e < count; ++e) {
        const auto* from = blocks + column.order[e] * size;
        p.path == Path::kAlongN ? turn(from, p.rows, p.cols, copy + e * size) : widen(from, size, copy + e * size);
      }
    }
  });
  column.order = nullptr;
  column.blocks = copy;
  return column;
}

}  // namespace sparta::ISA
