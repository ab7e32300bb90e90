"""Uniform axes: along which axes a variable's constants do not vary.

A bias behind a product is the same for every row of a batch, so a dead channel's constant is one number; behind a zero-padded
convolution it is a map. An axis is uniform if any two elements that differ along it alone, and depend on no data, are equal.
Where no rule says so, an axis is not uniform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .facts import CONST, LIVE, Fact, distinct
from .jaxprs import Atom, Constant, Equation, Program, Variable, body
from .propagate import Facts, forward_sweep
from .rules.elementwise import KEEP_ZERO, LOSE_ZERO, ZERO_AGAINST
from .rules.shapes import reshaped_runs

Axes = frozenset  # of ints


def uniform_axes(program: Program, facts: Facts) -> dict[Variable, Axes]:
    """The uniform axes of every variable."""
    return _sweep(program, facts, [_given(facts.value(v)) for v in program.inputs])


def _sweep(program: Program, facts: Facts, inputs: Sequence[Axes]) -> dict[Variable, Axes]:
    found = {v: _given(facts.value(v)) for v in program.constants}
    found.update(zip(program.inputs, inputs, strict=True))
    of = lambda atom: frozenset() if isinstance(atom, Constant) else found[atom]
    for equation in program.equations:
        rule = RULES.get(equation.name)
        derived = None
        if rule is not None and any(_has_constants(facts.value(v)) for v in equation.outputs):
            derived = rule(equation, [of(a) for a in equation.inputs], facts)
        for i, v in enumerate(equation.outputs):
            found[v] = _given(facts.value(v)) | (frozenset() if derived is None else derived[i])
    return found


def _given(fact: Fact) -> Axes:
    """What a fact alone tells: nothing varies where nothing is constant, along an axis of size 1, and in equal known values."""
    axes = range(len(fact.shape))
    if not _has_constants(fact):
        return frozenset(axes)
    values = None if fact.known is None else distinct(fact.known)
    alike = lambda d: values is not None and bool((values == values.take([0], d)).all())
    return frozenset(d for d in axes if fact.shape[d] <= 1 or alike(d))


def _has_constants(fact: Fact) -> bool:
    return bool((fact.value.cells == CONST).any())


Rule = Callable[[Equation, list[Axes], Facts], Sequence[Axes]]
RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return add


_named = lambda primitive: primitive if isinstance(primitive, str) else primitive.name
ELEMENTWISE = {_named(p) for p in (*KEEP_ZERO, *LOSE_ZERO, *ZERO_AGAINST)} - {"bitcast_convert_type"}


@_rule(*ELEMENTWISE, "clamp", "integer_pow", "optimization_barrier", "device_put")
def _elementwise(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    """Along an axis that is uniform in all operands; a scalar is."""
    result, *others = equation.outputs
    if others:
        return inputs
    shape = result.shape
    return [frozenset.intersection(*(_stretched(a, axes, shape) for a, axes in zip(equation.inputs, inputs, strict=True)))]


@_rule("select_n")
def _select_n(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    """As in the only case that is not live, else as in all operands."""
    fixed = [i for i, a in enumerate(equation.inputs[1:], 1) if not (facts.value(a).value.cells == LIVE).all()]
    return [inputs[fixed[0]]] if len(fixed) == 1 else _elementwise(equation, inputs, facts)


def _stretched(atom: Atom, axes: Axes, shape: tuple[int, ...]) -> Axes:
    return axes if len(atom.shape) == len(shape) else frozenset(range(len(shape)))


@_rule("broadcast_in_dim")
def _broadcast_in_dim(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    """New and stretched axes are."""
    shape, places = equation.params["shape"], [int(d) for d in equation.params["broadcast_dimensions"]]
    varying = {places[d] for d in range(len(places)) if d not in inputs[0]}
    return [frozenset(range(len(shape))) - varying]


@_rule("transpose")
def _transpose(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    return [frozenset(i for i, d in enumerate(equation.params["permutation"]) if d in inputs[0])]


@_rule("reshape", "squeeze", "expand_dims")
def _reshape(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    """Of axes that are merged or split, all parts are or none is."""
    if equation.params.get("dimensions") is not None and equation.name == "reshape":
        return [frozenset()]
    out: set[int] = set()
    for olds, news in reshaped_runs(equation.inputs[0].shape, equation.outputs[0].shape):
        if inputs[0].issuperset(olds):
            out.update(news)
    return [frozenset(out)]


@_rule("slice", "rev", "dynamic_slice", "sort", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _kept(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    """As in the array operands, but along the axis of a running reduction or of a sort."""
    params = equation.params
    mixed = {params["axis"]} if "axis" in params else {params["dimension"]} if "dimension" in params else set()
    arrays = inputs[:1] if equation.name == "dynamic_slice" else inputs
    return [frozenset.intersection(*arrays) - mixed] * len(equation.outputs)


@_rule("concatenate", "pad", "tile", "split", "dynamic_update_slice")
def _pieced(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    """As in all operands of this rank, along the axes on which the sizes stay the same."""
    rank = len(equation.outputs[0].shape)
    parts = [(a, axes) for a, axes in zip(equation.inputs, inputs, strict=True) if len(a.shape) == rank]
    common = frozenset.intersection(*(axes for _, axes in parts))
    whole = lambda d, shape: all(a.shape[d] == shape[d] for a, _ in parts)
    if equation.name == "pad":
        config = equation.params["padding_config"]
        return [frozenset(d for d in common if tuple(config[d]) == (0, 0, 0))]
    if equation.name == "split":
        return [common] * len(equation.outputs)
    return [frozenset(d for d in common if whole(d, equation.outputs[0].shape))]


@_rule("iota")
def _iota(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    return [frozenset(range(len(equation.outputs[0].shape))) - {equation.params["dimension"]}]


@_rule(
    "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor", "argmax", "argmin"
)  # fmt: skip
def _reduction(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    """Along the axes that are left."""
    left = [d for d in range(len(equation.inputs[0].shape)) if d not in equation.params["axes"]]
    return [frozenset(i for i, d in enumerate(left) if d in inputs[0])]


@_rule("dot_general")
def _dot_general(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    """A free axis as in its operand, a batch axis as in both."""
    (l_contract, r_contract), (l_batch, r_batch) = equation.params["dimension_numbers"]
    lhs, rhs = equation.inputs
    l_free = [d for d in range(len(lhs.shape)) if d not in (*l_contract, *l_batch)]
    r_free = [d for d in range(len(rhs.shape)) if d not in (*r_contract, *r_batch)]
    axes = [left in inputs[0] and right in inputs[1] for left, right in zip(l_batch, r_batch, strict=True)]
    axes += [d in inputs[0] for d in l_free] + [d in inputs[1] for d in r_free]
    return [frozenset(i for i, uniform in enumerate(axes) if uniform)]


@_rule("conv_general_dilated")
def _convolution(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    """The batch as in the operand; a window's axis too, unless it is padded or dilated: then the constants are a map."""
    params, shape = equation.params, equation.inputs[0].shape
    lhs, _, out = params["dimension_numbers"]
    plain = lambda i: tuple(params["padding"][i]) == (0, 0) and params["lhs_dilation"][i] == 1
    axes = {out[2 + i] for i in range(len(shape) - 2) if lhs[2 + i] in inputs[0] and plain(i)}
    if lhs[0] in inputs[0] and params["batch_group_count"] == 1:
        axes.add(out[0])
    return [frozenset(axes)]


@_rule("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def _window(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    """As in the operand, but along a padded or dilated axis."""
    params = equation.params
    plain = lambda d: tuple(params["padding"][d]) == (0, 0) and params["base_dilation"][d] == 1
    return [frozenset(d for d in inputs[0] if plain(d))]


@_rule("checkpoint", "remat", "remat2", "custom_jvp_call", "custom_vjp_call")
def _call(equation: Equation, inputs: list[Axes], facts: Facts) -> Sequence[Axes]:
    """As in the body."""
    program = body(equation)
    given: Mapping[Variable, Fact] = forward_sweep(program, [facts.value(a) for a in equation.inputs], facts.freedom)
    whole = [axes | _given(facts.value(a)) for a, axes in zip(equation.inputs, inputs, strict=True)]
    inner = _sweep(program, Facts(dict(given), {}, (), facts.freedom), whole)
    return [frozenset() if isinstance(v, Constant) else inner[v] for v in program.outputs]
