"""A training step that puts the masks of the moment to use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from ..api import Sparsified, sparsify
from .state import masked, sparse_state, tesa_of


class Current:
    """A function sparsified with the masks that an optimizer's state holds at the moment; made anew only when they changed.

    `current(params, state)` is a `Sparsified`: call it, `pack` with it, ask it for a report.
    """

    def __init__(self, fn: Callable[..., Any], **options: Any) -> None:
        """`options` are those of `sparsify`; the params are the first argument of `fn`."""
        self._fn, self._options = fn, options
        self._masks: Any = None
        self._tesa: Any = None
        self._fast: Sparsified | None = None

    def __call__(self, params: Any, state: Any) -> Sparsified:
        """The function with the masks of `state`, the same object as long as these are."""
        masks = sparse_state(state).masks
        if self._fast is not None and masks is self._masks:
            return self._fast
        tesa = tesa_of(state, params)
        if self._fast is None or tesa != self._tesa:
            self._fast = sparsify(self._fn, tesa, **self._options)
        self._masks, self._tesa = masks, tesa
        return self._fast

    def follow(self, state: Any) -> None:
        """Takes note that `state` has the masks of the last call, so that they need not be read again."""
        self._masks = sparse_state(state).masks


class Step:
    """One step of training: `params, state, value = step(params, state, *batch)`.

    Between two changes of the masks the loss and its gradient are those of the sparsified function, compiled once; at a change
    they are dense, at the masked params, which growing by gradients needs, and the function is sparsified again behind it.
    """

    def __init__(
        self, loss: Callable[..., Any], optimizer: optax.GradientTransformation, *, sparsely: bool = True, **options: Any
    ) -> None:
        """
        Args:
          loss: `loss(params, *batch)`, a scalar.
          optimizer: one of `training`'s transforms, or a chain with one in it.
          sparsely: whether the zeros are put to use between changes: where compiling anew at each change pays. Otherwise all
            steps are dense at masked params, and nothing is compiled twice.
          options: of `sparsify`.
        """
        self._loss = loss
        self._optimizer = optax.with_extra_args_support(optimizer)
        self._current = Current(loss, **options) if sparsely else None
        self._dense = jax.jit(self._stepped(loss))
        self._fast: Sparsified | None = None
        self._sparse = self._dense

    def __call__(self, params: Any, state: Any, *batch: Any) -> tuple[Any, Any, jax.Array]:
        """The params and the state behind the step, and the loss before it."""
        if self._current is None or bool(sparse_state(state).due):
            return self._dense(params, state, *batch)
        fast = self._current(params, state)
        if fast is not self._fast:
            self._fast, self._sparse = fast, jax.jit(self._stepped(fast))
        params, state, value = self._sparse(params, state, *batch)
        self._current.follow(state)
        return params, state, value

    def _stepped(self, loss: Callable[..., Any]) -> Callable[..., Any]:
        def step(params, state, *batch):
            params = masked(params, state)
            value, grads = jax.value_and_grad(loss)(params, *batch)
            updates, state = self._optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value

        return step
