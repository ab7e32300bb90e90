// The XLA FFI handlers that make blocks of a dense matrix and a dense matrix of blocks. Numbers are copied as they are.
#include "tables.h"
#include "work.h"

namespace sparta {

struct Blocks {
  int64_t k, n, count, rows, cols, columns, bytes;
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
  const int64_t workers = workers_for(10 * bytes, pool), slices = workers == 1 ? 1 : std::min(4 * workers, n);
  share(pool, workers, slices, 1, [&](int64_t&, int64_t slice, int64_t) {
    for (int64_t i = n * slice / slices; i < n * (slice + 1) / slices; ++i) work(i);
  });
}

template <class T>
static void gather(const Blocks& b, const void* dense, void* blocks, ffi::ThreadPool& pool) {
  const T* from = static_cast<const T*>(dense);
  T* to = static_cast<T*>(blocks);
  each_of(pool, b.columns, double(b.bytes) * b.count * b.rows * b.cols, [&](int64_t j) {
    each_block(b, j, [&](int64_t block, int64_t corner, int64_t rows, int64_t cols) {
      for (int64_t r = 0; r < b.rows; ++r) {
        T* row = to + block + r * b.cols;
        const int64_t live = r < rows ? cols : 0;
        std::copy_n(from + corner + (live ? r * b.n : 0), live, row);
        std::fill(row + live, row + b.cols, T{});
      }
    });
  });
}

template <class T>
static void scatter(const Blocks& b, const void* blocks, void* dense, ffi::ThreadPool& pool) {
  const T* from = static_cast<const T*>(blocks);
  T* to = static_cast<T*>(dense);
  each_of(pool, b.k, double(b.bytes) * b.k * b.n, [&](int64_t r) { std::fill_n(to + r * b.n, b.n, T{}); });
  each_of(pool, b.columns, double(b.bytes) * b.count * b.rows * b.cols, [&](int64_t j) {
    each_block(b, j, [&](int64_t block, int64_t corner, int64_t rows, int64_t cols) {
      for (int64_t r = 0; r < rows; ++r) std::copy_n(from + block + r * b.cols, cols, to + corner + r * b.n);
    });
  });
}

template <class D, class B>
static ffi::ErrorOr<Blocks> blocks_of(const D& dense, const B& blocks, const Table& indptr, const Table& indices) {
  const auto ds = dense.dimensions(), bs = blocks.dimensions();
  const auto refuse = [](ffi::Error error) { return ffi::Unexpected(std::move(error)); };
  if (ds.size() != 2 || bs.size() != 3 || bs[1] < 1 || bs[2] < 1)
    return refuse(invalid("BSR: a dense matrix [k, n] and blocks [nnzb, br, bc] are needed, got ", text(ds), " and ", text(bs)));
  const auto dtype = dtype_of(dense.element_type());
  if (!dtype || dense.element_type() != blocks.element_type())
    return refuse(invalid("BSR: the matrix and its blocks must be of one dtype: float32, bfloat16, float16 or float64"));
  const Blocks b{ds[0], ds[1], bs[0], bs[1], bs[2], divide_up(ds[1], bs[2]), size_of(*dtype), indptr.typed_data(), indices.typed_data()};
  if (auto error = check_blocks(indptr, indices, b.count, divide_up(b.k, b.rows), b.columns); error.failure()) return refuse(error);
  return b;
}

static ffi::Error pack(ffi::ThreadPool pool, ffi::AnyBuffer dense, Table indptr, Table indices, ffi::Result<ffi::AnyBuffer> blocks) {
  const auto b = blocks_of(dense, *blocks, indptr, indices);
  if (!b.has_value()) return b.error();
  const auto copy = b->bytes == 8 ? gather<uint64_t> : b->bytes == 4 ? gather<uint32_t> : gather<uint16_t>;
  copy(*b, dense.untyped_data(), blocks->untyped_data(), pool);
  return ffi::Error::Success();
}

static ffi::Error unpack(ffi::ThreadPool pool, ffi::AnyBuffer blocks, Table indptr, Table indices, ffi::Result<ffi::AnyBuffer> dense) {
  const auto b = blocks_of(*dense, blocks, indptr, indices);
  if (!b.has_value()) return b.error();
  const auto copy = b->bytes == 8 ? scatter<uint64_t> : b->bytes == 4 ? scatter<uint32_t> : scatter<uint16_t>;
  copy(*b, blocks.untyped_data(), dense->untyped_data(), pool);
  return ffi::Error::Success();
}

static auto binding() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<ffi::AnyBuffer>().Arg<Table>().Arg<Table>().Ret<ffi::AnyBuffer>();
}

}  // namespace sparta

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_pack, sparta::pack, sparta::binding());

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_unpack, sparta::unpack, sparta::binding());

#pragma GCC visibility pop
