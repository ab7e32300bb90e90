"""However a user says it, every leaf gets its TeSA or None; and all that does not fit is said at once."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparta_jax import TeSA
from sparta_jax.errors import SpartaError, SpartaTypeError, SpartaValueError
from sparta_jax.trees import leaves_of, match, names, selected

flax = pytest.importorskip("flax")
nnx = pytest.importorskip("flax.nnx")


class Pair(NamedTuple):
    """A container whose keys are attributes."""

    kernel: Any
    bias: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layers:
    """Another one."""

    down: Any
    up: Any


@jax.tree_util.register_pytree_node_class
class Nameless:
    """A container that names its children by position alone."""

    def __init__(self, *children):
        self.children = children

    def tree_flatten(self):
        return self.children, None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def mask(shape, density=0.5, seed=0):
    return np.random.default_rng(seed).random(shape) < density


SHAPES = {"down": {"bias": (8,), "kernel": (6, 8)}, "up": {"bias": (6,), "kernel": (8, 6)}}
PARAMS = jax.tree.map(np.ones, SHAPES, is_leaf=lambda s: isinstance(s, tuple))
DOWN, UP = TeSA(mask((6, 8))), TeSA(mask((8, 6), seed=1))
WANT = [None, DOWN, None, UP]
FULL = {"down": {"bias": None, "kernel": DOWN}, "up": {"bias": None, "kernel": UP}}


def state(tree):
    """A tree of nnx variables."""
    return nnx.State(jax.tree.map(nnx.Param, tree, is_leaf=lambda t: t is None or isinstance(t, TeSA)))


SPECS = {
    "the whole tree": FULL,
    "None for a subtree": {"down": {"bias": None, "kernel": DOWN}, "up": {"kernel": UP, "bias": None}},
    "what is not mentioned is dense": {"up": {"kernel": UP}, "down": {"kernel": DOWN}},
    "boolean arrays": {"down": {"bias": None, "kernel": DOWN.mask}, "up": {"bias": None, "kernel": jnp.asarray(UP.mask)}},
    "a FrozenDict": flax.core.freeze(FULL),
    "an nnx State": state(FULL),
    "nnx paths in a dict": {"down": {"kernel": {"value": DOWN}}, "up": {"kernel": {"value": UP}}},
    "named tuples": {"down": Pair(DOWN, None), "up": Pair(UP, None)},
    "a dataclass": Layers(Pair(DOWN, None), {"kernel": UP}),
    "regexes": {"down.*kernel": DOWN, r"up/kernel$": UP},
    "regexes of arrays, and None": {"down/kernel": DOWN.mask, "^up/kernel": UP, "bias": None},
    "regexes that agree": {"^down/kernel": DOWN, "kernel$": lambda leaf: DOWN if leaf.shape == (6, 8) else UP},
    "makers": {"kernel": lambda leaf: (DOWN if leaf.shape[0] == 6 else UP).mask},
    "makers in a tree": {"down": {"kernel": lambda leaf: DOWN}, "up": {"kernel": lambda leaf: UP}},
    "a callable": lambda path, leaf: {"down/kernel": DOWN, "up/kernel": UP.mask}.get(path),
}
CONTAINERS = {
    "dicts": PARAMS,
    "a FrozenDict": flax.core.freeze(PARAMS),
    "an nnx State": state(PARAMS),
    "a dataclass": Layers(PARAMS["down"], PARAMS["up"]),
    "shapes": jax.eval_shape(lambda: jax.tree.map(jnp.asarray, PARAMS)),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("spec", SPECS)
def test_every_way_of_saying_it(spec, container):
    assert match(SPECS[spec], CONTAINERS[container]) == WANT


@pytest.mark.parametrize("spec", SPECS)
def test_params_may_be_traced(spec):
    found = []
    jax.jit(lambda params: found.append(match(SPECS[spec], params)))(jax.tree.map(jnp.asarray, PARAMS))
    assert found == [WANT]


@pytest.mark.parametrize("density", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (2, 3, 4), (0, 2)])
def test_an_array_alone(shape, density):
    tesa = TeSA(mask(shape, density))
    param = np.zeros(shape)
    for spec in (tesa, tesa.mask, jnp.asarray(tesa.mask), lambda path, leaf: tesa, {"": tesa}):
        assert match(spec, param) == [tesa]
    assert match(None, param) == [None]


def test_numbers_are_leaves():
    assert match({"a": TeSA.dense(()), "b": None}, {"a": 1.0, "b": 2}) == [TeSA.dense(()), None]


def test_what_stands_for_a_subtree_holds_for_every_leaf():
    params = {"layers": [np.ones((6, 8))] * 3, "out": np.ones((8, 6))}
    assert match({"layers": DOWN, "out": None}, params) == [DOWN] * 3 + [None]
    assert match({"layers": None, "out": UP}, params) == [None] * 3 + [UP]
    assert match(DOWN, params["layers"]) == [DOWN] * 3
    assert match(None, params) == [None] * 4
    with pytest.raises(SpartaValueError, match=r"params\['out'\]: mask has shape \(6, 8\), parameter \(8, 6\)"):
        match(DOWN, params)


@pytest.mark.parametrize(
    "params", [[PARAMS["down"]["kernel"]], Nameless(PARAMS["down"]["kernel"]), {0: PARAMS["down"]["kernel"]}]
)
@pytest.mark.parametrize("make", [lambda t: [t], Nameless, lambda t: {0: t}, lambda t: {"0": t}, lambda t: (t,)])
def test_positions_are_names(make, params):
    assert match(make(DOWN), params) == [DOWN]


def test_empty_trees():
    for spec in (None, {}, [], lambda path, leaf: TeSA.dense(())):
        assert match(spec, {}) == []
    assert match({"a": {}, "b": None, "w": DOWN}, {"a": {}, "b": None, "w": np.ones((6, 8))}) == [DOWN]


def test_a_parameter_called_value_is_no_variable():
    """Only the `.value` below an nnx variable is left out: attention has a projection of that name."""
    params = {"query": {"kernel": np.ones((6, 8))}, "value": {"kernel": np.ones((6, 8))}}
    assert [leaf.path for leaf in leaves_of(params)] == ["query/kernel", "value/kernel"]
    assert [leaf.path for leaf in leaves_of(state(params))] == ["query/kernel", "value/kernel"]
    assert match({"value": DOWN}, params) == [None, DOWN]
    assert match({"value": DOWN}, state(params)) == [None, DOWN]
    assert match({"value/": DOWN}, state(params)) == [None, DOWN]
    assert match({"value": None, "query": {"kernel": DOWN}}, params) == [DOWN, None]
    with pytest.raises(SpartaValueError, match=r"params\['query'\]\['value'\]: there is no such parameter"):
        match({"query": {"value": DOWN}}, params)
    flat = {"key": np.ones((6, 8)), "value": np.ones((6, 8))}
    assert match({"value": DOWN}, flat) == [None, DOWN]


def test_a_dict_is_a_tree_if_its_keys_are_keys():
    """`fc1` would be found in `fc10` too, were it read as a regex."""
    params = {"fc1": np.ones((6, 8)), "fc10": np.ones((6, 8)), "out": np.ones((8, 6))}
    assert match({"fc1": DOWN}, params) == [DOWN, None, None]
    assert match({"fc1.*": DOWN}, params) == [DOWN, DOWN, None]
    assert match({"fc": DOWN, "out": UP}, params) == [DOWN, DOWN, UP]


def test_names_are_as_jax_prints_them():
    assert names(PARAMS) == [
        "params['down']['bias']",
        "params['down']['kernel']",
        "params['up']['bias']",
        "params['up']['kernel']",
    ]
    assert names([Pair(1, 2)], "args") == ["args[0].kernel", "args[0].bias"]
    assert names(state({"w": np.ones(2)})) == ["params['w'].value"]
    assert names(np.ones(2)) == ["params"]


def test_selected_paths():
    leaves = leaves_of(PARAMS)
    assert selected("kernel", leaves) == [False, True, False, True]
    assert selected(["^up", "n/k"], leaves) == [False, True, True, True]
    with pytest.raises(SpartaValueError, match=r"(?s)2 mismatches.*'nowhere' is found in no path.*'\[' is not a regular expr"):
        selected(["kernel", "nowhere", "["], leaves)


# -- bad input: what, which path, the mend

SHORT = TeSA(np.ones((6, 4), bool))
FAULTS = {
    "another shape": (
        {"down": {"kernel": SHORT}},
        SpartaValueError,
        [r"^params\['down'\]\['kernel'\]: mask has shape \(6, 4\), parameter \(6, 8\); make it for this shape"],
    ),
    "transposed": ({"down": {"kernel": UP}}, SpartaValueError, [r"\(8, 6\), parameter \(6, 8\); transpose it"]),
    "a path that does not exist": (
        {"down": {"kernal": DOWN}},
        SpartaValueError,
        [r"params\['down'\]\['kernal'\]: there is no such parameter; did you mean params\['down'\]\['kernel'\]"],
    ),
    "a path behind a leaf": (
        {"down": {"kernel": {"scale": DOWN}}},
        SpartaValueError,
        [r"params\['down'\]\['kernel'\]\['scale'\]: there is no such"],
    ),
    "a list for a dict": ([DOWN, UP], SpartaValueError, [r"params\[0\]: there is no such", r"params\[1\]: there is no such"]),
    "a regex that hits nothing": (
        {"mlp": DOWN},
        SpartaValueError,
        [r"^params: 'mlp' is found in no path; there are down/bias, "],
    ),
    "a regex beside it": (
        {"down/kernels": DOWN, "up/kernel": UP},
        SpartaValueError,
        [r"'down/kernels' is found in no path; did you mean down/kernel"],
    ),
    "no regex": ({"(": DOWN}, SpartaValueError, [r"'\(' is not a regular expression"]),
    "regexes that disagree": (
        {"down/kernel": DOWN, "kernel$": lambda leaf: TeSA.dense(leaf.shape)},
        SpartaValueError,
        [r"params\['down'\]\['kernel'\]: 'down/kernel' and 'kernel\$' say different things; .*exclude each other"],
    ),
    "a regex of another shape": ({"kernel": DOWN}, SpartaValueError, [r"params\['up'\]\['kernel'\]: mask has shape \(6, 8\)"]),
    "numbers for a mask": (
        {"down": {"kernel": np.ones((6, 8))}},
        SpartaTypeError,
        [r"params\['down'\]\['kernel'\]: the mask has dtype float64, not bool: write `mask != 0`"],
    ),
    "a word for a mask": (
        {"down": {"kernel": "dense"}},
        SpartaTypeError,
        ["expected a TeSA, a boolean array or None, got str"],
    ),
    "True for a mask": ({"down": {"kernel": True}}, SpartaTypeError, ["expected a TeSA, a boolean array or None, got bool"]),
    "a word for it all": ("magnitude", SpartaTypeError, ["got str"]),
    "a maker of words": (
        {"down/k": lambda leaf: "dense"},
        SpartaTypeError,
        [r"params\['down'\]\['kernel'\]: expected .* got str"],
    ),
    "a maker that fails": (
        {"kernel": lambda leaf: TeSA.blocks(np.ones((2, 2), bool), (4,), leaf.shape)},
        SpartaValueError,
        [r"params\['down'\]\['kernel'\]: block \(4,\) has 1", r"params\['up'\]\['kernel'\]: block \(4,\) has 1"],
    ),
    "a callable of another shape": (
        lambda path, leaf: SHORT,
        SpartaValueError,
        [r"params\['down'\]\['bias'\]: mask has shape"],
    ),
    "all at once": (
        {"down": {"kernel": SHORT, "bias": np.ones(8)}, "left": DOWN, "up": {"kernel": UP, "bias": SHORT}},
        SpartaValueError,
        [
            "4 mismatches in the TeSAs of params",
            r"\n  params\['down'\]\['kernel'\]: mask has shape \(6, 4\), parameter \(6, 8\)",
            r"\n  params\['down'\]\['bias'\]: the mask has dtype float64",
            r"\n  params\['left'\]: there is no such parameter",
            r"\n  params\['up'\]\['bias'\]: mask has shape \(6, 4\), parameter \(6,\)",
        ],
    ),
    "two of one type": (
        {"down": {"kernel": np.ones((6, 8)), "bias": 1}},
        SpartaTypeError,
        ["2 mismatches", r"\['kernel'\]: the mask has dtype", r"\['bias'\]: expected a TeSA"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_says_what_does_not_fit(fault):
    spec, kind, patterns = FAULTS[fault]
    with pytest.raises(SpartaError) as error:
        match(spec, PARAMS)
    assert type(error.value) is kind
    for pattern in patterns:
        assert error.match(pattern)


def test_messages_call_the_argument_by_its_name():
    with pytest.raises(SpartaValueError, match=r"^w: 'kernel' is found in no path; there is one array alone, its path is ''"):
        match({"kernel": DOWN}, np.ones((6, 8)), "w")
    with pytest.raises(SpartaValueError, match=r"^weights: 'mlp' is found in no path"):
        match({"mlp": DOWN}, PARAMS, "weights")
    with pytest.raises(SpartaValueError, match=r"^weights\['down'\]\['kernel'\]: mask"):
        match({"down": {"kernel": SHORT}}, PARAMS, "weights")


def test_a_traced_mask_is_refused():
    def program(w):
        with pytest.raises(SpartaTypeError, match=r"params\['w'\]: the mask is traced.*outside `jit`"):
            match({"w": w > 0}, {"w": w})
        return w

    jax.jit(program)(jnp.ones((2, 3)))
    jax.vmap(program)(jnp.ones((2, 3)))


def test_hundreds_of_leaves_are_matched_at_once():
    params = {f"layer_{i}": {"kernel": np.ones((2, 2)), "bias": np.ones(2)} for i in range(400)}
    tesa = TeSA(np.eye(2, dtype=bool))
    spec = {name: {"kernel": tesa, "bias": None} for name in params}
    assert match(spec, params) == match({"kernel": tesa}, params) == [None, tesa] * 400
