// Activations of whole vectors of float64, to about 1e-13 of the true value.
#pragma once
#include "storage.h"

namespace sparta::ISA {

typedef Vector<double> Doubles;
typedef Vector<int64_t> Longs;

// exp(x) = scale * (1 + rest), x held within [-708, 709]: so that exp(x) - 1 can be had without cancellation. Cody and Waite's
// reduction to |r| <= ln(2) / 2, and the series.
struct Exponential {
  Doubles scale, rest;
};

static inline Exponential exponential(Doubles x) {
  x = x > splat(709.) ? splat(709.) : x;
  x = x < splat(-708.) ? splat(-708.) : x;
  const Doubles magic = splat(6755399441055744.);  // 1.5 * 2^52, as in exp of float32
  const Doubles shifted = x * splat(1.4426950408889634) + magic;
  const Doubles whole = shifted - magic;
  const Doubles r = (x - whole * splat(0.69314718036912382)) - whole * splat(1.9082149292705877e-10);
  const Doubles rest = r * polynomial(r, 1.6059043836821613e-10, 2.08767569878681e-09, 2.505210838544172e-08, 2.7557319223985888e-07,
                                      2.7557319223985893e-06, 2.4801587301587302e-05, 0.00019841269841269841, 0.0013888888888888889,
                                      0.0083333333333333332, 0.041666666666666664, 0.16666666666666666, 0.5, 1.);
  return {(Doubles)(((Longs)shifted - (Longs)magic + 1023) << 52), rest};
}

static inline Doubles exp(Doubles x) {
  const Exponential e = exponential(x);
  return e.scale + e.scale * e.rest;
}

static inline Doubles sigmoid(Doubles x) {
  const Doubles size = x < Doubles{} ? -x : x;
  const Doubles tail = size > splat(708.) ? Doubles{} : exp(-size);
  return (x < Doubles{} ? tail : splat(1.)) / (splat(1.) + tail);
}

static inline Doubles tanh(Doubles x) {  // by exp(-2 |x|) - 1
  const Doubles size = x < Doubles{} ? -x : x;
  const Exponential e = exponential(splat(-2.) * size);
  const Doubles less = e.scale * e.rest + (e.scale - splat(1.));
  const Doubles value = -less / (splat(2.) + less);
  return x < Doubles{} ? -value : value;
}

static inline Doubles gelu_tanh(Doubles x) { return x * sigmoid(x * polynomial(x * x, 0.071354816272600248, 1.5957691216057308)); }

// As gelu_erf of float32, R in (z - 4) / (z + 4). From z = 39 on the tail is nothing.
static inline Doubles gelu_erf(Doubles x) {
  const Doubles size = x < Doubles{} ? -x : x;
  const Doubles z = size > splat(39.) ? splat(39.) : size;
  const Doubles u = (z - splat(4.)) / (z + splat(4.));
  const Doubles ratio =
      polynomial(u, 1.190159000481872e-09, 6.931236695741425e-09, 4.668041224503977e-09, -4.731344651281115e-08, -8.693209071867916e-08,
                 2.02896258555241e-07, 6.555898827293575e-07, -8.286191574237537e-07, -4.300672122331622e-06, 4.631588160684558e-06,
                 2.864747568521171e-05, -4.555496626924268e-05, -0.0001871841096439971, 0.0006388138698002868, 0.0005075620580574936,
                 -0.008492095484053068, 0.03086480410724097, -0.07170740733765106, 0.1243792553392438, -0.1703977215484565,
                 0.09441064130196901);
  const Doubles tail = z * exp(z * z * splat(-0.5)) * ratio;
  return (x < Doubles{} ? Doubles{} : x) - tail;
}

}  // namespace sparta::ISA
