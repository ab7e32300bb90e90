"""A call analysed: its program, its facts, its sites, and how it runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ..errors import PackedError, SpartaValueError
from ..formats.dense import masked
from ..interpreters import (
    CONST,
    Entry,
    Fact,
    Facts,
    Freedom,
    Loop,
    Origins,
    Place,
    Program,
    Rewritten,
    Site,
    Unmatched,
    Weight,
    bind,
    compact,
    entries_of,
    evaluate,
    live_sizes,
    pays,
    product_flops,
    propagate,
    rewrite,
    run_compact,
    trace,
    unrolled,
    weight_entries,
)
from ..packed import Packed
from ..problem import DENSE, Device, Layout, SpMM
from ..products import varying_as
from ..progress import announced
from ..records import Compaction
from ..specialize import Chooser, is_empty
from ..tesa import TeSA
from ..verify import Stage
from .call import Call
from .entries import checked_value, checked_weight

LIGHTER = 0.9  # of the params' elements: packed ones are compacted for their size alone


@dataclasses.dataclass(frozen=True, eq=False)
class Followed:
    """A program with what is known of it.

    Attributes:
      program: the program.
      facts: of its variables.
      origins: what of it depends on the params alone.
    """

    program: Program
    facts: Facts
    origins: Origins

    @classmethod
    def of(cls, program: Program, call: Call) -> Followed:
        origins = Origins.of(program, {program.inputs[i]: call.names[i] for i in call.params})
        freedom = None if call.strict else Freedom()
        return cls(program, propagate(program, _facts(program, call), freedom=freedom), origins)


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """All that is known of one call before it runs.

    Attributes:
      call: its arguments.
      out_tree: the tree of its output.
      original: the user's own program.
      source: the same with its loops over sparse stacked weights written out where that serves, followed.
      facts: of every variable of the rewritten program.
      origins: what of it depends on the params alone.
      rewritten: the program, compacted where that pays, with its sites.
      unmatched: products with a sparse weight that stay dense.
      loops: what became of its loops over sparse stacked weights.
      compaction: the dead slices that were found.
      chooser: who chooses the kernels.
    """

    call: Call
    out_tree: Any
    original: Program
    source: Followed
    facts: Facts
    origins: Origins
    rewritten: Rewritten
    unmatched: tuple[Unmatched, ...]
    loops: tuple[Loop, ...]
    compaction: Compaction | None
    chooser: Chooser

    @classmethod
    def of(
        cls,
        call: Call,
        chooser: Chooser,
        inline_remat: bool = True,
        compacting: bool | None = None,
        unroll: bool | None = None,
    ) -> Analysis:
        """Traces, propagates and compacts.

        Args:
          call: the arguments.
          chooser: who chooses the kernels.
          inline_remat: whether rematerialisation is dropped: right where no derivative will be taken.
          compacting: whether dead slices are left out; None: where that pays, or as the packed params were made.
          unroll: whether loops over sparse stacked weights are written out; None: where that does not get too long.
        """
        original, out_tree = trace(call.fn, *call.leaves, inline_remat=inline_remat)
        params = {original.inputs[i] for i in call.params}
        with announced("writing out loops over sparse stacked weights"):
            program, loops = unrolled(original, _facts(original, call), params, unroll, inline_remat)
        with announced(f"following the facts of {len(call.params)} params through {len(program.equations)} equations"):
            source = Followed.of(program, call)
        compacting = call.is_compacted if compacting is None else compacting
        used, compaction = source, None
        if compacting is not False:
            with announced("leaving out dead slices"):
                used, compaction = _compacted(source, call, packed=inline_remat, always=bool(compacting))
        with announced(f"matching products among {len(used.program.equations)} equations"):
            rewritten, unmatched = rewrite(used.program, used.facts, used.origins.fixed, chooser, unroll)
        return cls(
            call=call,
            out_tree=out_tree,
            original=original,
            source=source,
            facts=used.facts,
            origins=used.origins,
            rewritten=rewritten,
            unmatched=tuple(unmatched),
            loops=tuple(loops),
            compaction=compaction,
            chooser=chooser,
        )

    @property
    def is_compacted(self) -> bool:
        """Whether slices were left out."""
        return self.rewritten.program is not self.source.program

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.rewritten.sites

    @property
    def places(self) -> list[Place]:
        """The program that runs, and those inside its equations."""
        return list(Place(self.rewritten, self.facts, self.origins, self.unmatched, ()).all())

    def masked_leaves(self, leaves: Sequence[Any]) -> list[Any]:
        """The inputs, params masked."""
        values = list(leaves)
        for i, tesa in zip(self.call.params, self.call.tesas, strict=True):
            if tesa is not None:
                values[i] = masked(jax.numpy.asarray(values[i]), tesa)
        return values

    def masked_inputs(self, leaves: Sequence[Any]) -> dict[Any, Any]:
        """The value of every input variable of the rewritten program, params masked."""
        return dict(zip(self.rewritten.program.inputs, self.masked_leaves(leaves), strict=True))

    def run(self, leaves: Sequence[Any]) -> Any:
        """The output, from the params themselves."""
        return jax.tree.unflatten(self.out_tree, self.rewritten.run(self.masked_inputs(leaves)))

    def run_masked(self, leaves: Sequence[Any]) -> Any:
        """The output of the user's own program on the masked params: what `run` must equal."""
        return jax.tree.unflatten(self.out_tree, evaluate(self.original, self.masked_leaves(leaves), bind))

    def stages(self) -> list[Stage]:
        """How the program that runs came to be, step by step, to be verified."""
        rewritten, source = self.rewritten, self.source

        def rewrite_run(inputs, watch):
            told = lambda variable, value: watch(variable, None, value)
            return rewritten.run(dict(zip(rewritten.program.inputs, inputs, strict=True)), watch=told)

        def compact_run(inputs, watch):
            told = lambda variable, held: watch(
                variable, [held.view.indices(d) for d in range(len(variable.shape))], held.whole
            )
            params = frozenset(source.origins.params)
            return run_compact(source.program, source.facts, params, source.origins.fixed, inputs, told)

        last = Stage(rewritten.program, self.facts, rewrite_run)
        stages = [Stage(source.program, source.facts, compact_run), last] if self.is_compacted else [last]
        if self.original is source.program:
            return stages
        written_out = lambda inputs, _: evaluate(source.program, inputs, bind)
        return [Stage(self.original, source.facts, written_out), *stages]

    def entries(self) -> list[Entry]:
        """What the body needs of the prologue."""
        return entries_of(self.rewritten.program, self.rewritten.steps, self.origins, self.rewritten.zeros)

    def run_packed(self, packed: Sequence[Packed], leaves: Sequence[Any]) -> Any:
        """The output, from packed params.

        Raises:
          PackedError: if this call needs what was not packed, or an entry does not fit its pattern.
        """
        stored = {k: v for p in packed for k, v in p.entries.items()}
        entries = self.entries()
        if missing := [e for e in entries if e.key not in stored]:
            names = sorted({name for e in missing for name in e.sources})
            raise PackedError(
                f"this call needs a part of {', '.join(names)} that was not packed: it reads the params otherwise than the "
                f"calls that they were packed for; pack again with this call's arguments in `also=`{self._in_shard_map()}"
            )
        inputs = self.rewritten.program.inputs
        given = {inputs[i]: leaves[i] for i in self.call.data}
        plain = {e.variable: checked_value(e.key, stored[e.key], e.variable.aval) for e in entries if e.site is None}
        given |= {variable: varying_as(value, variable.aval) for variable, value in plain.items()}
        weights = {site: self._weights(site, stored) for site in self.sites}
        return jax.tree.unflatten(self.out_tree, self.rewritten.run(given, weights))

    def _in_shard_map(self) -> str:
        """What to add to an error there: JAX marks where values begin to vary over devices, and a program reads otherwise."""
        axes = [getattr(v.aval, "manual_axis_type", None) for v in self.rewritten.program.inputs]
        varies = any(a is not None and a.varying for a in axes)
        return ", or call it in `jax.shard_map(..., check_vma=False)`" if varies else ""

    def _weights(self, site: Site, stored: Mapping[str, Any]) -> list[Weight]:
        """The stored weights of a site; none for a site that no output needs."""
        entries = weight_entries(site, self.origins)
        dtype = site.weight.aval.dtype
        return [checked_weight(e.key, stored[e.key], site.patterns[e.index], dtype) for e in entries if e.key in stored]

    def problem(self, site: Site, index: int, layout: Layout, device: Device) -> SpMM:
        """What a kernel is asked at a site, for this call's own rows."""
        rows = 1
        for size in site.normal.rows:
            rows *= size
        return SpMM(
            m=rows,
            pattern=site.patterns[index],
            layout=layout,
            x_dtype=site.x.aval.dtype,
            w_dtype=site.weight.aval.dtype,
            out_dtype=site.out_dtype,
            device=device,
            precision=site.precision,
            epilogue=site.epilogue,
        )

    def check_implementation(self, device: Device) -> None:
        """Raises `SpartaValueError` that lists the sites which a forced implementation cannot serve."""
        wanted = self.chooser.implementation
        if wanted is None:
            return
        lines = []
        for place, site in ((p, s) for p in self.places for s in p.rewritten.sites):
            problem = self.problem(site, 0, DENSE, device)
            plan = self.chooser.plan(problem)
            if not is_empty(problem) and plan.kernel.implementation != wanted:
                reasons = [f"{name} {why}" for name, why in plan.refused if name.startswith(wanted)]
                lines.append(f"{place.origins.name(site.weight)}: {'; '.join(reasons) or 'has no such kernel'}")
        if lines:
            raise SpartaValueError(
                f"implementation={wanted!r} cannot serve these products on {device.platform}:\n  " + "\n  ".join(lines)
            )


def _facts(program: Program, call: Call) -> list[Fact]:
    """What is known of the program's inputs."""
    tesas = dict(zip(call.params, call.tesas, strict=True))
    return [_fact(v.shape, i in tesas, tesas.get(i)) for i, v in enumerate(program.inputs)]


def _fact(shape: tuple[int, ...], is_param: bool, tesa: TeSA | None) -> Fact:
    if not is_param:
        return Fact.live(shape)
    return Fact.const(shape) if tesa is None else Fact.of_mask(tesa.grid, CONST)


def _compacted(source: Followed, call: Call, packed: bool, always: bool) -> tuple[Followed, Compaction | None]:
    """The program without its dead slices, where that is less work or is to be done `always`; and what was found."""
    params = frozenset(source.origins.params)
    program = compact(source.program, source.facts, params, source.origins.fixed)
    if program is source.program:
        return source, None
    smaller = Followed.of(program, call)
    free = [f.origins.fixed if packed else frozenset() for f in (source, smaller)]
    narrowed = _narrowed(source)
    lighter = packed and sum(math.prod(n) for _, _, n in narrowed) < LIGHTER * sum(math.prod(n) for _, n, _ in narrowed)
    taken = always or pays((source.program, source.facts), (smaller.program, smaller.facts), free, lighter)
    now, before = (product_flops(f.program, f.facts, f.origins.fixed) for f in (smaller, source))
    return (smaller if taken else source), Compaction(taken, now, before, narrowed)


def _narrowed(source: Followed) -> tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]:
    live = ((name, v.shape, live_sizes(source.facts, v)) for v, name in source.origins.params.items())
    return tuple((name, shape, sizes) for name, shape, sizes in live if sizes != shape)
