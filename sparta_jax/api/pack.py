"""Packing: the prologue run once, in the layouts chosen for the calls to come."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import PackedError, SpartaTypeError
from ..interpreters import Entry, Origins, Site, Variable, weight_entries
from ..packed import Origin, Packed, Undo
from ..problem import DENSE, Device, Layout, SpMM
from ..progress import announced
from ..specialize import Chooser
from ..stored import Stored, to_dense
from ..stored import pack as packed_weight
from .analysis import Analysis

Steps = tuple[tuple[str, tuple[int, ...]], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class _Wanted:
    """An entry, the analysis that asks for it first, and the problems that read it."""

    entry: Entry
    analysis: Analysis
    problems: list[SpMM]


def pack(analyses: Sequence[Analysis], chooser: Chooser, device: Device) -> tuple[Packed, ...]:
    """The packed params, one tree per params argument, with all that the analysed calls need.

    Raises:
      SpartaTypeError: if a param is a `ShapeDtypeStruct`: values are needed.
    """
    first = analyses[0].call
    wanted = _union(analyses, device)
    with announced(f"choosing layouts for {len(wanted)} values"):
        layouts = {key: chooser.layout(w.problems) for key, w in wanted.items() if w.problems}
    leaves = [first.leaves[i] for i in first.params]
    for i, leaf in zip(first.params, leaves, strict=True):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise SpartaTypeError(
                f"{first.names[i]} is a ShapeDtypeStruct: `pack` needs the params' values (the data may be structs)"
            )

    def prologue(leaves):
        values = _evaluated(wanted, leaves)
        return {key: _stored(w.entry, layouts.get(key), values[key]) for key, w in wanted.items()}

    with announced(f"packing {len(layouts)} weights"):
        entries = jax.block_until_ready(jax.jit(prologue)(leaves))
    owner = {key: _owner(w.entry, first.origins) for key, w in wanted.items()}
    undos = _undos(wanted)
    return tuple(
        Packed(
            entries={k: v for k, v in entries.items() if owner[k] == i},
            origin=origin,
            undo=tuple((name, undo) for name, undo in undos.items() if name in origin.names),
            compacted=analyses[0].is_compacted,
        )
        for i, origin in enumerate(first.origins)
    )


def unpack(packed: Packed) -> object:
    """The params again, dense, dead elements zero.

    Raises:
      PackedError: names the leaves that cannot be had back: folded with others, cast, or not needed by the calls packed for.
    """
    leaves, lost = [], []
    origin = packed.origin
    for name in origin.names:
        if name in packed.entries:
            leaves.append(packed.entries[name])
        elif (value := _from_weight(packed, name)) is not None:
            leaves.append(value)
        else:
            lost.append(name)
    if lost:
        raise PackedError(
            f"{', '.join(lost)}: not to be had back from this packed tree (folded, cast, or not needed by the calls that it "
            "was packed for); keep the params themselves"
        )
    return jax.tree.unflatten(origin.tree, leaves)


def _from_weight(packed: Packed, name: str) -> jax.Array | None:
    undo = dict(packed.undo).get(name)
    if undo is None or any(key not in packed.entries for key in undo.keys):
        return None
    values = [packed.entries[key] for key in undo.keys]
    return undo(jnp.stack([to_dense(v) for v in values]))


def _union(analyses: Sequence[Analysis], device: Device) -> dict[str, _Wanted]:
    wanted: dict[str, _Wanted] = {}
    for analysis in analyses:
        for entry in analysis.entries():
            item = wanted.setdefault(entry.key, _Wanted(entry, analysis, []))
            if entry.site is not None:
                item.problems.append(analysis.problem(entry.site, entry.index, DENSE, device))
    return wanted


def _evaluated(wanted: dict[str, _Wanted], leaves: Sequence[jax.Array]) -> dict[str, jax.Array]:
    """The value of every entry's variable, each analysis evaluated once."""
    values = {}
    for analysis in {id(w.analysis): w.analysis for w in wanted.values()}.values():
        own = {key: w.entry.variable for key, w in wanted.items() if w.analysis is analysis}
        full = list(analysis.call.leaves)
        for i, leaf in zip(analysis.call.params, leaves, strict=True):
            full[i] = leaf
        masked = analysis.masked_inputs(full)
        given = {v: masked[v] for v in analysis.origins.params}
        values |= zip(own, analysis.rewritten.run(given, targets=list(own.values()), effects=False), strict=True)
    return values


def _stored(entry: Entry, layout: Layout | None, value: jax.Array) -> Stored:
    """An entry as it is kept."""
    if entry.site is None or layout is None:
        return value
    dense = entry.site.normal.w(value)[entry.index]
    return packed_weight(dense, entry.site.patterns[entry.index], layout)


def _owner(entry: Entry, origins: Sequence[Origin]) -> int:
    """The params argument that an entry is kept with: the first that it derives from."""
    return next((i for i, o in enumerate(origins) if set(entry.sources) & set(o.names)), 0)


def _undos(wanted: dict[str, _Wanted]) -> dict[str, Undo]:
    """By param: how it is had back from its weights, where these hold all that is live of it."""
    found: dict[str, Undo] = {}
    for w in wanted.values():
        entry, origins = w.entry, w.analysis.origins
        kept = entry.site is None and entry.variable in origins.params
        if kept or entry.index or (back := _steps_back(entry.variable, origins)) is None:
            continue
        if entry.site is not None and not _whole(entry.site, w.analysis):
            continue
        param, steps = back
        found[param] = Undo(*_first_steps(entry, origins, steps))
    return found


def _first_steps(entry: Entry, origins: Origins, steps: Steps) -> tuple[tuple[str, ...], Steps]:
    """The keys that hold a value, and the steps from these entries, stacked, to the param."""
    if entry.site is None:
        return (entry.key,), (("reshape", entry.variable.shape), *steps)
    normal = entry.site.normal
    sizes = ("reshape", (*normal.batch, *normal.contracted, *normal.columns))
    order = ("transpose", tuple(int(i) for i in np.argsort(normal.w_order)))
    return tuple(e.key for e in weight_entries(entry.site, origins)), (sizes, order, *steps)


def _whole(site: Site, analysis: Analysis) -> bool:
    grid = site.normal.w_grid(analysis.facts.value(site.weight).nonzero)
    return all(grid.slice((b, 0, 0), (b + 1, *p.shape)).reshape(p.shape) == p.grid for b, p in enumerate(site.patterns))


def _steps_back(variable: Variable, origins: Origins) -> tuple[str, Steps] | None:
    """The param that a value is a mere rearrangement of, and the steps back to it; None where it is more than that."""
    steps: Steps = ()
    while variable not in origins.params:
        equation = origins.definition.get(variable)
        if equation is None or equation.name not in ("reshape", "transpose", "squeeze", "expand_dims"):
            return None
        source = equation.inputs[0]
        if not isinstance(source, Variable):
            return None
        if equation.name == "transpose":
            steps += (("transpose", tuple(int(i) for i in np.argsort(equation.params["permutation"]))),)
        else:
            steps += (("reshape", source.shape),)
        variable = source
    return origins.params[variable], steps
