"""The bulk run: `python -m tests.programs --count 20000 --seed 0`. Prints what fails, shrunk, and a summary."""

from __future__ import annotations

import argparse
import collections
import contextlib
import random
import time
from functools import partial

import jax

from .check import Invalid, Trial, always_compacting, plain_products
from .generate import generate
from .program import Program
from .shrink import shrink


def failure_of(program: Program, seed: int, **laws) -> str | None:
    """What fails, in words; None where nothing does, or where there is no reference."""
    try:
        with plain_products(), always_compacting(moving=seed % 4 != 3) if seed % 8 else contextlib.nullcontext():
            failure = Trial(program, seed, "float64", on_host=True, unroll=None if seed % 3 else False).check(**laws)
    except Invalid:
        return None
    return None if failure is None else str(failure)


def kind_of(failure: str) -> str:
    return failure.split(":")[0]


def fails_alike(seed: int, laws: dict, kind: str, program: Program) -> bool:
    return kind_of(failure_of(program, seed, **laws) or "") == kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="the first program's seed")
    parser.add_argument("--every", type=int, default=500, help="how often to tell how far it is")
    parser.add_argument("--largest", type=int, default=20, help="how many failures to shrink")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    start, found = time.monotonic(), collections.Counter()
    for done, seed in enumerate(range(args.seed, args.seed + args.count), 1):
        program = generate(random.Random(seed))
        laws = dict(packed=seed % 6 == 1, facts=seed % 4 == 2, derivatives=seed % 8 < 4)
        failure = failure_of(program, seed, **laws)
        if failure is not None:
            found[failure] += 1
            if len(found) <= args.largest and found[failure] == 1:
                smaller = shrink(program, partial(fails_alike, seed, laws, kind_of(failure)))
                print(f"seed {seed} {laws}: {failure}\n{smaller}\n", flush=True)
            else:
                print(f"seed {seed}: {failure}", flush=True)
        if done % args.every == 0:
            jax.clear_caches()
            print(f"{done} programs, {sum(found.values())} failures, {time.monotonic() - start:.0f} s", flush=True)
    print(f"{args.count} programs, {sum(found.values())} failures of {len(found)} kinds")


if __name__ == "__main__":
    main()
