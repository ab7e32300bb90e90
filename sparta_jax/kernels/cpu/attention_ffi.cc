// The XLA FFI handler of attention: checks, cutting into work items.
#include "arguments.h"
#include "attention_problem.h"
#include "host.h"
#include "share.h"

namespace sparta {

#if defined(__x86_64__)
constexpr Sets<AttentionIsa> kSets{&baseline::attention, &avx2::attention, &avx512::attention};
#else
constexpr Sets<AttentionIsa> kSets{&baseline::attention, nullptr, nullptr};
#endif

// `buffer` as [batch, heads, queries, keys], each size the call's or 1; nothing where it is empty.
template <class T, class B>
static bool read_scores(const B& buffer, int64_t batch, const Attention& a, Scores<T>& out) {
  if (!buffer.element_count()) return true;
  const auto sizes = buffer.dimensions();
  const int64_t whole[] = {batch, a.heads, a.queries, a.keys};
  if (sizes.size() != 4) return false;
  int64_t stride = 1, strides[4];
  for (int i = 3; i >= 0; --i) {
    if (sizes[i] != whole[i] && sizes[i] != 1) return false;
    strides[i] = sizes[i] == 1 ? 0 : stride;
    stride *= sizes[i];
  }
  out = {reinterpret_cast<const T*>(buffer.untyped_data()), strides[0], strides[1], strides[2], strides[3]};
  return true;
}

// q, k, v and y are [batch, length, heads, size]; bias and mask are empty where there is none; scalars = (before, after, fill).
static ffi::Error attention(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> q, ffi::Buffer<ffi::F32> k, ffi::Buffer<ffi::F32> v,
                            ffi::Buffer<ffi::F32> bias, ffi::Buffer<ffi::PRED> mask, ffi::Buffer<ffi::F32> scalars,
                            ffi::ResultBuffer<ffi::F32> y, std::string_view isa_name) {
  const AttentionIsa* isa = kSets.choose(std::string(isa_name));
  if (!isa) return invalid("attention: this CPU does not have ", std::string(isa_name));
  const auto qs = q.dimensions(), ks = k.dimensions(), vs = v.dimensions(), ys = y->dimensions();
  if (qs.size() != 4 || ks.size() != 4 || vs.size() != 4 || ys.size() != 4)
    return invalid("attention: q, k, v and y must be [batch, length, heads, size]");
  const bool fits = ks[0] == qs[0] && vs[0] == qs[0] && ys[0] == qs[0] && vs[1] == ks[1] && ys[1] == qs[1] && vs[2] == ks[2] &&
                    ys[2] == qs[2] && ks[3] == qs[3] && ys[3] == vs[3];
  if (!fits || ks[2] < 1 || qs[2] % ks[2]) return invalid("attention: shapes of q, k, v and y do not fit");
  if (ks[1] < 1) return invalid("attention: no keys");
  if (scalars.element_count() != 3) return invalid("attention: needs three scalars");
  Attention a{};
  a.queries = qs[1], a.keys = ks[1], a.heads = qs[2], a.kv_heads = ks[2], a.size = qs[3], a.v_size = vs[3];
  if (!read_scores(bias, qs[0], a, a.bias)) return invalid("attention: bias does not fit");
  if (!read_scores(mask, qs[0], a, a.mask)) return invalid("attention: mask does not fit");
  a.q = q.typed_data(), a.k = k.typed_data(), a.v = v.typed_data(), a.y = y->typed_data();
  a.before = scalars.typed_data()[0], a.after = scalars.typed_data()[1], a.fill = scalars.typed_data()[2];
  if (!y->element_count()) return ffi::Error::Success();

  const int64_t heads = qs[0] * a.heads, panels = isa->panels(a);
  const double work = double(heads) * a.queries * a.keys * (2 * a.size + 2 * a.v_size + 20) + 8.0 * heads * a.keys * (a.size + a.v_size);
  const int64_t workers = workers_for(work, pool);
  const int64_t wanted = workers == 1 ? 1 : divide_up(4 * workers, heads);
  const int64_t slices = std::clamp<int64_t>(int64_t(work / kItem / heads), 1, std::min(wanted, panels));
  std::atomic<bool> starved{false};
  share(pool, workers, heads, slices, [&](int64_t& held, int64_t head, int64_t slice) {
    float* scratch = thread_scratch(isa->scratch(a));
    if (!scratch) return starved.store(true);
    if (held != head) isa->pack(a, head, scratch);
    held = head;
    isa->run(a, head, panels * slice / slices, panels * (slice + 1) / slices, scratch);
  });
  return starved ? ffi::Error(ffi::ErrorCode::kResourceExhausted, "attention: no memory for a head") : ffi::Error::Success();
}

}  // namespace sparta

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(sparta_attention, sparta::attention,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::F32>>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::F32>>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::F32>>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::F32>>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::PRED>>()
                                  .Arg<xla::ffi::Buffer<xla::ffi::F32>>()
                                  .Ret<xla::ffi::Buffer<xla::ffi::F32>>()
                                  .Attr<std::string_view>("isa"));

#pragma GCC visibility pop
