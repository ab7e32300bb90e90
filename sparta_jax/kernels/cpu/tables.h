// What the handlers check of index tables. Entries are blocks or single elements, listed by column, `kind` is how messages call them.
#pragma once
#include "arguments.h"

namespace sparta {

using Table = ffi::Buffer<ffi::S32>;

// As many entries as there are values, and where each column's begin. `longest` is set to the most that a column has.
inline ffi::Error check_columns(const char* kind, const Table& indptr, const Table& indices, int64_t count, int64_t columns,
                                int64_t* longest = nullptr) {
  const int32_t* starts = indptr.typed_data();
  if (int64_t(indices.element_count()) != count)
    return invalid(kind, ": ", text(indices.element_count()), " indices for ", text(count), " entries");
  if (int64_t(indptr.element_count()) != columns + 1)
    return invalid(kind, ": indptr has ", text(indptr.element_count()), " entries, ", text(columns), " columns need one more");
  if (starts[0] != 0 || starts[columns] != count)
    return invalid(kind, ": indptr goes from ", text(starts[0]), " to ", text(starts[columns]), " for ", text(count), " entries");
  int64_t most = 0;
  for (int64_t j = 0; j < columns; ++j) {
    if (starts[j] > starts[j + 1]) return invalid(kind, ": indptr decreases behind column ", text(j));
    most = std::max<int64_t>(most, starts[j + 1] - starts[j]);
  }
  if (longest) *longest = most;
  return ffi::Error::Success();
}

// Whether `count` numbers are in [0, bound). The sign bits say so, which any vector unit gathers in passing.
inline ffi::Error check_range(const char* what, const Table& table, int64_t count, int64_t bound) {
  const int32_t* numbers = table.typed_data();
  const uint32_t last = uint32_t(std::min<int64_t>(bound, INT32_MAX)) - 1;
  uint32_t signs = 0;
  for (int64_t e = 0; e < count; ++e) signs |= uint32_t(numbers[e]) | (last - uint32_t(numbers[e]));
  if (int32_t(signs) >= 0) return ffi::Error::Success();
  const int32_t* wrong = std::find_if(numbers, numbers + count, [&](int32_t i) { return i < 0 || i >= bound; });
  return invalid(what, " ", text(*wrong), " is out of range: there are ", text(bound));
}

// The tables of `count` blocks at block rows of a grid.
inline ffi::Error check_blocks(const Table& indptr, const Table& indices, int64_t count, int64_t block_rows, int64_t block_columns,
                               int64_t* longest = nullptr) {
  if (auto error = check_columns("BSR", indptr, indices, count, block_columns, longest); error.failure()) return error;
  return check_range("BSR: block row", indices, count, block_rows);
}

// Which stored block each of `count` entries is.
inline ffi::Error check_order(const Table& order, int64_t count) {
  if (int64_t(order.element_count()) != count)
    return invalid("BSR: order has ", text(order.element_count()), " entries for ", text(count), " blocks");
  return check_range("BSR: order names block", order, count, count);
}

}  // namespace sparta
