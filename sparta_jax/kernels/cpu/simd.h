// Vectors of the instruction set that this file is compiled for; storage.h loads and stores them, from any dtype. No standard
// library: an inline function of it, compiled for AVX-512 here, could be the copy that the linker keeps for everyone.
#pragma once
#include <cstdint>

namespace sparta::ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRegisters = 32;
#else
constexpr int kLanes = 4, kRegisters = 16;
#endif

template <class T>
constexpr int kLanesOf = kLanes * 4 / sizeof(T);

template <class T, int N>
struct VectorOf {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N = kLanesOf<T>>
using Vector = typename VectorOf<T, N>::type;

typedef Vector<float> Vec;
typedef Vector<int32_t> Ints;
typedef Vector<float, 4> Quad;

template <class T>
struct Unaligned {
  T value;
} __attribute__((packed, may_alias));

// As value - 0, which folds; value + 0 does not, since it turns -0 into 0.
static inline Vec splat(float value) { return value - Vec{}; }
static inline Vector<double> splat(double value) { return value - Vector<double>{}; }
static inline Ints splat(int32_t value) { return Ints{} + value; }

// The sum of coefficient * x^i, by Horner's rule; the highest coefficient first.
template <class V, class C, class... T>
static inline V polynomial(V x, C highest, T... rest) {
  V value = splat(highest);
  ((value = value * x + splat(rest)), ...);
  return value;
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

#if defined(__clang__) || __GNUC__ >= 12
#define SPARTA_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SPARTA_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Ints{__VA_ARGS__})
#endif

#if defined(__AVX512F__)
#define SPARTA_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SPARTA_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define SPARTA_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define SPARTA_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define SPARTA_LOW 0, 4, 1, 5
#define SPARTA_HIGH 2, 6, 3, 7
#endif

// The first kLanes / kTimes numbers, each kTimes in a row.
template <int kTimes>
static inline Vec repeat(Vec v) {
#if defined(__AVX512F__)
  if constexpr (kTimes == 4) return SPARTA_SHUFFLE(v, v, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  if constexpr (kTimes == 8) return SPARTA_SHUFFLE(v, v, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
#elif defined(__AVX2__)
  if constexpr (kTimes == 4) return SPARTA_SHUFFLE(v, v, 0, 0, 0, 0, 1, 1, 1, 1);
#endif
  return splat(v[0]);
}

static inline Vec zip_low(Vec a, Vec b) { return SPARTA_SHUFFLE(a, b, SPARTA_LOW); }
static inline Vec zip_high(Vec a, Vec b) { return SPARTA_SHUFFLE(a, b, SPARTA_HIGH); }

// A square of kLanes vectors, in place: log2(kLanes) perfect shuffles.
static inline void transpose(Vec (&v)[kLanes]) {
#pragma GCC unroll 4
  for (int step = 1; step < kLanes; step *= 2) {
    Vec next[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = zip_low(v[i], v[i + kLanes / 2]);
      next[2 * i + 1] = zip_high(v[i], v[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) v[i] = next[i];
  }
}

static inline void transpose(Vector<double> (&v)[kLanesOf<double>]) {
  for (int i = 0; i < kLanesOf<double>; ++i)
    for (int j = 0; j < i; ++j) {
      const double upper = v[j][i];
      v[j][i] = v[i][j];
      v[i][j] = upper;
    }
}

}  // namespace sparta::ISA
