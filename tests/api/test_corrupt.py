"""Every way in which a packed tree can be spoilt is an error of ours that names the entry and the mend, or changes nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from api.programs import assert_near, random

import sparta_jax as sj
from sparta_jax.errors import PackedError
from sparta_jax.formats.bsr import BSR
from sparta_jax.kernels import native
from sparta_jax.stored import arrays_of, of_arrays
from sparta_jax.stored import layout_of as layout_of_stored

RNG = np.random.default_rng(0)
SHAPE = (40, 48)
PARAMS = {"up": random(SHAPE, RNG), "bias": random((48,), RNG), "down": random((48, 40), RNG)}
X = random((3, 40), RNG)
CELLS = np.kron(RNG.permutation(30).reshape(5, 6) < 9, np.ones((8, 8), bool))
ELEMENTS = RNG.permutation(SHAPE[0] * SHAPE[1]).reshape(SHAPE) < 200
MASKS = {"xla": CELLS, "native": ELEMENTS}


def model(params, x):
    return jnp.sin(x @ params["up"] + params["bias"]) @ params["down"]


@pytest.fixture(scope="module", params=MASKS)
def setting(request):
    """A function, its packed params, the key of its sparse entry and that of its bias."""
    if request.param == "native" and (why := native.why_unavailable()) is not None:
        pytest.skip(why)
    tesa = {"up": sj.TeSA(MASKS[request.param]), "bias": None, "down": sj.TeSA(MASKS[request.param].T)}
    fast = sj.sparsify(model, tesa, implementation=request.param)
    packed = fast.pack(PARAMS, X)
    sparse = next(k for k, v in packed.entries.items() if "up" in k and hasattr(v, "indptr"))
    plain = next(k for k, v in packed.entries.items() if "bias" in k)
    assert isinstance(packed.entries[sparse], BSR) == (request.param == "xla")
    return fast, packed, sparse, plain


def at(array, index, value):
    return array.at[index].set(value)


# What becomes of the sparse entry's values and tables, and what the message says of it.
STATIC = {
    "values of another dtype": (lambda v, p, i: (v.astype(jnp.float16), p, i), "float16.*float32"),
    "values are integers": (lambda v, p, i: (v.astype(jnp.int32), p, i), "int32.*float32"),
    "values are short": (lambda v, p, i: (v[:-1], p, i), "holds|entries"),
    "values of another rank": (lambda v, p, i: (v[None], p, i), "values of shape"),
    "values of no rank": (lambda v, p, i: (v.ravel()[0], p, i), "values of shape"),
    "indptr is short": (lambda v, p, i: (v, p[:-1], i), "indptr|column table"),
    "indptr is numbers": (lambda v, p, i: (v, p.astype(jnp.float32), i), "indptr is float32|integers"),
    "indices are short": (lambda v, p, i: (v, p, i[:-1]), "indices|entries"),
    "indices are numbers": (lambda v, p, i: (v, p, i.astype(jnp.float32)), "indices is float32|integers"),
    "indices are unsigned": (lambda v, p, i: (v, p, i.astype(jnp.uint32)), "indices is uint32|integers"),
    "tables are swapped": (lambda v, p, i: (v, i, p), "indptr|indices|entries"),
}
CONTENT = {
    "an index too large": (lambda v, p, i: (v, p, at(i, 0, 40)), "outside"),
    "a negative index": (lambda v, p, i: (v, p, at(i, -1, -1)), "outside"),
    "an element twice": (lambda v, p, i: (v, p, i * 0), "not in order"),
    "indptr begins late": (lambda v, p, i: (v, at(p, 0, 1), i), "column table"),
    "indptr ends early": (lambda v, p, i: (v, at(p, -1, 0), i), "column table"),
    "indptr decreases": (lambda v, p, i: (v, at(p, 1, p[-1]), i), "column table"),
}


def spoilt(packed, key, corrupt):
    """The tree with one sparse entry made from what `corrupt` gives."""
    old = packed.entries[key]
    return replaced(packed, key, dataclasses.replace(old, **dict(zip(fields(old), corrupt(*arrays_of(old)), strict=True))))


def fields(stored):
    return ("blocks" if isinstance(stored, BSR) else "values", "indptr", "indices")


def replaced(packed, key, value):
    return dataclasses.replace(packed, entries={**packed.entries, key: value})


def refused(call, key, why):
    with pytest.raises(PackedError, match=f"(?s){why}.*pack again") as error:
        call()
    assert key in str(error.value)


def test_the_sparse_entry(setting):
    fast, packed, key, _ = setting
    for corrupt, why in STATIC.values():
        tree = spoilt(packed, key, corrupt)
        refused(lambda tree=tree: fast(tree, X), key, why)
        refused(lambda tree=tree: jax.eval_shape(fast, tree, X), key, why)
    for corrupt, why in CONTENT.values():
        tree = spoilt(packed, key, corrupt)
        refused(lambda tree=tree: fast(tree, X), key, why)


def test_entries_of_other_kinds(setting):
    fast, packed, key, plain = setting
    weight, bias = packed.entries[key], packed.entries[plain]
    transposed = of_arrays(arrays_of(weight), layout_of_stored(weight), SHAPE[::-1])
    wrong = {
        "another shape": (replaced(packed, plain, bias[:-1]), plain, r"float32\[47\].*float32\[48\] is needed"),
        "another dtype": (replaced(packed, plain, bias.astype(jnp.bfloat16)), plain, r"bfloat16\[48\]"),
        "integers": (replaced(packed, plain, bias.astype(jnp.int32)), plain, "int32"),
        "a weight for an array": (replaced(packed, plain, weight), plain, "an array is needed"),
        "nothing": (replaced(packed, plain, None), plain, "NoneType"),
        "an array for a weight": (replaced(packed, key, bias), key, r"float32\[40, 48\] is needed"),
        "the transposed shape": (replaced(packed, key, transposed), key, r"\(48, 40\)|column table|outside"),
        "swapped": (dataclasses.replace(packed, entries={**packed.entries, key: bias, plain: weight}), None, "is needed"),
    }
    for tree, where, why in wrong.values():
        refused(lambda tree=tree: jax.eval_shape(fast, tree, X), where or key.split("@")[0][:8], why)


def test_missing_and_further_entries(setting):
    fast, packed, key, _ = setting
    less = dataclasses.replace(packed, entries={k: v for k, v in packed.entries.items() if k != key})
    refused(lambda: fast(less, X), r"['up']", "was not packed")
    assert_near(fast(replaced(packed, "more", jnp.ones(3)), X), fast(packed, X))


def test_what_is_whole_is_looked_at_once(setting, monkeypatch):
    from sparta_jax.api import entries

    fast, packed, _, _ = setting
    fast(packed, X)
    monkeypatch.setattr(entries, "table_fault", lambda *_: pytest.fail("read again"))
    fast(packed, X)
