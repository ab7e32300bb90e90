// SpMM of bfloat16 by bfloat16 on CPUs with dot products of pairs (AVX-512 BF16). Pairs of neighbours along k share 32 bits, in x as
// it lies and in W by interleaving two rows of a block, or by turning a block whose transpose is stored, where pairs lie as they are;
// otherwise it is the product along n. Compiled once, with -DISA=avx512_bf16.
#include <immintrin.h>

#include "along_n.h"

namespace sparta::ISA {

typedef uint32_t Pair;

template <>
struct Factors<Pair> {
  typedef float Sum;
  static constexpr int kPacked = 2;
  static Vec add(Vec sum, Pair x, Vector<Pair> w) {
    return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(x), (__m512bh)w);
  }
};

// `rows` rows of blocks that lie one below the other, to pairs of rows.
static void interleave(const BFloat16* from, int64_t rows, int64_t cols, Pair* to) {
  for (int64_t r = 0; r < rows; r += 2, from += 2 * cols, to += cols)
    for (int64_t c = 0; c < cols; c += kLanes)
      store(to + c, HalfStorage::load_bits<kLanes>(from + c) | HalfStorage::load_bits<kLanes>(from + cols + c) << 16);
}

// A block that is stored as [cols][pairs] to [pairs][cols]; pairs come by eights, and move as the floats that they are as wide as.
static void turn(const BFloat16* block, int64_t pairs, int64_t cols, Pair* to) {
  const auto* from = reinterpret_cast<const float*>(block);
  for (int64_t r = 0; r < pairs; r += kLanes)
    for (int64_t c = 0; c < cols; c += kLanes) {
      const int64_t most = least(kLanes, pairs - r);
      Vec square[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        const float* pair = from + (c + i) * pairs + r;
        square[i] = most == kLanes ? load(pair) : (Vec)_mm512_castps256_ps512(_mm256_loadu_ps(pair));
      }
      transpose(square);
      for (int64_t i = 0; i < most; ++i) store(to + (r + i) * cols + c, (Vector<Pair>)square[i]);
    }
}

template <>
Column<Pair> column_of<Pair>(const Spmm& p, int64_t j, Pair* copy) {
  const int64_t first = p.indptr[j], count = p.indptr[j + 1] - first, pairs = p.rows / 2 * p.cols;
  const BFloat16* blocks = static_cast<const BFloat16*>(p.blocks);
  if (!p.order) interleave(blocks + first * 2 * pairs, count * p.rows, p.cols, copy);
  for (int64_t e = 0; p.order && e < count; ++e) turn(blocks + p.order[first + e] * 2 * pairs, p.rows / 2, p.cols, copy + e * pairs);
  return {count, p.indices + first, nullptr, copy};
}

static void pack_panel(const Spmm& p, int64_t first, int64_t last, BFloat16* packed) {
  const int64_t rows = last - first, padded = padded_k(p);
  for (int64_t r = 0; r < rows; ++r, packed += kDepth) {
    const BFloat16* from = static_cast<const BFloat16*>(p.x) + (first + r) * p.k;
    BFloat16* to = packed;
    for (int64_t k = 0; k < padded; k += kDepth, to += kDepth * rows) {
      typedef Unaligned<Halves<kDepth>> Group;
      if (k + kDepth <= p.k)
        *reinterpret_cast<Group*>(to) = *reinterpret_cast<const Group*>(from + k);
      else
        for (int i = 0; i < kDepth; ++i) to[i] = k + i < p.k ? from[k + i] : BFloat16{};
    }
  }
}

static int64_t rows_between(const Spmm& p, Range panels) { return first_row(p, panels.end) - first_row(p, panels.begin); }

static int64_t x_bytes(const Spmm& p, Range panels) { return divide_up(2 * rows_between(p, panels) * padded_k(p), 64) * 64; }

static void plan(Spmm& p) { p.path = Path::kAlongN, p.panels = divide_up(p.m, kPanelRows); }

static int64_t packed_bytes(const Spmm& p, Range panels) { return x_bytes(p, panels) + 2 * p.longest * p.rows * p.cols; }

static void pack_x(const Spmm& p, Range panels, void* packed) {
  BFloat16* to = static_cast<BFloat16*>(packed);
  for (int64_t i = panels.begin; i < panels.end; ++i) {
    pack_panel(p, first_row(p, i), first_row(p, i + 1), to);
    to += rows_between(p, {i, i + 1}) * padded_k(p);
  }
}

static void spmm(const Spmm& p, Range panels, void* packed, Range columns) {
  Pair* copy = reinterpret_cast<Pair*>(static_cast<char*>(packed) + x_bytes(p, panels));
  spmm_along_n<Pair>(p, panels, static_cast<const Pair*>(packed), copy, columns);
}

const Isa isa = {"avx512_bf16", plan, packed_bytes, pack_x, spmm, nullptr, nullptr, nullptr};

}  // namespace sparta::ISA
