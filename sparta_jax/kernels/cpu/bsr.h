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

// Whether blocks have to be converted before they can be read as the compute type.
static inline bool is_narrow(const Spmm& p) { return size_of(p.w_dtype) < 4; }

template <class S, class T>
static void widen(const S* from, int64_t size, T* to) {
  constexpr int64_t kStep = kLanesOf<T>;
  int64_t i = 0;
  for (; i + kStep <= size; i += kStep) store(to + i, load(from + i));
  if (i < size) store_part(to + i, load_part(from + i, size - i), size - i);
}

// Block column j; narrow blocks are written to `wide`, one after the other.
template <class T>
static Column<T> column_of(const Spmm& p, int64_t j, T* wide) {
  const int64_t first = p.indptr[j], count = p.indptr[j + 1] - first, size = p.rows * p.cols;
  Column<T> column{count, p.indices + first, p.order ? p.order + first : nullptr, nullptr};
  if (!is_narrow(p)) {
    column.blocks = static_cast<const T*>(p.blocks) + (p.order ? 0 : first * size);
    return column;
  }
  with_storage(p.w_dtype, [&](auto storage) {
    const auto* blocks = static_cast<const decltype(storage)*>(p.blocks);
    if constexpr (__is_same(Compute<decltype(storage)>, T)) {
      if (!p.order) return widen(blocks + first * size, count * size, wide);
      for (int64_t e = 0; e < count; ++e) widen(blocks + column.order[e] * size, size, wide + e * size);
    }
  });
  column.order = nullptr;
  column.blocks = wide;
  return column;
}

}  // namespace sparta::ISA
