// The products of a weight that is stored by its elements, as plain data, and what one instruction set offers for them.
#pragma once
#include "dtypes.h"
#include "products.h"

namespace sparta {

// W[k, n], its live elements listed by column: those of column j are the entries indptr[j] ... indptr[j + 1], at rows `indices`.
struct Elements {
  const void* values;
  const int32_t *indptr, *indices;
  int64_t k, n;
};

// y[m, n] = activation(x[m, k] @ W + bias) + residual, or with `transposed` y[m, k] = x[m, n] @ W^T. Arrays are of one storage type.
struct CsrSpmm {
  Elements w;
  const void *x, *bias, *residual;  // bias and residual are null where there is none
  void* y;
  int64_t m, width;  // rows of x, and of a panel
  bool transposed;
  Activation activation;

  int64_t in() const { return transposed ? w.n : w.k; }
  int64_t out() const { return transposed ? w.k : w.n; }
  int64_t panels() const { return (m + width - 1) / width; }
};

// y = down(h), where h = up(x), or up(x) * gate(x) if `gated`. Only `down` has a residual; the panels of all are alike.
struct CsrMlp {
  CsrSpmm up, gate, down;
  bool gated;

  int64_t width() const { return up.width; }
  int64_t panels() const { return up.panels(); }
  int64_t numbers() const { return up.w.k + up.w.n; }  // that a row of a panel keeps: of x and of h
};

// values[e] = x[:, row of e] . g[:, column of e]; panels hold `width` rows of x and g.
struct CsrSddmm {
  Elements w;  // without values
  const void *x, *g;
  void* values;
  int64_t m, width;

  int64_t panels() const { return (m + width - 1) / width; }
};

// The functions of one instruction set for one storage type. Numbers in scratch memory are of the compute type. Functions that
// follow indices return whether all of them were in range, and follow no other. Where `check` is false the caller has had all
// indices of these columns checked before.
struct CsrIsa {
  int64_t compute_size;                                                 // bytes of the compute type
  int64_t (*width)(int64_t m, int64_t contracted);                      // rows in a panel
  int64_t (*scratch)(const CsrSpmm&);                                   // numbers of the compute type that a panel needs
  void (*pack)(const CsrSpmm&, int64_t panel, void* scratch);           // x of a panel
  bool (*spmm)(const CsrSpmm&, int64_t panel, void* scratch, Range, bool check);  // columns of y, for a panel that is packed
  int64_t (*mlp_width)(int64_t m, int64_t numbers, int64_t workers);    // rows in a panel of as many numbers each
  bool (*mlp)(const CsrMlp&, int64_t panel, void* scratch, bool check);
  int64_t (*sddmm_width)(int64_t m, int64_t k);
  void (*pack_columns)(const void* from, int64_t m, int64_t size, int64_t width, int64_t panel, Range, void* to);
  bool (*sddmm)(const CsrSddmm&, const void* packed_x, const void* packed_g, Range, void* sums);
};

// By dtype.
namespace baseline { extern const CsrIsa csr[4]; }
namespace avx2 { extern const CsrIsa csr[4]; }
namespace avx512 { extern const CsrIsa csr[4]; }

}  // namespace sparta
