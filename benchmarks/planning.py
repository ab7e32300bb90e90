"""`python -m benchmarks.planning`: how long propagating, compacting, planning and compiling take, and the memory they need."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .machine import ROOT, describe, pin
from .planning_results import Outcome, Planning, Sample, bars, dump, lines

Seconds = dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 if a bar is missed."""
    args = _arguments(argv)
    pin(args.threads)
    if args.case:
        print(json.dumps(measured(args.case)))
        return 0
    load = os.getloadavg()[0]
    outcomes = []
    for name in CASES:
        outcome = Outcome(name, tuple(fresh(name, args.threads) for _ in range(args.rounds)))
        print(f"{name}: {statistics.median(s.total for s in outcome.samples):.2f} s", flush=True)
        outcomes.append(outcome)
    command = shlex.join(["python", "-m", "benchmarks.planning", *(argv or sys.argv[1:])])
    run = Planning(describe(), command, load, os.nice(0), tuple(outcomes))
    print("\n".join(lines(run)))
    if args.json:
        dump(run, args.json)
    return int(not all(bar.is_met for bar in bars(run)))


def fresh(name: str, threads: int | None) -> Sample:
    """One measurement of a case in a process of its own."""
    arguments = ["--case", name, *(["--threads", str(threads)] if threads else [])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.planning", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return Sample(**json.loads(done.stdout.splitlines()[-1]))


def measured(name: str) -> dict[str, object]:
    """Wall seconds by step, the CPU seconds of all threads, and the most memory that this process held, in bytes."""
    import resource

    import jax

    jax.block_until_ready(jax.jit(lambda x: x + 1)(1.0))  # the backend starts
    seconds, cpu = CASES[name]()
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "cpu": cpu, "peak_bytes": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


class Clock:
    """Wall seconds by step and CPU seconds by step."""

    def __init__(self):
        self.seconds: Seconds = {}
        self.cpu: Seconds = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds[name], self.cpu[name] = time.perf_counter() - start, time.process_time() - cpu


def decoder(scanned: bool, unroll: bool | None = None) -> tuple[Seconds, Seconds]:
    """Propagation through a decoder of Llama 8B's shapes."""
    import jax
    import jax.numpy as jnp

    import sparta_jax as sj

    from .decoder import Decoder

    model, clock = Decoder(), Clock()
    params, tesa = model.params(scanned), model.tesa(scanned)
    tokens = jax.ShapeDtypeStruct((1, model.seq), jnp.int32)
    with clock.step("propagate"):
        sj.propagate(model.apply(scanned), tesa, unroll=unroll)(params, tokens)
    return clock.seconds, clock.cpu


def encoder_propagated() -> tuple[Seconds, Seconds]:
    """Propagation through the sentence encoder."""
    import sparta_jax as sj

    from . import minilm

    clock, params, tesa = Clock(), minilm.abstract_params(), minilm.blocks()
    with clock.step("propagate"):
        sj.propagate(minilm.encode, tesa)(params, *minilm.DATA)
    return clock.seconds, clock.cpu


def encoder_compacted() -> tuple[Seconds, Seconds]:
    """Compaction of the sentence encoder with dead heads and hidden units, behind its propagation."""
    from sparta_jax.api.analysis import Analysis
    from sparta_jax.api.call import Signature
    from sparta_jax.interpreters import compact
    from sparta_jax.specialize import Chooser

    from . import minilm

    clock = Clock()
    call = Signature(minilm.encode, (minilm.channels(),), (0,), (), ()).split((minilm.abstract_params(), *minilm.DATA), {})
    with clock.step("propagate"):
        source = Analysis.of(call, Chooser(None), compacting=False).source
    with clock.step("compact"):
        compact(source.program, source.facts, frozenset(source.origins.params), source.origins.fixed)
    return clock.seconds, clock.cpu


def encoder_compiled(params: str) -> tuple[Seconds, Seconds]:
    """The sentence encoder compiled: `"dense"`, or sparse with params as they are (`"params"`) or `"packed"`."""
    import jax

    import sparta_jax as sj

    from . import minilm

    clock, given = Clock(), minilm.abstract_params()
    fn = minilm.encode if params == "dense" else sj.sparsify(minilm.encode, minilm.blocks())
    if params == "packed":
        drawn = minilm.drawn_params()
        with clock.step("pack"):
            given = jax.block_until_ready(fn.pack(drawn, *minilm.DATA))
    with clock.step("plan and lower"):
        lowered = jax.jit(fn).lower(given, *minilm.DATA)
    with clock.step("compile"):
        lowered.compile()
    return clock.seconds, clock.cpu


CASES: dict[str, Callable[[], tuple[Seconds, Seconds]]] = {
    "decoder, layers written out": lambda: decoder(scanned=False),
    "decoder, layers scanned": lambda: decoder(scanned=True),
    "decoder, layers scanned, unroll=False": lambda: decoder(scanned=True, unroll=False),
    "encoder": encoder_propagated,
    "encoder, dead heads and hidden units": encoder_compacted,
    "encoder, dense": lambda: encoder_compiled("dense"),
    "encoder, sparse, params": lambda: encoder_compiled("params"),
    "encoder, sparse, packed": lambda: encoder_compiled("packed"),
}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=__doc__)
    parser.add_argument("--threads", type=int, metavar="N", help="cores that the processes may use; all of them unless told")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="fresh processes per case (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured there")
    parser.add_argument("--case", choices=CASES, help="measure one case in this very process and print it as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
