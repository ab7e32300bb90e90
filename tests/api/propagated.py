"""What `propagate` is asked in tests: a small network, one weight, and operations whose zeros are lost."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive

import sparta_jax as sj
from sparta_jax.errors import SpartaWarning

mystery = Primitive("mystery")  # no rule knows it
mystery.def_abstract_eval(lambda x: x)


def struct(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def dead(shape, axis, *positions):
    return sj.TeSA.channels(~np.isin(np.arange(shape[axis]), positions), axis, shape)


def propagated(fn, tesa, params, *args, **kwargs) -> sj.Propagation:
    """What `propagate` finds, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpartaWarning)
        return sj.propagate(fn, tesa, **kwargs)(params, *args)


def mlp(params, x):
    with jax.named_scope("mlp"):
        h = jax.nn.relu(x @ params["w"] + params["b"])
    return {"logits": h @ params["v"], "hidden": h}


PARAMS = {"w": struct(4, 8), "b": struct(8), "v": struct(8, 3)}
TESA = {"w": dead((4, 8), 1, 3, 5), "b": dead((8,), 0, 3), "v": dead((8, 3), 0, 7)}
W, COLUMN = struct(3, 4), dead((3, 4), 1, 1)


@jax.custom_vjp
def stubborn(x):
    """Its derivative cannot be traced."""
    return x * 2


stubborn.defvjp(lambda x: (x * 2, float(np.asarray(x).sum())), lambda rest, g: (g * 2,))
