"""What a random program may do element by element, or along an axis."""

from __future__ import annotations

from .program import Scope, Shape

# fmt: off
UNARY = (
    "jnp.tanh({})", "jnp.sin({})", "jax.nn.relu({})", "jax.nn.gelu({})", "jax.nn.gelu({}, approximate=False)",
    "jax.nn.silu({})", "jnp.cos({})", "jax.nn.sigmoid({})", "jax.nn.softplus({})", "jnp.exp(-jnp.square({}))",
    "jax.nn.leaky_relu({})",
    "jax.nn.elu({})", "jax.nn.hard_swish({})", "jax.nn.relu6({})", "-{}", "{} * 0.5", "{} + 0.75", "1 - {}", "jnp.abs({})",
    "jnp.clip({}, -0.5, 0.7)", "jnp.clip({}, 0.2, 0.9)", "jnp.tanh({}) ** 3", "jnp.arctan({})", "jax.lax.stop_gradient({})",
    "jnp.sign({}) * 0.5", "jnp.sqrt(jnp.square({}) + 0.5)", "lax.rsqrt(jnp.square({}) + 0.5)", "jnp.log1p(jnp.square({}))",
    "own.straight({})", "own.clipped({})", "own.surrogate({0}, {0} + 1)", "lax.erf({})", "jnp.expm1(-jnp.square({}))",
)
BINARY = (
    "{} + {}", "{} - {}", "{} + 0.5 * {}", "{} * jnp.tanh({})", "{} * jax.nn.sigmoid({})", "jnp.maximum({}, {})",
    "jnp.minimum({}, {})", "{} / (1 + jnp.square({}))", "jnp.where({0} > {1}, {0}, 0.5 * {1})", "own.surrogate({}, {})",
    "jax.nn.silu({}) * jnp.tanh({})", "jnp.where({0} > 0.1, {1}, 0.0)",
)
REDUCTIONS = ("jnp.sum({}, {}) * 0.5", "jnp.mean({}, {})", "jnp.max({}, {})", "jnp.min({}, {})", "jax.nn.logsumexp({}, {})",
              "jnp.var({}, {})", "jnp.sum(jnp.square({}), {}) * 0.2")
ALONG = ("jax.nn.softmax({}, {})", "jax.nn.log_softmax({}, {})", "jnp.cumsum({}, {}) * 0.5", "jnp.flip({}, {})",
         "lax.cummax({}, {})", "jnp.sort({}, {})", "jnp.cumprod(1 + 0.5 * jnp.tanh({}), {})", "jnp.roll({}, 1, {})")
SHIFTS = ("{} + {}", "{} + {}", "{1} + {0}", "{} - {}", "{1} - {0}")
# fmt: on


def unary(s: Scope) -> object:
    v, shape = s.pick()
    s.let(s.choose(UNARY).format(v), shape)


def binary(s: Scope) -> object:
    """Two values of one shape: residuals, gates."""
    a, shape = s.pick()
    b, _ = s.pick(lambda other: other == shape)
    s.let(s.choose(BINARY if s.chance(0.5) else BINARY[:3]).format(a, b), shape)


def spread(s: Scope) -> object:
    """Two values of different ranks, the second one spread over the first's leading axes."""
    a, shape = s.pick(lambda shape: len(shape) > 1)
    b, _ = s.pick(lambda other: other != shape and other == shape[len(shape) - len(other) :])
    s.let(s.choose(BINARY[:6]).format(a, b), shape)


def affine(s: Scope) -> object:
    """A bias, a scale, or both, along an axis."""
    v, shape = s.pick(lambda shape: len(shape) > 0)
    axis = len(shape) - 1 if s.chance(0.8) else s.rng.randrange(len(shape))
    along = "" if axis == len(shape) - 1 else f".reshape({_spread(shape, axis)})"
    n = (shape[axis],)
    text = v
    if s.chance(0.4):
        text = f"{text} * {s.scale(n)}{along}"
    if text == v or s.chance(0.5):
        text = s.choose(SHIFTS).format(text, f"{s.bias(n)}{along}")
    s.let(text, shape)


def reduction(s: Scope) -> object:
    v, shape = s.pick(lambda shape: len(shape) > 1)
    axis, kept = s.rng.randrange(len(shape)), s.chance(0.4)
    text = s.choose(REDUCTIONS).format(v, axis)
    if kept:
        return s.let(f"{v} - jnp.expand_dims({text}, {axis})", shape)
    return s.let(text, tuple(n for d, n in enumerate(shape) if d != axis))


def along(s: Scope) -> object:
    """What keeps the shape and mixes along an axis: softmax, running sums, sorting."""
    v, shape = s.pick(lambda shape: len(shape) > 0)
    axis = len(shape) - 1 if s.chance(0.5) else s.rng.randrange(len(shape))
    s.let(s.choose(ALONG).format(v, axis), shape)


def _spread(shape: Shape, axis: int) -> Shape:
    return tuple(n if d == axis else 1 for d, n in enumerate(shape))
