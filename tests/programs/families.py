"""What a random program may do next: each function writes a statement or a few into a scope, or raises `Skip`.

Here those with functions of their own, and the table of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .elements import affine, along, binary, reduction, spread, unary
from .layers import attention, constants, contraction, convolution, dense, dot_general, embedding, mlp, norm, pooling, writer
from .movement import halves, heads, indexing, joined, movement
from .program import Scope, Shape, Skip

# -- functions with bodies


def body(s: Scope, args: Sequence[Shape], result: Shape | None, steps: int) -> tuple[str, str, Shape]:
    """The source of a function of arguments of these shapes, its name, and its shape (bounded, if `result` is told)."""
    if s.depth > 1:
        raise Skip
    inner = Scope(s.rng, s)
    names = [inner.fresh("c") for _ in args]
    inner.values.update(zip(names, args, strict=True))
    write(inner, steps, [f for f in BODY for _ in range(FAMILIES[f])])
    fits = [v for v, shape in inner.values.items() if v not in names and (result is None or shape == result)]
    if not fits:
        raise Skip
    out = fits[-1]
    lines = [line for st in inner.statements for line in st.text.split("\n")]
    name, value = s.fresh("f"), out if result is None else f"jnp.tanh({out})"
    source = "\n    ".join([f"def {name}({', '.join(names)}):", *lines, f"return {value}"])
    return f"{source}\n", name, inner.values[out]


def call(s: Scope) -> object:
    """Rematerialised, or jitted."""
    v, shape = s.pick()
    others = [s.pick()] if s.chance(0.3) else []
    source, f, out = body(s, [shape, *(n for _, n in others)], None, 3)
    args = ", ".join([v, *(u for u, _ in others)])
    s.let(f"{s.choose(['jax.checkpoint', 'jax.checkpoint', 'jax.jit'])}({f})({args})", out, before=source)


def branch(s: Scope) -> object:
    v, shape = s.pick()
    first, f, _ = body(s, [shape], shape, 3)
    second, g, _ = body(s, [shape], shape, 2)
    s.let(f"lax.cond({s.integers((), 2)} > 0, {f}, {g}, {v})", shape, before=first + second)


def loop(s: Scope) -> object:
    """A `fori_loop`, or a `while_loop`, which has no reverse mode."""
    v, shape = s.pick()
    source, f, _ = body(s, [shape], shape, 3)
    if s.chance(0.7):
        s.let(f"lax.fori_loop(0, 3, lambda i, c: {f}(c), {v})", shape, before=source)
    else:
        s.let(f"lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, {f}(c[1])), (0, {v}))[1]", shape, before=source)
        s.root.reverse = False


def layers(s: Scope) -> object:
    """A scan over stacked weights, as of a stack of layers."""
    v, shape = s.pick(lambda shape: len(shape) > 0)
    d = shape[-1]
    source, f, _ = body(s, [shape, (d, d), (d,)], shape, 4)
    stacked = f"{s.weight((2, d, d), d)}, {s.bias((2, d))}"
    step = f"lambda c, w: ({f}(c + 0.5 * jnp.tanh(c @ w[0] + w[1]), *w), None)"
    s.let(f"lax.scan({step}, {v}, ({stacked}))[0]", shape, before=source)


def recurrence(s: Scope) -> object:
    """A scan over the second axis, with a carry; the weights are closed over."""
    v, (b, t, d) = s.pick(lambda shape: len(shape) == 3)
    h = s.size((b, t))
    wx, wh, bias = s.weight((d, h), 2 * d), s.weight((h, h), 2 * h), s.bias((h,))
    source, f, _ = body(s, [(b, h), (b, d)], (b, h), 2)
    step = f"lambda c, u: 2 * (jnp.tanh(u @ {wx} + c @ {wh} + {bias}) + {f}(c, u),)"
    options = ", reverse=True" if s.chance(0.3) else ""
    text = f"lax.scan({step}, jnp.zeros(({b}, {h}), {v}.dtype), {v}.transpose(1, 0, 2){options})[1].transpose(1, 0, 2)"
    s.let(text, (b, t, h), before=source)


def mapped(s: Scope) -> object:
    """A vmap over the leading axis."""
    v, shape = s.pick(lambda shape: len(shape) > 1)
    source, f, out = body(s, [shape[1:]], None, 3)
    s.let(f"jax.vmap({f})({v})", (shape[0], *out), before=source)


Family = Callable[[Scope], object]

# How often each is drawn.
FAMILIES: dict[Family, int] = {
    unary: 8, binary: 8, spread: 2, affine: 5, dense: 7, writer: 7, mlp: 4, constants: 5, norm: 4, attention: 2, contraction: 5,
    dot_general: 3, convolution: 2, pooling: 1, embedding: 2, heads: 4, movement: 7, joined: 5, halves: 2, indexing: 4,
    reduction: 4, along: 4,
    call: 2, branch: 1, loop: 1, layers: 1, recurrence: 1, mapped: 1,
}  # fmt: skip
BODY = [f for f in FAMILIES if f not in (attention, convolution, embedding)]


def write(s: Scope, steps: int, families: Sequence[Family]) -> None:
    """Draws statements until there are `steps` of them, or nothing suits any more."""
    for _ in range(4 * steps):
        if len(s.statements) >= steps:
            return
        root, kept = s.root, len(s.statements)
        before = dict(s.values), len(root.params), len(root.data)
        try:
            s.choose(families)(s)
        except Skip:
            s.values = before[0]
            del s.statements[kept:], root.params[before[1] :], root.data[before[2] :]
