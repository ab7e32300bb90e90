"""One call of a method of a sparsified nnx module, as a function of its variables."""

from __future__ import annotations

import contextvars
import dataclasses
import functools
from typing import Any

import jax
from flax import nnx

from ..api import Sparsified
from ..errors import SpartaTypeError
from ..interpreters.jaxprs import trace
from .arguments import Arguments

tracing: contextvars.ContextVar[frozenset[type]] = contextvars.ContextVar("tracing", default=frozenset())


@dataclasses.dataclass(frozen=True)
class Run:
    """All that is fixed of one call of a method: hashable, the key of a compiled one.

    Attributes:
      method: its name.
      graph: the module without its variables.
      arguments: the fixed part of its arguments.
      serving: whether all variables but the state of random streams are params, and none of them may change.
    """

    method: str
    graph: Any
    arguments: Arguments
    serving: bool


def sparsified(sparse: type, run: Run, state: Any) -> Sparsified:
    """The compiled `fn(params, rest, leaves) -> (what the method returns, the variables that it changed or made)`.

    Args:
      sparse: the module's class.
      state: the params; where the call is `serving`, all variables but the state of random streams."""
    fn = functools.partial(_serve if run.serving else _step, sparse, run)
    return sparse.sparsity.call((run, jax.tree.structure(state)), lambda: sparse.sparsity.sparsify(fn, sparse.sparsity.tesa))


def _step(sparse: type, run: Run, params: Any, rest: Any, leaves: Any) -> tuple[Any, Any]:
    y, module, changed = _called(sparse, run, params, rest, leaves)
    if any(issubclass(variable.type, nnx.Param) for _, variable in changed):
        raise SpartaTypeError(f"`{run.method}` changes params: leave it out of `methods`")
    state = nnx.from_flat_state(changed)
    graph = nnx.split(module)[0]
    if graph != run.graph:
        probe = nnx.merge(run.graph, params, rest)
        update(probe, state)
        if nnx.split(probe)[0] != graph:
            raise SpartaTypeError(f"`{run.method}` changes attributes that are no variables: leave it out of `methods`")
    return y, state


def _serve(sparse: type, run: Run, variables: Any, streams: Any, leaves: Any) -> tuple[Any, Any]:
    y, module, changed = _called(sparse, run, variables, streams, leaves)
    if nnx.split(module)[0] != run.graph or not all(issubclass(variable.type, nnx.RngState) for _, variable in changed):
        raise SpartaTypeError(
            f"`{run.method}` changes variables, and packed ones are for inference: call `module.eval()` first"
        )
    return y, nnx.from_flat_state(changed)


def _called(sparse: type, run: Run, params: Any, rest: Any, leaves: Any) -> tuple[Any, nnx.Module, list[tuple[tuple, Any]]]:
    """What the dense method returns, the module after it, and the variables that it changed or made."""
    flat, tree = jax.tree.flatten((params, rest))
    before = _arrays(params) | _arrays(rest)
    y, module = _traced(sparse, run, params, rest, leaves)
    after = nnx.to_flat_state(nnx.state(module))
    same = lambda path, variable: path in before and list(map(id, before[path])) == list(map(id, jax.tree.leaves(variable)))
    changed = [(path, variable) for path, variable in after if not same(path, variable)]
    if {path for path, _ in changed} & set(before):
        kept = _passed_through(sparse, run, flat, tree, leaves)
        changed = [(path, variable) for path, variable in changed if path not in kept]
    return y, module, changed


def _passed_through(sparse: type, run: Run, flat: list[Any], tree: Any, leaves: Any) -> set[tuple]:
    """Paths of variables that come out of a method as they went in; `nnx.remat` and its like set all that they were given."""

    def after(flat, leaves):
        params, rest = jax.tree.unflatten(tree, flat)
        module = _traced(sparse, run, params, rest, leaves)[1]
        return {repr(path): arrays for path, arrays in _arrays(nnx.state(module)).items()}

    program, out = trace(after, flat, leaves, inline_remat=True)
    results = jax.tree.unflatten(out, program.outputs)
    params, rest = jax.tree.unflatten(tree, program.inputs[: len(flat)])
    return {path for path, atoms in (_arrays(params) | _arrays(rest)).items() if results.get(repr(path)) == atoms}


def _traced(sparse: type, run: Run, params: Any, rest: Any, leaves: Any) -> tuple[Any, nnx.Module]:
    """What the dense method returns on a module of these variables, and that module after it."""
    module = nnx.merge(run.graph, params, rest)
    args, kwargs = run.arguments.join(leaves)
    token = tracing.set(tracing.get() | {sparse})
    try:
        return getattr(module, run.method)(*args, **kwargs), module
    finally:
        tracing.reset(token)


def _arrays(state: Any) -> dict[tuple, list[Any]]:
    """The arrays of each variable; a module that is merged from the state may set others in it."""
    return {path: jax.tree.leaves(variable) for path, variable in nnx.to_flat_state(state)}


def update(module: nnx.Module, changed: Any) -> None:
    """Sets the variables that are in `changed`, and adds those that the module lacks."""
    there = {path for path, _ in nnx.to_flat_state(nnx.state(module))}
    for path, variable in nnx.to_flat_state(changed):
        if path not in there:
            *parents, last = path
            node: Any = module
            for key in parents:
                node = node[key] if isinstance(key, int) else getattr(node, str(key))
            setattr(node, str(last), variable)
    old = [(path, variable) for path, variable in nnx.to_flat_state(changed) if path in there]
    if old:
        nnx.update(module, nnx.from_flat_state(old))
