// y = down(up(x)) or down(up(x) * gate(x)), three products by elements: a panel of what stands in between stays turned, as it was
// summed, and never leaves the cache.
#pragma once
#include "csr_spmm.h"

namespace sparta::ISA {

// Columns of a panel, with bias and activation, as they stand: `columns[count][width]`.
template <Activation A, class S>
struct InPlace {
  static void run(const CsrSpmm& p, Compute<S>* columns, int64_t column, int64_t count) {
    using C = Compute<S>;
    const S* bias = static_cast<const S*>(p.bias);
    for (int64_t c = 0; c < count; ++c) {
      const Vector<C> added = (bias ? number(bias[column + c]) : C(0)) - Vector<C>{};
      for (C *at = columns + c * p.width, *end = at + p.width; at < end; at += kLanesOf<C>) store(at, activate<A>(load(at) + added));
    }
  }
};

// The panel between the products: `to[columns][width]`. False where an index is out of range, if that is to be checked.
template <class S, int V>
static bool between(const CsrMlp& p, const Compute<S>* packed, bool check, Compute<S>* to) {
  using T = Vector<Compute<S>>;
  constexpr int64_t kRows = V * kCount<T>;
  const auto finish = by_activation<S, InPlace>(p.up.activation), finish_gate = by_activation<S, InPlace>(p.gate.activation);
  alignas(64) Compute<S> strip[kStripColumns * kRows];
  for (int64_t j = 0; j < p.up.w.n; j += kStripColumns, to += kStripColumns * kRows) {
    const int64_t count = least(kStripColumns, p.up.w.n - j);
    if (!strip_sums<S, T, V>(p.up, packed, j, count, check, to)) return false;
    finish(p.up, to, j, count);
    if (!p.gated) continue;
    if (!strip_sums<S, T, V>(p.gate, packed, j, count, check, strip)) return false;
    finish_gate(p.gate, strip, j, count);
    for (int64_t i = 0; i < count * kRows; i += kCount<T>) store(to + i, load(to + i) * load(strip + i));
  }
  return true;
}

template <class S, int V>
static bool mlp_panel(const CsrMlp& p, int64_t panel, Compute<S>* scratch, bool check) {
  CsrOf<S>::pack(p.up, panel, scratch);
  Compute<S>* const hidden = scratch + p.up.w.k * p.width();
  return between<S, V>(p, scratch, check, hidden) && sums<S, Vector<Compute<S>>, V>(p.down, panel, hidden, {0, p.down.w.n}, check);
}

template <class S>
struct CsrMlpOf {
  using C = Compute<S>;
  static constexpr int kWhole = kLanesOf<C>;

  // As wide as the cache allows, and as many panels for each worker.
  static int64_t width(int64_t m, int64_t numbers, int64_t workers) {
    int64_t most = kMostVectors;
    while (most > 1 && most * kWhole * numbers * int64_t(sizeof(C)) > kPanelBytes) --most;
    const int64_t vectors = divide_up(m, kWhole), panels = divide_up(divide_up(vectors, most), workers) * workers;
    return divide_up(vectors, panels) * kWhole;
  }

  static bool run(const CsrMlp& p, int64_t panel, void* scratch, bool check) {
    const int64_t vectors = p.width() / kWhole;
    auto by_width = vectors == 3 ? mlp_panel<S, 3> : vectors == 2 ? mlp_panel<S, 2> : mlp_panel<S, 1>;
    if constexpr (kMostVectors > 3)
      if (vectors == 4) by_width = mlp_panel<S, 4>;
    return by_width(p, panel, static_cast<C*>(scratch), check);
  }
};

}  // namespace sparta::ISA
