"""The programs of `PRECISION`, by what they are about. See `precision` for how to read them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from interpreters.precision import PRECISION as PRECISION
from interpreters.precision import L, add, c, mark
from interpreters.program_cases import rounded, straight
from jax import lax


def matmul(a, b):
    return a @ b


# fmt: off
# -- products: what the paper promises

add("an element of a product dies where all its pairs do", matmul, "L.L .L.", "c. .c ..", out="L. .L")
add("a dead column of the left frees a row of the right", matmul, "LL.L", c(4, 3), b="ccc ccc --- ccc")
add("a dead row of the right frees a column of the left", matmul, L(2, 3), "ccc ... ccc", a="L-L")
add("an unread element of the product frees nothing", lambda a, b: (a @ b).at[0, 1].set(0), L(3, 2), c(2, 3), a="L", b="c")
add("an unread row of the product frees a row of the left", lambda a, b: (a @ b)[1:], L(3, 2), c(2, 3), a="- L L", b="c")
add("an unread column of the product frees a column of the right", lambda a, b: (a @ b)[:, ::2], L(3, 2), c(2, 3), b="c-c")
add("f(0) = 0 keeps zeros through two layers", lambda x, w, v: jnp.tanh(x @ w) @ v, L(2, 3), c(3, 4, text="c.c."), c(4, 2),
    v="c - c -", out="L")
add("f(0) != 0 makes constants, which the next layer needs", lambda x, w, v: mark(jnp.exp(x @ w), "h") @ v, L(2, 3),
    c(3, 4, text="c.c."), c(4, 2), h="LcLc", v="c", out="L")
add("a softmax counts its dead inputs", lambda x: jax.nn.softmax(x), L(2, 4, text="L.L."), out="L")
add("a norm counts its dead inputs", lambda x: (x - x.mean(-1, keepdims=True)) / jnp.std(x, -1, keepdims=True),
    L(2, 4, text="L.L."), x="L.L.", out="L")

# -- contraction in every layout

add("x @ W", matmul, L(2, 3), c(3, 4, text="c..c"), a="L", out="L..L")
add("W @ x", matmul, c(4, 3, text="c . . c"), L(3, 2), out="L . . L")
add("W.T @ x", lambda w, x: w.T @ x, c(3, 4, text="c..c"), L(3, 2), out="L . . L")
add("a batch of products", lambda x, w: jnp.einsum("bmk,bkn->bmn", x, w), L(2, 2, 3), c(2, 3, 4, text="cc.. | ..cc"),
    out="LL.. | ..LL")
add("heads out of a model axis", lambda x, w: jnp.einsum("btd,dhe->bthe", x, w), L(1, 2, 3), c(3, 2, 2, text=".. cc"),
    out=".. LL")
add("heads into a model axis: a dead head of the weight frees the head", lambda x, w: jnp.einsum("bthe,hed->btd", x, w),
    L(1, 2, 2, 3), c(2, 3, 4, text="c | ."), x="L -", out="L")
add("two contracted axes, in another order", lambda x, w: jnp.einsum("ehm,hen->mn", x, w), L(2, 2, 3, text="L L | . L"),
    "c. .c | cc cc", x="L L | . L", w="c. .- | cc cc", out="L")
add("three operands", lambda x, w, v: jnp.einsum("mk,kn,np->mp", x, w, v), L(2, 3), "c.c c.c c.c", "cc cc c.", w="c.c",
    v="cc -- c.", out="L")
add("an outer product", lambda x, y: jnp.outer(x, y), "L.L", ".c", out=".L .. .L")
add("a product of params is a constant", matmul, "c.c", "c . c", out="c")
add("dw of a dead output channel", lambda w, x: jax.grad(lambda w: (jax.nn.relu(x @ w) ** 2).sum())(w), c(3, 4, text="c.c."),
    L(2, 3), out="L.L.")
add("dw of a dead input channel", lambda w, x: jax.grad(lambda w: ((x @ w) ** 2).sum())(w), c(3, 2), L(2, 3, text="L.L"),
    w="c - c", out="L . L")
add("dx of a dead input row", lambda w, x: jax.grad(lambda x: ((x @ w) ** 2).sum())(x), c(3, 2, text="c . c"), L(2, 3), x="L-L",
    out="L.L")

# -- elementwise

add("f(0) = 0: odd functions", lambda x: jnp.sin(jnp.tanh(jnp.cbrt(x))), ".cL", out=".cL")
add("f(0) = 0: activations", lambda x: jax.nn.gelu(jax.nn.silu(jax.nn.relu(jax.nn.elu(x)))), ".cL", out=".cL")
add("f(0) = 0: powers and roots", lambda x: jnp.sqrt(x**2) + jnp.abs(x) ** 0.5, ".cL", out=".cL")
add("f(0) = 0 against a number", lambda x: jnp.clip(jnp.maximum(x, -1.0), -2.0, 2.0) / 3, ".cL", out=".cL")
add("f(0) != 0: sums with a number", lambda x: x + 1, ".cL", out="ccL")
add("f(0) != 0: exponentials", lambda x: jax.nn.sigmoid(x) + jax.nn.softplus(x), ".cL", out="ccL")
add("f(0) != 0: comparisons", lambda x: (x >= 0).astype(x.dtype), ".cL", out="ccL")
add("f(0) != 0 against a number", lambda x: jnp.maximum(x, 1.0), ".cL", out="ccL")
add("a product is zero where one is, and its partner free", lambda x, y: x * y, ".L.Lc", "L..cc", x=".-.Lc", y="-..cc",
    out="...Lc")
add("a sum is zero where both are", lambda x, y: x + y, ".L.Lc", "L..cc", x=".L.Lc", y="L..cc", out="LL.Lc")
add("a gate that is dead", lambda x, w, v: mark(jax.nn.silu(x @ w), "gate") * (x @ v), L(2, 3), c(3, 4, text="c.cc"),
    c(3, 4, text="cc.c"), gate="L.-L", w="c.-c", v="c-.c", out="L..L")

# -- constants behind biases, activations and norms

add("a bias makes a dead channel constant", lambda x, w, b: x @ w + b, L(2, 3), c(3, 4, text="c..c"), "cc.c", b="cc.c",
    out="Lc.L")
add("an activation keeps it constant", lambda x, w, b: jax.nn.gelu(x @ w + b), L(2, 3), c(3, 4, text="c..c"), "cc.c",
    out="Lc.L")
add("the next layer needs what a constant meets", lambda x, w, b, v: mark(jax.nn.relu(x @ w + b), "h") @ v, L(2, 3),
    c(3, 4, text="c..c"), "cc.c", c(4, 2), h="Lc.L", v="c c - c", b="cc.c")
add("a channel that nobody reads needs no bias", lambda x, w, b, v: jax.nn.relu(x @ w + b) @ v, L(2, 3), c(3, 4), c(4),
    c(4, 2, text="c . c ."), w="c-c-", b="c-c-")
add("batch norm of a dead channel is a constant",
    lambda x, w, mean, var, scale, beta: (x @ w - mean) * lax.rsqrt(var + 1e-5) * scale + beta, L(2, 3), c(3, 4, text="c..c"),
    "cccc", "cccc", "ccc.", "cc.c", var="ccc-", mean="ccc-", out="Lccc")
add("a norm by the root mean square keeps zeros", lambda x, g: x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * g,
    L(2, 4, text="L.LL"), "ccc.", x="L.LL", g="c-c.", out="L.L.")
add("a layer norm's dead scale leaves its bias", lambda x, g, b: jax.nn.standardize(x) * g + b, L(2, 4), "c.c.", "cc..", x="L",
    out="LcL.")
add("a layer without live weights is its bias", lambda x, w, b: jnp.tanh(x @ w + b), L(2, 3), c(3, 2, text="."), "cc", x="-",
    out="c")
add("the mean of constants is a constant", lambda x: x.mean(0), "cL. cL.", out="cL.")
add("statistics of a constant channel stay constant", lambda x: (x - x.mean(0)) * lax.rsqrt(x.var(0) + 1e-5),
    L(3, 3, text="Lc."), out="Lc.")

# -- movement

add("concatenation", lambda x, y: jnp.concatenate([x, y])[1:], "L.", ".cL", x="-.", out="..cL")
add("split", lambda x, w: jnp.split(x @ w, 2, 1)[0], L(2, 3), c(3, 4, text="c.cc"), w="c.--", out="L.")
add("padding", lambda x: jnp.pad(x, (1, 2)), "Lc.", out=".Lc...")
add("padding with a number", lambda x: jnp.pad(x, (1, 1), constant_values=2.0), "L.c", out="cL.cc")
add("a slice with a stride", lambda x, w: (x @ w)[:, 1::2], L(2, 3), c(3, 4, text="cc.."), w="-c..", out="L.")
add("rows gathered by the data keep dead columns", lambda table, i: table[i], c(5, 3, text="c.c"), L(4, dtype="int32"),
    out="L.L")
add("known rows gathered", lambda table: table[jnp.array([2, 0])], "c. .c cc", table="c. .- cc", out="cc c.")
add("known rows scattered", lambda x, u: x.at[jnp.array([2, 0])].set(u), L(3, 2), "c. .c", x="- L -", out=".c LL c.")
add("scattered by the data", lambda u, i: jnp.zeros((4, 3)).at[i].add(u), L(2, 3, text="L.c"), L(2, dtype="int32"), out="L.L")
add("a slice at a place in the data", lambda x, i: lax.dynamic_slice(x, (i, 0), (2, 3)), c(4, 3, text="c.c"), L(dtype="int32"),
    i="L", out="L.L")
add("a choice by a known mask", lambda x, y: jnp.where(jnp.arange(4) < 2, x, y), "LcL.", ".cLc", x="Lc-.", y=".-Lc", out="LcLc")
add("a choice by the data", lambda m, x, y: jnp.where(m, x, y), L(4, dtype="bool"), "cc..", "c.c.", m="LLL-", out="LLL.")
add("reversed and rolled", lambda x: jnp.roll(x[::-1], 1), "Lc..", out="L..c")

# -- heads, groups, ties and residuals

add("a dead head dies through reshape and transpose", lambda x, w: (x @ w).reshape(2, 3, 2).transpose(1, 0, 2), L(2, 4),
    c(4, 6, text="cc..cc"), out="L | . | L")
add("an unread head frees its columns", lambda x, w, o: (x @ w).reshape(2, 3, 2).reshape(2, 6) @ o, L(2, 4), c(4, 6),
    c(6, 2, text="c c . . c c"), w="cc--cc")
add("half a dead head", lambda x, w: (x @ w).reshape(2, 3, 2), L(2, 4), c(4, 6, text="c.c.cc"), out="L. L. LL")
add("a dead key head frees its queries", lambda q, k: jnp.einsum("thd,shd->hts", q, k), L(3, 2, 2), c(3, 2, 2, text="cc .."),
    q="L -", out="L | .")
add("grouped queries: a dead key head kills its group", lambda q, k: jnp.einsum("thd,shd->hts", q, jnp.repeat(k, 2, axis=1)),
    L(3, 4, 2), L(3, 2, 2, text="LL .."), q="L L - -", out="L | L | . | .")
add("grouped queries by an axis of their own", lambda q, k: jnp.einsum("tghd,sgd->gts", q.reshape(3, 2, 2, 2), k),
    L(3, 4, 2, text="L . . ."), L(3, 2, 2), k="L -", out="L | .")
add("tied weights are needed where either reader needs them", lambda w, x: (x @ w[:, :2], x @ w[:, 1:3]), c(3, 4), L(2, 3),
    w="ccc-", out0="L")
add("an embedding tied to the head", lambda e, t: mark(e[t], "h") @ e.T, c(5, 3, text="c.c"), L(2, dtype="int32"), h="L.L",
    e="c.c", out="L")
add("a residual stream joins writers that disagree", lambda x, w, v: x @ w + x @ v, L(2, 3), c(3, 4, text="cc.."),
    c(3, 4, text="c.c."), out="LLL.")
add("a dead residual channel stays dead through its readers", lambda h, w, v: h + jax.nn.relu(h @ w) @ v, L(2, 3, text="L.L"),
    c(3, 4), c(4, 3, text="c.c"), w="c - c", out="L.L")
add("a channel that no reader of the stream wants", lambda h, w, v: (h + jax.nn.relu(h @ w)) @ v, L(2, 3), c(3, 3),
    c(3, 2, text="c . c"), h="L", w="c-c")

# -- masks that the program itself holds: nothing is said of the params here

HALF = np.array([[True, True, False], [False, True, True]])
add("a closed-over mask on a param", lambda x, w: x @ (w * jnp.asarray(HALF.T, jnp.float32)), L(2, 3), c(3, 2), w="c- cc -c",
    out="L")
add("a closed-over mask inside a jit", lambda w: jax.jit(lambda w: w * HALF.astype(np.float32))(w), c(2, 3), w="cc- -cc",
    out="cc. .cc")
add("a param that is a mask", lambda w, m: w * m, c(2, 3), "cc. .cc", w="cc- -cc", out="cc. .cc")
add("one mask for two params", lambda x, w, v, m: (x @ (w * m)) @ (v * m).T, L(2, 2), c(2, 3), c(2, 3), "c.c ..c", w="c-c --c",
    v="c-c --c", out="L")
add("a param that nothing reads", lambda x, w, v: x @ w, L(2, 3), c(3, 2), c(3, 2), v="-", w="c")
add("tril of a param", lambda x, w: x @ jnp.tril(w), L(2, 3), c(3, 3), w="c-- cc- ccc", out="L")
add("a band by comparing iotas", lambda x, w: x @ jnp.where(jnp.abs(jnp.arange(3)[:, None] - jnp.arange(3)) <= 1, w, 0),
    L(2, 3), c(3, 3), w="cc- ccc -cc", out="L")
add("padding of a param", lambda x, w: x @ jnp.pad(w, ((0, 1), (0, 1))), L(2, 3), c(2, 2), x="LL-", out="LL.")
add("a triangle of ones", lambda x: x @ jnp.tri(3), L(2, 3), x="L", out="L")
add("what an upper triangle never reads", lambda x: x @ jnp.triu(jnp.ones((3, 3)), 1), L(2, 3), x="LL-", out=".LL")
add("one-hot of known labels", lambda x: x * jax.nn.one_hot(jnp.array([2, 0]), 3), L(2, 3), x="--L L--", out="..L L..")

# -- masked scores


def masked(s, number):
    return jnp.where(jnp.tri(3, dtype=bool), s, number)


add("masked scores are not needed", lambda s: mark(masked(s, -1e9), "m") * 2, L(3, 3), s="L-- LL- LLL", m="Lcc LLc LLL")
add("masked by minus infinity", lambda s: masked(s, -jnp.inf), L(3, 3), s="L-- LL- LLL", out="Lcc LLc LLL")
add("an added mask leaves its scores needed", lambda s: s + mark((1 - jnp.tri(3)) * -1e9, "m"), L(3, 3), m=".cc ..c ...", s="L",
    out="L")
add("masked weights set to zero", lambda s, v: masked(jax.nn.softmax(s), 0.0)[:2] @ v, L(3, 3), L(3, 2), v="L L -", out="L")
add("queries and keys that a mask keeps apart", lambda q, k: masked(mark(q @ k.T, "s"), -1e9), L(3, 2), L(3, 2),
    s="L-- LL- LLL", q="L")
add("queries that a whole mask cuts off", lambda q, k: jnp.where(jnp.arange(3)[:, None] < 2, mark(q @ k.T, "s"), -1e9), L(3, 2),
    L(3, 2), s="L L -", q="L L -", k="L")
add("causal weights", lambda s: jax.nn.softmax(masked(s, -1e9)), L(3, 3), s="L-- LL- LLL", out="L.. LL. LLL")
add("causal weights by an added mask", lambda s: jax.nn.softmax(s + (1 - jnp.tri(3)) * -1e9), L(3, 3), out="L.. LL. LLL")
add("a key that no query sees", lambda q, k, v: jax.nn.softmax(jnp.where(jnp.arange(3) < 2, q @ k.T, -1e9)) @ v, L(3, 2),
    L(3, 2), L(3, 2), q="L", k="L L -", v="L L -")
add("a value that only the last query sees", lambda s, v: (jax.nn.softmax(masked(s, -1e9)) @ v)[:2], L(3, 3), L(3, 2),
    s="L-- LL- ---", v="L L -")
add("a row whose scores are all masked is uniform", lambda s: jax.nn.softmax(jnp.where(jnp.arange(3)[:, None] > 0, s, -1e9)),
    L(3, 3), s="--- LLL LLL", out="c L L")

# -- convolutions: axes are [batch, position, channel] and [tap, in, out]


def conv(x, w, padding="VALID", **kwargs):
    return lax.conv_general_dilated(x, w, (1,), padding, dimension_numbers=("NWC", "WIO", "NWC"), **kwargs)


add("a dead filter is a dead channel", lambda x, w: conv(x, w), L(1, 4, 2), c(2, 2, 3, text="c.c"), x="L", out="L.L")
add("a dead channel frees its taps", lambda x, w: conv(x, w), L(1, 4, 2, text="L."), c(2, 2, 3), w="ccc --- | ccc ---", out="L")
add("a dead tap", lambda x, w: conv(x, w), L(1, 4, 1), c(2, 1, 1, text=". | c"), x="- L L L", out="L")
add("zero padding keeps zeros", lambda x, w: conv(x, w, "SAME"), L(1, 3, 2, text="L."), c(3, 2, 2, text="c. cc"), out="L.")
add("a bias makes a dead filter constant", lambda x, w, b: jax.nn.relu(conv(x, w, "SAME") + b), L(1, 3, 1),
    c(3, 1, 3, text="c.c"), "ccc", out="LcL")
add("a dead filter's constant is needed by the next convolution",
    lambda x, w, b, v: conv(mark(jax.nn.relu(conv(x, w) + b), "h"), v), L(1, 4, 1), c(2, 1, 3, text="c.."), "cc.", c(2, 3, 2),
    h="Lc.", v="cc cc --", out="L")
add("a convolution of constants is one", lambda w, b, v: conv(jnp.broadcast_to(b, (1, 4, 2)), v, "SAME"), c(1), "c.",
    c(3, 2, 2), v="cc --", out="c")
add("groups keep to themselves", lambda x, w: conv(x, w, feature_group_count=2), L(1, 4, 4, text="LL.."), c(2, 2, 4), w="cc--",
    out="LL..")
add("a depthwise filter that is dead", lambda x, w: conv(x, w, feature_group_count=3), L(1, 4, 3), c(2, 1, 3, text="c.c"),
    x="L-L", out="L.L")
add("positions that are padding", lambda x, w: conv(jnp.pad(x, ((0, 0), (2, 0), (0, 0))), w), L(1, 3, 1), c(2, 1, 1),
    out=". L L L")
add("an average pool keeps channels", lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 1), (1, 2, 1), "VALID"),
    L(1, 5, 2, text="L. L. Lc .. LL"), x="L. L. Lc .. --", out="L. Lc")
add("a maximum over padding", lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 1), (1, 1, 1), "SAME"),
    L(1, 3, 2, text="L."), out="L.")

# -- loops, branches and calls


def scan(step, start, xs=None, length=None):
    return lax.scan(step, start, xs, length=length)[0]


add("a carry that grows by one in each round", lambda x: scan(lambda h, _: (jnp.roll(h, 1) + h, None), x, length=3), "L..c....",
    out="LLLLccc.")
add("a carry that grows until it stays", lambda x: scan(lambda h, _: (h[jnp.array([1, 2, 2, 3])] + h, None), x, length=9),
    "..L.", out="LLL.")
add("a carry is what it may be behind any round", lambda x: scan(lambda h, _: (jnp.roll(h, 1), None), x, length=2), "L......",
    out=".LL....")
add("a carry keeps a dead channel", lambda x, w: scan(lambda h, _: (jnp.tanh(h @ w), None), x, length=3), L(2, 3, text="L.L"),
    c(3, 3, text="c.c"), w="c.c -.- c.c", out="L.L")
add("stacked layers share what all of them keep", lambda x, w: scan(lambda h, w: (jnp.tanh(h @ w), None), x, w), L(2, 3),
    c(2, 3, 3, text="cc. | cc."), out="LL.")
add("stacked layers that disagree", lambda x, w: scan(lambda h, w: (jnp.tanh(h @ w), None), x, w), L(2, 3),
    c(2, 3, 3, text="cc. | c.c"), out="L")
add("what a loop stacks", lambda w, x: lax.scan(lambda h, w: (h, jnp.tanh(x @ w)), 0.0, w)[1], c(3, 3, 2, text="c."), L(2, 3),
    out="L.")
add("a carry that nobody reads", lambda x, y: lax.scan(lambda h, _: ((h[0] * 2, jnp.sin(h[1])), None), (x, y), length=3)[0][0],
    L(3), L(3), x="L", y="-")
add("a while loop", lambda x: lax.while_loop(lambda h: h.sum() < 3, lambda h: h * 2, x), "L.c", out="L.L")
add("a loop of known length", lambda x: lax.fori_loop(0, 3, lambda i, h: h * 2, x), "L.c", out="L.c")
add("branches join", lambda p, x: lax.cond(p, lambda x: x * 2, lambda x: x.at[1].set(0) * 3, x), L(dtype="bool"), "L.cL", p="L",
    out="L.LL")
add("branches that agree on a constant depend on what chooses", lambda p, x: lax.cond(p, lambda x: x + 1, lambda x: x, x),
    L(dtype="bool"), "..c", out="LLL")
add("a branch that is known", lambda x: lax.cond(True, lambda x: x[:2], lambda x: x[1:], x), "L.c", x="L.-", out="L.")
add("a switch", lambda i, x: lax.switch(i, [jnp.sin, jnp.tanh, lambda x: x * 0], x), L(dtype="int32"), ".cL", out=".LL")
add("remat", lambda x, w: jax.checkpoint(lambda x, w: mark(jnp.tanh(x @ w), "h") @ w.T)(x, w), L(2, 3), c(3, 3, text="c.c"),
    w="c.c", out="L")
add("a derivative of the user's own", lambda x, y: rounded(x) * y, ".cL", "LLL", y="-LL", out=".LL")
add("a gradient that needs what its value does not", lambda x, y: straight(x, y), "LL.", "L.L", x="L-.", y="L.-", out="L..")
