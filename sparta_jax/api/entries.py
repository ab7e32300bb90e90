"""What is looked at in a packed tree before a call: that every entry is what its place in the program wants."""

from __future__ import annotations

import weakref
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from ..errors import PackedError
from ..formats.bsr import BSR
from ..formats.csr import CSR, ELEMENT
from ..interpreters import Weight
from ..packed import Packed
from ..problem import DENSE
from ..stored import arrays_of, layout_of, table_fault, values_shape
from ..tesa import TeSA

MEND = "a packed tree is given on as `pack` or `load_packed` returned it: pack again"

_sound: set[tuple[int, int]] = set()  # ids of index tables that were looked at, for as long as they live


def check_tables(packed: Packed) -> None:
    """Raises `PackedError` if an index points outside or a table does not fit its values; nothing where they are traced.

    The same arrays are read once. Kernels check them again, for calls under a `jit` of the caller's.
    """
    for key, value in packed.entries.items():
        if not isinstance(value, (BSR, CSR)) or (id(value.indptr), id(value.indices)) in _sound:
            continue
        if all(_is_readable(a) for a in arrays_of(value)):
            _check_table(key, value)
            _remember(value.indptr, value.indices)


def checked_value(key: str, value: Any, aval: Any) -> Any:
    """An entry that is no product's weight, which has the shape and dtype of `aval`.

    Raises:
      PackedError: says what it is and what it must be.
    """
    if isinstance(value, (BSR, CSR)) or not hasattr(value, "dtype"):
        raise _wrong(key, f"is a {type(value).__name__}, an array is needed")
    if (value.shape, value.dtype) != (aval.shape, aval.dtype):
        raise _wrong(key, f"is {_text(value)}, {_text(aval)} is needed")
    return value


def checked_weight(key: str, value: Any, pattern: TeSA, dtype: np.dtype) -> Weight:
    """An entry that is a product's weight, which has the elements of `pattern` in some layout.

    Raises:
      PackedError: says what it is and what it must be.
    """
    if not isinstance(value, (BSR, CSR)):
        values = checked_value(key, value, jax.ShapeDtypeStruct(pattern.shape, dtype))
        return Weight(DENSE, values)
    values, indptr, indices = arrays_of(value)
    if value.shape != pattern.shape:
        raise _wrong(key, f"is a weight of shape {value.shape}, its pattern has {pattern.shape}")
    _check_rank(key, value)
    layout = layout_of(value)
    wanted = values_shape(pattern, layout)
    if values.shape != wanted or values.dtype != dtype:
        raise _wrong(key, f"holds {_text(values)} as {layout}, its pattern has {_named(wanted, dtype)}")
    columns = -(-pattern.shape[1] // (layout.block or ELEMENT)[1])
    for name, table, size in (("indptr", indptr, columns + 1), ("indices", indices, wanted[0])):
        if table.shape != (size,) or table.dtype != np.int32:
            raise _wrong(key, f"{name} is {_text(table)}, {_named((size,), np.dtype(np.int32))} is needed")
    return Weight(layout, value)


def _check_table(key: str, value: BSR | CSR) -> None:
    _check_rank(key, value)
    values, *tables = arrays_of(value)
    indptr, indices = map(np.asarray, tables)
    if (fault := table_fault(values.shape, indptr, indices, value.shape, values.shape[1:])) is not None:
        raise _wrong(key, fault)


def _check_rank(key: str, value: BSR | CSR) -> None:
    shape = arrays_of(value)[0].shape
    if len(shape) != (3 if isinstance(value, BSR) else 1) or 0 in shape[1:]:
        raise _wrong(key, f"has values of shape {shape}, which those of a {type(value).__name__} cannot have")


def _remember(*tables: jax.Array) -> None:
    ids = (id(tables[0]), id(tables[1]))
    _sound.add(ids)
    for table in tables:
        weakref.finalize(table, _sound.discard, ids)


def _is_readable(array: Any) -> bool:
    if isinstance(array, Tracer):
        return False
    return isinstance(array, np.ndarray) or (isinstance(array, jax.Array) and array.is_fully_addressable)


def _wrong(key: str, what: str) -> PackedError:
    return PackedError(f"{key}: {what}; {MEND}")


def _text(array: Any) -> str:
    return _named(tuple(array.shape), array.dtype)


def _named(shape: tuple[int, ...], dtype: Any) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]"
