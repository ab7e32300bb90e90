"""Cases of loops and branches."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from interpreters.case import CASES, X, add, bools, gradient, ints
from jax import lax


def stacked(w, b, x):
    """A layer per slice of the weights, with the activations behind each."""

    def layer(x, wb):
        y = jnp.sin(x @ wb[0]) + wb[1]
        return y, y[0]

    return lax.scan(layer, x, (w, b))


def shifted(x, y):
    """A carry that loses one zero after another, and one that keeps its own."""
    return lax.scan(lambda c, y: ((jnp.roll(c[0], 1) * 0.5, c[1] * y), c[0].sum()), (x, x), y)


def counted(x, y):
    """Counters, a carry that is passed on, and one that forgets."""
    return lax.scan(lambda c, y: ((c[0] + 1, c[1] * 2, c[2], y), (c[0], c[1] + c[3])), (0, jnp.float32(1), x, x), y)


def until(x, w):
    """A loop whose length depends on the data."""
    going = lambda c: (c[0] < 4) & (c[1].sum() < 5)
    return lax.while_loop(going, lambda c: (c[0] + 1, c[1] + 1, c[2] * 2, c[3] @ w), (0, x, x, x))


def bounded(x, n):
    """A loop whose length depends on an operand, over a carry that is passed on and one that only counts."""
    return lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1], c[2] + c[1], jnp.roll(c[3], 1)), (0, x, x, x))


def lstm(wx, wh, b, x):
    """`x` is `[t, b, d]`; four gates of three units."""

    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ wx + h @ wh + b, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((x.shape[1], 3))
    return lax.scan(step, (start, start), x)


def chosen(i, x, y):
    """Branches that agree in their first result alone."""
    return lax.cond(i > 0, lambda x, y: (x, y * x, x), lambda x, y: (x, x + 1, jnp.zeros_like(x)), x, y)


def solved(a, b):
    return lax.custom_linear_solve(lambda x: a @ x, b, lambda _, b: jnp.linalg.inv(a) @ b, lambda _, b: jnp.linalg.inv(a).T @ b)


for _reverse in (False, True):
    _turned = ", reversed" if _reverse else ""
    add(f"scan over xs{_turned}", lambda x, y, r=_reverse: lax.scan(lambda c, s: (c + s, c * s), x[0], y, reverse=r), X, X)
add("scan over layers", stacked, (3, 6, 6), (3, 6), X)
add("scan, growing", shifted, (6,), (4, 6))
add("scan, growing for long", shifted, (24,), (20, 24))
add("scan, counted", counted, (6,), (4, 6))
add("scan, of no length", lambda x, y: lax.scan(lambda c, s: (c + s, c * s), x, y), (6,), (0, 6))
add("scan, of length 1", shifted, (6,), (1, 6))
add("scan, of no carry", lambda x, w: lax.map(lambda x: jnp.sin(x) @ w, x), X, (6, 5))
add("scan, of no xs", lambda x, w: lax.scan(lambda c, _: (jnp.tanh(c @ w), c), x, None, length=3), X, (6, 6))
add("scan, its last result only", lambda w, b, x: stacked(w, b, x)[0][:, :2], (3, 6, 6), (3, 6), X)
add("scan in a scan", lambda w, x: lax.map(lambda x: lax.scan(lambda c, w: (jnp.tanh(w @ c), c), x, w)[0], x), (3, 6, 6), X)
add("scan in remat", lambda w, b, x: jax.checkpoint(lambda *args: stacked(*args)[0])(w, b, x), (3, 6, 6), (3, 6), X)
add("remat in a scan", lambda w, x: lax.scan(jax.checkpoint(lambda c, w: (jnp.sin(c @ w), None)), x, w)[0], (3, 6, 6), X)
add("lstm", lstm, (4, 12), (3, 12), (12,), (3, 2, 4))
add("while", until, X, (6, 6))
add("while, of a given length", bounded, (6,), ints(low=0, high=5))
add("fori_loop", lambda w, x: lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ w) * (i + 1), x), (6, 6), X)
add("cond", chosen, ints(), X, X)
add("cond of operands", lambda i, x: lax.cond(i, lambda x: x * 2, lambda x: jnp.roll(x, 1, 1), x), bools(), X)
add(
    "switch",
    lambda i, x, y: lax.switch(i, [lambda x, y: x @ y, lambda x, y: x * 2, lambda x, y: y], x, y),
    ints(),
    *[(4, 4)] * 2,
)
add("switch, known", lambda x, y: lax.switch(jnp.int32(1), [lambda x, y: x, lambda x, y: y], x, y), X, X)
add(
    "scan in a cond",
    lambda i, w, b, x: lax.cond(i > 0, lambda *a: stacked(*a)[0], lambda w, b, x: x, w, b, x),
    ints(),
    (2, 6, 6),
    (2, 6),
    X,
)
add("custom_linear_solve", solved, (4, 4), (4, 3))
for _name, _fn in {"scan over layers": stacked, "scan, growing": shifted}.items():
    add(
        f"{_name}, gradient",
        gradient(lambda *a, f=_fn: jax.tree.leaves(f(*a))[0], tuple(range(len(CASES[_name][1])))),
        *CASES[_name][1],
    )
add("lstm, gradient", gradient(lambda *a: lstm(*a)[1], (0, 1, 2, 3)), *CASES["lstm"][1])
