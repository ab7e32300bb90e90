"""The table of one machine, and its form as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from .curve import Curve

FORMAT = 1
RATES = ("peak", "bandwidth", "call")


@dataclasses.dataclass(frozen=True, eq=False)
class Machine:
    """What products take on one machine, with one number of threads and one instruction set.

    Attributes:
      key: what it was measured on and with: `cpu`, `isa`, `threads`, versions.
      source: `"calibrated"` or `"shipped"`.
      peak: float32 operations per second, all threads together (two per multiply-add).
      bandwidth: bytes per second that are copied within the caches.
      call: seconds of a foreign call.
      curves: by kernel, class of shapes and part, each in picoseconds per element of what the part counts.
    """

    key: Mapping[str, str | int]
    source: str
    peak: float
    bandwidth: float
    call: float
    curves: Mapping[str, Mapping[str, Mapping[str, Curve]]]

    def shapes(self, kernel: str) -> Mapping[str, Mapping[str, Curve]]:
        """The classes of shapes that a kernel was measured in, with their parts; empty where it was not."""
        return self.curves.get(kernel, {})

    def shared_by(self, threads: int) -> Machine:
        """The same machine with its work divided among `threads` times as many threads, but for XLA's forms of sparse products:
        whether small ones in batches gain by threads was not measured."""
        if threads == 1:
            return self
        divided = lambda curve: Curve(curve.rows, tuple(v / threads for v in curve.values))
        shared = {name: shapes for name, shapes in self.curves.items() if not name.startswith("xla_")}
        return dataclasses.replace(
            self,
            peak=self.peak * threads,
            bandwidth=self.bandwidth * threads,
            curves={**self.curves, **_mapped(divided, shared)},
        )

    def over(self, other: Machine) -> Machine:
        """This table, with what it lacks from another one."""
        return dataclasses.replace(self, curves={**other.curves, **{name: c for name, c in self.curves.items() if c}})


def to_json(machine: Machine) -> dict[str, Any]:
    """Readable: knots as keys, three significant digits."""
    short = lambda value: float(f"{value:.3g}")
    written = lambda curve: {str(r): short(v) for r, v in zip(curve.rows, curve.values, strict=True)}
    rates = {name: short(getattr(machine, name)) for name in RATES}
    return {"format": FORMAT, **machine.key, **rates, "picoseconds": _mapped(written, machine.curves)}


def from_json(tree: Any, source: str) -> Machine:
    """The machine that `to_json` wrote.

    Raises:
      ValueError: if that is not what it is.
    """
    try:
        if tree["format"] != FORMAT:
            raise ValueError(f"has format {tree['format']}, this version reads {FORMAT}")
        key = {name: tree[name] for name in tree if name not in ("format", "picoseconds", *RATES)}
        rates = {name: _positive(tree[name]) for name in RATES}
        read = lambda knots: Curve.of({int(r): _number(v) for r, v in knots.items()})
        curves = {
            kernel: {shape: {part: read(knots) for part, knots in parts.items() if knots} for shape, parts in shapes.items()}
            for kernel, shapes in tree["picoseconds"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"is no table of a machine ({type(error).__name__}: {error})") from error
    return Machine(key, source, **rates, curves=curves)


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"holds {value!r} where a time is expected")
    return float(value)


def _positive(value: Any) -> float:
    if (number := _number(value)) == 0:
        raise ValueError("holds 0 where a rate is expected")
    return number


def _mapped(function, curves) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        kernel: {shape: {part: function(curve) for part, curve in parts.items()} for shape, parts in shapes.items()}
        for kernel, shapes in curves.items()
    }
