// Panels: some rows of a matrix, turned so that a vector holds neighbouring rows of one column: [columns][width].
#pragma once
#include "csr_products.h"
#include "storage.h"

namespace sparta::ISA {

// One number, widened.
static inline float number(float value) { return value; }
static inline double number(double value) { return value; }
static inline float number(BFloat16 value) { return __builtin_bit_cast(float, uint32_t(value) << 16); }
static inline float number(Float16 value) {
#if defined(__F16C__)
  return _cvtsh_ss(uint16_t(value));
#else
  const Float16 part[4] = {value};
  return load<Vector<float, 4>>(part)[0];
#endif
}

// Columns `range` of rows [first, first + width) of `from[m, size]` to `to[column][width]`, zeros behind the last row.
template <class S>
static void turn(const S* from, int64_t m, int64_t size, int64_t first, int64_t width, Range range, Compute<S>* to) {
  using C = Compute<S>;
  constexpr int kWhole = kLanesOf<C>;
  if (width % kWhole) {  // narrow panels
    for (int64_t r = 0; r < width; ++r)
      for (int64_t c = range.begin; c < range.end; ++c)
        to[c * width + r] = first + r < m ? number(from[(first + r) * size + c]) : C(0);
    return;
  }
  for (int64_t i = 0; i < width; i += kWhole)
    for (int64_t c = range.begin; c < range.end; c += kWhole) {
      Vector<C> square[kWhole];
      const int64_t left = range.end - c;
      for (int r = 0; r < kWhole; ++r) {
        const S* at = from + (first + i + r) * size + c;
        square[r] = first + i + r < m ? load_part(at, left) : Vector<C>{};
        __builtin_prefetch(at + 2 * kWhole);  // as many rows at once are too many streams for hardware to foresee
      }
      transpose(square);
      for (int64_t r = 0; r < least(kWhole, left); ++r) store(to + (c + r) * width + i, square[r]);
    }
}

// Whether `count` indices are in [0, bound).
static inline bool all_below(const int32_t* indices, int64_t count, int64_t bound) {
  uint32_t largest = 0;  // a negative index is a large unsigned one
  for (int64_t e = 0; e < count; ++e) largest = uint32_t(indices[e]) > largest ? uint32_t(indices[e]) : largest;
  return count <= 0 || int64_t(largest) < bound;
}

}  // namespace sparta::ISA
