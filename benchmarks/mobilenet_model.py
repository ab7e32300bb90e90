"""MobileNetV1 in plain JAX (Howard et al., "MobileNets", 2017), batch norms as in inference; random masks of its filters."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sparta_jax as sj

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class MobileNet:
    """Its sizes: those of the paper at width 1.0 unless told otherwise.

    Attributes:
      stem: channels behind the first convolution, which has a stride of 2.
      blocks: channels behind each depthwise-separable block, and the stride of its depthwise convolution.
      classes, size: results; height and width of an image.
    """

    stem: int = 32
    blocks: tuple[tuple[int, int], ...] = (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    )
    classes: int = 1000
    size: int = 224

    @property
    def kernels(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the convolutions' kernels, `[height, width, channels in per group, filters]`."""
        shapes, channels = {"stem": (3, 3, 3, self.stem)}, self.stem
        for i, (filters, _) in enumerate(self.blocks):
            shapes |= {f"block_{i}_depthwise": (3, 3, 1, channels), f"block_{i}_pointwise": (1, 1, channels, filters)}
            channels = filters
        return shapes

    @property
    def params(self) -> Params:
        """Abstract float32 params."""
        array = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
        norm = lambda c: {"scale": array(c), "bias": array(c)}
        layers = {name: {"kernel": array(*shape), **norm(shape[-1])} for name, shape in self.kernels.items()}
        return layers | {"classes": {"kernel": array(self.blocks[-1][0], self.classes), "bias": array(self.classes)}}

    @property
    def flops(self) -> int:
        """Multiplications and additions of all convolutions and of the classes' product, for one image."""
        size, total = self.size, 2 * self.blocks[-1][0] * self.classes
        strides = {"stem": 2} | {f"block_{i}_depthwise": stride for i, (_, stride) in enumerate(self.blocks)}
        for name, shape in self.kernels.items():
            size = -(-size // strides.get(name, 1))
            total += 2 * size * size * math.prod(shape)
        return total

    @property
    def image(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, self.size, self.size, 3), jnp.float32)

    def masks(self, density: float, seed: int, biases: bool) -> Params:
        """Random filters of every convolution live, independently of its neighbours; where told, their biases with them."""
        rng = np.random.default_rng(seed)
        tesa: Params = {"classes": None}
        for name, shape in self.kernels.items():
            live = np.zeros(shape[-1], bool)
            live[rng.permutation(shape[-1])[: max(1, round(density * shape[-1]))]] = True
            bias = sj.TeSA(live) if biases else None
            tesa[name] = {"kernel": sj.TeSA.channels(live, -1, shape), "scale": None, "bias": bias}
        return tesa

    def apply(self, params: Params, x: jax.Array) -> jax.Array:
        """`x`: `[batch, height, width, 3]`. Returns `[batch, classes]`."""
        x = layer(params, "stem", x, 2)
        for i, (_, stride) in enumerate(self.blocks):
            x = layer(params, f"block_{i}_depthwise", x, stride, groups=x.shape[-1])
            x = layer(params, f"block_{i}_pointwise", x)
        return jnp.mean(x, axis=(1, 2)) @ params["classes"]["kernel"] + params["classes"]["bias"]


def layer(params: Params, name: str, x: jax.Array, stride: int = 1, groups: int = 1) -> jax.Array:
    """A convolution, its batch norm's scale and bias, relu6."""
    p = params[name]
    convolve = functools.partial(jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    with jax.named_scope(name):
        y = convolve(x, p["kernel"], (stride, stride), "SAME", feature_group_count=groups)
        return jax.nn.relu6(y * p["scale"] + p["bias"])
