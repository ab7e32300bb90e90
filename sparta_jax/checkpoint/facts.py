"""TeSAs and weights as named arrays and JSON, and back: index tables are checked before anything uses them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..errors import CheckpointError, SpartaTypeError
from ..problem import CSR_LAYOUT, Layout
from ..stored import Stored, arrays_of, layout_of, of_arrays, table_fault
from ..tesa import TeSA


class Writer:
    """Collects arrays under names; a TeSA that comes twice is kept once."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._tesas: dict[TeSA, str] = {}

    def array(self, name: str, value: Any, what: str) -> dict[str, Any]:
        """Keeps an array; `what` is what a message calls it.

        Raises:
          SpartaTypeError: if its values are not here: it is traced, a struct, of random keys, or on another host.
        """
        if isinstance(value, (Tracer, jax.ShapeDtypeStruct)):
            raise SpartaTypeError(f"{what} is a {type(value).__name__}: a file needs values; save outside `jit`")
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
            raise SpartaTypeError(f"{what} has dtype {value.dtype}: save `jax.random.key_data` of it")
        if isinstance(value, jax.Array) and not value.is_fully_addressable:
            raise SpartaTypeError(f"{what} lies on other hosts in part: gather it, or use Orbax")
        self.arrays[name] = np.asarray(value)
        return {"array": name, "weak": bool(getattr(value, "weak_type", False))}

    def tesa(self, tesa: TeSA | None) -> str | None:
        """Keeps the cells of a TeSA as bits, and where they are cut."""
        if tesa is None:
            return None
        if tesa not in self._tesas:
            name = self._tesas[tesa] = f"tesa/{len(self._tesas)}"
            self.arrays[f"{name}/cells"] = np.packbits(tesa.cells)
            for axis, cut in enumerate(tesa.cuts):
                self.arrays[f"{name}/cuts/{axis}"] = cut.astype(np.int64)
        return self._tesas[tesa]

    def weight(self, name: str, value: Stored, what: str) -> dict[str, Any]:
        """Keeps a value in the layout that it has."""
        layout, (values, *tables) = layout_of(value), arrays_of(value)
        kept = {"layout": layout_to_json(layout), **self.array(f"{name}/values", values, what)}
        if tables:
            kept |= {"shape": list(value.shape), "tables": [f"{name}/indptr", f"{name}/indices"]}
            self.arrays |= {n: np.asarray(t) for n, t in zip(kept["tables"], tables, strict=True)}
        return kept


class Reader:
    """Gives back what a `Writer` kept."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays
        self._tesas: dict[str, TeSA] = {}

    def array(self, kept: Mapping[str, Any]) -> jax.Array:
        value = self.arrays[kept["array"]]
        return jnp.asarray(value.item() if kept["weak"] and value.ndim == 0 else value)

    def tesa(self, name: str | None, shape: tuple[int, ...]) -> TeSA | None:
        if name is None:
            return None
        if name not in self._tesas:
            cuts = [self.arrays[f"{name}/cuts/{axis}"] for axis in range(len(shape))]
            sizes = [len(cut) - 1 for cut in cuts]
            bits, count = self.arrays[f"{name}/cells"], math.prod(sizes)
            if len(bits) != -(-count // 8):
                raise ValueError(f"{8 * len(bits)} bits for {count} cells")
            cells = np.unpackbits(bits, count=count)
            self._tesas[name] = TeSA.from_cells(cells.astype(bool).reshape(sizes), cuts)
        if self._tesas[name].shape != shape:
            raise ValueError(f"a TeSA of shape {self._tesas[name].shape} for a param of shape {shape}")
        return self._tesas[name]

    def weight(self, kept: Mapping[str, Any], what: str) -> Stored:
        """
        Raises:
          CheckpointError: if an index points outside, or a table does not fit.
        """
        layout, values = layout_from_json(kept["layout"]), self.array(kept)
        if "tables" not in kept:
            return values
        indptr, indices = (self.arrays[name] for name in kept["tables"])
        shape = tuple(int(n) for n in kept["shape"])
        if (fault := table_fault(values.shape, indptr, indices, shape, layout.block or ())) is not None:
            raise CheckpointError(f"{what}: {fault}")
        return of_arrays((values, jnp.asarray(indptr), jnp.asarray(indices)), layout, shape)


def layout_to_json(layout: Layout) -> list[Any]:
    return [layout.format, None if layout.block is None else list(layout.block)]


def layout_from_json(stored: list[Any]) -> Layout:
    format_, block = stored
    if format_ == "bsr":
        br, bc = map(int, block)
        if br < 1 or bc < 1:
            raise ValueError(f"blocks of {br}x{bc}")
        return Layout("bsr", (br, bc))
    if block is not None or format_ not in ("dense", "csr"):
        raise ValueError(f"no layout {format_} {block}")
    return CSR_LAYOUT if format_ == "csr" else Layout("dense")
