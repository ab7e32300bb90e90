"""Flax nnx modules with the sparsity of their params put to use: a module in, a module out."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

from flax import nnx

from ..api import Sparsified
from ..errors import SpartaTypeError
from ..masks import from_zeros
from ..packed import Packed
from ..records import Report
from ..verify import Verification
from .arguments import Arguments
from .nnx_calls import Run, sparsified, tracing, update
from .rules import Sparsity


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
    shapes. Besides it has `pack`, `report` and `verify`. The masks are of its methods: its layers are those of `module`, and
    called by themselves dense.

    Args:
      module: an `nnx.Module`.
      tesa: what is known of its `nnx.Param`s, as `sparta_jax.sparsify` takes it: a tree, `{path regex: TeSA or maker}`, a
        callable. None: whatever is exactly zero in them now.
      allow_unused: whether a regex may hit nothing.
      methods: which methods are sparsified; None: all public ones that its classes define. One that changes params or
        static attributes cannot be.
      **options: `strict`, `implementation`, `platform`, `unroll`, as `sparta_jax.sparsify` takes them.

    Raises:
      SpartaTypeError: if `module` is no nnx module, or sparsified already.
      SpartaValueError: lists the masks that do not fit and the regexes that hit nothing.
    """
    if not isinstance(module, nnx.Module):
        raise SpartaTypeError(f"needs an nnx module, got {type(module).__name__}")
    if isinstance(module, Sparse):
        raise SpartaTypeError("is sparsified already: give all that is known of its params at once")
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
        if _is_method(member) and (name == "__call__" or not (name.startswith("_") or hasattr(nnx.Module, name))):
            names.append(name)
    return names


def _is_method(member: Any) -> bool:
    """Whether it is called with the module: a function, or what `nnx.jit` and its like made of one."""
    return callable(member) and hasattr(member, "__get__") and not isinstance(member, (type, staticmethod, classmethod))


def _sparse_method(name: str, method: Callable) -> Callable:
    @functools.wraps(method)
    def run(self, *args, **kwargs):
        if type(self) in tracing.get():
            return method(self, *args, **kwargs)
        fast, call = self._call(name, args, kwargs)
        y, changed = fast(*call)
        update(self, changed)
        return y

    return run


class Sparse:
    """What a sparsified module has besides."""

    sparsity: Sparsity

    def pack(self, *args, method: str = "__call__", also: Sequence[tuple] = (), **kwargs) -> Served:
        """A module that holds what inference by `method` on such arguments needs, and no more; called like it.

        Random streams are shared with this module.

        `also` lists the args of further calls that it must serve; see `Sparsified.pack`.

        Raises:
          SpartaTypeError: if the method changes variables: `module.eval()` comes first.
        """
        graph, streams, state = nnx.split(self, nnx.RngState, ...)
        calls = []
        for given in (args, *also):
            fixed, leaves = Arguments.of(given, kwargs)
            fast = sparsified(type(self), Run(method, graph, fixed, True), state)
            calls.append((fast, (state, streams, leaves)))
        (first, call), *others = calls
        if any(other is not first for other, _ in others):
            raise SpartaTypeError("`also` differs in more than the shapes of arrays: pack for it separately")
        return Served(type(self), method, graph, first.pack(*call, also=[further for _, further in others]), streams)

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
        return sparsified(type(self), Run(method, graph, fixed, False), (params, rest)), (params, rest, leaves)


class Served(nnx.Module):
    """A method of a sparsified module with its packed variables; called like the method."""

    def __init__(self, sparse: type[Sparse], method: str, graph: Any, packed: Packed, streams: Any):
        self.packed, self.streams = nnx.data(packed), nnx.data(streams)
        self.sparse, self.method, self.graph = sparse, method, nnx.static(graph)

    def __call__(self, *args, **kwargs) -> Any:
        fixed, leaves = Arguments.of(args, kwargs)
        fast = sparsified(self.sparse, Run(self.method, self.graph, fixed, True), self.packed.origin.structs())
        y, changed = fast(self.packed, self.streams, leaves)
        for path, variable in nnx.to_flat_state(changed):
            dict(nnx.to_flat_state(self.streams))[path][...] = variable[...]
        return y
