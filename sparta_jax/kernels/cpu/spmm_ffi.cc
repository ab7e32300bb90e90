// The XLA FFI handler of the block SpMM: checks, cutting into work items.
#include "tables.h"
#include "work.h"

namespace sparta {

constexpr int64_t kCachedBytes = 384 << 10;  // packed x of one chunk: stays in the second-level cache beside a block column of W

static ffi::Error run(const Isa& isa, Spmm& p, ffi::ThreadPool& pool) {
  isa.plan_spmm(p);
  const int64_t count = p.indptr[divide_up(p.n, p.cols)], columns = divide_up(p.n, p.cols);
  const double after = finishing(p.epilogue.activation) * p.m * p.n;
  const double rows = p.m == 1 ? 1.5 : std::max<int64_t>(p.m, 4);  // one row takes the time in which its weight is read
  const double work = 2.0 * rows * count * p.rows * p.cols + after + 8.0 * p.m * p.k;
  const int64_t workers = workers_for(work, pool);
  int64_t chunks = divide_up(isa.packed_bytes(p, {0, p.panels}), kCachedBytes);
  chunks = std::clamp<int64_t>(divide_up(std::max<int64_t>(chunks, 1), workers) * workers, 1, p.panels);
  const int64_t wanted = workers == 1 ? 1 : divide_up(4 * workers, chunks);
  const int64_t slices = std::clamp<int64_t>(int64_t(work / kItem / chunks), 1, std::min(wanted, columns));

  std::atomic<bool> starved{false};
  share(pool, workers, chunks, slices, [&](int64_t& held, int64_t chunk, int64_t slice) {
    const Range panels{p.panels * chunk / chunks, p.panels * (chunk + 1) / chunks};
    float* packed = thread_scratch(std::max<int64_t>(divide_up(isa.packed_bytes(p, panels), sizeof(float)), 1));
    if (!packed) return starved.store(true);
    if (held != chunk) isa.pack_x(p, panels, packed);
    held = chunk;
    isa.spmm(p, panels, packed, cut(p.indptr, columns, p.rows, slice, slices));
  });
  return starved ? ffi::Error(ffi::ErrorCode::kResourceExhausted, "spmm: no memory to pack x") : ffi::Error::Success();
}

// `order`, `bias` and `residual` are empty where there is none. With `transposed` the tables are those of the transposed pattern,
// `order` says which stored block an entry is, and every block is read as its transpose.
static ffi::Error spmm(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer blocks, Table indptr, Table indices, Table order,
                       ffi::AnyBuffer bias, ffi::AnyBuffer residual, ffi::Result<ffi::AnyBuffer> y, bool transposed, int32_t activation,
                       std::string_view isa_name) {
  const Isa* isa = kBlockSets.choose(std::string(isa_name));
  if (!isa) return invalid("spmm: this CPU does not have ", std::string(isa_name));
  const auto xs = x.dimensions(), bs = blocks.dimensions(), ys = y->dimensions();
  if (xs.size() != 2 || bs.size() != 3 || ys.size() != 2 || ys[0] != xs[0])
    return invalid("spmm: x and y must be matrices with as many rows, blocks [nnzb, br, bc]; got ", text(xs), ", ", text(ys), ", ", text(bs));
  if (bs[1] < 1 || bs[2] < 1) return invalid("spmm: empty blocks ", text(bs));
  const auto dtypes = dtypes_of("spmm", x.element_type(), blocks.element_type(), y->element_type());
  if (!dtypes.has_value()) return dtypes.error();

  Spmm p{};
  p.x = x.untyped_data(), p.blocks = blocks.untyped_data(), p.x_dtype = dtypes->a, p.w_dtype = dtypes->b;
  p.m = xs[0], p.k = xs[1], p.n = ys[1];
  p.rows = transposed ? bs[2] : bs[1], p.cols = transposed ? bs[1] : bs[2];
  p.row_stride = transposed ? 1 : p.cols, p.col_stride = transposed ? p.rows : 1;
  p.epilogue = {y->untyped_data(), data_of(bias), data_of(residual), p.n, dtypes->out, Activation(activation)};
  p.indptr = indptr.typed_data(), p.indices = indices.typed_data(), p.order = transposed ? order.typed_data() : nullptr;
  if (auto error = check_activation("spmm", activation); error.failure()) return error;
  if (auto error = check_extra("spmm: bias", bias, y->element_type(), {p.n}); error.failure()) return error;
  if (auto error = check_extra("spmm: residual", residual, y->element_type(), {p.m, p.n}); error.failure()) return error;
  if (auto error = check_blocks(indptr, indices, bs[0], divide_up(p.k, p.rows), divide_up(p.n, p.cols), &p.longest); error.failure())
    return error;
  if (transposed)
    if (auto error = check_order(order, bs[0]); error.failure()) return error;
  if (!p.m || !p.n) return ffi::Error::Success();
#if defined(__x86_64__)
  if (has_dots(p, std::string(isa_name))) isa = &avx512_bf16::isa;
#endif
  return run(*isa, p, pool);
}

}  // namespace sparta

#pragma GCC visibility push(default)

// The name of the instruction set in use (for an empty name: the best one), null where this machine lacks it.
extern "C" const char* sparta_isa(const char* name) {
  const sparta::Isa* isa = sparta::kBlockSets.choose(name);
  return isa ? isa->name : nullptr;
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_spmm, sparta::spmm,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<sparta::Table>()
                                  .Arg<sparta::Table>()
                                  .Arg<sparta::Table>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Attr<bool>("transposed")
                                  .Attr<int32_t>("activation")
                                  .Attr<std::string_view>("isa"));

#pragma GCC visibility pop
