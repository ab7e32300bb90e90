// The XLA FFI handlers of weights stored by their elements: checks, choice of the instruction set, cutting into work items.
#include <algorithm>
#include <cstring>
#include <string>

#include "csr_products.h"
#include "host.h"
#include "share.h"

namespace ffi = xla::ffi;

namespace sparta {
namespace {

constexpr double kCsrItem = 5e5, kCsrWorker = 1e6;  // operations worth an item, and worth waking a thread

#if defined(__x86_64__)
constexpr Sets<CsrIsa> kSets{baseline::csr, avx2::csr, avx512::csr};
#else
constexpr Sets<CsrIsa> kSets{baseline::csr, nullptr, nullptr};
#endif

const CsrIsa* csr_for(std::string_view isa, ffi::DataType type) {
  Dtype dtype;
  switch (type) {
    case ffi::DataType::F32: dtype = Dtype::kF32; break;
    case ffi::DataType::BF16: dtype = Dtype::kBF16; break;
    case ffi::DataType::F16: dtype = Dtype::kF16; break;
    case ffi::DataType::F64: dtype = Dtype::kF64; break;
    default: return nullptr;
  }
  const CsrIsa* all = kSets.choose(std::string(isa));
  return all ? all + int32_t(dtype) : nullptr;
}

// Sets the tables of `w` once its sizes are there; its indices are checked where they are read.
ffi::Error set_tables(Elements& w, const ffi::Buffer<ffi::S32>& indptr, const ffi::Buffer<ffi::S32>& indices, int64_t count) {
  w.indptr = indptr.typed_data(), w.indices = indices.typed_data();
  if (int64_t(indptr.element_count()) != w.n + 1 || int64_t(indices.element_count()) != count || w.indptr[0] != 0 ||
      w.indptr[w.n] != count)
    return ffi::Error::InvalidArgument("CSR: indptr and indices do not fit the values");
  for (int64_t j = 0; j < w.n; ++j)
    if (w.indptr[j] > w.indptr[j + 1]) return ffi::Error::InvalidArgument("CSR: indptr decreases");
  return ffi::Error::Success();
}

const ffi::Error out_of_range() { return ffi::Error::InvalidArgument("CSR: an index is out of range"); }

template <class B>
bool shaped(const B& buffer, std::initializer_list<int64_t> shape) {
  const auto dims = buffer.dimensions();
  return dims.size() == shape.size() && std::equal(shape.begin(), shape.end(), dims.begin());
}

// The part-th of `parts` runs of columns with about as many elements each, and a constant for each column.
Range columns_of(const Elements& w, int64_t part, int64_t parts) {
  const auto first = [&](int64_t i) {
    const auto work = [&](int64_t j) { return double(w.indptr[j]) + 4.0 * j; };
    int64_t low = 0, high = i >= parts ? 0 : w.n;
    if (i >= parts) return w.n;
    for (const double target = work(w.n) * i / parts; low < high;) {
      const int64_t middle = (low + high) / 2;
      work(middle) < target ? low = middle + 1 : high = middle;
    }
    return low;
  };
  return {first(part), first(part + 1)};
}

int64_t workers_for(ffi::ThreadPool& pool, double work) {
  return std::clamp<int64_t>(int64_t(work / kCsrWorker), 1, std::max<int64_t>(pool.num_threads(), 1));
}

// -- y = activation(x @ W + bias) + residual, or x @ W^T

// `bias` and `residual` are empty where there is none. The second result is scratch memory: as many threads work as panels fit.
ffi::Error csr_spmm(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer values, ffi::Buffer<ffi::S32> indptr,
                    ffi::Buffer<ffi::S32> indices, ffi::AnyBuffer bias, ffi::AnyBuffer residual, ffi::Result<ffi::AnyBuffer> y,
                    ffi::Result<ffi::AnyBuffer> memory, bool transposed, int32_t activation, std::string_view isa_name) {
  const CsrIsa* isa = csr_for(isa_name, x.element_type());
  if (!isa) return ffi::Error::InvalidArgument("csr_spmm: no kernel for this CPU and dtype, " + std::string(isa_name));
  for (const auto type : {values.element_type(), bias.element_type(), residual.element_type(), y->element_type()})
    if (type != x.element_type()) return ffi::Error::InvalidArgument("csr_spmm: the operands have different dtypes");
  const auto xs = x.dimensions(), vs = values.dimensions(), ys = y->dimensions();
  if (xs.size() != 2 || vs.size() != 1 || ys.size() != 2 || ys[0] != xs[0])
    return ffi::Error::InvalidArgument("csr_spmm: x and y must be matrices with as many rows, values a vector");
  if (activation < 0 || activation >= int32_t(Activation::kCount)) return ffi::Error::InvalidArgument("csr_spmm: no such activation");
  if (x.element_type() == ffi::DataType::F64 && activation > int32_t(Activation::kRelu))
    return ffi::Error::InvalidArgument("csr_spmm: no such activation in float64");

  CsrSpmm p{};
  p.m = xs[0], p.w.k = transposed ? ys[1] : xs[1], p.w.n = transposed ? xs[1] : ys[1];
  if (bias.element_count() && !shaped(bias, {ys[1]})) return ffi::Error::InvalidArgument("csr_spmm: bias does not fit y");
  if (residual.element_count() && !shaped(residual, {ys[0], ys[1]}))
    return ffi::Error::InvalidArgument("csr_spmm: residual does not fit y");
  if (auto error = set_tables(p.w, indptr, indices, vs[0]); error.failure()) return error;
  if (p.m == 0 || ys[1] == 0) return ffi::Error::Success();
  p.w.values = values.untyped_data(), p.x = x.untyped_data(), p.y = y->untyped_data();
  p.bias = bias.element_count() ? bias.untyped_data() : nullptr;
  p.residual = residual.element_count() ? residual.untyped_data() : nullptr;
  p.transposed = transposed, p.activation = Activation(activation);
  p.width = isa->width(p.m, p.in());

  const int64_t each = (isa->scratch(p) * isa->compute_size + 63) / 64 * 64;
  char* const start = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory->untyped_data()) + 63) / 64 * 64);
  const int64_t slots = (static_cast<char*>(memory->untyped_data()) + memory->size_bytes() - start) / std::max<int64_t>(each, 1);
  if (slots < 1) return ffi::Error::InvalidArgument("csr_spmm: too little scratch memory");
  const double finishing = activation <= int32_t(Activation::kRelu) ? 16 : 80;
  const double work = 4.0 * std::max<int64_t>(p.m, 8) * vs[0] + finishing * p.m * p.out() + 8.0 * p.m * p.in();
  const int64_t workers = std::min(slots, workers_for(pool, work)), chunks = p.panels();
  const int64_t wanted = workers == 1 || chunks >= 4 * workers ? 1 : (4 * workers + chunks - 1) / chunks;
  const int64_t slices = std::clamp<int64_t>(int64_t(work / kCsrItem / chunks), 1, std::min(wanted, p.out()));

  std::atomic<int64_t> next{0};
  std::atomic<bool> fine{true};
  share(pool, workers, chunks, slices, [&](int64_t& held, int64_t chunk, int64_t slice) {
    const int64_t slot = held < 0 ? next.fetch_add(1) : held / chunks;  // of this worker
    char* scratch = start + slot * each;
    if (held != slot * chunks + chunk) isa->pack(p, chunk, scratch);
    held = slot * chunks + chunk;
    const Range columns = p.transposed ? Range{p.out() * slice / slices, p.out() * (slice + 1) / slices} : columns_of(p.w, slice, slices);
    if (!isa->spmm(p, chunk, scratch, columns)) fine.store(false);
  });
  return fine ? ffi::Error::Success() : out_of_range();
}

// -- the live elements of x^T @ g

// The second result is scratch memory for x and g in panels, and for the sums where these are wider than the values.
ffi::Error csr_sddmm(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer g, ffi::Buffer<ffi::S32> indptr,
                     ffi::Buffer<ffi::S32> indices, ffi::Result<ffi::AnyBuffer> values, ffi::Result<ffi::AnyBuffer> memory,
                     std::string_view isa_name) {
  const CsrIsa* isa = csr_for(isa_name, x.element_type());
  if (!isa) return ffi::Error::InvalidArgument("csr_sddmm: no kernel for this CPU and dtype, " + std::string(isa_name));
  const auto xs = x.dimensions(), gs = g.dimensions(), vs = values->dimensions();
  if (xs.size() != 2 || gs.size() != 2 || vs.size() != 1 || gs[0] != xs[0] || g.element_type() != x.element_type() ||
      values->element_type() != x.element_type())
    return ffi::Error::InvalidArgument("csr_sddmm: x and g must be matrices with as many rows, values a vector, of one dtype");
  CsrSddmm p{};
  p.m = xs[0], p.w.k = xs[1], p.w.n = gs[1];
  if (auto error = set_tables(p.w, indptr, indices, vs[0]); error.failure()) return error;
  if (vs[0] == 0) return ffi::Error::Success();
  if (p.m == 0) return std::memset(values->untyped_data(), 0, values->size_bytes()), ffi::Error::Success();
  p.x = x.untyped_data(), p.g = g.untyped_data(), p.values = values->untyped_data();
  p.width = isa->sddmm_width(p.m, p.w.k);

  const int64_t rows = p.panels() * p.width, wide = isa->compute_size;
  const bool widened = int64_t(values->size_bytes()) != vs[0] * wide;
  char* const start = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory->untyped_data()) + 63) / 64 * 64);
  char *const packed_g = start + rows * p.w.k * wide, *const after = packed_g + rows * p.w.n * wide;
  if (after + (widened ? vs[0] * wide : 0) > static_cast<char*>(memory->untyped_data()) + memory->size_bytes())
    return ffi::Error::InvalidArgument("csr_sddmm: too little scratch memory");
  void* const sums = widened ? after : values->untyped_data();

  const double work = 4.0 * std::max<int64_t>(p.m, 16) * vs[0] + 8.0 * p.m * (p.w.k + p.w.n);
  const int64_t workers = workers_for(pool, work);
  const int64_t slices = workers == 1 ? 1 : std::min(4 * workers, p.w.n);
  share(pool, workers, 2 * p.panels(), 1, [&](int64_t&, int64_t item, int64_t) {
    if (item % 2) isa->pack_columns(p.g, p.m, p.w.n, p.width, item / 2, {0, p.w.n}, packed_g);
    else isa->pack_columns(p.x, p.m, p.w.k, p.width, item / 2, {0, p.w.k}, start);
  });
  std::atomic<bool> fine{true};
  share(pool, workers, slices, 1, [&](int64_t&, int64_t slice, int64_t) {
    if (!isa->sddmm(p, start, packed_g, columns_of(p.w, slice, slices), sums)) fine.store(false);
  });
  return fine ? ffi::Error::Success() : out_of_range();
}

// -- elements from a dense matrix and back

// each(entry, its place in the dense matrix) for all entries; false where an index is out of range.
template <class Each>
bool each_element(ffi::ThreadPool& pool, const Elements& w, Each each) {
  const int64_t workers = workers_for(pool, 16.0 * w.indptr[w.n]);
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
ffi::Error csr_copy(ffi::ThreadPool pool, ffi::AnyBuffer from, ffi::Buffer<ffi::S32> indptr, ffi::Buffer<ffi::S32> indices,
                    ffi::Result<ffi::AnyBuffer> to, bool packing) {
  const auto dense = packing ? from.dimensions() : to->dimensions();
  if (dense.size() != 2 || from.element_type() != to->element_type())
    return ffi::Error::InvalidArgument("csr_copy: the matrix and its values must be of one dtype");
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
    default: return ffi::Error::InvalidArgument("csr_copy: no such dtype");
  }
  return fine ? ffi::Error::Success() : out_of_range();
}

}  // namespace
}  // namespace sparta

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_csr_spmm, sparta::csr_spmm,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<bool>("transposed")
                                  .Attr<int32_t>("activation")
                                  .Attr<std::string_view>("isa"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_csr_sddmm, sparta::csr_sddmm,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<std::string_view>("isa"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_csr_copy, sparta::csr_copy,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<bool>("packing"));

#pragma GCC visibility pop
