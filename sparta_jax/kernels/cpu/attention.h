// Softmax attention: the scores of a few queries stay in the first-level cache from their product with k to that with v.
#pragma once
#include "products.h"

#include "activation.h"
#include "attention_problem.h"
#include "storage.h"

namespace sparta::ISA {

constexpr int kQueries = kRegisters == 16 ? (kLanes == 8 ? 6 : 4) : 14;  // of a panel: kQueries * 2 sums, 2 of k or v, one of q
constexpr int kKeys = 2 * kLanes > 16 ? 2 * kLanes : 16;                 // a head's keys are padded to a multiple of this
constexpr int kGroup = 16;                                               // scores lie as [keys / 16][queries][16], q alike
constexpr float kInfinity = __builtin_inff();

static inline int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// The scratch memory of one worker: k as [keys / (2 vectors)][size][2 vectors], v as [keys][size], then what one panel needs.
struct Packed {
  int64_t keys, v_size;
  float *k, *v, *q, *scores, *bias, *shares;
  int32_t* keep;
  int64_t floats;

  Packed(const Attention& a, float* scratch) {
    keys = round_up(a.keys, kKeys), v_size = round_up(a.v_size, kLanes);
    k = scratch, v = k + keys * a.size, q = v + keys * v_size;
    scores = q + kQueries * round_up(a.size, kGroup), bias = scores + kQueries * keys, shares = bias + keys;
    keep = reinterpret_cast<int32_t*>(shares + kQueries);
    floats = keys * (a.size + v_size + kQueries + 2) + kQueries * (round_up(a.size, kGroup) + 1);
  }
};

static int64_t attention_scratch(const Attention& a) { return Packed(a, nullptr).floats; }
static int64_t attention_panels(const Attention& a) { return divide_up(a.queries, kQueries); }

// -- packing one head

static void pack_keys(const Attention& a, const float* k, int64_t stride, const Packed& p) {
  constexpr int kWide = 2 * kLanes;
  for (int64_t s = 0; s < p.keys; s += kLanes) {
    float* to = p.k + s / kWide * kWide * a.size + s % kWide;
    for (int64_t d = 0; d < a.size; d += kLanes) {
      Vec square[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        square[i] = s + i < a.keys ? load_part(k + (s + i) * stride + d, a.size - d) : Vec{};
        __builtin_prefetch(k + (s + i + kLanes) * stride + d);  // a head's part of a row is too short for hardware to foresee the next
      }
      transpose(square);
      for (int64_t i = 0; i < least(kLanes, a.size - d); ++i) store(to + (d + i) * kWide, square[i]);
    }
  }
}

static void pack_values(const Attention& a, const float* v, int64_t stride, const Packed& p) {
  for (int64_t s = 0; s < p.keys; ++s)
    for (int64_t d = 0; d < p.v_size; d += kLanes) {
      store(p.v + s * p.v_size + d, s < a.keys ? load_part(v + s * stride + d, a.v_size - d) : Vec{});
      __builtin_prefetch(v + (s + kLanes) * stride + d);
    }
}

static void attention_pack(const Attention& a, int64_t head, float* scratch) {
  const Packed p(a, scratch);
  const int64_t b = head / a.heads, h = head % a.heads / (a.heads / a.kv_heads), row = b * a.keys * a.kv_heads + h;
  pack_keys(a, a.k + row * a.size, a.kv_heads * a.size, p);
  pack_values(a, a.v + row * a.v_size, a.kv_heads * a.v_size, p);
}

// -- one panel of R queries

static inline float* score_at(const Packed& p, int rows, int64_t key, int row) {
  return p.scores + (key / kGroup * rows + row) * kGroup + key % kGroup;
}

static void pack_queries(const Attention& a, const float* q, int rows, const Packed& p) {
  const int64_t stride = a.heads * a.size;
  for (int r = 0; r < rows; ++r)
    for (int64_t d = 0; d < a.size; d += kLanes) {
      store(p.q + (d / kGroup * rows + r) * kGroup + d % kGroup, load_part(q + r * stride + d, a.size - d) * splat(a.before));
      __builtin_prefetch(q + (r + rows) * stride + d);  // of the next panel
    }
}

template <int R>
static void score(const Attention& a, const Packed& p) {
  for (int64_t s = 0; s < p.keys; s += 2 * kLanes) {
    Vec sum[R][2] = {};
    const float *k = p.k + s * a.size, *q = p.q;
    for (int64_t d = 0; d < a.size; d += kGroup, q += R * kGroup)
#pragma GCC unroll 2
      for (int64_t i = 0; i < least(kGroup, a.size - d); ++i, k += 2 * kLanes) {
        const Vec low = load(k), high = load(k + kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) sum[r][0] += splat(q[r * kGroup + i]) * low, sum[r][1] += splat(q[r * kGroup + i]) * high;
      }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) store(score_at(p, R, s, r), sum[r][0]), store(score_at(p, R, s + kLanes, r), sum[r][1]);
  }
}

// What bias and mask say of one query's keys, as vectors can read it.
static void read_row(const Attention& a, const Packed& p, int64_t b, int64_t h, int64_t t) {
  if (a.bias.data) {
    const float* from = a.bias.data + b * a.bias.batch + h * a.bias.head + t * a.bias.query;
    for (int64_t s = 0; s < a.keys; ++s) p.bias[s] = from[s * a.bias.key];
  }
  if (a.mask.data) {
    const uint8_t* from = a.mask.data + b * a.mask.batch + h * a.mask.head + t * a.mask.query;
    if (a.mask.key == 1)
      for (int64_t s = 0; s < a.keys; ++s) p.keep[s] = -int32_t(from[s] != 0);
    else
      for (int64_t s = 0; s < a.keys; ++s) p.keep[s] = -int32_t(*from != 0);
  }
}

// The scores of one query scaled, biased and masked; those of padding are nothing.
static void adjust(const Attention& a, const Packed& p, int rows, int row) {
  if (a.bias.data || a.mask.data || a.after != 1.f)
    for (int64_t s = 0; s < p.keys; s += kLanes) {
      float* at = score_at(p, rows, s, row);
      Vec x = load(at) * splat(a.after);
      if (a.bias.data) x += load(p.bias + s);
      if (a.mask.data) x = load(p.keep + s) ? x : splat(a.fill);
      store(at, x);
    }
  for (int64_t s = a.keys; s < p.keys; ++s) *score_at(p, rows, s, row) = -kInfinity;
}

// `combine` over all lanes: each step folds the upper half onto the lower one, every element then standing twice as often.
template <class Combine>
static inline float across(Vec v, Combine combine) {
#pragma GCC unroll 4
  for (int n = kLanes; n > 1; n /= 2) v = combine(zip_low(v, v), zip_high(v, v));
  return v[0];
}

// exp of what is at most 0, to about 1e-7: below -88 exactly 0, and NaN where x is. As `exp`, without its upper bound.
static inline Vec decay(Vec x) {
  x = x < splat(-88.f) ? splat(-88.f) : x;
  const Vec magic = splat(12582912.f), shifted = x * splat(1.44269504089f) + magic, whole = shifted - magic;
  const Vec r = (x - whole * splat(0.693359375f)) + whole * splat(2.12194440e-4f);
  const Vec p = polynomial(r, 0.001383683409f, 0.008374822071f, 0.04166822611f, 0.166664201f, 0.4999999208f, 1.000000036f, 1.000000001f);
  return p * (Vec)(((Ints)shifted - splat(int32_t{0x4B400000 - 127})) << 23);
}

// exp(score - largest) in the place of the scores; their sum. What is not a number stays so.
static float exponentials(const Packed& p, int rows, int row) {
  Vec top = load(score_at(p, rows, 0, row));
  for (int64_t s = kLanes; s < p.keys; s += kLanes) {
    const Vec x = load(score_at(p, rows, s, row));
    top = x > top ? x : top;
  }
  const float largest = across(top, [](Vec a, Vec b) { return a > b ? a : b; });
  Vec sum = {};
  for (int64_t s = 0; s < p.keys; s += kLanes) {
    float* at = score_at(p, rows, s, row);
    const Vec e = decay(load(at) - splat(largest));
    store(at, e);
    sum += e;
  }
  return across(sum, [](Vec a, Vec b) { return a + b; });
}

// Columns [d, d + V vectors) of the panel's result.
template <int R, int V>
static void mix(const Attention& a, const Packed& p, float* y, int64_t d) {
  Vec sum[R][V] = {};
  const float *v = p.v + d, *e = p.scores;
  for (int64_t s = 0; s < p.keys; s += kGroup, e += R * kGroup)
#pragma GCC unroll 2
    for (int i = 0; i < kGroup; ++i, v += p.v_size) {
      Vec at[V];
#pragma GCC unroll 2
      for (int c = 0; c < V; ++c) at[c] = load(v + c * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (int c = 0; c < V; ++c) sum[r][c] += splat(e[r * kGroup + i]) * at[c];
    }
  const int64_t stride = a.heads * a.v_size;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int c = 0; c < V; ++c)
      if (const int64_t at = d + c * kLanes; at < a.v_size)
        store_part(y + r * stride + at, sum[r][c] * splat(p.shares[r]), a.v_size - at);
}

template <int R>
static void attention_panel(const Attention& a, const Packed& p, int64_t head, int64_t first) {
  const int64_t b = head / a.heads, h = head % a.heads, row = (b * a.queries + first) * a.heads + h;
  pack_queries(a, a.q + row * a.size, R, p);
  for (int r = 0; r < R; ++r)
    for (int64_t d = 0; d < a.v_size; d += kLanes) __builtin_prefetch(a.y + row * a.v_size + r * a.heads * a.v_size + d, 1);
  score<R>(a, p);
  const bool each = a.bias.query || a.mask.query;
  for (int r = 0; r < R; ++r) {
    if (each || r == 0) read_row(a, p, b, h, first + r);
    adjust(a, p, R, r);
    p.shares[r] = 1.f / exponentials(p, R, r);
  }
  float* y = a.y + row * a.v_size;
  int64_t d = 0;
  for (; d + 2 * kLanes <= p.v_size; d += 2 * kLanes) mix<R, 2>(a, p, y, d);
  if (d < p.v_size) mix<R, 1>(a, p, y, d);
}

template <int R = kQueries>
static void attention_rows(int64_t rows, const Attention& a, const Packed& p, int64_t head, int64_t first) {
  if constexpr (R > 0) {
    if (rows == R) return attention_panel<R>(a, p, head, first);
    attention_rows<R - 1>(rows, a, p, head, first);
  }
}

static void attention_run(const Attention& a, int64_t head, int64_t first, int64_t last, float* scratch) {
  const Packed p(a, scratch);
  const int64_t panels = attention_panels(a);
  for (int64_t i = first; i < last; ++i) {
    const int64_t begin = a.queries * i / panels, end = a.queries * (i + 1) / panels;
    attention_rows(end - begin, a, p, head, begin);
  }
}

}  // namespace sparta::ISA
