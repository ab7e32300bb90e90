"""Scores of params that need the function and data: gradient saliency, and the activations that weights meet."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..errors import SpartaTypeError, SpartaValueError, SpartaWarning
from ..interpreters.inputs import Tracked, meetings
from ..interpreters.jaxprs import trace
from ..trees import leaves_of


def saliency(loss: Callable[..., Any], params: Any, batches: Iterable[Any]) -> Any:
    """How much each weight matters to a loss, to first order: the mean over batches of `|w * dloss/dw|`.

    Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019; Lee et al., "SNIP", 2019.

    Args:
      loss: `loss(params, *batch)`, a real scalar.
      params: a tree of arrays.
      batches: each a tuple of the arguments behind `params`, or the only one.

    Returns:
      A tree of scores for `masks.by_score`, like `params`; None at leaves that are not floating-point.

    Raises:
      SpartaValueError: if there is no batch.
      SpartaTypeError: if the loss is no real scalar.
    """
    leaves, tree = jax.tree.flatten(params)
    moving = _floating(leaves)

    @jax.jit
    def sizes(values, args):
        value, grads = jax.value_and_grad(lambda values: _scalar(loss(_with(leaves, tree, values), *args)))(values)
        return {i: jnp.abs(values[i] * grads[i]) for i in moving}

    return _mean(tree, len(leaves), [sizes({i: jnp.asarray(leaves[i]) for i in moving}, args) for args in _args_of(batches)])


def activation(fn: Callable[..., Any], params: Any, batches: Iterable[Any]) -> Any:
    """How large what each weight contributes is: `|w|` times the norm of the inputs that it is multiplied by.

    Sun et al., "A Simple and Effective Pruning Approach for Large Language Models" (Wanda), 2024. The products are found in the
    program of `fn`, inside scans and branches too, and through whatever casts, transposes, reshapes or slices lie between them
    and the params; for a convolution the inputs are those of each tap. A param that goes into a `while` loop with products has
    no score, and a warning names it.

    Args:
      fn: `fn(params, *batch)`.
      params: a tree of arrays.
      batches: each a tuple of the arguments behind `params`, or the only one.

    Returns:
      A tree of scores for `masks.by_score`, like `params`; None at leaves that meet no data in any product (biases, tables).

    Raises:
      SpartaValueError: if there is no batch.
    """
    leaves, tree = jax.tree.flatten(params)
    moving, met, unseen = _floating(leaves), set(), set()

    @jax.jit
    def energies(values, args):
        data, rest = jax.tree.flatten(args)
        call = lambda values, data: fn(_with(leaves, tree, values), *jax.tree.unflatten(rest, data))
        program, _ = trace(call, values, data, inline_remat=True)

        def weights(values):
            inputs = [Tracked(values[i], frozenset({i})) for i in moving] + [Tracked(value, None) for value in data]
            found = meetings(program, inputs)
            met.update(*(m.sources for m in found.meetings))
            unseen.update(found.unseen)
            return [m.weight for m in found.meetings], [m.norms for m in found.meetings]

        made, pull, norms = jax.vjp(weights, values, has_aux=True)
        total = {i: jnp.zeros_like(value) for i, value in values.items()}
        for site, norm in enumerate(norms):
            (found,) = pull([norm if i == site else jnp.zeros_like(w) for i, w in enumerate(made)])
            total = {i: total[i] + jnp.square(found[i]) for i in moving}
        return total

    values = {i: jnp.asarray(leaves[i]) for i in moving}
    runs = [energies(values, args) for args in _args_of(batches)]
    if unseen:
        named = ", ".join(leaf.name for i, leaf in enumerate(leaves_of(params)) if i in unseen)
        warnings.warn(
            f"no activation score, for a loop that is not followed multiplies by it: {named}", SpartaWarning, stacklevel=2
        )
    scores = {i: jnp.abs(values[i]) * jnp.sqrt(sum(run[i] for run in runs)) for i in met - unseen}
    return jax.tree.unflatten(tree, [scores.get(i) for i in range(len(leaves))])


def _floating(leaves: list[Any]) -> list[int]:
    return [i for i, leaf in enumerate(leaves) if jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating)]


def _with(leaves: list[Any], tree: Any, values: dict[int, Any]) -> Any:
    return jax.tree.unflatten(tree, [values.get(i, leaf) for i, leaf in enumerate(leaves)])


def _args_of(batches: Iterable[Any]) -> list[tuple]:
    if not isinstance(batches, Iterable) or isinstance(batches, Mapping):
        raise SpartaTypeError(
            f"batches is a {type(batches).__name__}; give a list of batches, or what makes one after the other"
        )
    if found := [batch if isinstance(batch, tuple) else (batch,) for batch in batches]:
        return found
    raise SpartaValueError("scores need at least one batch of data, none came")


def _scalar(value: Any) -> jax.Array:
    value = jnp.asarray(value)
    if value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
        raise SpartaTypeError(f"the loss must be a real scalar, it is {value.dtype}{list(value.shape)}")
    return value


def _mean(tree: Any, size: int, runs: list[dict[int, jax.Array]]) -> Any:
    means = {i: sum(run[i] for run in runs) / len(runs) for i in runs[0]}
    return jax.tree.unflatten(tree, [means.get(i) for i in range(size)])
