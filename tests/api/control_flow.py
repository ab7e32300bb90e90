"""Programs with sparse weights in loops, branches and calls, and what they are compared with."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from api.programs import mask_of, random
from jax import lax
from jax.sharding import AxisType, PartitionSpec

D, LAYERS = 24, 2
SQUARE, STACK, BIASES, ROWS = (D, D), (LAYERS, D, D), (LAYERS, D), (5, D)


@dataclasses.dataclass(frozen=True)
class Case:
    """`fn(params, x)`.

    Attributes:
      fn: the function.
      params: their shapes; those of two or more axes are masked, but for biases.
      sites: how many products have a sparse weight, loops written out; None where it depends.
      reverse: whether it has a derivative in reverse mode.
      stacked: whether some weight is a stack that a loop runs over.
    """

    fn: Callable
    params: dict[str, tuple[int, ...]]
    sites: int | None = None
    reverse: bool = True
    stacked: bool = False


def dense_layer(x, p):
    return jax.nn.relu(x @ p["w"] + p["b"])


def over_layers(layer, p, x, **options):
    return lax.scan(lambda x, q: (layer(x, q), None), x, p, **options)[0]


def growing(p, x):
    """The second carry starts at zero and stays there in fewer and fewer columns."""

    def step(carry, q):
        x, seen = carry
        return (jnp.sin(x @ q["w"]), jnp.roll(seen, 3, 1) + 0.1 * x), seen.sum(0)

    return lax.scan(step, (x, jnp.zeros_like(x)), p)


def until(p, x):
    going = lambda c: (c[0] < 4) & (jnp.abs(c[1]).max() < 2)
    return lax.while_loop(going, lambda c: (c[0] + 1, jnp.sin(c[1] @ p["w"]) * 2), (0, x))[1]


def chosen(p, x):
    return lax.cond(x[0, 0] > 0, lambda x: jnp.sin(x @ p["w"]), lambda x: x @ p["v"] + x, x)


def switched(p, x):
    branches = [lambda x: x @ p["w"], lambda x: jnp.tanh(x @ p["v"]), lambda x: x]
    return lax.switch((x[0, 0] * 10).astype(jnp.int32) % 3, branches, x)


def scan_in_cond(p, x):
    return lax.cond(x[0, 0] > 0, lambda x: over_layers(dense_layer, p, x), lambda x: x, x)


def shared_layer(p, x):
    layer = jax.jit(lambda w, x: jnp.sin(x @ w))
    return layer(p["w"], layer(p["v"], x)) + layer(p["w"], x)


@jax.custom_jvp
def doubled(x):
    return jnp.tanh(x)


doubled.defjvp(lambda primals, tangents: (doubled(*primals), 2 * tangents[0]))


@jax.custom_vjp
def clipped(x):
    return jnp.sin(x)


clipped.defvjp(lambda x: (clipped(x), x), lambda x, g: (jnp.clip(g, -1, 1) * x,))


def lstm(p, x):
    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ p["wx"] + h @ p["wh"] + p["b"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((x.shape[0], D))
    return lax.scan(step, (start, start), jnp.stack([x, x * 0.5, x - 1]))[1]


def noisy(p, x):
    def layer(carry, q):
        x, key = carry
        key, now = jax.random.split(key)
        return (jnp.where(jax.random.bernoulli(now, 0.5, x.shape), jnp.sin(x @ q["w"]), np.float32(0)), key), None

    return lax.scan(layer, (x, jax.random.key(3)), p)[0][0]


def foreign(p, x):
    """A host function in the loop; its own derivative is not asked for."""
    host = lambda y: jax.pure_callback(lambda y: np.sin(y), jax.ShapeDtypeStruct(y.shape, y.dtype), y, vmap_method="sequential")
    return over_layers(lambda x, q: jnp.tanh(x @ q["w"]) + host(lax.stop_gradient(x)), p, x)


def mapped(p, x):
    return (
        jax.shard_map(
            lambda w, x: jnp.sin(x @ w),
            mesh=jax.make_mesh((1,), ("a",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1]),
            in_specs=(PartitionSpec(), PartitionSpec("a")),
            out_specs=PartitionSpec("a"),
        )(p["w"], x)
        @ p["w"]
    )


STACKED, ONE, TWO = {"w": STACK, "b": BIASES}, {"w": SQUARE}, {"w": SQUARE, "v": SQUARE}
LSTM = {"wx": (D, 4 * D), "wh": (D, 4 * D), "b": (4 * D,)}
over = lambda layer, **options: lambda p, x: over_layers(layer, p, x, **options)
CASES = {
    "scan over layers": Case(over(dense_layer), STACKED, LAYERS, stacked=True),
    "scan, reversed": Case(over(dense_layer, reverse=True), STACKED, LAYERS, stacked=True),
    "scan, unrolled by the user": Case(over(dense_layer, unroll=2), STACKED, LAYERS, stacked=True),
    "scan of one layer": Case(over(dense_layer), {"w": (1, D, D), "b": (1, D)}, 1, stacked=True),
    "scan, of results": Case(
        lambda p, x: lax.scan(lambda c, w: (c, jnp.sin(c @ w)), x, p["w"])[1], {"w": STACK}, LAYERS, stacked=True
    ),
    "scan, two weights a layer": Case(
        over(lambda x, q: x + jax.nn.gelu(x @ q["w"]) @ q["v"]),
        {"w": (LAYERS, D, 40), "v": (LAYERS, 40, D)},
        2 * LAYERS,
        stacked=True,
    ),
    "scan, cast": Case(
        lambda p, x: over_layers(lambda x, w: x @ w.T, p["w"].reshape(STACK), x), {"w": (LAYERS * D, D)}, LAYERS, stacked=True
    ),
    "scan, growing": Case(growing, {"w": STACK}, LAYERS, stacked=True),
    "scan over steps": Case(lambda p, x: lax.scan(lambda c, x: (jnp.sin(c @ p["w"] + x), c), x[0], x), ONE, 1),
    "scan, the weight carried": Case(
        lambda p, x: lax.scan(lambda c, x: ((c[0], jnp.sin(c[1] @ c[0] + x)), None), (p["w"], x[0]), x)[0][1], ONE, 1
    ),
    "fori_loop": Case(lambda p, x: lax.fori_loop(0, 3, lambda i, x: jnp.sin(x @ p["w"]) * (i + 1), x), ONE, 1),
    "fori_loop over a stack": Case(
        lambda p, x: lax.fori_loop(0, LAYERS, lambda i, x: jnp.sin(x @ p["w"][i]), x), {"w": STACK}, 1
    ),
    "while_loop": Case(until, ONE, 1, reverse=False),
    "cond": Case(chosen, TWO, 2),
    "switch": Case(switched, TWO, 2),
    "lax.map": Case(lambda p, x: lax.map(lambda x: jnp.sin(x @ p["w"]), x), ONE, 1),
    "scan in cond": Case(scan_in_cond, STACKED, LAYERS, stacked=True),
    "remat in scan": Case(over(jax.checkpoint(dense_layer)), STACKED, LAYERS, stacked=True),
    "scan in remat": Case(lambda p, x: jax.checkpoint(over(dense_layer))(p, x), STACKED, LAYERS, stacked=True),
    "scan in scan": Case(
        lambda p, x: lax.map(lambda x: over_layers(dense_layer, p, x[None])[0], x), STACKED, LAYERS, stacked=True
    ),
    "custom_jvp in scan": Case(over(lambda x, q: doubled(x @ q["w"])), {"w": STACK}, LAYERS, stacked=True),
    "custom_vjp in scan": Case(over(lambda x, q: clipped(x @ q["w"])), {"w": STACK}, LAYERS, stacked=True),
    "one jitted function twice": Case(shared_layer, TWO, 3),
    "random numbers": Case(noisy, {"w": STACK}, LAYERS, stacked=True),
    "a host function": Case(foreign, {"w": STACK}, LAYERS, stacked=True),
    "shard_map": Case(mapped, ONE, 1),
    "lstm": Case(lstm, LSTM, 2),
}


def masks_for(params, rng, alike: bool = False):
    """A mask per weight, of its own in each layer, or alike in all."""

    def mask(name, shape):
        if name == "b":
            return None
        mask = mask_of(shape, 0.5, rng)
        return np.broadcast_to(mask[:1], shape) if alike and len(shape) == 3 else mask

    return {name: mask(name, shape) for name, shape in params.items()}


def values_for(params, rng):
    return {name: random(shape, rng) / 3 for name, shape in params.items()}, random(ROWS, rng)


def masked(fn, masks):
    return lambda p, x: fn({n: v if masks[n] is None else jnp.where(masks[n], v, 0) for n, v in p.items()}, x)


def loss(fn):
    return lambda p, x: sum(jnp.sum(jnp.cos(y)) for y in jax.tree.leaves(fn(p, x)) if jnp.issubdtype(y.dtype, jnp.floating))


def reverse(fn):
    return jax.grad(loss(fn), (0, 1))
