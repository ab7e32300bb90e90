"""Flax nnx modules with the sparsity of their params put to use: a module in, a module out."""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from ..api import Sparsified
from ..errors import SpartaTypeError
from ..masks import from_zeros
from ..packed import Packed
from ..records import Report
from ..verify import Verification
from .arguments import Arguments
from .rules import Sparsity

_tracing: contextvars.ContextVar[frozenset[type]] = contextvars.ContextVar("tracing", default=frozenset())


def sparsify(
    module: nnx.Module,
    tesa: Any = None,
    *,
    allow_unused: bool = False,
    methods: Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """The same module, computing what it computes on its masked params, faster.

    What comes out is of a subclass of `module`'s class and shares its variables: attributes, `nnx.split` and `nnx.merge`, state
    and its paths, `nnx.jit`, `nnx.grad` and optimizers are as before. Its methods are compiled and cached per set of
    shapes. Besides it has `pack`, `report` and `verify`.

    Args:
      module: an `nnx.Module`.
      tesa: what is known of its `nnx.Param`s, as `sparta_jax.sparsify` takes it: a tree, `{path regex: TeSA or maker}`, a
        callable. None: whatever is exactly zero in them now.
      allow_unused: whether a regex may hit nothing.
      methods: which methods are sparsified; None: all public ones that its classes define. One that changes params or
        static attributes cannot be.
      **options: `strict`, `implementation`, `platform`, `unroll`, as `sparta_jax.sparsify` takes them.

    Raises:
      SpartaTypeError: if `module` is no nnx module.
      SpartaValueError: lists the masks that do not fit and the regexes that hit nothing.
    """
    if not isinstance(module, nnx.Module):
        raise SpartaTypeError(f"needs an nnx module, got {type(module).__name__}")
    params = nnx.state(module, nnx.Param)
    rules = Sparsity(from_zeros(params) if tesa is None else tesa, allow_unused, options)
    rules = dataclasses.replace(rules, tesa=rules.matched(params))
    dense = type(module)
    names = _public_methods(dense) if methods is None else methods
    members = {name: _sparse_method(name, getattr(dense, name)) for name in names}
    members |= dict(sparsity=rules, __module__=dense.__module__, __doc__=dense.__doc__)
    sparse = types.new_class(dense.__name__, (Sparse, dense), exec_body=lambda body: body.update(members))
    new = object.__new__(sparse)
    vars(new).update(vars(module))
    return new


def _public_methods(module: type[nnx.Module]) -> list[str]:
    """What a module's own classes define for others to call."""
    names = []
    for name, member in inspect.getmembers_static(module):
        if inspect.isfunction(member) and (name == "__call__" or not (name.startswith("_") or hasattr(nnx.Module, name))):
            names.append(name)
    return names


def _sparse_method(name: str, method: Callable) -> Callable:
    @functools.wraps(method)
    def run(self, *args, **kwargs):
        if type(self) in _tracing.get():
            return method(self, *args, **kwargs)
        fast, call = self._call(name, args, kwargs)
        y, changed = fast(*call)
        _update(self, changed)
        return y

    return run


class Sparse:
    """What a sparsified module has besides."""

    sparsity: Sparsity

    def pack(self, *args, method: str = "__call__", also: Sequence[tuple] = (), **kwargs) -> Served:
        """A module that holds what inference by `method` on such arguments needs, and no more; called like it.

        `also` lists the args of further calls that it must serve; see `Sparsified.pack`.

        Raises:
          SpartaTypeError: if the method changes variables: `module.eval()` comes first.
        """
        graph, state = nnx.split(self)
        calls = []
        for given in (args, *also):
            fixed, leaves = Arguments.of(given, kwargs)
            fast = _sparsified(type(self), Run(method, graph, fixed, True), state)
            calls.append((fast, (state, {}, leaves)))
        (first, call), *others = calls
        if any(other is not first for other, _ in others):
            raise SpartaTypeError("`also` differs in more than the shapes of arrays: pack for it separately")
        return Served(type(self), method, graph, first.pack(*call, also=[further for _, further in others]))

    def report(self, *args, method: str = "__call__", **kwargs) -> Report:
        """What is done at each product, and why; see `Sparsified.report`."""
        fast, call = self._call(method, args, kwargs)
        return fast.report(*call)

    def verify(self, *args, method: str = "__call__", gradients: bool = True, **kwargs) -> Verification:
        """Compares with the module at the masked params; see `Sparsified.verify`."""
        fast, call = self._call(method, args, kwargs)
        return fast.verify(*call, gradients=gradients)

    def _call(self, method: str, args: tuple, kwargs: dict[str, Any]) -> tuple[Sparsified, tuple]:
        """The compiled function for a call of a method, and its arguments."""
        fixed, leaves = Arguments.of(args, kwargs)
        graph, params, rest = nnx.split(self, nnx.Param, ...)
        return _sparsified(type(self), Run(method, graph, fixed, False), (params, rest)), (params, rest, leaves)


class Served(nnx.Module):
    """A method of a sparsified module with its packed variables; called like the method."""

    def __init__(self, sparse: type[Sparse], method: str, graph: Any, packed: Packed):
        self.packed = nnx.data(packed)
        self.sparse, self.method, self.graph = sparse, method, nnx.static(graph)

    def __call__(self, *args, **kwargs) -> Any:
        fixed, leaves = Arguments.of(args, kwargs)
        fast = _sparsified(self.sparse, Run(self.method, self.graph, fixed, True), self.packed.origin.structs())
        return fast(self.packed, {}, leaves)


@dataclasses.dataclass(frozen=True)
class Run:
    """All that is fixed of one call of a method: hashable, the key of a compiled one.

    Attributes:
      method: its name.
      graph: the module without its variables.
      arguments: the fixed part of its arguments.
      serving: whether all variables are params, and none may change.
    """

    method: str
    graph: Any
    arguments: Arguments
    serving: bool


def _sparsified(sparse: type[Sparse], run: Run, state: Any) -> Sparsified:
    fn = functools.partial(_serve if run.serving else _step, sparse, run)
    return sparse.sparsity.call((run, jax.tree.structure(state)), lambda: sparse.sparsity.sparsify(fn, sparse.sparsity.tesa))


def _step(sparse: type[Sparse], run: Run, params: Any, rest: Any, leaves: Any) -> tuple[Any, Any]:
    """What a method returns, and the variables that it changed or made."""
    before = _values(params) | _values(rest)
    y, module = _traced(sparse, run, params, rest, leaves)
    graph, params_after, rest_after = nnx.split(module, nnx.Param, ...)
    if _changed(before, params_after):
        raise SpartaTypeError(f"`{run.method}` changes params: leave it out of `methods`")
    changed = nnx.from_flat_state(_changed(before, rest_after))
    if graph != run.graph:
        probe = nnx.merge(run.graph, params, rest)
        _update(probe, changed)
        if nnx.split(probe)[0] != graph:
            raise SpartaTypeError(f"`{run.method}` changes attributes that are no variables: leave it out of `methods`")
    return y, changed


def _serve(sparse: type[Sparse], run: Run, variables: Any, nothing: Any, leaves: Any) -> Any:
    """What a method returns that changes nothing."""
    before = _values(variables)
    y, module = _traced(sparse, run, variables, nothing, leaves)
    graph, after = nnx.split(module)
    if graph != run.graph or _changed(before, after):
        raise SpartaTypeError(
            f"`{run.method}` changes variables, and packed ones are for inference: call `module.eval()` first"
        )
    return y


def _traced(sparse: type[Sparse], run: Run, params: Any, rest: Any, leaves: Any) -> tuple[Any, nnx.Module]:
    """What the dense method returns on a module of these variables, and that module after it."""
    module = nnx.merge(run.graph, params, rest)
    args, kwargs = run.arguments.join(leaves)
    token = _tracing.set(_tracing.get() | {sparse})
    try:
        return getattr(module, run.method)(*args, **kwargs), module
    finally:
        _tracing.reset(token)


def _values(state: Any) -> dict[tuple, list[Any]]:
    """The arrays of each variable; a module that is merged from the state may set others in it."""
    return {path: jax.tree.leaves(variable) for path, variable in nnx.to_flat_state(state)}


def _changed(before: dict[tuple, list[Any]], after: Any) -> list[tuple[tuple, Any]]:
    """The variables whose arrays are not the very same as before."""
    unlike = lambda path, v: path not in before or [id(x) for x in before[path]] != [id(x) for x in jax.tree.leaves(v)]
    return [(path, variable) for path, variable in nnx.to_flat_state(after) if unlike(path, variable)]


def _update(module: nnx.Module, changed: Any) -> None:
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
