"""What is known of a module's params: rules matched with them, told in the log, and the calls compiled by them."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from ..api import Sparsified, sparsify
from ..trees import Leaf, is_by_regex, leaves_of, match

log = logging.getLogger("sparta_jax")

CACHED_CALLS = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Sparsity:
    """What is known of a module's params, and how it is put to use.

    Attributes:
      tesa: as `sparta_jax.sparsify` takes it.
      allow_unused: whether a regex may hit nothing.
      options: the other arguments of `sparta_jax.sparsify`.
    """

    tesa: Any
    allow_unused: bool
    options: Mapping[str, Any]
    _told: set[str] = dataclasses.field(default_factory=set)
    _calls: dict[Hashable, Sparsified] = dataclasses.field(default_factory=dict)

    def matched(self, params: Any) -> dict[str, Any]:
        """A dict of dicts with the `TeSA` of each leaf that has one, by key path; logs once which rule hit which param.

        Args:
          params: arrays, `ShapeDtypeStruct`s or tracers.

        Raises:
          SpartaValueError: lists the regexes that hit nothing, the masks that do not fit.
        """
        rules = self._used(params) if is_by_regex(self.tesa, params) else self.tesa
        tesas = match(rules, params, "params")
        tree: dict[str, Any] = {}
        for leaf, found in zip(leaves_of(params), tesas, strict=True):
            if found is not None:
                self._tell(f"{leaf.name}: {found}")
                *parents, last = leaf.keys
                functools.reduce(lambda node, key: node.setdefault(key, {}), parents, tree)[last] = found
        return tree

    def sparsify(self, fn: Callable[..., Any], tesa: Any) -> Sparsified:
        return sparsify(fn, tesa, **self.options)

    def call(self, key: Hashable, make: Callable[[], Sparsified]) -> Sparsified:
        """The compiled call of that key, made where there is none; the newest are kept."""
        if key not in self._calls:
            if len(self._calls) >= CACHED_CALLS:
                self._calls.pop(next(iter(self._calls)))
            self._calls[key] = make()
        return self._calls[key]

    def _used(self, params: Any) -> Mapping[str, Any] | None:
        """The rules that hit something; those that hit nothing too unless that is allowed, for `match` to complain about."""
        leaves, used = leaves_of(params), {}
        for pattern, value in self.tesa.items():
            hits = _hits(pattern, leaves)
            self._tell(f"rule {pattern!r} hits {', '.join(hits) or 'nothing'}")
            if hits or not self.allow_unused:
                used[pattern] = value
        return used or None

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            log.info("%s", line)


def _hits(pattern: str, leaves: Sequence[Leaf]) -> list[str]:
    try:
        return [leaf.name for leaf in leaves if re.search(pattern, leaf.path)]
    except re.error:
        return [repr(pattern)]  # no regular expression: `match` says so
