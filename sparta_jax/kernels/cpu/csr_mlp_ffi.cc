// The XLA FFI handler of two or three products by elements, one behind the other.
#include "csr_arguments.h"

namespace sparta {
namespace {

// One of the products: its weight by elements, and a bias that is empty where there is none.
struct Layer {
  ffi::AnyBuffer values;
  Table indptr, indices;
  ffi::AnyBuffer bias;
  int32_t activation;
};

// Fills `p` with a layer that takes `k` numbers of each row to `n`.
ffi::Error set_layer(const char* name, CsrSpmm& p, const Layer& layer, int64_t k, int64_t n) {
  if (auto error = check_activation(name, layer.activation); error.failure()) return error;
  if (auto error = check_extra(name, layer.bias, layer.values.element_type(), {n}); error.failure()) return error;
  if (layer.values.dimensions().size() != 1) return invalid(name, ": values must be a vector, got ", text(layer.values.dimensions()));
  p.w.k = k, p.w.n = n, p.w.values = layer.values.untyped_data();
  p.bias = data_of(layer.bias), p.activation = Activation(layer.activation);
  return set_tables(p.w, layer.indptr, layer.indices, layer.values.element_count());
}

double work_of(const CsrSpmm& p) { return (4.0 * p.w.indptr[p.w.n] + finishing(p.activation) * p.w.n) * p.m; }

// The tables of the gate and the residual are empty where there is none. The second result is scratch memory for panels.
ffi::Error csr_mlp(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer up_values, Table up_indptr, Table up_indices,
                   ffi::AnyBuffer up_bias, ffi::AnyBuffer gate_values, Table gate_indptr, Table gate_indices, ffi::AnyBuffer gate_bias,
                   ffi::AnyBuffer down_values, Table down_indptr, Table down_indices, ffi::AnyBuffer down_bias, ffi::AnyBuffer residual,
                   ffi::Result<ffi::AnyBuffer> y, ffi::Result<ffi::AnyBuffer> memory, int32_t up_activation, int32_t gate_activation,
                   int32_t down_activation, int32_t threads, std::string_view isa_name) {
  const auto type = y->element_type();
  const auto found = csr_for("csr_mlp", isa_name, type,
                             {x.element_type(), up_values.element_type(), gate_values.element_type(), down_values.element_type()});
  if (!found.has_value()) return found.error();
  const CsrIsa* isa = *found;
  const auto xs = x.dimensions(), ys = y->dimensions();
  if (xs.size() != 2 || ys.size() != 2 || ys[0] != xs[0])
    return invalid("csr_mlp: x and y must be matrices with as many rows; got ", text(xs), " and ", text(ys));
  if (!up_indptr.element_count()) return invalid("csr_mlp: the first weight has no columns");

  CsrMlp p{};
  const int64_t m = xs[0], hidden = up_indptr.element_count() - 1;
  p.gated = gate_indptr.element_count() > 0;
  p.up.m = p.gate.m = p.down.m = m;
  const Layer up{up_values, up_indptr, up_indices, up_bias, up_activation}, down{down_values, down_indptr, down_indices, down_bias, down_activation};
  if (auto error = set_layer("csr_mlp: first weight", p.up, up, xs[1], hidden); error.failure()) return error;
  if (auto error = set_layer("csr_mlp: second weight", p.down, down, hidden, ys[1]); error.failure()) return error;
  if (p.gated) {
    const Layer gate{gate_values, gate_indptr, gate_indices, gate_bias, gate_activation};
    if (auto error = set_layer("csr_mlp: gate", p.gate, gate, xs[1], hidden); error.failure()) return error;
  }
  if (auto error = check_extra("csr_mlp: residual", residual, type, {m, ys[1]}); error.failure()) return error;
  if (m == 0 || ys[1] == 0) return ffi::Error::Success();
  p.up.x = x.untyped_data(), p.down.y = y->untyped_data(), p.down.residual = data_of(residual);

  const double work = work_of(p.up) + work_of(p.down) + (p.gated ? work_of(p.gate) : 0.0) + 8.0 * m * xs[1];
  int64_t workers = std::min<int64_t>(std::max(threads, 1), workers_for(work, pool));
  p.up.width = p.gate.width = p.down.width = isa->mlp_width(m, p.numbers(), workers);
  const int64_t each = divide_up(p.width() * p.numbers() * isa->compute_size, 64) * 64;
  const Scratch scratch(memory);
  workers = std::min(workers, (scratch.end - scratch.begin) / std::max<int64_t>(each, 1));
  if (workers < 1) return invalid("csr_mlp: too little scratch memory");

  std::atomic<int64_t> next{0};
  std::atomic<bool> fine{true};
  share(pool, workers, p.panels(), 1, [&](int64_t& slot, int64_t panel, int64_t) {
    if (!fine) return;
    const bool first = slot < 0;  // of this worker's panels: it meets all indices
    if (first) slot = next.fetch_add(1);
    if (!isa->mlp(p, panel, scratch.begin + slot * each, first)) fine = false;
  });
  return finished(fine);
}

}  // namespace
}  // namespace sparta

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_csr_mlp, sparta::csr_mlp,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<sparta::Table>()
                                  .Arg<sparta::Table>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<sparta::Table>()
                                  .Arg<sparta::Table>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<sparta::Table>()
                                  .Arg<sparta::Table>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Arg<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Ret<xla::ffi::AnyBuffer>()
                                  .Attr<int32_t>("up_activation")
                                  .Attr<int32_t>("gate_activation")
                                  .Attr<int32_t>("down_activation")
                                  .Attr<int32_t>("threads")
                                  .Attr<std::string_view>("isa"));

#pragma GCC visibility pop
