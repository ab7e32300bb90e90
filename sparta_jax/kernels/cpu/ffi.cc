// The XLA FFI handlers: checks, choice of the instruction set, cutting into work items. No Python API: loaded with ctypes.
#include <cstdlib>
#include <string>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "products.h"
#include "share.h"

namespace ffi = xla::ffi;

namespace sparta {

// -- the instruction set

#if defined(__x86_64__)
static bool has_f16c() {  // some compilers' __builtin_cpu_supports does not know it
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

static const Isa* supported(const std::string& name) {
  if (name == "baseline") return &baseline::isa;
#if defined(__x86_64__)
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (name == "avx2" && has_avx2) return &avx2::isa;
  if (name == "avx512" && has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
    return &avx512::isa;
#endif
  return nullptr;
}

// The named one, or null where this machine lacks it; the best one for an empty name.
static const Isa* choose(const std::string& name) {
  if (!name.empty()) return supported(name);
  for (const char* best : {"avx512", "avx2"})
    if (const Isa* isa = supported(best)) return isa;
  return &baseline::isa;
}

// -- scratch memory: one buffer per thread, kept between calls, so that it stays in that core's cache and is never faulted in anew

static float* scratch(int64_t floats) {
  struct Buffer {
    float* data = nullptr;
    int64_t size = 0;
    ~Buffer() { std::free(data); }
  };
  static thread_local Buffer buffer;
  if (floats <= buffer.size) return buffer.data;
  std::free(buffer.data);
  void* data = nullptr;
  buffer.data = posix_memalign(&data, 64, floats * sizeof(float)) ? nullptr : static_cast<float*>(data);
  buffer.size = buffer.data ? floats : 0;
  return buffer.data;
}

// -- work items

constexpr int64_t kCachedFloats = 96 << 10;  // packed x of one chunk: stays in the second-level cache beside a block column of W
constexpr double kItem = 5e5, kWorker = 1e6;  // operations worth an item, and worth waking a thread

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Block columns [0, columns) cut into `parts` of about equal work: live blocks, and a constant for each column.
static Range cut(const int32_t* indptr, int64_t columns, int64_t rows, int64_t part, int64_t parts) {
  const auto work = [=](int64_t j) { return indptr[j] * rows + 8 * j; };
  const auto first = [=](int64_t i) {
    if (i >= parts) return columns;
    const double target = double(work(columns)) * i / parts;
    int64_t low = 0, high = columns;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      (work(middle) < target ? low : high) = middle + (work(middle) < target);
    }
    return low;
  };
  return {first(part), first(part + 1)};
}

// -- checks

static ffi::Error check_tables(const int32_t* indptr, int64_t indptr_size, const int32_t* indices, int64_t count, int64_t block_rows,
                               int64_t block_columns) {
  if (indptr_size != block_columns + 1 || indptr[0] != 0 || indptr[block_columns] != count)
    return ffi::Error::InvalidArgument("BSR: indptr does not fit the blocks");
  for (int64_t j = 0; j < block_columns; ++j)
    if (indptr[j] > indptr[j + 1]) return ffi::Error::InvalidArgument("BSR: indptr decreases");
  uint32_t largest = 0;  // a negative index is a large unsigned one
  for (int64_t e = 0; e < count; ++e) largest = std::max(largest, uint32_t(indices[e]));
  if (count && int64_t(largest) >= block_rows) return ffi::Error::InvalidArgument("BSR: an index is out of range");
  return ffi::Error::Success();
}

static ffi::Error check_order(const int32_t* order, int64_t size, int64_t count) {
  if (size != count) return ffi::Error::InvalidArgument("BSR: order does not fit the blocks");
  uint32_t largest = 0;
  for (int64_t e = 0; e < count; ++e) largest = std::max(largest, uint32_t(order[e]));
  if (count && int64_t(largest) >= count) return ffi::Error::InvalidArgument("BSR: order is out of range");
  return ffi::Error::Success();
}

template <class B>
static bool has_shape(const B& buffer, std::initializer_list<int64_t> shape) {
  const auto dims = buffer.dimensions();
  return dims.size() == shape.size() && std::equal(shape.begin(), shape.end(), dims.begin());
}

// -- y = activation(x @ W + bias) + residual

// `order`, `bias` and `residual` are empty where there is none. With `transposed` the tables are those of the transposed pattern,
// `order` says which stored block an entry is, and every block is read as its transpose.
static ffi::Error spmm(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> blocks, ffi::Buffer<ffi::S32> indptr,
                       ffi::Buffer<ffi::S32> indices, ffi::Buffer<ffi::S32> order, ffi::Buffer<ffi::F32> bias,
                       ffi::Buffer<ffi::F32> residual, ffi::ResultBuffer<ffi::F32> y, bool transposed, int32_t activation,
                       std::string_view isa_name) {
  const Isa* isa = choose(std::string(isa_name));
  if (!isa) return ffi::Error::InvalidArgument("spmm: this CPU does not have " + std::string(isa_name));
  const auto xs = x.dimensions(), bs = blocks.dimensions(), ys = y->dimensions();
  if (xs.size() != 2 || bs.size() != 3 || ys.size() != 2 || ys[0] != xs[0])
    return ffi::Error::InvalidArgument("spmm: x and y must be matrices with as many rows, blocks [nnzb, br, bc]");
  if (bs[1] < 1 || bs[2] < 1) return ffi::Error::InvalidArgument("spmm: an empty block");
  if (activation < 0 || activation >= int32_t(Activation::kCount)) return ffi::Error::InvalidArgument("spmm: no such activation");
  const int64_t m = xs[0], k = xs[1], n = ys[1], count = bs[0];
  const int64_t rows = transposed ? bs[2] : bs[1], cols = transposed ? bs[1] : bs[2], columns = divide_up(n, cols);
  if (bias.element_count() && !has_shape(bias, {n})) return ffi::Error::InvalidArgument("spmm: bias does not fit y");
  if (residual.element_count() && !has_shape(residual, {m, n})) return ffi::Error::InvalidArgument("spmm: residual does not fit y");
  if (int64_t(indices.element_count()) != count) return ffi::Error::InvalidArgument("BSR: indices do not fit the blocks");
  if (auto error = check_tables(indptr.typed_data(), indptr.element_count(), indices.typed_data(), count, divide_up(k, rows), columns);
      error.failure())
    return error;
  if (transposed)
    if (auto error = check_order(order.typed_data(), order.element_count(), count); error.failure()) return error;
  if (m == 0 || n == 0) return ffi::Error::Success();

  Spmm p{};
  p.x = x.typed_data(), p.blocks = blocks.typed_data(), p.indptr = indptr.typed_data(), p.indices = indices.typed_data();
  p.order = transposed ? order.typed_data() : nullptr;
  p.bias = bias.element_count() ? bias.typed_data() : nullptr;
  p.residual = residual.element_count() ? residual.typed_data() : nullptr;
  p.y = y->typed_data();
  p.m = m, p.k = k, p.n = n, p.rows = rows, p.cols = cols;
  p.row_stride = transposed ? 1 : cols, p.col_stride = transposed ? rows : 1;
  p.activation = Activation(activation);
  isa->plan_spmm(p);

  const double each = p.activation == Activation::kNone || p.activation == Activation::kRelu ? 16 : 80;
  const double work = 2.0 * std::max<int64_t>(m, 4) * count * rows * cols + each * m * n + 8.0 * m * k;
  const int64_t workers = std::clamp<int64_t>(int64_t(work / kWorker), 1, std::max<int64_t>(pool.num_threads(), 1));
  int64_t chunks = divide_up(isa->packed_size(p, {0, p.panels}), kCachedFloats);
  chunks = std::clamp<int64_t>(divide_up(std::max<int64_t>(chunks, 1), workers) * workers, 1, p.panels);
  const int64_t wanted = workers == 1 ? 1 : divide_up(4 * workers, chunks);
  const int64_t slices = std::clamp<int64_t>(int64_t(work / kItem / chunks), 1, std::min(wanted, columns));

  std::atomic<bool> starved{false};
  share(pool, workers, chunks, slices, [&](int64_t& held, int64_t chunk, int64_t slice) {
    const Range panels{p.panels * chunk / chunks, p.panels * (chunk + 1) / chunks};
    float* packed = nullptr;
    if (const int64_t size = isa->packed_size(p, panels)) {
      packed = scratch(size);
      if (!packed) return starved.store(true);
      if (held != chunk) isa->pack_x(p, panels, packed);
      held = chunk;
    }
    isa->spmm(p, panels, packed, cut(p.indptr, columns, rows, slice, slices));
  });
  return starved ? ffi::Error(ffi::ErrorCode::kResourceExhausted, "spmm: no memory to pack x") : ffi::Error::Success();
}

// -- the live blocks of x^T @ g

// The second result is scratch memory, at least round_up(m, 16) * (round_up(k, br) + round_up(n, bc)) floats.
static ffi::Error sddmm(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> g, ffi::Buffer<ffi::S32> indptr,
                        ffi::Buffer<ffi::S32> indices, ffi::ResultBuffer<ffi::F32> blocks, ffi::ResultBuffer<ffi::F32> packed,
                        std::string_view isa_name) {
  const Isa* isa = choose(std::string(isa_name));
  if (!isa) return ffi::Error::InvalidArgument("sddmm: this CPU does not have " + std::string(isa_name));
  const auto xs = x.dimensions(), gs = g.dimensions(), bs = blocks->dimensions();
  if (xs.size() != 2 || gs.size() != 2 || bs.size() != 3 || gs[0] != xs[0])
    return ffi::Error::InvalidArgument("sddmm: x and g must be matrices with as many rows, blocks [nnzb, br, bc]");
  if (bs[1] < 1 || bs[2] < 1) return ffi::Error::InvalidArgument("sddmm: an empty block");
  Sddmm p{};
  p.m = xs[0], p.k = xs[1], p.n = gs[1], p.rows = bs[1], p.cols = bs[2];
  const int64_t count = bs[0], block_rows = divide_up(p.k, p.rows), columns = divide_up(p.n, p.cols);
  if (int64_t(indices.element_count()) != count) return ffi::Error::InvalidArgument("BSR: indices do not fit the blocks");
  if (auto error = check_tables(indptr.typed_data(), indptr.element_count(), indices.typed_data(), count, block_rows, columns);
      error.failure())
    return error;
  isa->plan_sddmm(p);
  if (int64_t(packed->element_count()) < p.padded_m * (block_rows * p.rows + columns * p.cols))
    return ffi::Error::InvalidArgument("sddmm: too little scratch memory");
  if (count == 0) return ffi::Error::Success();

  p.x = x.typed_data(), p.g = g.typed_data(), p.indptr = indptr.typed_data(), p.indices = indices.typed_data();
  p.blocks = blocks->typed_data(), p.packed_x = packed->typed_data(), p.packed_g = p.packed_x + block_rows * p.rows * p.padded_m;
  const double work = 2.0 * std::max<int64_t>(p.m, 4) * count * p.rows * p.cols + 8.0 * p.m * (p.k + p.n);
  const int64_t workers = std::clamp<int64_t>(int64_t(work / kWorker), 1, std::max<int64_t>(pool.num_threads(), 1));
  const int64_t slices = workers == 1 ? 1 : std::min(4 * workers, columns);
  share(pool, workers, block_rows + columns, 1, [&](int64_t&, int64_t panel, int64_t) { isa->pack_operand(p, panel); });
  share(pool, workers, slices, 1,
        [&](int64_t&, int64_t slice, int64_t) { isa->sddmm(p, cut(p.indptr, columns, p.rows, slice, slices)); });
  return ffi::Error::Success();
}

// -- blocks from a dense matrix and back

struct Blocks {
  int64_t k, n, rows, cols, columns;
  const int32_t *indptr, *indices;
};

// Calls each(stored block, its corner in the dense matrix, live rows, live columns) for the entries of one block column.
template <class Each>
static void each_block(const Blocks& b, int64_t column, Each each) {
  for (int64_t e = b.indptr[column]; e < b.indptr[column + 1]; ++e) {
    const int64_t row = b.indices[e] * b.rows, at = column * b.cols;
    each(e * b.rows * b.cols, row * b.n + at, std::min(b.rows, b.k - row), std::min(b.cols, b.n - at));
  }
}

// work(i) for i in [0, n), `bytes` moved in all.
static void each_of(ffi::ThreadPool& pool, int64_t n, double bytes, std::function<void(int64_t)> work) {
  const int64_t workers = std::clamp<int64_t>(int64_t(bytes / 1e5), 1, std::max<int64_t>(pool.num_threads(), 1));
  const int64_t slices = workers == 1 ? 1 : std::min(4 * workers, n);
  share(pool, workers, slices, 1, [&](int64_t&, int64_t slice, int64_t) {
    for (int64_t i = n * slice / slices; i < n * (slice + 1) / slices; ++i) work(i);
  });
}

static ffi::ErrorOr<Blocks> blocks_of(ffi::Span<const int64_t> dense, ffi::Span<const int64_t> blocks, ffi::Buffer<ffi::S32> indptr,
                                      ffi::Buffer<ffi::S32> indices) {
  if (dense.size() != 2 || blocks.size() != 3 || blocks[1] < 1 || blocks[2] < 1)
    return ffi::Unexpected(ffi::Error::InvalidArgument("BSR: a dense matrix [k, n] and blocks [nnzb, br, bc] are needed"));
  const Blocks b{dense[0], dense[1], blocks[1], blocks[2], divide_up(dense[1], blocks[2]), indptr.typed_data(), indices.typed_data()};
  if (int64_t(indices.element_count()) != blocks[0])
    return ffi::Unexpected(ffi::Error::InvalidArgument("BSR: indices do not fit the blocks"));
  if (auto error = check_tables(b.indptr, indptr.element_count(), b.indices, blocks[0], divide_up(b.k, b.rows), b.columns);
      error.failure())
    return ffi::Unexpected(error);
  return b;
}

static ffi::Error pack(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> dense, ffi::Buffer<ffi::S32> indptr, ffi::Buffer<ffi::S32> indices,
                       ffi::ResultBuffer<ffi::F32> blocks) {
  const auto b = blocks_of(dense.dimensions(), blocks->dimensions(), indptr, indices);
  if (!b.has_value()) return b.error();
  const float* from = dense.typed_data();
  float* to = blocks->typed_data();
  each_of(pool, b->columns, 4.0 * blocks->element_count(), [&](int64_t j) {
    each_block(*b, j, [&](int64_t block, int64_t corner, int64_t rows, int64_t cols) {
      for (int64_t r = 0; r < b->rows; ++r) {
        float* row = to + block + r * b->cols;
        const int64_t live = r < rows ? cols : 0;
        std::copy_n(from + corner + (live ? r * b->n : 0), live, row);
        std::fill(row + live, row + b->cols, 0.f);
      }
    });
  });
  return ffi::Error::Success();
}

static ffi::Error unpack(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> blocks, ffi::Buffer<ffi::S32> indptr,
                         ffi::Buffer<ffi::S32> indices, ffi::ResultBuffer<ffi::F32> dense) {
  const auto b = blocks_of(dense->dimensions(), blocks.dimensions(), indptr, indices);
  if (!b.has_value()) return b.error();
  const float* from = blocks.typed_data();
  float* to = dense->typed_data();
  each_of(pool, b->k, 4.0 * dense->element_count(), [&](int64_t r) { std::fill_n(to + r * b->n, b->n, 0.f); });
  each_of(pool, b->columns, 4.0 * blocks.element_count(), [&](int64_t j) {
    each_block(*b, j, [&](int64_t block, int64_t corner, int64_t rows, int64_t cols) {
      for (int64_t r = 0; r < rows; ++r) std::copy_n(from + block + r * b->cols, cols, to + corner + r * b->n);
    });
  });
  return ffi::Error::Success();
}

}  // namespace sparta

#pragma GCC visibility push(default)

// The name of the instruction set in use (for an empty name: the best one), null where this machine lacks it.
extern "C" const char* sparta_isa(const char* name) {
  const sparta::Isa* isa = sparta::choose(name);
  return isa ? isa->name : nullptr;
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_spmm, sparta::spmm,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<bool>("transposed")
                                  .Attr<int32_t>("activation")
                                  .Attr<std::string_view>("isa"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_sddmm, sparta::sddmm,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<std::string_view>("isa"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_pack, sparta::pack,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_unpack, sparta::unpack,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

#pragma GCC visibility pop
