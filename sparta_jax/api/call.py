"""One call of a function: its arguments split into params, data and static ones."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ..compressed import Compressed, Kept, Matrices
from ..errors import PackedError, SpartaTypeError, SpartaValueError
from ..packed import Origin, Packed
from ..tesa import TeSA
from ..trees import match


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """The arguments of one call, flat.

    Attributes:
      fn: the user's function of the leaves alone (static arguments are closed over).
      leaves: all leaves that are traced; a `ShapeDtypeStruct` stands for a param that came packed.
      names: the key path of each leaf.
      params: positions of the params among the leaves.
      tesas: the TeSA of each param, None for dense; in the order of `params`.
      origins: what the params of each argument are; one per entry of `argnums`.
      packed: the packed trees that came in the place of params; empty where none did.
      kept: the params one by one, in the order of `params`, where they came compressed; else empty.
      strict: whether masked scores keep their weight in a softmax.
    """

    fn: Callable[..., Any]
    leaves: tuple[Any, ...]
    names: tuple[str, ...]
    params: tuple[int, ...]
    tesas: tuple[TeSA | None, ...]
    origins: tuple[Origin, ...]
    packed: tuple[Packed, ...]
    kept: tuple[Kept, ...]
    strict: bool

    @property
    def is_compacted(self) -> bool | None:
        """Whether dead slices are left out: as the packed params were made; never of params that are kept as blocks, which
        products read as they are; None where nothing says."""
        if any(isinstance(param.storage, Matrices) for param in self.kept):
            return False
        return self.packed[0].compacted if self.packed else None

    @property
    def data(self) -> tuple[int, ...]:
        """Positions of the data among the leaves."""
        params = set(self.params)
        return tuple(i for i in range(len(self.leaves)) if i not in params)


@dataclasses.dataclass(frozen=True, eq=False)
class Signature:
    """How a function's arguments are to be read.

    Attributes:
      fn: the user's function.
      tesas: one TeSA tree per entry of `argnums`.
      argnums: positions of the params.
      static_argnums, static_argnames: as in `jax.jit`.
      strict: whether masked scores keep their weight in a softmax.
    """

    fn: Callable[..., Any]
    tesas: tuple[Any, ...]
    argnums: tuple[int, ...]
    static_argnums: tuple[int, ...]
    static_argnames: tuple[str, ...]
    strict: bool = False

    def split(self, args: tuple, kwargs: dict[str, Any]) -> Call:
        """Reads the arguments of one call.

        Raises:
          SpartaValueError: if a param is missing or its TeSA does not fit.
          SpartaTypeError: if a static argument cannot be hashed, or a leaf of another one is no array.
          PackedError: if only some of the params came packed, other arguments did, or a packed tree has other TeSAs.
        """
        argnums = self._positions(args)
        self.check_hashable(args, kwargs)
        self._check_packed(argnums, args, kwargs)
        packed = tuple(args[i] for i in argnums if isinstance(args[i], Packed))
        compressed = [args[i] for i in sorted(argnums) if isinstance(args[i], Compressed)]
        statics = self.statics(args)
        shown = [a.origin.structs() if isinstance(a, (Packed, Compressed)) else a for a in args]
        dynamic = {i: a for i, a in enumerate(shown) if i not in statics}
        keywords = {k: v for k, v in kwargs.items() if k not in self.static_names}
        constants = {k: v for k, v in kwargs.items() if k in self.static_names}
        paths, treedef = jax.tree_util.tree_flatten_with_path((dynamic, keywords))
        for path, leaf in paths:
            _check_leaf(self._name(path), leaf)

        origins = tuple(self._origin(i, shown[i], spec) for i, spec in zip(argnums, self.tesas, strict=True))
        for origin, i in zip(origins, argnums, strict=True):
            if isinstance(args[i], (Packed, Compressed)):
                _check_origin(origin, args[i].origin)
        params = tuple(k for k, (path, _) in enumerate(paths) if _argument(path) in argnums)

        def fn(*leaves):
            arguments, named = jax.tree.unflatten(treedef, leaves)
            return self.fn(*(arguments.get(i, a) for i, a in enumerate(args)), **named, **constants)

        return Call(
            fn=_named_like(self.fn, fn),
            leaves=tuple(leaf for _, leaf in paths),
            names=tuple(self._name(path) for path, _ in paths),
            params=params,
            tesas=tuple(t for i in sorted(argnums) for t in origins[argnums.index(i)].tesas),
            origins=origins,
            packed=packed,
            kept=tuple(param for tree in compressed for param in tree.kept()),
            strict=self.strict,
        )

    def params(self, args: tuple, alone: bool) -> tuple[list[Any], list[Origin]]:
        """The params among the arguments of a call, or all there is where they came `alone`, and what they are.

        Raises:
          SpartaTypeError: if one of them is packed or compressed, or lacks its values.
        """
        positions = [i % max(len(self._names), 1) for i in self.argnums] if alone else self._positions(args)
        given = list(args) if alone else [args[i] for i in positions]
        if any(isinstance(p, (Packed, Compressed)) for p in given):
            raise SpartaTypeError("the params are packed or compressed already: the params themselves are needed")
        origins = [self._origin(i, p, spec) for i, p, spec in zip(positions, given, self.tesas, strict=True)]
        for params, origin in zip(given, origins, strict=True):
            for leaf, name in zip(jax.tree.leaves(params), origin.names, strict=True):
                if isinstance(leaf, jax.ShapeDtypeStruct):
                    raise SpartaTypeError(f"{name} is a ShapeDtypeStruct: its values are needed (the data may be structs)")
        return given, origins

    def _positions(self, args: tuple) -> tuple[int, ...]:
        n = len(args)
        for i in self.argnums:
            if not -n <= i < n:
                raise SpartaValueError(
                    f"argnums={self.argnums}: argument {i} is the params, and {n} positional arguments came; pass the params "
                    "by position"
                )
        positions = tuple(i % n for i in self.argnums)
        if len(set(positions)) != len(positions):
            raise SpartaValueError(f"argnums={self.argnums} names one of {n} positional arguments twice")
        return positions

    @staticmethod
    def _check_packed(argnums: Sequence[int], args: tuple, kwargs: dict[str, Any]) -> None:
        """Raises `PackedError` unless all the params came packed, all compressed or neither, and nothing else did."""
        for kind, word, verb in ((Packed, "packed", "pack"), (Compressed, "compressed", "compress")):
            found = {i for i, a in (*enumerate(args), *kwargs.items()) if isinstance(a, kind)}
            if others := found - set(argnums):
                raise PackedError(
                    f"argument {', '.join(map(repr, others))} came {word}, the params are arguments {tuple(argnums)}"
                )
            if found and found != set(argnums):
                raise PackedError(f"arguments {argnums} are the params: some came {word}, some did not; {verb} them together")

    def statics(self, args: tuple) -> set[int]:
        """Positions of the static ones among the positional arguments; told by names alone where no number is given."""
        numbers = self.static_argnums or [i for i, name in enumerate(self._names) if name in self.static_argnames]
        statics = {i % len(args) for i in numbers if -len(args) <= i < len(args)}
        for i in statics.intersection(self._positions(args)):
            raise SpartaValueError(
                f"{self._argument_name(i)} (position {i}) is named as params and as static: it cannot be both"
            )
        return statics

    @functools.cached_property
    def static_names(self) -> frozenset[str]:
        """The names of static arguments; told by numbers alone where no name is given."""
        names = self._names
        numbers = () if self.static_argnames else self.static_argnums
        return frozenset(self.static_argnames) | {names[i] for i in numbers if -len(names) <= i < len(names)}

    @functools.cached_property
    def _names(self) -> list[str]:
        return _positional(self.fn)

    def check_hashable(self, args: tuple, kwargs: dict[str, Any]) -> None:
        """Raises `SpartaTypeError` if a static argument cannot be hashed."""
        if not self.static_argnums and not self.static_argnames:
            return
        statics = {f"{self._argument_name(i)} (position {i})": args[i] for i in self.statics(args)}
        statics |= {k: v for k, v in kwargs.items() if k in self.static_names}
        for name, value in statics.items():
            try:
                hash(value)
            except TypeError:
                raise SpartaTypeError(
                    f"static argument {name} is a {type(value).__name__}, which cannot be hashed: pass a tuple or a frozen "
                    "dataclass"
                ) from None

    def _origin(self, position: int, params: Any, spec: Any) -> Origin:
        name = self._argument_name(position)
        tesas = match(spec, params, name)
        paths, tree = jax.tree_util.tree_flatten_with_path(params)
        return Origin(
            tree=tree,
            names=tuple(name + jax.tree_util.keystr(path) for path, _ in paths),
            shapes=tuple(tuple(jax.numpy.shape(leaf)) for _, leaf in paths),
            dtypes=tuple(jax.dtypes.result_type(leaf) for _, leaf in paths),
            weak=tuple(_is_weak(leaf) for _, leaf in paths),
            tesas=tuple(tesas),
        )

    def _argument_name(self, position: int) -> str:
        return self._names[position] if position < len(self._names) else f"args[{position}]"

    def _name(self, path: Sequence[Any]) -> str:
        key = path[1].key
        rest = jax.tree_util.keystr(tuple(path[2:]))
        return (self._argument_name(key) if isinstance(key, int) else key) + rest


def _named_like(fn: Callable, of_leaves: Callable) -> Callable:
    """`of_leaves` under the name and the source line of `fn`, which JAX prints in its messages."""
    signature = inspect.signature(of_leaves)
    named = functools.update_wrapper(of_leaves, fn)
    named.__signature__ = signature  # type: ignore[attr-defined]
    return named


def _check_leaf(name: str, leaf: Any) -> None:
    """Raises `SpartaTypeError` unless JAX takes `leaf` for an array, or it stands for one."""
    if not hasattr(leaf, "dtype") and not isinstance(leaf, (bool, int, float, complex, np.generic)):
        raise SpartaTypeError(
            f"{name} is a {type(leaf).__name__}, not an array; name in `static_argnums` or `static_argnames` what is no data"
        )


def _is_weak(leaf: Any) -> bool:
    return leaf.weak_type if isinstance(leaf, jax.ShapeDtypeStruct) else getattr(jax.typeof(leaf), "weak_type", False)


def _argument(path: Sequence[Any]) -> int | None:
    """The position of the positional argument that a leaf belongs to."""
    return path[1].key if path[0].idx == 0 else None


def _positional(fn: Callable) -> list[str]:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _check_origin(now: Origin, then: Origin) -> None:
    """Raises `PackedError` unless a packed or compressed tree was made with the TeSAs that the function has now."""
    lines = []
    for name, a, b in zip(then.names, now.tesas, then.tesas, strict=True):
        if a != b:
            lines.append(f"{name}: packed with {b or 'no TeSA'}, the function has {a or 'none'}")
    if lines:
        raise PackedError("this packed tree belongs to another function; pack again with this one:\n  " + "\n  ".join(lines))
