"""Times compiled calls against each other, interleaved, on random operands."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from ..formats.bsr import Pattern
from ..formats.csr import ELEMENT
from ..formats.dense import masked
from ..problem import DENSE, SDDMM, Kernel, Layout, SpMM
from ..stored import of_arrays, values_shape
from ..tesa import TeSA

ALIKE, AGREED = 3, 0.02  # shortest calls, and by what share they differ, where a machine is not disturbed
UNDISTURBED = 0.1  # of the time, which is enough then

Call = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)


def call_of(problem: SpMM | SDDMM, kernel: Kernel, config: Any, masking: bool = False) -> Call:
    """A call of a kernel on random operands, compiled when it is first made; it returns when its result is there.

    With `masking` a dense weight is masked first, as in a call on params that are not packed."""
    operands, tree = jax.tree.flatten(operands_of(problem))

    def run(*leaves):
        first, *rest = jax.tree.unflatten(tree, leaves)
        if masking:
            rest[0] = masked(rest[0], problem.pattern)
        return kernel.run(problem, config, first, *rest)

    compiled = jax.jit(run)
    return lambda: compiled(*operands).block_until_ready()


def operands_of(problem: SpMM | SDDMM) -> list[Any]:
    """What `run` takes, normal; the weight zero where it is dead."""
    draw = lambda shape, dtype: jax.device_put(noise(shape).astype(dtype, copy=False))
    if isinstance(problem, SDDMM):
        return [draw((problem.m, problem.k), problem.x_dtype), draw((problem.m, problem.n), problem.g_dtype)]
    operands = [draw((problem.m, problem.k), problem.x_dtype), weight_of(problem.pattern, problem.layout, problem.w_dtype)]
    vectors = problem.epilogue.scale + problem.epilogue.bias
    operands += [draw((problem.n,), problem.out_dtype)] * vectors
    if problem.epilogue.residual:
        operands.append(draw((problem.m, problem.n), problem.out_dtype))
    return operands


@functools.lru_cache(maxsize=8)
def weight_of(tesa: TeSA, layout: Layout, dtype: np.dtype) -> Any:
    """A weight in a layout. Made on the host: a program for each shape would take longer than what is timed."""
    if layout == DENSE:
        values = noise(tesa.shape)
        masked = values if tesa.nnz == values.size else np.where(tesa.mask, values, np.float32(0))
        return jax.device_put(masked.astype(dtype, copy=False))
    tables = Pattern.of(tesa, layout.block or ELEMENT)
    values = noise(values_shape(tesa, layout)).astype(dtype)
    return of_arrays([jax.device_put(a) for a in (values, tables.indptr, tables.indices)], layout, tesa.shape)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers, the same few over and over: a large weight of fresh ones takes longer to draw than to multiply with."""
    return np.resize(np.random.default_rng(0).standard_normal(4099, np.float32), shape)


def interleaved(
    calls: Mapping[Name, Call], sample_seconds: float, budget_seconds: float, rounds: tuple[int, int]
) -> dict[Name, float]:
    """The least seconds of each call over rounds in which all of them are made one behind the other.

    Args:
      calls: by name.
      sample_seconds: what is faster is called several times in a round.
      budget_seconds: for all calls together, within the bounds of `rounds`.
      rounds: at least, and at most.
    """
    seconds = {name: max(_once(call), 1e-7) for name, call in calls.items()}
    repeats = {name: max(1, round(sample_seconds / s)) for name, s in seconds.items()}
    each = sum(repeats[name] * s for name, s in seconds.items())
    samples: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(min(max(round(budget_seconds / max(each, 1e-7)), rounds[0]), rounds[1])):
        for name, call in calls.items():
            samples[name].append(_mean(call, repeats[name]))
    return {name: min(each) for name, each in samples.items()}


def least(call: Call, seconds: float) -> float:
    """The shortest of as many calls as fit into that time, three at least: what the machine can do when it is not disturbed.

    Where the three shortest agree, it was not, and a part of the time is enough."""
    call()
    samples: list[float] = []
    while sum(samples) < seconds or len(samples) < ALIKE:
        samples = sorted([*samples, _mean(call, 1)])
        if len(samples) >= ALIKE and samples[ALIKE - 1] < (1 + AGREED) * samples[0] and sum(samples) > seconds * UNDISTURBED:
            break
    return samples[0]


def _once(call: Call) -> float:
    call()
    return _mean(call, 1)


def _mean(call: Call, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
