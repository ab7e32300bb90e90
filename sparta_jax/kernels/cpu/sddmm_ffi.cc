// The XLA FFI handler of the block SDDMM: checks, cutting into work items.
#include "tables.h"
#include "work.h"

namespace sparta {

static ffi::Error run(const Isa& isa, const Sddmm& p, int64_t count, ffi::ThreadPool& pool) {
  const int64_t columns = divide_up(p.n, p.cols);
  const double work = 2.0 * std::max<int64_t>(p.m, 4) * count * p.rows * p.cols + 8.0 * p.m * (p.k + p.n);
  const int64_t workers = workers_for(work, pool), slices = workers == 1 ? 1 : std::min(4 * workers, columns);
  share(pool, workers, divide_up(p.k, p.rows) + columns, 1, [&](int64_t&, int64_t panel, int64_t) { isa.pack_operand(p, panel); });
  share(pool, workers, slices, 1,
        [&](int64_t&, int64_t slice, int64_t) { isa.sddmm(p, cut(p.indptr, columns, p.rows, slice, slices)); });
  return ffi::Error::Success();
}

// The second result is scratch memory in the dtype of the sums (float64 where x is, else float32): at least
// round_up(m, 16) * (round_up(k, br) + round_up(n, bc)) numbers, and as many as `blocks` has where that is of fewer bits.
static ffi::Error sddmm(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer g, Table indptr, Table indices,
                        ffi::Result<ffi::AnyBuffer> blocks, ffi::Result<ffi::AnyBuffer> scratch, std::string_view isa_name) {
  const Isa* isa = kBlockSets.choose(std::string(isa_name));
  if (!isa) return invalid("sddmm: this CPU does not have ", std::string(isa_name));
  const auto xs = x.dimensions(), gs = g.dimensions(), bs = blocks->dimensions();
  if (xs.size() != 2 || gs.size() != 2 || bs.size() != 3 || gs[0] != xs[0])
    return invalid("sddmm: x and g must be matrices with as many rows, blocks [nnzb, br, bc]; got ", text(xs), ", ", text(gs), ", ", text(bs));
  if (bs[1] < 1 || bs[2] < 1) return invalid("sddmm: empty blocks ", text(bs));
  const auto dtypes = dtypes_of("sddmm", x.element_type(), g.element_type(), blocks->element_type());
  if (!dtypes.has_value()) return dtypes.error();
  const bool wide = dtypes->a == Dtype::kF64;
  if (scratch->element_type() != (wide ? ffi::F64 : ffi::F32)) return invalid("sddmm: scratch memory is not of the sums' dtype");

  Sddmm p{};
  p.m = xs[0], p.k = xs[1], p.n = gs[1], p.rows = bs[1], p.cols = bs[2];
  p.x = x.untyped_data(), p.g = g.untyped_data(), p.x_dtype = dtypes->a, p.g_dtype = dtypes->b, p.dtype = dtypes->out;
  p.indptr = indptr.typed_data(), p.indices = indices.typed_data(), p.blocks = blocks->untyped_data();
  const int64_t count = bs[0], block_rows = divide_up(p.k, p.rows), columns = divide_up(p.n, p.cols), bytes = wide ? 8 : 4;
  if (auto error = check_blocks(indptr, indices, count, block_rows, columns); error.failure()) return error;
  isa->plan_sddmm(p);
  const int64_t of_x = p.padded_m * block_rows * p.rows, of_g = p.padded_m * columns * p.cols;
  const int64_t of_sums = size_of(p.dtype) < 4 ? count * p.rows * p.cols : 0;
  if (int64_t(scratch->element_count()) < of_x + of_g + of_sums)
    return invalid("sddmm: scratch memory for ", text(scratch->element_count()), " numbers, ", text(of_x + of_g + of_sums), " are needed");
  char* start = static_cast<char*>(scratch->untyped_data());
  p.packed_x = start, p.packed_g = start + of_x * bytes, p.sums = of_sums ? start + (of_x + of_g) * bytes : p.blocks;
  return count ? run(*isa, p, count, pool) : ffi::Error::Success();
}

}  // namespace sparta

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_sddmm, sparta::sddmm,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<sparta::Table>()
                                  .Arg<sparta::Table>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Attr<std::string_view>("isa"));

#pragma GCC visibility pop
