"""TeSA: what is known, before running, about the elements of one tensor."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jax.core import Tracer

from .errors import SpartaTypeError, SpartaValueError
from .grid import Cuts, Grid, combine, concatenate


class TeSA:
    """A Tensor-with-Sparsity-Attribute: which elements of one tensor are live.

    `mask[i] == False` promises that element `i` counts as zero and nothing is lost: it is known to be zero, or nobody needs
    it, or the user says so. A pruned element counts as zero whatever value the array holds there, NaN included.

    The mask is stored on a grid of cells (see `cells`, `cuts`), as coarse as its content allows, so a mask of 32x32 blocks
    costs one boolean per block. A TeSA is a host value: immutable, never traced, hashed and compared by a digest of its
    content, and a leaf of a tree, not a pytree node.
    """

    __slots__ = ("__dict__", "_grid")
    _grid: Grid

    def __init__(self, mask):
        """The TeSA of an element mask.

        Args:
          mask: boolean array shaped like the tensor, True where an element is live.

        Raises:
          SpartaTypeError: if the mask is traced or not boolean.
        """
        object.__setattr__(self, "_grid", TeSA.of_grid(Grid.of_elements(as_mask(mask))).grid)

    @classmethod
    def of_grid(cls, grid: Grid) -> TeSA:
        """The TeSA of a boolean grid, which becomes read-only."""
        self = cls.__new__(cls)
        for table in (grid.cells, *grid.cuts):
            table.flags.writeable = False
        object.__setattr__(self, "_grid", grid)
        return self

    def __setattr__(self, name, value):
        raise AttributeError("a TeSA is immutable")

    # -- makers

    @classmethod
    def dense(cls, shape: Sequence[int]) -> TeSA:
        """Every element live."""
        return cls.of_grid(Grid.uniform(check_shape(shape), True))

    @classmethod
    def dead(cls, shape: Sequence[int]) -> TeSA:
        """No element live."""
        return cls.of_grid(Grid.uniform(check_shape(shape), False))

    @classmethod
    def from_cells(cls, cells, cuts: Iterable[Sequence[int] | np.ndarray]) -> TeSA:
        """The TeSA with these cells between these cuts (sorted positions per axis, from 0 to the axis' size)."""
        cells, own = as_mask(cells), tuple(np.array(c, np.int64) for c in cuts)
        if cells.shape != tuple(len(c) - 1 for c in own) or any(c[0] != 0 or (np.diff(c) <= 0).any() for c in own):
            raise SpartaValueError(
                f"cells have shape {cells.shape}, cuts {[c.tolist() for c in own]}: each axis needs one more cut than cells, "
                "strictly increasing from 0 to the axis' size"
            )
        return cls.of_grid(Grid.make(cells, own))

    @classmethod
    def blocks(cls, grid, block: Sequence[int], shape: Sequence[int]) -> TeSA:
        """The TeSA of a boolean entry per block; the last block of an axis may be smaller.

        Args:
          grid: bool `[ceil(shape[0] / block[0]), ...]`, True where a block is live.
          block: elements per block along each axis, at least 1.
          shape: the tensor's shape.
        """
        grid, shape = as_mask(grid), check_shape(shape)
        check_block(block, shape)
        expected = tuple(-(-n // b) for n, b in zip(shape, block, strict=True))
        if grid.shape != expected:
            raise SpartaValueError(
                f"a tensor of shape {shape} has {expected} blocks of {tuple(block)}, the grid has shape {grid.shape}"
            )
        return cls.of_grid(Grid.make(grid, [np.append(np.arange(0, n, b), n) for n, b in zip(shape, block, strict=True)]))

    @classmethod
    def channels(cls, live, axis: int, shape: Sequence[int]) -> TeSA:
        """The TeSA whose slices along one axis are live or dead as a whole.

        Args:
          live: bool `[shape[axis]]`.
          axis: the channels' axis; negative counts from the end.
          shape: the tensor's shape.
        """
        live, shape = as_mask(live), check_shape(shape)
        axis = check_axis(axis, shape)
        if live.shape != (shape[axis],):
            raise SpartaValueError(
                f"axis {axis} of a tensor of shape {shape} has {shape[axis]} channels, `live` has shape {live.shape}"
            )
        return cls.of_grid(Grid.of_elements(live).broadcast(shape, [axis]))

    @classmethod
    def nm(cls, live, axis: int, shape: Sequence[int], m: int) -> TeSA:
        """The TeSA of an N:M pattern, from which elements of every `m` neighbours along `axis` are live.

        Args:
          live: bool, `shape` with the axis replaced by the two axes `(shape[axis] / m, m)`.
          axis: that the groups lie along; negative counts from the end.
          shape: the tensor's shape.
          m: elements per group; divides the axis.
        """
        live, shape = as_mask(live), check_shape(shape)
        axis = check_axis(axis, shape)
        if m < 1 or shape[axis] % m:
            raise SpartaValueError(f"groups of {m} do not divide axis {axis} of a tensor of shape {shape}")
        expected = (*shape[:axis], shape[axis] // m, m, *shape[axis + 1 :])
        if live.shape != expected:
            raise SpartaValueError(
                f"a tensor of shape {shape} has {expected} groups of {m} along axis {axis}, `live` has shape {live.shape}"
            )
        return cls(live.reshape(shape))

    # -- what is stored, and views of it

    @property
    def grid(self) -> Grid:
        return self._grid

    @property
    def cells(self) -> np.ndarray:
        """`bool[cells per axis]`, what is stored; read-only."""
        return self._grid.cells

    @property
    def cuts(self) -> Cuts:
        """Sorted positions per axis, from 0 to the axis' size; cell `i` of an axis covers `cuts[i]:cuts[i + 1]`."""
        return self._grid.cuts

    @property
    def shape(self) -> tuple[int, ...]:
        return self._grid.shape

    @property
    def ndim(self) -> int:
        return self._grid.ndim

    @property
    def mask(self) -> np.ndarray:
        """`bool[shape]`, True where an element is live; made when read."""
        return self._grid.elements()

    @functools.cached_property
    def nnz(self) -> int:
        """The number of live elements."""
        return self._grid.nnz

    @property
    def density(self) -> float:
        """The share of live elements (1 for an empty tensor)."""
        size = self._grid.size
        return self.nnz / size if size else 1.0

    @property
    def is_dense(self) -> bool:
        return bool(self.cells.all())

    @property
    def is_dead(self) -> bool:
        """Whether no element is live (False for an empty tensor)."""
        return not self.cells.any() and self.cells.size > 0

    def block_mask(self, block: Sequence[int]) -> np.ndarray:
        """`bool[ceil(shape / block)]`: which blocks hold a live element; the last block of an axis may be smaller."""
        check_block(block, self.shape)
        return self._grid.block(block)

    def nnzb(self, block: Sequence[int]) -> int:
        """The number of blocks that hold a live element; the last block of an axis may be smaller."""
        check_block(block, self.shape)
        return self._grid.count_blocks(block)

    def channel_mask(self, axis: int) -> np.ndarray:
        """`bool[shape[axis]]`: which slices along one axis hold a live element."""
        axis = check_axis(axis, self.shape)
        others = [d for d in range(self.ndim) if d != axis]
        return self._grid.reduce(others).elements()

    def is_nm(self, n: int, m: int, axis: int) -> bool:
        """Whether at most `n` of every `m` neighbours along `axis` are live (False where `m` does not divide the axis)."""
        axis = check_axis(axis, self.shape)
        if m < 1 or self.shape[axis] % m:
            return False
        along = np.moveaxis(np.repeat(self.cells, np.diff(self.cuts[axis]), axis), axis, -1)
        return bool((np.count_nonzero(along.reshape(*along.shape[:-1], self.shape[axis] // m, m), axis=-1) <= n).all())

    # -- combining

    def __and__(self, other: TeSA) -> TeSA:
        """Live where both are."""
        return self._combine(np.logical_and, other)

    def __or__(self, other: TeSA) -> TeSA:
        """Live where either is."""
        return self._combine(np.logical_or, other)

    def _combine(self, fn, other: TeSA) -> TeSA:
        if not isinstance(other, TeSA):
            return NotImplemented
        if self.shape != other.shape:
            raise SpartaValueError(f"cannot combine a TeSA of shape {self.shape} with one of shape {other.shape}")
        return TeSA.of_grid(combine(fn, self._grid, other._grid))

    def refine(self, cuts: Iterable[Sequence[int] | np.ndarray]) -> np.ndarray:
        """The cells between finer `cuts`, which hold all of this TeSA's own."""
        finer = [np.asarray(c, np.int64) for c in cuts]
        if len(finer) != self.ndim:
            raise SpartaValueError(f"cuts of {len(finer)} axes were given for a TeSA of shape {self.shape}")
        for axis, (own, new) in enumerate(zip(self.cuts, finer, strict=True)):
            if not np.isin(own, new).all() or (np.diff(new) <= 0).any() or new[0] != 0 or new[-1] != own[-1]:
                raise SpartaValueError(
                    f"axis {axis}: cuts {new.tolist()} do not hold all of {own.tolist()}, strictly increasing between the "
                    "same ends"
                )
        return self._grid.refined(finer)

    def coarsen(self, block: Sequence[int]) -> TeSA:
        """The weaker promise that whole blocks are live: every block that holds a live element."""
        return TeSA.blocks(self.block_mask(block), block, self.shape)

    @staticmethod
    def concatenate(tesas: Sequence[TeSA], axis: int = 0) -> TeSA:
        """The TeSA of the tensors joined along `axis`."""
        if not tesas:
            raise SpartaValueError("nothing to concatenate")
        axis = check_axis(axis, tesas[0].shape)
        if len({t.ndim for t in tesas}) != 1 or len({t.shape[:axis] + t.shape[axis + 1 :] for t in tesas}) != 1:
            raise SpartaValueError(f"cannot concatenate shapes {[t.shape for t in tesas]} along axis {axis}")
        return TeSA.of_grid(concatenate([t.grid for t in tesas], axis))

    def __getitem__(self, index) -> TeSA:
        """The TeSA of `tensor[index]`, for slices with positive steps."""
        index = index if isinstance(index, tuple) else (index,)
        if len(index) > self.ndim or not all(isinstance(i, slice) for i in index):
            raise SpartaTypeError(f"a TeSA of shape {self.shape} is indexed by slices, one per axis at most, not {index}")
        spans = [i.indices(n) for i, n in zip((*index, *[slice(None)] * (self.ndim - len(index))), self.shape, strict=True)]
        if any(step < 1 for _, _, step in spans):
            raise SpartaValueError("a TeSA is sliced with positive steps")
        starts, stops, steps = [a for a, _, _ in spans], [max(a, b) for a, b, _ in spans], [c for _, _, c in spans]
        return TeSA.of_grid(self._grid.slice(starts, stops, steps))

    def transpose(self, permutation: Sequence[int] | None = None) -> TeSA:
        """The axes in another order; reversed unless told."""
        permutation = range(self.ndim)[::-1] if permutation is None else permutation
        if sorted(permutation) != list(range(self.ndim)):
            raise SpartaValueError(f"{tuple(permutation)} is no order of the axes of a tensor of shape {self.shape}")
        return TeSA.of_grid(self._grid.transpose(permutation))

    def reshape(self, shape: Sequence[int]) -> TeSA:
        """The same elements in row-major order."""
        if math.prod(shape) != self._grid.size or any(n < 0 for n in shape):
            raise SpartaValueError(f"a tensor of shape {self.shape} cannot be reshaped to {tuple(shape)}")
        return TeSA.of_grid(self._grid.reshape(shape))

    # -- identity

    @functools.cached_property
    def digest(self) -> str:
        """A digest of the content, equal across processes."""
        h = hashlib.blake2b(repr((self.shape, self.cells.shape)).encode(), digest_size=16)
        for cut in self.cuts:
            h.update(cut.astype("<i8").tobytes() + b"|")
        h.update(np.packbits(self.cells).tobytes())
        return h.hexdigest()

    def __eq__(self, other) -> bool:
        return isinstance(other, TeSA) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self):
        return TeSA.from_cells, (self.cells, self.cuts)

    def __repr__(self) -> str:
        cells = "x".join(map(str, self.cells.shape))
        return f"TeSA({'x'.join(map(str, self.shape)) or 'scalar'}, density={self.density:.4g}, cells={cells or 1})"


def as_mask(mask) -> np.ndarray:
    """A host copy of a boolean array.

    Raises:
      SpartaTypeError: if it is traced or not boolean.
    """
    if isinstance(mask, Tracer):
        raise SpartaTypeError(
            "the mask is traced: masks are host values; make it outside `jit`, `grad` and `vmap`, as a numpy array"
        )
    mask = np.array(mask)
    if mask.dtype != np.bool_:
        raise SpartaTypeError(f"the mask has dtype {mask.dtype}, not bool: write `mask != 0`")
    return mask


def check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape as a tuple.

    Raises:
      SpartaTypeError: unless it is a sequence of integers.
      SpartaValueError: if one of them is negative.
    """
    if not isinstance(shape, Sequence) or not all(isinstance(n, int | np.integer) for n in shape):
        raise SpartaTypeError(f"shape {shape!r} is not a tuple of integers, one per axis")
    if any(n < 0 for n in shape):
        raise SpartaValueError(f"shape {tuple(shape)} has a negative size")
    return tuple(shape)


def check_axis(axis: int, shape: Sequence[int]) -> int:
    """The axis counted from the front.

    Raises:
      SpartaValueError: if a tensor of this shape has no such axis.
    """
    if not -len(shape) <= axis < len(shape):
        raise SpartaValueError(f"axis {axis} is out of range for a tensor of shape {tuple(shape)}")
    return axis % len(shape)


def check_block(block: Sequence[Any], shape: Sequence[int]) -> None:
    """Checks that `block` has one size of at least 1 per axis of `shape`.

    Raises:
      SpartaTypeError: if it is no sequence of integers.
      SpartaValueError: if it has another length, or a size below 1.
    """
    if not isinstance(block, Sequence) or isinstance(block, str):
        raise SpartaTypeError(f"block {block!r} is not a tuple of integers, one per axis")
    if len(block) != len(shape):
        raise SpartaValueError(
            f"block {tuple(block)} has {len(block)} entries, a tensor of shape {tuple(shape)} needs {len(shape)}: one per axis"
        )
    if not all(isinstance(b, int | np.integer) for b in block):
        raise SpartaTypeError(f"block {block!r} is not a tuple of integers, one per axis")
    if any(b < 1 for b in block):
        raise SpartaValueError(f"block {tuple(block)} has a size below 1")
