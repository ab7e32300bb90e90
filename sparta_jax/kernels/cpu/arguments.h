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

// The dtypes of two operands and a result: float64 in all of them or in none.
struct Dtypes {
  Dtype a, b, out;
};

inline ffi::ErrorOr<Dtypes> dtypes_of(const char* name, ffi::DataType a, ffi::DataType b, ffi::DataType out) {
  const auto first = dtype_of(a), second = dtype_of(b), result = dtype_of(out);
  if (!first || !second || !result)
    return ffi::Unexpected(invalid(name, ": operands and result must be float32, bfloat16, float16 or float64"));
  const bool wide = *first == Dtype::kF64;
  if ((*second == Dtype::kF64) != wide || (*result == Dtype::kF64) != wide)
    return ffi::Unexpected(invalid(name, ": float64 is multiplied by float64, with a result of float64"));
  return Dtypes{*first, *second, *result};
}

inline ffi::Error check_activation(const char* name, int32_t activation) {
  const bool known = activation >= 0 && activation < int32_t(Activation::kCount);
  return known ? ffi::Error::Success() : invalid(name, ": no activation ", text(activation));
}

// Operations that bias, activation and residual take per element of the result.
inline double finishing(Activation activation) { return activation <= Activation::kRelu ? 16 : 80; }

inline void* data_of(const ffi::AnyBuffer& extra) { return extra.element_count() ? extra.untyped_data() : nullptr; }

}  // namespace sparta
