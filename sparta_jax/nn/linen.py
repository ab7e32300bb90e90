"""Flax linen modules with the sparsity of their params put to use: a module in, a module out."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import lift
from flax.core.scope import in_filter
from flax.linen.transforms import lift_transform

from ..api import Sparsified
from ..errors import SpartaTypeError
from ..masks import from_zeros
from ..packed import Packed
from ..records import Report
from ..trees import match
from ..verify import Verification
from .arguments import Arguments, frozen
from .closed import Closed
from .rules import Sparsity

PARAMS = "params"


def sparsify(
    module: Any,
    tesa: Any = None,
    variables: Any = None,
    *,
    allow_unused: bool = False,
    methods: Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """The same module, computing what it computes on its masked params, faster.

    What comes out has the fields, the params and the methods of `module`: `init`, `apply` (`method`, `mutable`, `rngs`),
    `tabulate`, and it may be a part of another module, under `nn.scan`, `nn.remat` and the like. Called through `apply` it is
    compiled and cached per set of shapes; as a part of another module it is traced with it, so put the outermost `apply` under
    `jax.jit`. Besides it has `pack`, `report` and `verify`, which take the arguments of `apply`; `apply` takes what `pack`
    returned in the place of the variables. Params are made as the dense module makes them, and masked where they are used: what
    `init_with_output` returns beside them is computed with none masked. `bind` binds masked ones.

    Args:
      module: a `flax.linen.Module`, or a class of them (then a class is returned; needed inside `@nn.compact`).
      tesa: what is known of `variables["params"]`, as `sparta_jax.sparsify` takes it: a tree, `{path regex: TeSA or maker}`, a
        callable. Paths begin below `params`; a tree may be one like `variables`. None: whatever is exactly zero in `variables`.
      variables: where given, `tesa` is matched with them at once, and makers see their values; else with those of the
        first call, which may be traced.
      allow_unused: whether a regex may hit nothing.
      methods: which methods are sparsified where the module is a part of another one; None: all public ones.
      **options: `strict`, `implementation`, `platform`, `unroll`, as `sparta_jax.sparsify` takes them.

    Raises:
      SpartaTypeError: if `module` is no linen module, is sparsified already, or belongs to another one already; if there is
        neither `tesa` nor `variables`.
      SpartaValueError: lists the masks that do not fit and the regexes that hit nothing.
    """
    params = None if variables is None else variables.get(PARAMS, variables)
    if tesa is None and params is None:
        raise SpartaTypeError("needs `tesa`, or `variables` whose zeros are known")
    rules = Sparsity(from_zeros(params) if tesa is None else _below_params(tesa), allow_unused, options)
    if params is not None:
        rules = dataclasses.replace(rules, tesa=rules.matched(params))
    if issubclass(module if isinstance(module, type) else type(module), Standalone):
        raise SpartaTypeError("is sparsified already: give all that is known of its params at once")
    if isinstance(module, type) and issubclass(module, nn.Module):
        return _class(module, rules, methods)
    if not isinstance(module, nn.Module):
        raise SpartaTypeError(f"needs a flax.linen module, got {type(module).__name__}")
    if isinstance(module.parent, nn.Module) and module.name is not None:
        raise SpartaTypeError(f"{module.name} belongs to another module already: sparsify its class, or make it outside")
    return _class(type(module), rules, methods)(**_fields(module), name=module.name)


def _class(dense: type[nn.Module], rules: Sparsity, methods: Sequence[str] | None) -> type[nn.Module]:
    """The subclass of `dense` whose methods are sparsified."""
    names = _public_methods(dense) if methods is None else list(methods)
    lifted: Any = lift_transform(_lifted, dense, rules=rules, methods=names)
    # Of the dense class' name: what is named after its class (the params of nested modules) keeps its name.
    members = dict(_dense=dense, _rules=rules, _closed=methods is None, __module__=dense.__module__, __doc__=dense.__doc__)
    return type(dense.__name__, (Standalone, lifted), members)


def _below_params(tesa: Any) -> Any:
    """What a tree like a module's variables says of the params; other specs as they are.

    Raises:
      SpartaTypeError: if it says something of other collections.
    """
    if not isinstance(tesa, Mapping) or not isinstance(tesa.get(PARAMS), Mapping):
        return tesa
    if others := [name for name, said in tesa.items() if name != PARAMS and jax.tree.leaves(said)]:
        raise SpartaTypeError(f"there are TeSAs of {', '.join(others)}; those of {PARAMS} alone are put to use")
    return tesa[PARAMS]


def _public_methods(module: type[nn.Module]) -> list[str]:
    """What a module's own classes define for others to call."""
    names = []
    for name, member in inspect.getmembers_static(module):
        own = not hasattr(nn.Module, name) and not name.startswith("_") and name != "setup"
        if inspect.isfunction(member) and (own or name == "__call__") and not getattr(member, "nowrap", False):
            names.append(name)
    return names


def _fields(module: Any) -> dict[str, Any]:
    return {f.name: getattr(module, f.name) for f in dataclasses.fields(module) if f.init and f.name not in ("parent", "name")}


# -- as a part of another module


def _lifted(fn: Callable, rules: Sparsity) -> Callable:
    """A function of scopes, sparsified in the params of the last one, the module's own; while these are made it stays dense."""

    def inner(is_new, scope_fn, repack, groups, rngs, *args, **kwargs):
        params, others = groups
        call, leaves = Arguments.of(args, kwargs)

        def run(own, params, others, rngs, leaves):
            args, kwargs = call.join(leaves)
            scopes = scope_fn(((*params, {PARAMS: own} if own else {}), others), rngs)
            y = fn(scopes, *args, **kwargs)
            return y, repack(scopes)

        own = params[-1].get(PARAMS, {})
        known = rules.sparsify(run, rules.matched(own)) if jax.tree.leaves(own) and not is_new else run
        return known(own, params[:-1], others, rngs, leaves)

    def lifted(scopes, *args, **kwargs):
        if not (all_scopes := jax.tree.leaves(scopes)):
            raise SpartaTypeError("this module is not bound: call it by `apply(variables, ...)`")
        is_new = all_scopes[-1].get_flag("initializing", False)
        whole: Any = lift.pack(
            functools.partial(inner, is_new), (PARAMS, True), (PARAMS, True), (True,), name="sparsify", enable_kwargs=True
        )
        return whole(scopes, *args, **kwargs)

    return lifted


# -- by itself


class Standalone(Closed):
    """What a sparsified module is to those who call it from outside."""

    _dense: type[nn.Module]
    _rules: Sparsity
    name: str | None

    def bind(self, variables: Any, *args, **kwargs) -> Any:
        """As the dense module's `bind`, to the masked params: so its layers, taken out of it, compute with these."""
        bound = super().bind(self._masked(variables), *args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]
        object.__setattr__(bound, "_closed", False)
        return bound

    def apply(self, variables: Any, *args, **kwargs) -> Any:
        """As the dense module's `apply`; `variables` may be what `pack` returned."""
        fast, call = self._call(variables, args, kwargs)
        return fast(*call)

    def pack(self, variables: Any, *args, also: Sequence[tuple] = (), **kwargs) -> Packed:
        """The variables packed for inference, for calls of these shapes: `apply(module.pack(variables, x), x)`.

        `also` lists the args of further calls that the packed variables must serve; see `Sparsified.pack`."""
        fast, call = self._call(variables, args, kwargs)
        others = [self._call(variables, further, kwargs) for further in also]
        if any(other is not fast for other, _ in others):
            raise SpartaTypeError("`also` differs in more than the shapes of arrays: pack for it separately")
        return fast.pack(*call, also=[arguments for _, arguments in others])

    def report(self, variables: Any, *args, **kwargs) -> Report:
        """What is done at each product, and why; see `Sparsified.report`."""
        fast, call = self._call(variables, args, kwargs)
        return fast.report(*call)

    def verify(self, variables: Any, *args, gradients: bool = True, **kwargs) -> Verification:
        """Compares with the dense module at the masked params; see `Sparsified.verify`."""
        fast, call = self._call(variables, args, kwargs)
        return fast.verify(*call, gradients=gradients)

    def _masked(self, variables: Any) -> Any:
        """The variables with zeros where params are dead."""
        if isinstance(variables, Packed):
            raise SpartaTypeError("packed variables cannot be bound: give them to `apply`")
        params = variables.get(PARAMS, {})
        kill = lambda leaf, tesa: leaf if tesa is None else jnp.where(tesa.mask, leaf, jnp.zeros((), leaf.dtype))
        tesas = match(self._rules.matched(params), params)
        leaves, tree = jax.tree.flatten(params)
        return {**variables, PARAMS: jax.tree.unflatten(tree, map(kill, leaves, tesas))}

    def _call(self, variables: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[Sparsified, tuple]:
        """The compiled function for a call of `apply`, and its arguments."""
        steering = {name: kwargs.pop(name, default) for name, default in STEERING.items()}
        rngs, mutable = kwargs.pop("rngs", None), steering["mutable"]
        steering["mutable"] = tuple(mutable) if isinstance(mutable, (list, set)) else mutable
        steering["method"] = self._method(steering["method"])
        read, written = variables, {}
        if not isinstance(variables, Packed):
            read = {c: v for c, v in variables.items() if c == PARAMS or not in_filter(mutable, c)}
            written = {c: v for c, v in variables.items() if c not in read}
        fixed, leaves = Arguments.of(args, kwargs)
        structs = read.origin.structs() if isinstance(read, Packed) else read
        fast = self._sparsified(steering, fixed, structs)
        return fast, (read, written, rngs, leaves)

    def _method(self, method: Any) -> Any:
        """A method of the sparsified class by its name, so that the dense class' own is called."""
        name = getattr(method, "__name__", "")
        ours = getattr(type(self), name, None)
        return name if ours is not None and ours is getattr(method, "__func__", method) else method

    def _sparsified(self, steering: dict[str, Any], fixed: Arguments, read: Any) -> Sparsified:
        module = self._dense(**_fields(self), parent=None, name=self.name)
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in map(jax.typeof, jax.tree.leaves(read)))
        key = (frozen(module), *steering.values(), fixed, jax.tree.structure(read), shapes)
        return self._rules.call(key, lambda: self._fresh(module, steering, fixed, read))

    def _fresh(self, module: nn.Module, steering: dict[str, Any], fixed: Arguments, read: Any) -> Sparsified:
        def apply(variables, written, rngs, leaves):
            args, kwargs = fixed.join(leaves)
            return module.apply({**variables, **written}, *args, rngs=rngs, **steering, **kwargs)

        tesa = {c: self._rules.matched(v) if c == PARAMS else None for c, v in read.items()}
        return self._rules.sparsify(apply, tesa)


STEERING = dict(method=None, mutable=False, capture_intermediates=False)
