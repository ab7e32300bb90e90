// Activations of whole vectors, of float32 to 3e-7 of the true value (not only of the largest one); gelu below -1, where an exponent is
// rounded, to 1e-5.
#pragma once
#include "activation_double.h"
#include "products.h"
#include "storage.h"

namespace sparta::ISA {

static inline Vec magnitude(Vec x) { return (Vec)((Ints)x & splat(int32_t{0x7fffffff})); }

// exp of what lies in [-87, 88]. Cody and Waite's reduction to |r| <= ln(2) / 2; the polynomial is a minimax fit.
static inline Vec exp_within(Vec x) {
  const Vec magic = splat(12582912.f);  // 1.5 * 2^23: adding it rounds to a whole number and leaves that in the low bits
  const Vec shifted = x * splat(1.44269504089f) + magic;
  const Vec whole = shifted - magic;
  const Vec r = (x - whole * splat(0.693359375f)) + whole * splat(2.12194440e-4f);
  const Vec p = polynomial(r, 0.001383683409f, 0.008374822071f, 0.04166822611f, 0.166664201f, 0.4999999208f, 1.000000036f, 1.000000001f);
  const Ints power = ((Ints)shifted - splat(int32_t{0x4B400000}) + splat(int32_t{127})) << 23;
  return p * (Vec)power;
}

// exp, held within [2^-126, 2^128): nothing here needs more.
static inline Vec exp(Vec x) {
  x = x > splat(88.f) ? splat(88.f) : x;
  return exp_within(x < splat(-87.f) ? splat(-87.f) : x);
}

static inline Vec sigmoid(Vec x) { return splat(1.f) / (splat(1.f) + exp(-x)); }

static inline Vec tanh(Vec x) {
  const Vec size = magnitude(x), square = x * x, z = size > splat(44.f) ? splat(44.f) : size;
  const Vec large = splat(1.f) - splat(2.f) / (splat(1.f) + exp_within(z + z));
  const Vec small = x * polynomial(square, -0.005659984806f, 0.02059098421f, -0.05372106661f, 0.1333112752f, -0.3333326053f, 0.9999999961f);
  return size < splat(0.625f) ? small : (x < splat(0.f) ? -large : large);
}

static inline Vec gelu_tanh(Vec x) {  // (1 + tanh(u)) / 2 is the sigmoid of 2 u
  const Vec u = x * polynomial(x * x, 0.07135481627f, 1.595769122f);
  return x * sigmoid(u);
}

// x Phi(x) by the tail Phi(-z) = exp(-z^2 / 2) R(z), z = |x|, where R, half the scaled complementary error function of z / sqrt(2),
// is a minimax polynomial in (z - 3) / (z + 3). From z = 13.19 on, where the exponent is -87, the tail is nothing.
static inline Vec gelu_erf(Vec x) {
  const Vec size = magnitude(x), z = size > splat(13.19f) ? splat(13.19f) : size;
  const Vec u = (z - splat(3.f)) / (z + splat(3.f));
  const Vec ratio = polynomial(u, 5.368340323e-05f, 0.0001155491109f, -0.0003395001786f, -0.0009837623978f, 0.00290456324f, 0.006132071228f,
                               -0.04621329214f, 0.1232250307f, -0.206402619f, 0.1215139476f);
  const Vec tail = z * exp_within(z * z * splat(-0.5f)) * ratio;
  return (x < splat(0.f) ? Vec{} : x) - tail;
}

template <Activation A, class V>
static inline V activate(V x) {
  if constexpr (A == Activation::kRelu) return x < V{} ? V{} : x;
  if constexpr (A == Activation::kGeluTanh) return gelu_tanh(x);
  if constexpr (A == Activation::kGeluErf) return gelu_erf(x);
  if constexpr (A == Activation::kSilu) return x * sigmoid(x);
  if constexpr (A == Activation::kTanh) return tanh(x);
  if constexpr (A == Activation::kSigmoid) return sigmoid(x);
  return x;
}

}  // namespace sparta::ISA
