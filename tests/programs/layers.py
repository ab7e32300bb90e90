"""What a random program may do with weights."""

from __future__ import annotations

import math

from .elements import SHIFTS, UNARY
from .program import Scope, Shape, Skip


def dense(s: Scope, v: str | None = None, shape: Shape = (), n: int | None = None) -> str:
    """`act(x @ W + b)`, each part perhaps."""
    if v is None:
        v, shape = s.pick(lambda shape: len(shape) > 0)
    n = n or s.size(shape[:-1])
    form, k = s.rng.random(), shape[-1]
    if form < 0.7:
        text = f"{v} @ {s.weight((k, n), k)}"
    elif form < 0.85:
        text = f"{v} @ {s.weight((n, k), k)}.T"
    elif form < 0.95 and n % 2 == 0:
        text = f"{v} @ {s.weight((k, 2, n // 2), k)}.reshape({k}, {n})"
    else:
        text = f"own.product({v}, {s.weight((k, n), k)})"
    if s.chance(0.4):
        text = f"{text} + {s.bias((n,))}"
    if s.chance(0.4):
        text = s.choose(UNARY[:8]).format(text)
    return s.let(text, (*shape[:-1], n))[0]


def writer(s: Scope) -> object:
    """A product that is added to a value: writers of one residual stream disagree about what is dead."""
    stream, to = s.pick(lambda shape: len(shape) > 1)
    v, shape = s.pick(lambda shape: len(shape) > 0 and shape[:-1] == to[:-1])
    hidden = dense(s, v, shape, to[-1])
    s.let(f"{stream} + {hidden}", to)


def mlp(s: Scope) -> object:
    """Two layers, plain or gated, often with a residual."""
    v, shape = s.pick(lambda shape: len(shape) > 1)
    k, n = shape[-1], s.size(shape[:-1])
    act = s.choose(UNARY[:8])
    up = f"{v} @ {s.weight((k, n), k)}"
    up = f"{up} + {s.bias((n,))}" if s.chance(0.6) else up
    hidden = act.format(up)
    if s.chance(0.4):
        hidden = f"{hidden} * ({v} @ {s.weight((k, n), k)})"
    down = f"({hidden}) @ {s.weight((n, k), n)}"
    down = f"{down} + {s.bias((k,))}" if s.chance(0.4) else down
    s.let(f"{v} + {down}" if s.chance(0.6) else down, shape)


def constants(s: Scope) -> object:
    """A product of channels that are constants: dead before a bias and an activation."""
    v, shape = s.pick(lambda shape: len(shape) > 1)
    k, n = shape[-1], s.size(shape[:-1])
    (hidden,) = s.let(s.choose(UNARY).format(f"({v} @ {s.dead_columns((k, n), k)} + {s.bias((n,))})"), (*shape[:-1], n))
    if s.chance(0.3):
        hidden = f"{hidden} * {s.scale((n,))}"
    m = s.size(shape[:-1])
    if len(shape) == 3 and s.chance(0.4):
        numbers = "dimension_numbers=('NWC', 'WIO', 'NWC')"
        text = f"lax.conv_general_dilated({hidden}, {s.weight((2, n, m), 2 * n)}, (1,), 'SAME', {numbers})"
    else:
        text = f"({hidden}) @ {s.weight((n, m), n)}"
    if s.chance(0.6):
        text = s.choose(SHIFTS).format(text, s.bias((m,)))
    return s.let(text, (*shape[:-1], m))


def norm(s: Scope) -> object:
    """A layer norm, an RMS norm, a batch norm of stored statistics, a group norm."""
    v, shape = s.pick(lambda shape: len(shape) > 1)
    n, kind = shape[-1], s.rng.randrange(4)
    if kind == 0:
        text = f"({v} - jnp.mean({v}, -1, keepdims=True)) * lax.rsqrt(jnp.var({v}, -1, keepdims=True) + 0.1)"
    elif kind == 1:
        text = f"{v} * lax.rsqrt(jnp.mean(jnp.square({v}), -1, keepdims=True) + 0.1)"
    elif kind == 2:
        text = f"({v} - {s.bias((n,))}) * lax.rsqrt(jnp.square({s.scale((n,))}) + 0.1)"
    else:
        (g,) = s.let(f"{v}.reshape({(*shape[:-1], 2, n // 2)})", (*shape[:-1], 2, n // 2)) if n % 2 == 0 else (None,)
        if g is None:
            raise Skip
        text = f"({g} - jnp.mean({g}, -1, keepdims=True)) * lax.rsqrt(jnp.var({g}, -1, keepdims=True) + 0.1)"
        text = f"({text}).reshape({shape})"
    if s.chance(0.7):
        text = f"{text} * {s.scale((n,))} + {s.bias((n,))}" if s.chance(0.7) else f"{text} * {s.scale((n,))}"
    s.let(text, shape)


def attention(s: Scope) -> object:
    """Heads in one of three layouts, causal or not, merged or contracted apart, often with a residual."""
    v, (b, t, d) = s.pick(lambda shape: len(shape) == 3)
    h, e = s.choose([(2, 3), (2, 4), (3, 2)])
    layout = s.rng.randrange(3)
    if layout == 0:
        q, k, u = (s.let(f"jnp.einsum('btd,dhe->bhte', {v}, {s.weight((d, h, e), d)})", (b, h, t, e))[0] for _ in range(3))
    elif layout == 1:
        heads = f".reshape({b}, {t}, {h}, {e}).transpose(0, 2, 1, 3)"
        q, k, u = (s.let(f"({v} @ {s.weight((d, h * e), d)}){heads}", (b, h, t, e))[0] for _ in range(3))
    else:
        (fused,) = s.let(f"({v} @ {s.weight((d, 3 * h * e), d)}).reshape({b}, {t}, 3, {h}, {e})", (b, t, 3, h, e))
        q, k, u = (s.let(f"{fused}[:, :, {i}].transpose(0, 2, 1, 3)", (b, h, t, e))[0] for i in range(3))
    scores = f"jnp.einsum('bhqe,bhke->bhqk', {q}, {k}) * {e**-0.5:.3f}"
    if s.chance(0.5):
        scores = f"jnp.where(np.tri({t}, dtype=bool), {scores}, -1e9)"
    (mixed,) = s.let(f"jax.nn.softmax({scores}) @ {u}", (b, h, t, e))
    if s.chance(0.5):
        out = f"jnp.einsum('bhqe,hed->bqd', {mixed}, {s.weight((h, e, d), h * e)})"
    else:
        out = f"{mixed}.transpose(0, 2, 1, 3).reshape({b}, {t}, {h * e}) @ {s.weight((h * e, d), h * e)}"
    s.let(f"{v} + {out}" if s.chance(0.6) else out, (b, t, d))


def contraction(s: Scope) -> object:
    """An einsum with a weight: any axes contracted, perhaps one in common, axes in any order."""
    v, shape = s.pick(lambda shape: len(shape) > 0)
    letters = "abcdefgh"[: len(shape)]
    contracted = [letters[i] for i in s.order(len(shape))[: 2 if len(shape) > 2 and s.chance(0.3) else 1]]
    kept = [a for a in letters if a not in contracted]
    batch = [s.choose(kept)] if kept and s.chance(0.15) else []
    sizes = dict(zip(letters, shape, strict=True))
    free = list("xy"[: 1 if len(kept) > 2 or s.chance(0.7) else 2])
    for a in free:
        sizes[a] = s.choose([2, 3]) if len(free) == 2 else s.size([sizes[k] for k in kept])
    w, out = [*batch, *contracted, *free], [*kept, *free]
    w = [w[i] for i in s.order(len(w))] if s.chance(0.5) else w
    out = [out[i] for i in s.order(len(out))] if s.chance(0.3) else out
    weight = s.weight(tuple(sizes[a] for a in w), math.prod(sizes[a] for a in contracted))
    shapes = tuple(sizes[a] for a in out)
    join = "".join
    if s.chance(0.5):
        s.let(f"jnp.einsum('{letters},{join(w)}->{join(out)}', {v}, {weight})", shapes)
    else:
        s.let(f"jnp.einsum('{join(w)},{letters}->{join(out)}', {weight}, {v})", shapes)


def dot_general(s: Scope) -> object:
    """A `dot_general` of two values, or of a value and a weight, one axis contracted, one perhaps in common."""
    a, left = s.pick(lambda shape: 0 < len(shape) < 4)
    axis = s.rng.randrange(len(left))
    if s.chance(0.5):
        b, right = s.pick(lambda shape: left[axis] in shape and len(shape) < 4)
        other = s.choose([i for i, n in enumerate(right) if n == left[axis]])
    else:
        right = (s.size(), left[axis]) if s.chance(0.5) else (left[axis], s.size())
        b, other = s.weight(right, left[axis]), right.index(left[axis])
    common = [(i, j) for i, n in enumerate(left) for j, m in enumerate(right) if n == m and i != axis and j != other]
    batch = [s.choose(common)] if common and s.chance(0.6) else []
    if s.chance(0.3):
        a, b, left, right, axis, other, batch = b, a, right, left, other, axis, [(j, i) for i, j in batch]
    lb, rb = [i for i, _ in batch], [j for _, j in batch]
    keep = lambda shape, drop: [n for i, n in enumerate(shape) if i not in drop]
    out = (*(left[i] for i in lb), *keep(left, [axis, *lb]), *keep(right, [other, *rb]))
    numbers = f"((({axis},), ({other},)), ({tuple(lb)}, {tuple(rb)}))"
    s.let(f"lax.dot_general({a}, {b}, {numbers}) * {left[axis] ** -0.5:.3f}", tuple(out))


def convolution(s: Scope) -> object:
    """A one-dimensional convolution: padded, strided, transposed, grouped or depthwise."""
    v, (b, t, c) = s.pick(lambda shape: len(shape) == 3)
    n, width = s.size((b, t)), s.choose([1, 2, 3])
    form = s.rng.random()
    numbers = "dimension_numbers=('NWC', 'WIO', 'NWC')"
    if form < 0.15:
        w = s.weight((width, c, n), c * width)
        return s.let(f"lax.conv_transpose({v}, {w}, (2,), 'SAME', {numbers})", (b, 2 * t, n))
    groups = c if form < 0.35 else 2 if form < 0.45 and c % 2 == 0 and n % 2 == 0 else 1
    n = c if groups == c else n
    w, stride = s.weight((width, c // groups, n), width * c // groups), s.choose([1, 1, 2])
    length = -(-t // stride)
    text = f"lax.conv_general_dilated({v}, {w}, ({stride},), 'SAME', {numbers}, feature_group_count={groups})"
    return s.let(text, (b, length, n))


def pooling(s: Scope) -> object:
    v, (b, t, c) = s.pick(lambda shape: len(shape) == 3 and shape[1] % 2 == 0)
    fn = s.choose(["-jnp.inf, lax.max", "0.0, lax.add"])
    s.let(f"lax.reduce_window({v}, {fn}, (1, 2, 1), (1, 2, 1), 'VALID')", (b, t // 2, c))


def embedding(s: Scope) -> object:
    """Rows of a table, by data, by position, or by a one-hot product."""
    rows, d = 6, s.size((2, 4))
    table = s.weight((rows, d), 2)
    form = s.rng.randrange(4)
    tokens = s.integers((2, 4), rows)
    if form == 0:
        s.let(f"{table}[{tokens}]", (2, 4, d))
    elif form == 1:
        s.let(f"jnp.take({table}, {tokens}, axis=0, mode='clip')", (2, 4, d))
    elif form == 2:
        s.let(f"jax.nn.one_hot({tokens}, {rows}, dtype={table}.dtype) @ {table}", (2, 4, d))
    else:
        v, shape = s.pick(lambda shape: len(shape) > 1 and shape[-2] <= rows)
        s.let(f"{v} + {s.weight((rows, shape[-1]), 2)}[:{shape[-2]}]", shape)
