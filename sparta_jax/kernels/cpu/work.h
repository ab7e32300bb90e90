// The instruction sets of the block products, and a sparse weight cut into about equal parts.
#pragma once
#include <algorithm>
#include <string>

#include "host.h"
#include "products.h"
#include "share.h"

namespace sparta {

#if defined(__x86_64__)
constexpr Sets<Isa> kBlockSets{&baseline::isa, &avx2::isa, &avx512::isa};
#else
constexpr Sets<Isa> kBlockSets{&baseline::isa, nullptr, nullptr};
#endif

// Whether the dot products of bfloat16 pairs serve: the instruction set is left open or named, and the product is of their kind.
inline bool has_dots(const Spmm& p, const std::string& name) {
#if defined(__x86_64__)
  const bool fits = p.x_dtype == Dtype::kBF16 && p.w_dtype == Dtype::kBF16 && p.m > 1 && p.rows % 16 == 0 && p.cols % 16 == 0;
  return fits && name.empty() && has_avx512() && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

// Columns [0, columns) cut into `parts` of about equal work: `rows` for each entry, and a constant for each column.
inline Range cut(const int32_t* indptr, int64_t columns, int64_t rows, int64_t part, int64_t parts) {
  const auto work = [=](int64_t j) { return indptr[j] * rows + 8 * j; };
  const auto first = [=](int64_t i) {
    if (i >= parts) return columns;
    const double target = double(work(columns)) * i / parts;
    int64_t low = 0, high = columns;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      (work(middle) < target ? low : high) = middle + (work(middle) < target);
    }
    return low;
  };
  return {first(part), first(part + 1)};
}

}  // namespace sparta
