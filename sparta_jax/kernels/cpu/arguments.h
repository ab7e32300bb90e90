// What the handlers check of their arguments, and the words for what is wrong with them.
#pragma once
#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>

#include "products.h"
#include "xla/ffi/api/ffi.h"

namespace sparta {

namespace ffi = xla::ffi;

inline std::optional<Dtype> dtype_of(ffi::DataType type) {
  switch (type) {
    case ffi::F32: return Dtype::kF32;
    case ffi::BF16: return Dtype::kBF16;
    case ffi::F16: return Dtype::kF16;
    case ffi::F64: return Dtype::kF64;
    default: return std::nullopt;
  }
}

inline std::string text(int64_t number) { return std::to_string(number); }

inline std::string text(ffi::Span<const int64_t> shape) {
  std::string all = "[";
  for (size_t i = 0; i < shape.size(); ++i) all += (i ? ", " : "") + text(shape[i]);
  return all + "]";
}

template <class... Parts>
inline ffi::Error invalid(Parts... parts) { return ffi::Error::InvalidArgument((std::string(parts) + ...)); }

template <class B>
bool has_shape(const B& buffer, std::initializer_list<int64_t> shape) {
  const auto dims = buffer.dimensions();
  return dims.size() == shape.size() && std::equal(shape.begin(), shape.end(), dims.begin());
}

// An operand that may be absent (empty), which has the dtype and shape named by the result.
inline ffi::Error check_extra(const char* name, const ffi::AnyBuffer& extra, ffi::DataType type, std::initializer_list<int64_t> shape) {
  if (!extra.element_count()) return ffi::Error::Success();
  if (extra.element_type() != type) return invalid(name, ": its dtype is not that of the result");
  if (!has_shape(extra, shape)) return invalid(name, " has shape ", text(extra.dimensions()), ", which does not fit the result");
  return ffi::Error::Success();
}

// Index tables of `count` blocks, listed by block column, at block rows of a grid. `longest` is set to the most that a column has.
inline ffi::Error check_tables(const ffi::Buffer<ffi::S32>& indptr, const ffi::Buffer<ffi::S32>& indices, int64_t count, int64_t block_rows,
                               int64_t block_columns, int64_t* longest = nullptr) {
  const int32_t *starts = indptr.typed_data(), *rows = indices.typed_data();
  if (int64_t(indices.element_count()) != count)
    return invalid("BSR: ", text(indices.element_count()), " indices for ", text(count), " blocks");
  if (int64_t(indptr.element_count()) != block_columns + 1)
    return invalid("BSR: indptr has ", text(indptr.element_count()), " entries, ", text(block_columns), " block columns need one more");
  if (starts[0] != 0 || starts[block_columns] != count)
    return invalid("BSR: indptr goes from ", text(starts[0]), " to ", text(starts[block_columns]), " for ", text(count), " blocks");
  int64_t most = 0;
  for (int64_t j = 0; j < block_columns; ++j) {
    if (starts[j] > starts[j + 1]) return invalid("BSR: indptr decreases behind block column ", text(j));
    most = std::max<int64_t>(most, starts[j + 1] - starts[j]);
  }
  uint32_t largest = 0;  // a negative index is a large unsigned one
  for (int64_t e = 0; e < count; ++e) largest = std::max(largest, uint32_t(rows[e]));
  if (count && int64_t(largest) >= block_rows)
    return invalid("BSR: index ", text(int32_t(largest)), " is out of range: there are ", text(block_rows), " block rows");
  if (longest) *longest = most;
  return ffi::Error::Success();
}

inline ffi::Error check_order(const ffi::Buffer<ffi::S32>& order, int64_t count) {
  if (int64_t(order.element_count()) != count)
    return invalid("BSR: order has ", text(order.element_count()), " entries for ", text(count), " blocks");
  uint32_t largest = 0;
  for (int64_t e = 0; e < count; ++e) largest = std::max(largest, uint32_t(order.typed_data()[e]));
  if (count && int64_t(largest) >= count)
    return invalid("BSR: order names block ", text(int32_t(largest)), " of ", text(count));
  return ffi::Error::Success();
}

}  // namespace sparta
