"""A call analysed: its program, its facts, its sites, and how it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ..errors import PackedError, SpartaValueError
from ..formats.bsr import BSR, Pattern
from ..formats.dense import masked
from ..interpreters import (
    CONST,
    Entry,
    Fact,
    Facts,
    Origins,
    Rewritten,
    Site,
    Unmatched,
    bind,
    entries_of,
    evaluate,
    propagate,
    rewrite,
    trace,
    weight_entries,
)
from ..packed import Packed
from ..problem import DENSE, Device, Layout, SpMM
from ..progress import announced
from ..specialize import Chooser, is_empty
from ..tesa import TeSA
from .call import Call


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """All that is known of one call before it runs.

    Attributes:
      call: its arguments.
      out_tree: the tree of its output.
      facts: of every variable.
      origins: what depends on the params alone.
      rewritten: the program with its sites.
      unmatched: products with a sparse weight that stay dense.
      chooser: who chooses the kernels.
    """

    call: Call
    out_tree: Any
    facts: Facts
    origins: Origins
    rewritten: Rewritten
    unmatched: tuple[Unmatched, ...]
    chooser: Chooser

    @classmethod
    def of(cls, call: Call, chooser: Chooser, inline_remat: bool = True) -> Analysis:
        """Traces and propagates. With `inline_remat` rematerialisation is dropped: right where no derivative will be taken."""
        program, out_tree = trace(call.fn, *call.leaves, inline_remat=inline_remat)
        tesas = dict(zip(call.params, call.tesas, strict=True))
        inputs = [_fact(v.shape, i in tesas, tesas.get(i)) for i, v in enumerate(program.inputs)]
        with announced(f"following the facts of {len(tesas)} params through {len(program.equations)} equations"):
            facts = propagate(program, inputs)
        origins = Origins.of(program, {program.inputs[i]: call.names[i] for i in call.params})
        rewritten, unmatched = rewrite(program, facts, origins.fixed, chooser)
        return cls(call, out_tree, facts, origins, rewritten, tuple(unmatched), chooser)

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.rewritten.sites

    def masked_inputs(self, leaves: Sequence[Any]) -> dict[Any, Any]:
        """The value of every input variable, params masked."""
        values = dict(zip(self.rewritten.program.inputs, leaves, strict=True))
        for i, tesa in zip(self.call.params, self.call.tesas, strict=True):
            if tesa is not None:
                v = self.rewritten.program.inputs[i]
                values[v] = masked(jax.numpy.asarray(values[v]), tesa)
        return values

    def run(self, leaves: Sequence[Any]) -> Any:
        """The output, from the params themselves."""
        return jax.tree.unflatten(self.out_tree, self.rewritten.run(self.masked_inputs(leaves)))

    def run_masked(self, leaves: Sequence[Any]) -> Any:
        """The output of the user's own program on the masked params: what `run` must equal."""
        values = self.masked_inputs(leaves)
        program = self.rewritten.program
        return jax.tree.unflatten(self.out_tree, evaluate(program, [values[v] for v in program.inputs], bind))

    def entries(self) -> list[Entry]:
        """What the body needs of the prologue."""
        return entries_of(self.rewritten.program, self.sites, self.origins, self.rewritten.zeros)

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
                "calls that they were packed for; pack again with this call's arguments in `also=`"
            )
        inputs = self.rewritten.program.inputs
        given = {inputs[i]: leaves[i] for i in self.call.data}
        given |= {e.variable: stored[e.key] for e in entries if e.site is None}
        weights = {site: self._weights(site, stored) for site in self.sites}
        return jax.tree.unflatten(self.out_tree, self.rewritten.run(given, weights))

    def _weights(self, site: Site, stored: Mapping[str, Any]) -> list[tuple[Layout, jax.Array | BSR]]:
        """The stored weights of a site; none for a site that no output needs."""
        entries = weight_entries(site, self.origins)
        return [_weight(stored[e.key], site.patterns[e.index], e.key) for e in entries if e.key in stored]

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
        for site in self.sites:
            problem = self.problem(site, 0, DENSE, device)
            plan = self.chooser.plan(problem)
            if not is_empty(problem) and plan.kernel.implementation != wanted:
                reasons = [f"{name} {why}" for name, why in plan.refused if name.startswith(wanted)]
                lines.append(f"{', '.join(self.origins.sources(site.weight))}: {'; '.join(reasons) or 'has no such kernel'}")
        if lines:
            raise SpartaValueError(
                f"implementation={wanted!r} cannot serve these products on {device.platform}:\n  " + "\n  ".join(lines)
            )


def layout_of(weight: jax.Array | BSR) -> Layout:
    return Layout("bsr", weight.block) if isinstance(weight, BSR) else DENSE


def _fact(shape: tuple[int, ...], is_param: bool, tesa: TeSA | None) -> Fact:
    if not is_param:
        return Fact.live(shape)
    return Fact.const(shape) if tesa is None else Fact.of_mask(tesa.grid, CONST)


def _weight(value: jax.Array | BSR, pattern: TeSA, key: str) -> tuple[Layout, jax.Array | BSR]:
    layout = layout_of(value)
    if isinstance(value, BSR):
        nnzb = Pattern.of(pattern, value.block).nnzb
        if value.shape != pattern.shape or value.nnzb != nnzb or value.indices.shape != (nnzb,):
            raise PackedError(
                f"{key}: holds {value.nnzb} blocks of a {value.shape} weight, its pattern has {nnzb} of {pattern.shape}"
            )
    elif value.shape != pattern.shape:
        raise PackedError(f"{key}: has shape {value.shape}, its pattern {pattern.shape}")
    return layout, value
