// What happens to finished sums: bias, activation, residual, one rounding to y's dtype.
#pragma once
#include "activation.h"
#include "products.h"

namespace sparta::ISA {

template <class O, Activation A>
static void finish_as(const Epilogue& e, int64_t row, int64_t rows, int64_t column, int64_t width, const Compute<O>* from, int64_t stride) {
  typedef Vector<Compute<O>> V;
  constexpr int64_t kStep = kCount<V>;
  const O *biases = static_cast<const O*>(e.bias), *residuals = static_cast<const O*>(e.residual);
  O* y = static_cast<O*>(e.y);
  for (int64_t c = 0; c < width; c += kStep) {
    const int64_t count = least(kStep, width - c);
    const V bias = biases ? load_part(biases + column + c, count) : V{};
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = (row + r) * e.n + column + c;
      V v = load_part(from + r * stride + c, count);
      if (biases) v += bias;
      v = activate<A>(v);
      if (residuals) v += load_part(residuals + at, count);
      store_part(y + at, v, count);
    }
  }
}

template <class O>
static auto finisher(Activation activation) {
  switch (activation) {
    case Activation::kRelu: return finish_as<O, Activation::kRelu>;
    case Activation::kGeluTanh: return finish_as<O, Activation::kGeluTanh>;
    case Activation::kGeluErf: return finish_as<O, Activation::kGeluErf>;
    case Activation::kSilu: return finish_as<O, Activation::kSilu>;
    case Activation::kTanh: return finish_as<O, Activation::kTanh>;
    case Activation::kSigmoid: return finish_as<O, Activation::kSigmoid>;
    default: return finish_as<O, Activation::kNone>;
  }
}

// `rows` x `width` sums at `from` (rows `stride` apart), to y at (row, column).
template <class T>
static void finish(const Epilogue& e, int64_t row, int64_t rows, int64_t column, int64_t width, const T* from, int64_t stride) {
  if constexpr (__is_same(T, double)) {
    finisher<double>(e.activation)(e, row, rows, column, width, from, stride);
  } else {
    const auto as = e.dtype == Dtype::kBF16  ? finisher<BFloat16>(e.activation)
                    : e.dtype == Dtype::kF16 ? finisher<Float16>(e.activation)
                                             : finisher<float>(e.activation);
    as(e, row, rows, column, width, from, stride);
  }
}

// Whether sums of type T may be stored in y as they come, with nothing else to do to them.
template <class T>
static bool is_plain(const Epilogue& e) {
  return has_dtype<T>(e.dtype) && !e.bias && !e.residual && e.activation == Activation::kNone;
}

}  // namespace sparta::ISA
