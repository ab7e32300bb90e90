// Softmax attention as plain data, and what one instruction set offers for it.
#pragma once
#include <cstdint>

namespace sparta {

// An array that is read as [batch, heads, queries, keys]; a stride is 0 where its own size is 1. Null where there is none.
template <class T>
struct Scores {
  const T* data;
  int64_t batch, head, query, key;
};

// y[b, t, h] = sum_s p[b, h, t, s] v[b, s, h'], p = softmax over s of score, h' = h / (heads / kv_heads),
// score = where(mask, (q[b, t, h] * before) . k[b, s, h'] * after + bias, fill); all arrays are [batch, length, heads, size].
struct Attention {
  const float *q, *k, *v;
  Scores<float> bias;
  Scores<uint8_t> mask;
  float before, after, fill;
  float* y;
  int64_t queries, keys, heads, kv_heads, size, v_size;
};

// The functions of one instruction set. A head is `batch * heads + h`.
struct AttentionIsa {
  const char* name;
  int64_t (*scratch)(const Attention&);                                           // floats
  int64_t (*panels)(const Attention&);                                            // the queries of a head are cut into so many
  void (*pack)(const Attention&, int64_t head, float* scratch);                   // its k and v
  void (*run)(const Attention&, int64_t head, int64_t first, int64_t last, float* scratch);  // these panels
};

namespace baseline { extern const AttentionIsa attention; }
namespace avx2 { extern const AttentionIsa attention; }
namespace avx512 { extern const AttentionIsa attention; }

}  // namespace sparta
