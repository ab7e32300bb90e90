// The XLA FFI handlers of weights stored by their elements: checks, choice of the instruction set, cutting into work items.
#include <cstring>

#include "csr_arguments.h"
#include "work.h"

namespace sparta {
namespace {

// The part-th of `parts` runs of columns with about as many elements each, and a constant for each column.
Range columns_of(const Elements& w, int64_t part, int64_t parts) { return cut(w.indptr, w.n, 2, part, parts); }

// -- y = activation(x @ W + bias) + residual, or x @ W^T

// `bias` and `residual` are empty where there is none. The second result is scratch memory: at most as many threads work as panels fit.
ffi::Error csr_spmm(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer values, Table indptr, Table indices, ffi::AnyBuffer bias,
                    ffi::AnyBuffer residual, ffi::Result<ffi::AnyBuffer> y, ffi::Result<ffi::AnyBuffer> memory, bool transposed,
                    int32_t activation, int32_t threads, std::string_view isa_name) {
  const auto type = y->element_type();
  const auto found = csr_for("csr_spmm", isa_name, type, {x.element_type(), values.element_type()});
  if (!found.has_value()) return found.error();
  const CsrIsa* isa = *found;
  const auto xs = x.dimensions(), vs = values.dimensions(), ys = y->dimensions();
  if (xs.size() != 2 || vs.size() != 1 || ys.size() != 2 || ys[0] != xs[0])
    return invalid("csr_spmm: x and y must be matrices with as many rows, values a vector; got ", text(xs), ", ", text(ys), ", ", text(vs));

  CsrSpmm p{};
  p.m = xs[0], p.w.k = transposed ? ys[1] : xs[1], p.w.n = transposed ? xs[1] : ys[1];
  if (auto error = check_activation("csr_spmm", activation); error.failure()) return error;
  if (auto error = check_extra("csr_spmm: bias", bias, type, {ys[1]}); error.failure()) return error;
  if (auto error = check_extra("csr_spmm: residual", residual, type, {ys[0], ys[1]}); error.failure()) return error;
  if (auto error = set_tables(p.w, indptr, indices, vs[0]); error.failure()) return error;
  if (p.m == 0 || ys[1] == 0) return ffi::Error::Success();
  p.w.values = values.untyped_data(), p.x = x.untyped_data(), p.y = y->untyped_data();
  p.bias = data_of(bias), p.residual = data_of(residual);
  p.transposed = transposed, p.activation = Activation(activation);
  p.width = isa->width(p.m, p.in());

  const int64_t each = divide_up(isa->scratch(p) * isa->compute_size, 64) * 64;
  const Scratch scratch(memory);
  const int64_t slots = (scratch.end - scratch.begin) / std::max<int64_t>(each, 1);
  if (slots < 1) return invalid("csr_spmm: too little scratch memory");
  const double work = 4.0 * std::max<int64_t>(p.m, 8) * vs[0] + finishing(p.activation) * p.m * p.out() + 8.0 * p.m * p.in();
  const int64_t workers = std::min({slots, int64_t(std::max(threads, 1)), workers_for(work, pool)}), chunks = p.panels();
  const int64_t wanted = workers == 1 || chunks >= 4 * workers ? 1 : divide_up(4 * workers, chunks);
  const int64_t slices = std::clamp<int64_t>(int64_t(work / kItem / chunks), 1, std::min(wanted, p.out()));

  std::atomic<int64_t> next{0};
  std::atomic<bool> fine{true};
  share(pool, workers, chunks, slices, [&](int64_t& held, int64_t chunk, int64_t slice) {
    if (!fine) return;
    const bool check = held < 0 || slices > 1;  // a worker's first panel meets all columns where these are in one piece
    const int64_t slot = held < 0 ? next.fetch_add(1) : held / chunks;  // of this worker
    char* packed = scratch.begin + slot * each;
    if (held != slot * chunks + chunk) isa->pack(p, chunk, packed);
    held = slot * chunks + chunk;
    const Range columns = p.transposed ? Range{p.out() * slice / slices, p.out() * (slice + 1) / slices} : columns_of(p.w, slice, slices);
    if (!isa->spmm(p, chunk, packed, columns, check)) fine = false;
  });
  return finished(fine);
}

// -- the live elements of x^T @ g

// The second result is scratch memory for x and g in panels, and for the sums where these are wider than the values.
ffi::Error csr_sddmm(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer g, Table indptr, Table indices,
                     ffi::Result<ffi::AnyBuffer> values, ffi::Result<ffi::AnyBuffer> memory, std::string_view isa_name) {
  const auto found = csr_for("csr_sddmm", isa_name, values->element_type(), {x.element_type(), g.element_type()});
  if (!found.has_value()) return found.error();
  const CsrIsa* isa = *found;
  const auto xs = x.dimensions(), gs = g.dimensions(), vs = values->dimensions();
  if (xs.size() != 2 || gs.size() != 2 || vs.size() != 1 || gs[0] != xs[0])
    return invalid("csr_sddmm: x and g must be matrices with as many rows, values a vector; got ", text(xs), ", ", text(gs), ", ", text(vs));
  CsrSddmm p{};
  p.m = xs[0], p.w.k = xs[1], p.w.n = gs[1];
  if (auto error = set_tables(p.w, indptr, indices, vs[0]); error.failure()) return error;
  if (vs[0] == 0) return ffi::Error::Success();
  if (p.m == 0) return std::memset(values->untyped_data(), 0, values->size_bytes()), ffi::Error::Success();
  p.x = x.untyped_data(), p.g = g.untyped_data(), p.values = values->untyped_data();
  p.width = isa->sddmm_width(p.m, p.w.k);

  const int64_t rows = p.panels() * p.width, wide = isa->compute_size;
  const bool widened = int64_t(values->size_bytes()) != vs[0] * wide;
  const Scratch scratch(memory);
  char *const packed_g = scratch.begin + rows * p.w.k * wide, *const after = packed_g + rows * p.w.n * wide;
  if (after + (widened ? vs[0] * wide : 0) > scratch.end) return invalid("csr_sddmm: too little scratch memory");
  void* const sums = widened ? after : values->untyped_data();

  const double work = 4.0 * std::max<int64_t>(p.m, 16) * vs[0] + 8.0 * p.m * (p.w.k + p.w.n);
  const int64_t workers = workers_for(work, pool);
  const int64_t slices = workers == 1 ? 1 : std::min(4 * workers, p.w.n);
  share(pool, workers, 2 * p.panels(), 1, [&](int64_t&, int64_t item, int64_t) {
    if (item % 2) isa->pack_columns(p.g, p.m, p.w.n, p.width, item / 2, {0, p.w.n}, packed_g);
    else isa->pack_columns(p.x, p.m, p.w.k, p.width, item / 2, {0, p.w.k}, scratch.begin);
  });
  std::atomic<bool> fine{true};
  share(pool, workers, slices, 1, [&](int64_t&, int64_t slice, int64_t) {
    if (!isa->sddmm(p, scratch.begin, packed_g, columns_of(p.w, slice, slices), sums)) fine.store(false);
  });
  return finished(fine);
}

// -- elements from a dense matrix and back

// each(entry, its place in the dense matrix) for all entries; false where an index is out of range.
template <class Each>
bool each_element(ffi::ThreadPool& pool, const Elements& w, Each each) {
  const int64_t workers = workers_for(16.0 * w.indptr[w.n], pool);
  const int64_t slices = workers == 1 ? 1 : std::min(4 * workers, w.n);
  std::atomic<bool> fine{true};
  share(pool, workers, slices, 1, [&](int64_t&, int64_t slice, int64_t) {
    const Range columns = columns_of(w, slice, slices);
    for (int64_t j = columns.begin; j < columns.end; ++j)
      for (int64_t e = w.indptr[j]; e < w.indptr[j + 1]; ++e) {
        if (uint32_t(w.indices[e]) >= uint64_t(w.k)) return fine.store(false);
        each(e, w.indices[e] * w.n + j);
      }
  });
  return fine;
}

template <class T>
bool copy_elements(ffi::ThreadPool& pool, const Elements& w, const void* from, void* to, bool packing) {
  const T* source = static_cast<const T*>(from);
  T* target = static_cast<T*>(to);
  if (packing) return each_element(pool, w, [=](int64_t e, int64_t at) { target[e] = source[at]; });
  std::memset(to, 0, w.k * w.n * sizeof(T));
  return each_element(pool, w, [=](int64_t e, int64_t at) { target[at] = source[e]; });
}

// `from` and `to` are the dense matrix and the values, in this order if `packing`.
ffi::Error csr_copy(ffi::ThreadPool pool, ffi::AnyBuffer from, Table indptr, Table indices, ffi::Result<ffi::AnyBuffer> to, bool packing) {
  const auto dense = packing ? from.dimensions() : to->dimensions();
  if (dense.size() != 2 || from.element_type() != to->element_type())
    return invalid("csr_copy: the matrix and its values must be of one dtype; got a matrix ", text(dense));
  Elements w{nullptr, nullptr, nullptr, dense[0], dense[1]};
  const int64_t count = packing ? to->element_count() : from.element_count();
  if (auto error = set_tables(w, indptr, indices, count); error.failure()) return error;
  const int64_t elements = packing ? from.element_count() : to->element_count();
  if (elements == 0) return ffi::Error::Success();
  bool fine = false;
  switch ((packing ? from.size_bytes() : to->size_bytes()) / elements) {
    case 1: fine = copy_elements<uint8_t>(pool, w, from.untyped_data(), to->untyped_data(), packing); break;
    case 2: fine = copy_elements<uint16_t>(pool, w, from.untyped_data(), to->untyped_data(), packing); break;
    case 4: fine = copy_elements<uint32_t>(pool, w, from.untyped_data(), to->untyped_data(), packing); break;
    case 8: fine = copy_elements<uint64_t>(pool, w, from.untyped_data(), to->untyped_data(), packing); break;
    default: return invalid("csr_copy: no such dtype");
  }
  return finished(fine);
}

}  // namespace
}  // namespace sparta

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_csr_spmm, sparta::csr_spmm,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<sparta::Table>()
                                  .Arg<sparta::Table>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Attr<bool>("transposed")
                                  .Attr<int32_t>("activation")
                                  .Attr<int32_t>("threads")
                                  .Attr<std::string_view>("isa"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_csr_sddmm, sparta::csr_sddmm,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<sparta::Table>()
                                  .Arg<sparta::Table>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Attr<std::string_view>("isa"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_csr_copy, sparta::csr_copy,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<sparta::Table>()
                                  .Arg<sparta::Table>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Attr<bool>("packing"));

#pragma GCC visibility pop
