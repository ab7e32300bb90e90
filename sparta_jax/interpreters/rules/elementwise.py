"""Rules for elementwise primitives, by family: where a zero stays a zero is a table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jax.extend.core import primitives as p

from ...grid import Grid, combine
from ..facts import CONST, LIVE, ZERO, Fact, Need, grid_of
from ..registry import backward, forward

# f(0) = 0. The named ones are not exported, or not by every JAX version.
KEEP_ZERO = (
    p.abs_p, p.neg_p, p.sign_p, p.sqrt_p, p.cbrt_p, p.square_p, p.floor_p, p.ceil_p, p.round_p,
    p.sin_p, p.tan_p, p.asin_p, p.atan_p, p.sinh_p, p.tanh_p, p.asinh_p, p.atanh_p, p.expm1_p, p.log1p_p,
    p.erf_p, p.erf_inv_p, p.bessel_i1e_p, p.real_p, p.imag_p, p.conj_p, p.complex_p, p.population_count_p,
    p.convert_element_type_p, p.reduce_precision_p, p.copy_p, p.stop_gradient_p, p.name_p, p.nextafter_p,
    p.sharding_constraint_p, "reshard", "pvary", "pcast",
    p.add_p, p.add_jaxvals_p, p.sub_p, p.or_p, p.xor_p,
)  # fmt: skip

# f(0) != 0, or its zero hangs on a zero's sign (`bitcast_convert_type`, the total orders): a constant.
LOSE_ZERO = (
    p.exp_p, p.exp2_p, p.log_p, "log2", "one_minus_square", p.logistic_p, p.cos_p, p.cosh_p, p.acos_p, p.acosh_p, p.rsqrt_p,
    p.erfc_p, p.lgamma_p, p.digamma_p, p.bessel_i0e_p, p.not_p, p.is_finite_p, p.clz_p, p.bitcast_convert_type_p,
    p.eq_to_p, p.lt_to_p, p.le_to_p,
    p.igamma_p, p.igammac_p, p.igamma_grad_a_p, p.polygamma_p, p.zeta_p, p.regularized_incomplete_beta_p,
)  # fmt: skip

Test = Callable[[np.ndarray], np.ndarray]


def always(x) -> np.ndarray:
    return np.ones_like(x, bool)


def never(x) -> np.ndarray:
    return np.zeros_like(x, bool)


# primitive: (f(0, y) = 0 where the test of y holds, f(x, 0) = 0 where that of x holds)
ZERO_AGAINST: dict = {
    p.mul_p: (always, always),  # `0 * inf` counts as 0
    p.and_p: (always, always),
    p.div_p: (always, never),  # `0 / 0` counts as 0
    p.shift_left_p: (always, never),
    p.shift_right_arithmetic_p: (always, never),
    p.shift_right_logical_p: (always, never),
    p.rem_p: (lambda y: y != 0, never),
    p.pow_p: (lambda y: y > 0, never),
    p.atan2_p: (lambda y: y > 0, never),
    p.max_p: (lambda y: y <= 0, lambda x: x <= 0),
    p.min_p: (lambda y: y >= 0, lambda x: x >= 0),
    p.eq_p: (lambda y: y != 0, lambda x: x != 0),
    p.ne_p: (lambda y: y == 0, lambda x: x == 0),
    p.lt_p: (lambda y: y <= 0, lambda x: x >= 0),
    p.gt_p: (lambda y: y >= 0, lambda x: x <= 0),
    p.le_p: (lambda y: y < 0, lambda x: x > 0),
    p.ge_p: (lambda y: y > 0, lambda x: x < 0),
}


@forward(*KEEP_ZERO)
def keep_zero_forward(*inputs: Fact, **_) -> Fact:
    """`f(0, ..., 0) = 0`."""
    if len(inputs) == 1:
        return Fact(inputs[0].value)
    return Fact(combine(lambda *cells: np.maximum.reduce(cells), *(x.value for x in inputs)))


@forward(*LOSE_ZERO)
def lose_zero_forward(*inputs: Fact, **_) -> Fact:
    """`f(0, ..., 0)` is a constant."""
    return Fact(combine(lambda *cells: np.maximum(CONST, np.maximum.reduce(cells)), *(x.value for x in inputs)))


@forward(p.integer_pow_p)
def integer_pow_forward(x: Fact, *, y: int, **_) -> Fact:
    """`0 ** y = 0` for `y > 0`."""
    return keep_zero_forward(x) if y > 0 else lose_zero_forward(x)


@forward("polynomial")
def polynomial_forward(x: Fact, *coefficients: Fact, **_) -> Fact:
    """`a + x * (...)` is zero where `a` is, and `x` or all the others."""
    low, *high = coefficients
    return keep_zero_forward(low, Fact(combine(_product, x.value, keep_zero_forward(*high).value)))


@backward(*KEEP_ZERO, *LOSE_ZERO, p.integer_pow_p, p.clamp_p, "polynomial")
def elementwise_backward(out: Need, *inputs: Fact, **_) -> tuple[Need, ...]:
    """An operand's element is needed iff an output element that it is spread over is."""
    return tuple(unbroadcast(out, x.shape) for x in inputs)


def _register_against(primitive, test_y: Test, test_x: Test) -> None:
    @forward(primitive)
    def zero_against_forward(x: Fact, y: Fact, **_) -> Fact:
        """`f(0, y) = 0` and `f(x, 0) = 0` where the tests in `ZERO_AGAINST` hold."""
        return zero_where(_zero_against(x, y, test_y), _zero_against(y, x, test_x), x=x, y=y)

    @backward(primitive)
    def zero_against_backward(out: Need, x: Fact, y: Fact, **_) -> tuple[Need, Need]:
        """Nobody needs the partner of a zero that makes the result zero whatever the partner is."""
        need_x = combine(_and_nonzero, out, y.value) if test_x is always else out
        need_y = combine(_and_nonzero, out, x.value) if test_y is always else out
        return unbroadcast(need_x, x.shape), unbroadcast(need_y, y.shape)


for _primitive, _tests in ZERO_AGAINST.items():
    _register_against(_primitive, *_tests)


@forward(p.clamp_p)
def clamp_forward(low: Fact, x: Fact, high: Fact, **_) -> Fact:
    """`clamp(low, 0, high) = 0` where `low <= 0 <= high`."""
    zero = combine(_zero_and, x.value, passes(low, lambda c: c <= 0), passes(high, lambda c: c >= 0))
    return zero_where(zero, low=low, x=x, high=high)


@forward(p.select_n_p)
def select_n_forward(which: Fact, *cases: Fact, **_) -> Fact:
    """The case that is chosen, where that is known; elsewhere what holds of all, live where a live predicate chooses."""

    def choose(which, chosen, *cases):
        join = np.maximum.reduce(cases)
        join = np.where((which == LIVE) & (join != ZERO), LIVE, join)
        join = np.where(which == ZERO, cases[0], join)
        return np.where(chosen < 0, join, np.choose(np.maximum(chosen, 0), cases))

    return Fact(combine(choose, which.value, _chosen(which), *(c.value for c in cases)))


@backward(p.select_n_p)
def select_n_backward(out: Need, which: Fact, *cases: Fact, **_) -> tuple[Need, ...]:
    """A case is needed where it may be chosen, the predicate where the cases are not all zero."""
    chosen = _chosen(which)

    def may_choose(index: int) -> Callable[..., np.ndarray]:
        return lambda need, which, c: need & np.where(c < 0, (which != ZERO) | (index == 0), c == index)

    differ = combine(lambda need, *cs: need & (np.maximum.reduce(cs) != ZERO), out, *(c.value for c in cases))
    needs = (combine(may_choose(i), out, which.value, chosen) for i in range(len(cases)))
    return unbroadcast(differ, which.shape), *(unbroadcast(n, c.shape) for n, c in zip(needs, cases, strict=True))


def _chosen(which: Fact) -> Grid:
    """The index of the case that a known predicate chooses, else -1."""
    if which.known is None:
        return Grid.uniform(which.shape, -1)
    return grid_of(which.known, lambda x: x.astype(np.int64))


def zero_where(*zero: Grid, **inputs: Fact) -> Fact:
    """Zero where one of `zero` holds, elsewhere as live as the inputs."""
    joined = keep_zero_forward(*inputs.values()).value.map(lambda c: np.maximum(c, CONST))
    return Fact(combine(lambda value, *zs: np.where(np.logical_or.reduce(zs), ZERO, value), joined, *zero))


def _zero_against(x: Fact, y: Fact, test: Test) -> Grid:
    """Boolean grid: `x` is zero, and `y` passes the test that makes the result zero."""
    return combine(_zero_and, x.value, passes(y, test) if x.has_zeros else Grid.uniform((), False))


def passes(fact: Fact, test: Test) -> Grid:
    """Boolean grid: where a fact's element is known to pass a test of its value."""
    if test is always or test is never:
        return Grid.uniform(fact.shape, test is always)
    if fact.known is not None:
        return grid_of(fact.known, test)
    at_zero = bool(test(np.zeros(())))
    return fact.value.map(lambda c: (c == ZERO) & at_zero)


def _product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((x == ZERO) | (y == ZERO), ZERO, np.maximum(x, y))


def _zero_and(value: np.ndarray, *others: np.ndarray) -> np.ndarray:
    return np.logical_and.reduce(np.broadcast_arrays(value == ZERO, *others))


def _and_nonzero(need: np.ndarray, value: np.ndarray) -> np.ndarray:
    return need & (value != ZERO)


def unbroadcast(out: Need, shape: tuple[int, ...]) -> Need:
    """The need of an operand of `shape` whose size-1 and missing leading axes were stretched to the output's."""
    if out.shape == tuple(shape):
        return out
    need = out.reduce(range(out.ndim - len(shape)))
    return need.reduce([d for d, n in enumerate(shape) if n != need.shape[d]], keepdims=True)
