// The two products as plain data, and what one instruction set offers for them.
#pragma once
#include <cstdint>

namespace sparta {

enum class Activation : int32_t { kNone, kRelu, kGeluTanh, kGeluErf, kSilu, kTanh, kSigmoid, kCount };

struct Range {
  int64_t begin, end;
};

// How an SpMM uses its vectors. kVector: one row of x, unpacked. kAlongN: a vector holds neighbouring columns of y.
// kAlongM: a vector holds rows of y, so that blocks of any shape, read in any direction, are only ever read one number at a time.
enum class Path : int32_t { kVector, kAlongN, kAlongM };

// y[m, n] = activation(x[m, k] @ W[k, n] + bias) + residual, W given by its live blocks, listed by block column.
struct Spmm {
  const float *x, *blocks;
  const int32_t *indptr, *indices;
  const int32_t* order;            // which stored block an entry is; null: its own number
  const float *bias, *residual;    // null where there is none
  float* y;
  int64_t m, k, n;
  int64_t rows, cols;              // a block contracts `rows` elements of x and yields `cols` of y
  int64_t row_stride, col_stride;  // between the elements of a stored block, in the direction in which it is read
  Activation activation;
  Path path;
  int64_t panels;                  // the rows of y are cut into this many panels
};

// blocks[e] = x[:, rows of e]^T @ g[:, columns of e] at the live blocks of a [k, n] matrix, listed by block column.
struct Sddmm {
  const float *x, *g;
  const int32_t *indptr, *indices;
  float *blocks, *packed_x, *packed_g;
  int64_t m, k, n;
  int64_t rows, cols;  // of a block
  bool along_n;        // whether a vector holds neighbouring columns of a block; else it holds rows of x and g
  int64_t padded_m;    // rows in the packed panels
};

// The functions of one instruction set. `plan_*` fills the fields that depend on it (path, panels, along_n, padded_m).
struct Isa {
  const char* name;
  void (*plan_spmm)(Spmm&);
  int64_t (*packed_size)(const Spmm&, Range panels);            // floats
  void (*pack_x)(const Spmm&, Range panels, float* packed);     // the rows of x in these panels
  void (*spmm)(const Spmm&, Range panels, const float* packed, Range columns);  // these panels of y, these block columns
  void (*plan_sddmm)(Sddmm&);
  void (*pack_operand)(const Sddmm&, int64_t panel);  // block rows of x first, then block columns of g
  void (*sddmm)(const Sddmm&, Range columns);         // the live blocks of these block columns
};

namespace baseline { extern const Isa isa; }
namespace avx2 { extern const Isa isa; }
namespace avx512 { extern const Isa isa; }

}  // namespace sparta
