"""Compression: how the live elements of each param are kept for training, and calls on compressed params."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ..compressed import Channels, Compressed, Flat, Form, Kept, Matrices, Storage, Whole
from ..interpreters import Site, Variable, Weight
from ..packed import Origin
from ..problem import DENSE, SDDMM, Device, Epilogue, SpMM
from ..progress import announced
from ..specialize import Chooser
from ..stored import Stored, arrays_of, layout_of, of_arrays
from ..tesa import TeSA
from .analysis import Analysis
from .call import Signature
from .regions import Region, Source, regions_of, source_of

NEARLY_WHOLE = 0.9  # a share of live elements above which an array is kept whole
ROWS = 256  # of a training batch, where no call says how many
LARGEST_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Use:
    """A product that reads a part of a param: its rows, and where its weight lies."""

    rows: int
    region: Region


def compress_params(
    signature: Signature, chooser: Chooser, device: Device, unroll: bool | None, args: tuple, kwargs: dict[str, Any]
) -> tuple[Compressed, ...]:
    """One tree per params argument, from the params alone or the arguments of a call.

    Raises:
      SpartaTypeError: if a param is a `ShapeDtypeStruct`, or packed.
    """
    alone = len(args) == len(signature.argnums) and not kwargs
    params, origins = signature.params(args, alone)
    uses: dict[str, list[Use]] = {}
    if not alone:
        analysis = Analysis.of(signature.split(args, kwargs), chooser, inline_remat=False, unroll=unroll)
        uses = uses_of(analysis)
    with announced(f"compressing {sum(len(o.names) for o in origins)} params"):
        pairs = zip(origins, params, strict=True)
        return tuple(_compressed(o, p, uses, chooser, device) for o, p in pairs)


def _compressed(origin: Origin, params: Any, uses: Mapping[str, Sequence[Use]], chooser: Chooser, device: Device) -> Compressed:
    tesas = tuple(TeSA.dense(s) if t is None else t for s, t in zip(origin.shapes, origin.tesas, strict=True))
    facts = zip(tesas, origin.dtypes, origin.names, strict=True)
    storages = tuple(_storage(tesa, dtype, uses.get(name, ()), chooser, device) for tesa, dtype, name in facts)
    form = Form(origin.names, tesas, tuple(t is not None for t in origin.tesas), storages)

    def pack(leaves):
        return [s.pack(leaf, t) for s, leaf, t in zip(storages, leaves, tesas, strict=True)]

    return Compressed(jax.tree.unflatten(origin.tree, jax.jit(pack)(jax.tree.leaves(params))), form)


def uses_of(analysis: Analysis) -> dict[str, list[Use]]:
    """By param: the products that read it as it is, but for its order and dtype."""
    found = collections.defaultdict(list)
    for site in analysis.sites:
        if (source := source_of(site, analysis.origins)) is not None:
            rows = math.prod(site.normal.rows)
            found[analysis.origins.params[source.param]] += [Use(rows, region) for region in source.regions]
    return found


def run_compressed(analysis: Analysis) -> Any:
    """The output, from compressed params."""
    call, program = analysis.call, analysis.rewritten.program
    kept = dict(zip((program.inputs[i] for i in call.params), call.kept, strict=True))
    stored: dict[Variable, list[Stored]] = {}
    weights = {}
    for site, source, places in matched(analysis, kept):
        values = stored.setdefault(source.param, kept[source.param].weights())
        weights[site] = [_weight(source, kept[source.param], values, *place) for place in places]
    given = {program.inputs[i]: call.leaves[i] for i in call.data}
    given |= {v: kept[v].dense() for v in analysis.rewritten.reads(weights) if v in kept}
    return jax.tree.unflatten(analysis.out_tree, analysis.rewritten.run(given, weights))


def problems_of(analysis: Analysis, device: Device) -> dict[Site, list[SpMM]]:
    """What kernels are asked at the sites that read compressed params as they are kept: also in a gradient, but for SDDMM."""
    kept = dict(zip((analysis.rewritten.program.inputs[i] for i in analysis.call.params), analysis.call.kept, strict=False))
    found = {}
    for site, source, places in matched(analysis, kept):
        storage, tesa = kept[source.param].matrices, kept[source.param].tesa
        found[site] = []
        for index, (place, transposed) in enumerate(places):
            asked = analysis.problem(site, index, storage.layout, device)
            plain = dataclasses.replace(
                asked, pattern=storage.matrices(tesa)[place], transposed=transposed, epilogue=Epilogue()
            )
            fused = plain if transposed else dataclasses.replace(plain, epilogue=asked.epilogue)
            back = dataclasses.replace(plain, transposed=not transposed)
            found[site] += dict.fromkeys((fused, plain, back))
    return found


def matched(analysis: Analysis, kept: dict[Variable, Kept]) -> list[tuple[Site, Source, list[tuple[int, bool]]]]:
    """The sites whose weights are kept as they read them, with the place of each and whether it is the transpose."""
    found = []
    for site in analysis.sites:
        source = source_of(site, analysis.origins)
        if source is None or source.param not in kept:
            continue
        places = _places(source.param.shape, kept[source.param].storage)
        if all(region in places for region in source.regions):
            found.append((site, source, [places[region] for region in source.regions]))
    return found


def _places(shape: tuple[int, ...], storage: Storage) -> dict[Region, tuple[int, bool]]:
    regions = (regions_of(shape, storage.steps) if isinstance(storage, Matrices) else None) or ()
    return {r.transposed: (i, True) for i, r in enumerate(regions)} | {r: (i, False) for i, r in enumerate(regions)}


def _weight(source: Source, kept: Kept, values: list[Stored], place: int, transposed: bool) -> Weight:
    weight, pattern = values[place], kept.matrices.matrices(kept.tesa)[place]
    first, *tables = arrays_of(weight)
    for dtype in source.dtypes:
        first = first.astype(dtype)
    layout = layout_of(weight)
    return Weight(layout, of_arrays((first, *tables), layout, pattern.shape), pattern, transposed)


def _storage(tesa: TeSA, dtype: Any, uses: Sequence[Use], chooser: Chooser, device: Device) -> Storage:
    size = math.prod(tesa.shape)
    if tesa.nnz > NEARLY_WHOLE * size or tesa.ndim == 0:
        return Whole()
    if math.prod(Channels().shape(tesa)) == tesa.nnz:
        return Channels()
    dtype = np.dtype(dtype)
    options = [o for views in (True, False) for o in _options(tesa, dtype, uses if views else (), chooser, device)]
    return min(options, key=lambda o: o[0], default=(0.0, Flat()))[1]


def _options(tesa, dtype, uses: Sequence[Use], chooser: Chooser, device: Device) -> list[tuple[tuple[int, float], Storage]]:
    """Ways to see the array as matrices, with how many of the products that read it find their weight there (negative) and
    what all these take together."""
    found = []
    for first in range(max(tesa.ndim - 1, 0) if uses else 1):
        for last in range(first + 1, tesa.ndim):
            parts = tesa.shape[:first], tesa.shape[first:last], tesa.shape[last:]
            steps = (("reshape", tuple(map(math.prod, parts))),)
            if math.prod(parts[0]) > LARGEST_BATCH:
                continue
            option = Matrices(steps, DENSE)
            places, patterns = _places(tesa.shape, option), option.matrices(tesa)
            read = [(u.rows, *places[u.region]) for u in uses if u.region in places] if uses else [(ROWS, 0, False)]
            problems = [p for m, i, turned in read for p in _problems(m, patterns[i], turned, dtype, device)]
            if problems and (layout := chooser.layout(problems)) != DENSE:
                seconds = sum(chooser.plan(dataclasses.replace(p, layout=layout)).seconds for p in problems)
                found.append(((-len(read) * bool(uses), seconds), Matrices(steps, layout)))
    return found


def _problems(m: int, pattern: TeSA, transposed: bool, dtype: np.dtype, device: Device) -> list[Any]:
    """A product and those of its gradient."""
    product = SpMM(m, pattern, DENSE, dtype, dtype, dtype, device, transposed)
    back = dataclasses.replace(product, transposed=not transposed)
    return [product, back, SDDMM(m, pattern, DENSE, dtype, dtype, dtype, device)]
