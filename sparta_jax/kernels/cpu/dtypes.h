// The dtypes of arrays. 16-bit floats are plain bits here: arithmetic is done in float or double (storage.h).
#pragma once
#include <cstdint>

namespace sparta {

enum class BFloat16 : uint16_t {};
enum class Float16 : uint16_t {};

enum class Dtype : int32_t { kF32, kBF16, kF16, kF64 };

constexpr int64_t size_of(Dtype dtype) { return dtype == Dtype::kF64 ? 8 : dtype == Dtype::kF32 ? 4 : 2; }

template <class T>
constexpr bool has_dtype(Dtype) { return false; }
template <>
constexpr bool has_dtype<float>(Dtype dtype) { return dtype == Dtype::kF32; }
template <>
constexpr bool has_dtype<double>(Dtype dtype) { return dtype == Dtype::kF64; }

// Calls with(a number of the storage type that `dtype` names).
template <class With>
static inline auto with_storage(Dtype dtype, With with) {
  switch (dtype) {
    case Dtype::kBF16: return with(BFloat16{});
    case Dtype::kF16: return with(Float16{});
    case Dtype::kF64: return with(double{});
    default: return with(float{});
  }
}

}  // namespace sparta
