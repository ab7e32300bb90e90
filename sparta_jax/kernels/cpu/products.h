// The two products as plain data, and what one instruction set offers for them.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace sparta {

enum class Activation : int32_t { kNone, kRelu, kGeluTanh, kGeluErf, kSilu, kTanh, kSigmoid, kCount };

struct Range {
  int64_t begin, end;
};

// y[m, n] = activation(sums + bias) + residual, computed in the sums' type and rounded once.
struct Epilogue {
  void* y;
  const void *bias, *residual;  // of y's dtype; null where there is none
  int64_t n;
  Dtype dtype;
  Activation activation;
};

// How an SpMM uses its vectors. kVector: one row of x. kAlongN: a vector holds neighbouring columns of y.
// kAlongM: a vector holds rows of y, so that blocks of any shape, read in any direction, are only ever read one number at a time.
enum class Path : int32_t { kVector, kAlongN, kAlongM };

// The sums of x[m, k] @ W[k, n], W given by its live blocks, listed by block column. They are float64 where W is, else float32.
struct Spmm {
  const void *x, *blocks;
  Dtype x_dtype, w_dtype;
  const int32_t *indptr, *indices;
  const int32_t* order;            // which stored block an entry is; null: its own number
  int64_t longest;                 // entries of the longest block column
  Epilogue epilogue;
  int64_t m, k, n;
  int64_t rows, cols;              // a block contracts `rows` elements of x and yields `cols` of y
  int64_t row_stride, col_stride;  // between the elements of a stored block, in the direction in which it is read
  Path path;
  int64_t panels;                  // the rows of y are cut into this many panels
};

// blocks[e] = x[:, rows of e]^T @ g[:, columns of e] at the live blocks of a [k, n] matrix, listed by block column. Everything in
// between is float64 where x is, else float32.
struct Sddmm {
  const void *x, *g;
  Dtype x_dtype, g_dtype, dtype;
  const int32_t *indptr, *indices;
  void *blocks, *sums;  // the same where no rounding is needed
  void *packed_x, *packed_g;
  int64_t m, k, n;
  int64_t rows, cols;  // of a block
  bool along_n;        // whether a vector holds neighbouring columns of a block; else it holds rows of x and g
  int64_t padded_m;    // rows in the packed panels
};

// The functions of one instruction set. `plan_*` fills the fields that depend on it (path, panels, along_n, padded_m).
struct Isa {
  const char* name;
  void (*plan_spmm)(Spmm&);
  int64_t (*packed_bytes)(const Spmm&, Range panels);         // of scratch memory for these panels
  void (*pack_x)(const Spmm&, Range panels, void* packed);    // the rows of x in these panels
  void (*spmm)(const Spmm&, Range panels, void* packed, Range columns);  // these panels of y, these block columns
  void (*plan_sddmm)(Sddmm&);
  void (*pack_operand)(const Sddmm&, int64_t panel);  // block rows of x first, then block columns of g
  void (*sddmm)(const Sddmm&, Range columns);         // the live blocks of these block columns
};

namespace baseline { extern const Isa isa; }
namespace avx2 { extern const Isa isa; }
namespace avx512 { extern const Isa isa; }
namespace avx512_bf16 { extern const Isa isa; }  // the SpMM alone, of bfloat16 by bfloat16 in whole vectors

}  // namespace sparta
