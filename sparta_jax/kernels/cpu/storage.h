// How numbers lie in memory, and the vectors of the compute type that they are read into: float for 32 bits and fewer, double for 64.
// A further storage type is one more specialisation of Storage.
#pragma once
#include "dtypes.h"
#include "simd.h"
#if defined(__F16C__)
#include <immintrin.h>  // intrinsics are always inlined, so none of them can leave this file
#endif

namespace sparta::ISA {

template <int N>
using Words = Vector<uint32_t, N>;
template <int N>
using Halves = Vector<uint16_t, N>;

template <int N>
static inline Words<N> choose(Words<N> where, Words<N> a, Words<N> b) { return (where & a) | (~where & b); }

// Bits of float16 (low halves) as float32, subnormals too, whatever the rounding and flushing modes are.
template <int N>
static inline Vector<float, N> widen_float16(Words<N> half) {
  const Words<N> size = (half & 0x7fff) << 13, exponent = size & 0x0f800000;
  const Words<N> normal = size + (112u << 23), subnormal = (Words<N>)((Vector<float, N>)(size + (113u << 23)) - 0x1p-14f);
  const Words<N> finite = choose<N>((Words<N>)(exponent == 0), subnormal, normal);
  const Words<N> value = choose<N>((Words<N>)(exponent == 0x0f800000), size + (224u << 23), finite);
  return (Vector<float, N>)(value | (half & 0x8000) << 16);
}

// Bits of float16 nearest to float32, ties to even; what is too large becomes infinite.
template <int N>
static inline Words<N> narrow_to_float16(Vector<float, N> value) {
  const Words<N> bits = (Words<N>)value, size = bits & 0x7fffffff;
  const Words<N> normal = (size + 0xc8000fff + (size >> 13 & 1)) >> 13;
  const Words<N> subnormal = (Words<N>)((Vector<float, N>)size + 0.5f) - 0x3f000000;
  const Words<N> finite = choose<N>((Words<N>)(size < (113u << 23)), subnormal, normal);
  const Words<N> special = choose<N>((Words<N>)(size > 0x7f800000), Words<N>{} + 0x7e00, Words<N>{} + 0x7c00);
  return choose<N>((Words<N>)(size >= 0x47800000), special, finite) | (bits >> 16 & 0x8000);
}

// Bits of bfloat16 nearest to float32, ties to even; NaN stays NaN.
template <int N>
static inline Words<N> narrow_to_bfloat16(Vector<float, N> value) {
  const Words<N> bits = (Words<N>)value;
  return choose<N>((Words<N>)((bits & 0x7fffffff) > 0x7f800000), bits >> 16 | 0x40, (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// -- the storage types: `Compute`, and N numbers read and written (rounded to nearest, ties to even, NaN kept)

template <class S>
struct Storage {  // float and double, as they are
  typedef S Compute;

  template <int N>
  static Vector<S, N> load(const S* from) { return reinterpret_cast<const Unaligned<Vector<S, N>>*>(from)->value; }

  template <int N>
  static void store(S* to, Vector<S, N> value) { reinterpret_cast<Unaligned<Vector<S, N>>*>(to)->value = value; }
};

struct HalfStorage {
  typedef float Compute;

  template <int N>
  static Words<N> load_bits(const void* from) {
    return __builtin_convertvector(static_cast<const Unaligned<Halves<N>>*>(from)->value, Words<N>);
  }

  template <int N>
  static void store_bits(void* to, Words<N> value) {
    static_cast<Unaligned<Halves<N>>*>(to)->value = __builtin_convertvector(value, Halves<N>);
  }
};

template <>
struct Storage<BFloat16> : HalfStorage {
  template <int N>
  static Vector<float, N> load(const BFloat16* from) { return (Vector<float, N>)(load_bits<N>(from) << 16); }

  template <int N>
  static void store(BFloat16* to, Vector<float, N> value) { store_bits<N>(to, narrow_to_bfloat16<N>(value)); }
};

template <>
struct Storage<Float16> : HalfStorage {
  template <int N>
  static Vector<float, N> load(const Float16* from) {
#if defined(__AVX512F__)
    if constexpr (N == 16) return (Vector<float, N>)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
#endif
#if defined(__F16C__)
    if constexpr (N == 8) return (Vector<float, N>)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from));
    if constexpr (N == 4) return (Vector<float, N>)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)from));
#endif
    return widen_float16<N>(load_bits<N>(from));
  }

  template <int N>
  static void store(Float16* to, Vector<float, N> value) {
#if defined(__AVX512F__)
    if constexpr (N == 16) return _mm256_storeu_si256((__m256i*)to, _mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT));
#endif
#if defined(__F16C__)
    if constexpr (N == 8) return _mm_storeu_si128((__m128i*)to, _mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT));
#endif
    store_bits<N>(to, narrow_to_float16<N>(value));
  }
};

template <class S>
using Compute = typename Storage<S>::Compute;

// -- vectors from and to any storage: as many numbers as V has, by default a whole register of the compute type

template <class V>
constexpr int kCount = sizeof(V) / sizeof(V{}[0]);

template <class V = void, class S>
static inline auto load(const S* from) {
  if constexpr (__is_same(V, void))
    return Storage<S>::template load<kLanesOf<Compute<S>>>(from);
  else
    return Storage<S>::template load<kCount<V>>(from);
}

template <class V, class S>
static inline void store(S* to, V value) { Storage<S>::template store<kCount<V>>(to, value); }

// The first `count` numbers, zeros behind.
template <class S>
static inline Vector<Compute<S>> load_part(const S* from, int64_t count) {
  constexpr int kWhole = kLanesOf<Compute<S>>;
  if (count >= kWhole) return load(from);
  S part[kWhole] = {};
  for (int64_t i = 0; i < count; ++i) part[i] = from[i];
  return load(static_cast<const S*>(part));
}

template <class S>
static inline void store_part(S* to, Vector<Compute<S>> value, int64_t count) {
  constexpr int kWhole = kLanesOf<Compute<S>>;
  if (count >= kWhole) return store(to, value);
  S part[kWhole];
  store(static_cast<S*>(part), value);
  for (int64_t i = 0; i < count; ++i) to[i] = part[i];
}

}  // namespace sparta::ISA
