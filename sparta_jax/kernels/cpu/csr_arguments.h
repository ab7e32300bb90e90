// What the handlers of weights stored by their elements share: the choice of the instruction set, tables, scratch memory.
#pragma once
#include "csr_products.h"
#include "host.h"
#include "share.h"
#include "tables.h"

namespace sparta {

#if defined(__x86_64__)
constexpr Sets<CsrIsa> kElementSets{baseline::csr, avx2::csr, avx512::csr};
#else
constexpr Sets<CsrIsa> kElementSets{baseline::csr, nullptr, nullptr};
#endif

// The functions for arrays of one dtype, or what is wrong with these.
inline ffi::ErrorOr<const CsrIsa*> csr_for(const char* name, std::string_view isa, ffi::DataType type, std::initializer_list<ffi::DataType> others) {
  const CsrIsa* all = kElementSets.choose(std::string(isa));
  if (!all) return ffi::Unexpected(invalid(name, ": this CPU does not have ", std::string(isa)));
  const auto dtype = dtype_of(type);
  const bool one = std::all_of(others.begin(), others.end(), [=](ffi::DataType other) { return other == type; });
  if (!dtype || !one) return ffi::Unexpected(invalid(name, ": all arrays must be of one dtype: float32, bfloat16, float16 or float64"));
  return all + int32_t(*dtype);
}

// Sets the tables of `w` once its sizes are there; its indices are checked where they are read.
inline ffi::Error set_tables(Elements& w, const Table& indptr, const Table& indices, int64_t count) {
  w.indptr = indptr.typed_data(), w.indices = indices.typed_data();
  return check_columns("CSR", indptr, indices, count, w.n);
}

inline ffi::Error finished(bool in_range) { return in_range ? ffi::Error::Success() : invalid("CSR: an index is out of range"); }

// Scratch memory from its first whole cache line on.
struct Scratch {
  char *begin, *end;

  explicit Scratch(ffi::Result<ffi::AnyBuffer>& memory)
      : begin(reinterpret_cast<char*>(divide_up(reinterpret_cast<intptr_t>(memory->untyped_data()), 64) * 64)),
        end(static_cast<char*>(memory->untyped_data()) + memory->size_bytes()) {}
};

}  // namespace sparta
