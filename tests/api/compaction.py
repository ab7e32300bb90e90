"""Programs of which whole slices are dead, and how many multiplications are left of their products."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

B, T, D, H, E = 2, 5, 12, 4, 6  # batch, sequence, model, heads, head size


@dataclasses.dataclass(frozen=True)
class Case:
    """
    Attributes:
      fn: `(params, x) -> y`.
      shapes: of the params.
      live: for some params, `{axis: live indices}`.
      left: multiplications of all products that are left.
      x: the data's shape; of integers below 8 where `tokens`.
    """

    fn: Callable
    shapes: dict[str, tuple[int, ...]]
    live: dict[str, dict[int, list[int]]]
    left: int
    x: tuple[int, ...] = (B, T, D)
    tokens: bool = False

    def draw(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        params = {k: jnp.asarray(rng.standard_normal(s) / 2, jnp.float32) for k, s in self.shapes.items()}
        x = rng.integers(0, 8, self.x) if self.tokens else rng.standard_normal(self.x).astype(np.float32)
        return params, jnp.asarray(x)

    def masks(self) -> dict[str, np.ndarray | None]:
        return {k: self._mask(k, s) if k in self.live else None for k, s in self.shapes.items()}

    def _mask(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        mask = np.ones(shape, bool)
        for axis, kept in self.live[name].items():
            line = np.isin(np.arange(shape[axis]), kept)
            mask &= line.reshape([-1 if d == axis else 1 for d in range(len(shape))])
        return mask


def layer_norm(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5) * scale + bias


def rms_norm(x, scale):
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale


def mlp(p, x):
    return jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"] + p["c"]


MLP = {"w": (D, 16), "b": (16,), "v": (16, D), "c": (D,)}


def normed(p, x):
    return layer_norm(x @ p["w"], p["s"], p["b"]) @ p["v"]


def rms_normed(p, x):
    return rms_norm(x @ p["w"], p["s"]) @ p["v"]


def batch_normed(p, x):
    h = x @ p["w"]
    mean, var = h.mean((0, 1)), h.var((0, 1))
    return jax.nn.sigmoid((h - mean) * jax.lax.rsqrt(var + 1e-5) * p["s"] + p["b"]) @ p["v"]


def group_normed(p, x):
    h = (x @ p["w"]).reshape(B, T, 4, 4)
    h = (h - h.mean(-1, keepdims=True)) * jax.lax.rsqrt(h.var(-1, keepdims=True) + 1e-5)
    return h.reshape(B, T, 16) @ p["v"]


def residual(p, x):
    return x @ p["w"] + jnp.tanh(x) @ p["v"]


def residual_read(p, x):
    return (x @ p["w"] + jnp.tanh(x) @ p["v"]) @ p["u"]


def concatenated(p, x):
    return jnp.concatenate([x @ p["w"], jnp.tanh(x @ p["v"])], -1) @ p["u"]


def split_up(p, x):
    gate, value = jnp.split(x @ p["w"], 2, -1)
    return (jax.nn.silu(gate) * value) @ p["v"]


def split_elsewhere(p, x):
    sizes = p["first"].shape[0], p["second"].shape[0]
    first, second = jnp.split(x @ p["w"], [sizes[0]], -1)
    return first @ p["first"] + second @ p["second"]


def attention(p, x):
    heads = lambda w: (x @ w).reshape(B, T, H, E)
    q, k, v = heads(p["q"]), heads(p["k"]), heads(p["v"])
    weights = jax.nn.softmax(jnp.einsum("bthe,bshe->bhts", q, k) / E**0.5, -1)
    return jnp.einsum("bhts,bshe->bthe", weights, v).reshape(B, T, H * E) @ p["o"]


ATTENTION = {"q": (D, H * E), "k": (D, H * E), "v": (D, H * E), "o": (H * E, D)}
TWO_HEADS = [*range(E), *range(2 * E, 3 * E)]


def grouped_attention(p, x):
    q = jnp.einsum("btd,dghe->btghe", x, p["q"])
    k, v = (jnp.einsum("btd,dge->btge", x, p[n]) for n in "kv")
    weights = jax.nn.softmax(jnp.einsum("btghe,bsge->bghts", q, k), -1)
    return jnp.einsum("bghts,bsge,gheo->bto", weights, v, p["o"])


def rotated(x):
    half = x.shape[-1] // 2
    angles = jnp.arange(T, dtype=jnp.float32)[:, None, None] / 10.0 ** jnp.linspace(0, 1, half)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * jnp.cos(angles) - b * jnp.sin(angles), b * jnp.cos(angles) + a * jnp.sin(angles)], -1)


def rotary_attention(p, x):
    q, k, v = (jnp.einsum("btd,dhe->bthe", x, p[n]) for n in "qkv")
    q, k = rotated(rms_norm(q, p["s"])), rotated(rms_norm(k, p["s"]))
    weights = jax.nn.softmax(jnp.einsum("bthe,bshe->bhts", q, k), -1)
    return jnp.einsum("bhts,bshe,heo->bto", weights, v, p["o"])


HEADS = {"q": (D, H, E), "k": (D, H, E), "v": (D, H, E), "o": (H, E, D)}
PER_PROJECTION = B * T * D * E  # multiplications of one head's projection
PER_SCORES = B * T * T * E


def tied(p, tokens):
    h = jnp.take(p["e"], tokens, axis=0, mode="clip")
    return jnp.tanh(h @ p["w"]) @ p["e"].T


def conv(p, x, name, stride=1, groups=1, padding="SAME"):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, p[name], (stride, stride), padding, dimension_numbers=numbers, feature_group_count=groups
    )


def convolved(p, x):
    h = jax.nn.relu(conv(p, x, "w") + p["b"])
    return conv(p, h, "v")


def pooled(p, x):
    h = jax.lax.reduce_window(conv(p, x, "w") + p["b"], -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return h.mean((1, 2)) @ p["v"]


def depthwise(p, x):
    h = conv(p, jax.nn.relu(conv(p, x, "w") + p["b"]), "d", groups=8)
    return conv(p, h, "v")


def grouped(p, x):
    return conv(p, conv(p, x, "w"), "d", groups=4)


def transposed(p, x):
    h = jax.lax.conv_transpose(conv(p, x, "w"), p["d"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return conv(p, h, "v")


def dropped_out(p, x):
    kept = jax.random.bernoulli(jax.random.key(7), 0.8, (B, T, 16))
    return jnp.where(kept, (x @ p["w"]) / 0.8, 0) @ p["v"]


def recurrent(p, x):
    step = lambda h, row: (jnp.tanh(row @ p["w"] + h @ p["u"]), h)
    h, hs = jax.lax.scan(step, jnp.zeros((B, 16)), x.transpose(1, 0, 2))
    return h @ p["v"] + hs.sum(0) @ p["v"]


def remat(p, x):
    return jax.checkpoint(mlp)(p, x)


def branched(p, x):
    return jax.lax.cond(x[0, 0, 0] > 0, mlp, lambda p, x: mlp(p, -x), p, x)


def shared(p, x):
    double = lambda w: jax.jit(lambda y: jnp.tanh(y @ w))
    return double(p["w"])(x) @ p["v"] + double(p["w"])(2 * x) @ p["v"]


IMAGE = (2, 6, 6, 3)
CASES = {
    "nobody reads the hidden units": Case(mlp, MLP, {"v": {0: [0, 2, 3]}}, B * T * (D * 3 + 3 * D)),
    "constant hidden units are folded": Case(mlp, MLP, {"w": {1: [1, 5, 6, 7]}}, B * T * (D * 4 + 4 * D)),
    "an output channel is a constant": Case(mlp, MLP, {"v": {1: [0, 1, 4]}}, B * T * (D * 16 + 16 * 3)),
    "inputs that nobody reads": Case(mlp, MLP, {"w": {0: [0, 3]}}, B * T * (2 * 16 + 16 * D)),
    "sigmoid of batch norm": Case(
        batch_normed,
        {"w": (D, 16), "s": (16,), "b": (16,), "v": (16, D)},
        {"w": {1: [0, 2, 4]}},
        B * T * (D * 3 + 3 * D),
    ),
    "layer norm keeps its divisor": Case(
        normed,
        {"w": (D, 16), "s": (16,), "b": (16,), "v": (16, D)},
        {"w": {1: [0, 2, 4]}, "v": {0: [0, 2, 4]}},
        B * T * (D * 3 + 3 * D),
    ),
    "RMS norm keeps its divisor": Case(
        rms_normed, {"w": (D, 16), "s": (16,), "v": (16, D)}, {"w": {1: [0, 2, 4]}}, B * T * (D * 3 + 3 * D)
    ),
    "group norm of dead groups": Case(
        group_normed, {"w": (D, 16), "v": (16, D)}, {"w": {1: [*range(4), *range(8, 12)]}}, B * T * (D * 8 + 8 * D)
    ),
    "writers that agree": Case(
        residual_read,
        {"w": (D, 16), "v": (D, 16), "u": (16, D)},
        {"w": {1: [0, 3, 9]}, "v": {1: [0, 3, 9]}},
        B * T * (2 * D * 3 + 3 * D),
    ),
    "writers that disagree": Case(
        residual_read,
        {"w": (D, 16), "v": (D, 16), "u": (16, D)},
        {"w": {1: [0, 3, 9]}, "v": {1: [3, 4, 9, 12]}},
        B * T * (2 * D * 5 + 5 * D),  # converting each would cost more than the zeros do
    ),
    "writers of much that disagree": Case(
        residual_read,
        {"w": (2048, 16), "v": (2048, 16), "u": (16, 4)},
        {"w": {1: [0, 3, 9]}, "v": {1: [3, 4, 9, 12]}},
        B * T * (2048 * 3 + 2048 * 4 + 5 * 4),
        x=(B, T, 2048),
    ),
    "concatenation": Case(
        concatenated,
        {"w": (D, 8), "v": (D, 8), "u": (16, D)},
        {"w": {1: [1, 2]}, "v": {1: [0, 6, 7]}},
        B * T * (D * 5 + 5 * D),
    ),
    "gate and value of one product": Case(
        split_up, {"w": (D, 16), "v": (8, D)}, {"v": {0: [1, 3, 4]}}, B * T * (D * 6 + 3 * D)
    ),
    "sizes of a split that come from elsewhere": Case(
        split_elsewhere,
        {"w": (D, 14), "first": (6, D), "second": (8, D)},
        {"first": {0: [1, 3]}, "second": {0: [0, 1, 7]}},
        B * T * (D * 5 + 5 * D),
    ),
    "heads": Case(
        attention,
        ATTENTION,
        {"q": {1: TWO_HEADS}, "k": {1: TWO_HEADS}, "v": {1: TWO_HEADS}, "o": {0: TWO_HEADS}},
        2 * (4 * PER_PROJECTION + 2 * PER_SCORES),
    ),
    "heads that nobody reads": Case(attention, ATTENTION, {"o": {0: TWO_HEADS}}, 2 * (4 * PER_PROJECTION + 2 * PER_SCORES)),
    "query channels kill key channels": Case(
        attention,
        ATTENTION,
        {"q": {1: [0, 1, 6, 7, 12, 13, 18, 19]}},
        B * T * D * (8 + 8 + 2 * H * E) + B * T * T * H * (2 + E),
    ),
    "grouped queries": Case(
        grouped_attention,
        {"q": (D, 2, 3, E), "k": (D, 2, E), "v": (D, 2, E), "o": (2, 3, E, D)},
        {"o": {0: [1]}},
        (3 + 1 + 1 + 3) * PER_PROJECTION + 2 * 3 * PER_SCORES,
    ),
    "rotary positions behind a norm": Case(
        rotary_attention,
        {**HEADS, "s": (E,)},
        {"o": {0: [0, 3]}},
        2 * (4 * PER_PROJECTION + 2 * PER_SCORES),
    ),
    "tied embeddings": Case(
        tied, {"e": (8, D), "w": (D, D)}, {"e": {1: [0, 1, 5, 9]}}, B * T * (4 * 4 + 4 * 8), x=(B, T), tokens=True
    ),
    "channels of an image": Case(
        convolved,
        {"w": (3, 3, 3, 8), "b": (8,), "v": (3, 3, 8, 4)},
        {"w": {3: [0, 2, 5]}},
        2 * 36 * 9 * (3 * 3 + 3 * 4),
        x=IMAGE,
    ),
    "pooling": Case(
        pooled,
        {"w": (3, 3, 3, 8), "b": (8,), "v": (8, 4)},
        {"w": {3: [0, 2, 5]}},
        2 * 36 * 9 * 3 * 3 + 2 * 3 * 4,
        x=IMAGE,
    ),
    "depthwise": Case(
        depthwise,
        {"w": (1, 1, 3, 8), "b": (8,), "d": (3, 3, 1, 8), "v": (1, 1, 8, 4)},
        {"v": {2: [0, 2, 5]}},
        2 * 36 * (3 * 3 + 9 * 3 + 3 * 4),
        x=IMAGE,
    ),
    "groups": Case(
        grouped, {"w": (1, 1, 3, 8), "d": (3, 3, 2, 8)}, {"d": {3: [0, 1, 4, 5]}}, 2 * 36 * (3 * 4 + 9 * 2 * 4), x=IMAGE
    ),
    "transposed convolution": Case(
        transposed,
        {"w": (1, 1, 3, 8), "d": (2, 2, 8, 8), "v": (1, 1, 8, 4)},
        {"w": {3: [0, 1, 4]}, "v": {2: [0, 3]}},
        2 * 36 * 3 * 3 + 2 * 144 * 4 * 3 * 2 + 2 * 144 * 2 * 4,
        x=IMAGE,
    ),
    "dropout": Case(dropped_out, {"w": (D, 16), "v": (16, D)}, {"w": {1: [1, 2, 8]}}, B * T * (D * 3 + 3 * D)),
    "a carry": Case(
        recurrent,
        {"w": (D, 16), "u": (16, 16), "v": (16, D)},
        {"w": {1: [1, 2, 8]}, "u": {1: [1, 2, 8]}},
        T * B * (D * 3 + 3 * 3) + 2 * B * 3 * D,
    ),
    "inside remat": Case(remat, MLP, {"v": {0: [0, 2, 3]}}, B * T * (D * 3 + 3 * D)),
    "inside branches": Case(branched, MLP, {"v": {0: [0, 2, 3]}}, 2 * B * T * (D * 3 + 3 * D)),
    "functions that share params": Case(shared, {"w": (D, 16), "v": (16, D)}, {"w": {1: [0, 1]}}, 2 * B * T * (D * 2 + 2 * D)),
}
