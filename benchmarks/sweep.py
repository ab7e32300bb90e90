"""`python -m benchmarks.sweep`: counts choices that are slower than dense, after calibration and after tuning."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .machine import describe, pin
from .sweep_cases import Point, points, seconds
from .sweep_results import Choice, Outcome, Sweep, dump, is_slower
from .timing import interleave, ratio

AGAIN = 3  # times that what looks slower is measured again: noise does not come back
MAX_ERROR = 1e-5


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 if a result is wrong. A choice slower than dense is counted, not a failure."""
    args = _arguments(argv)
    pin(args.threads)
    machine = describe()
    print(machine)
    if not args.shipped:
        # A calibration of this run's own: an older one may be of other kernels.
        os.environ["SPARTA_JAX_CACHE_DIR"] = str(args.cache or Path(tempfile.mkdtemp(), "cache"))
        _calibrate()
    chosen = [p for p in points(args.design) if re.search(args.points, p.name)]
    expected = sum(seconds(p, machine.threads) for p in chosen)
    print(f"{len(chosen)} points, about {max(expected / 60, 1):.0f} minutes on an idle machine", flush=True)
    outcomes, wrong, start = [], 0, time.monotonic()
    for i, point in enumerate(chosen):
        outcome, error = measure(point, args.rounds)
        outcomes.append(outcome)
        wrong += error > MAX_ERROR
        print(f"[{i + 1}/{len(chosen)}] {line(outcome)}{f' WRONG {error:.1e}' * (error > MAX_ERROR)}", flush=True)
    command = shlex.join(["python", "-m", "benchmarks.sweep", *(sys.argv[1:] if argv is None else argv)])
    sweep = Sweep(machine, command, tuple(outcomes))
    for name, count in sweep.slower().items():
        print(f"{name}: {count} of {len(outcomes)} slower than dense; {wrong} wrong")
    print(f"{(time.monotonic() - start) / 60:.1f} minutes")
    if args.json is not None:
        dump(sweep, args.json)
    return 1 if wrong else 0


def measure(point: Point, rounds: int) -> tuple[Outcome, float]:
    """Times dense and every choice of ours, interleaved; and the largest relative error among these."""
    ways, error = _ways(point)
    calls = {name: call for name, (call, _, _) in ways.items()}
    choices = {}
    for attempt in range(1 + AGAIN):
        timings = interleave(calls, rounds=rounds * (1 + attempt), sample_seconds=0.004)
        for name, (_, kernel, baseline) in ways.items():
            if name in ("dense", "masked"):
                continue
            found = Choice(kernel, ratio(timings[baseline], timings[name]), timings[name].median)
            choices[name] = max(choices.get(name, found), found, key=lambda c: c.ratio)
        if not any(map(is_slower, choices.values())):
            break
        slow = {name for name, choice in choices.items() if is_slower(choice)}
        calls = {name: call for name, call in calls.items() if name in slow | {"dense", "masked"}}
        ways = {name: way for name, way in ways.items() if name in calls}
    return Outcome(point, choices, timings["dense"].median), error


def line(outcome: Outcome) -> str:
    parts = [f"{name} {c.ratio:.2f}x ({c.kernel}){' SLOWER' * is_slower(c)}" for name, c in outcome.choices.items()]
    return f"{outcome.point.name}: dense {outcome.dense_seconds * 1e3:.3g} ms, {', '.join(parts)}"


def _calibrate() -> None:
    import sparta_jax as sj

    print(f"calibrated: {sj.calibrate()}")


def _ways(point: Point):
    """By name: the call, the kernel behind it, and the name of its baseline; and the largest error of ours."""
    # Not before `pin`: this imports jax, whose thread pool is made once.
    import jax
    import jax.numpy as jnp
    import numpy as np

    import sparta_jax as sj

    live = point.live()
    rng = np.random.default_rng(0)
    w_host = rng.standard_normal((point.k, point.n), np.float32) / np.float32(np.sqrt(point.k))
    x_host = rng.standard_normal((point.m, point.k), np.float32)
    exact = x_host.astype(float) @ np.where(live, w_host, 0).astype(float)
    w, x, mask = jnp.asarray(w_host), jnp.asarray(x_host), jnp.asarray(live)
    pruned = jnp.where(mask, w, 0)
    dense, masked = jax.jit(lambda w, x: x @ w), jax.jit(lambda w, x, mask: x @ jnp.where(mask, w, 0))
    ways = {
        "dense": (lambda: dense(pruned, x).block_until_ready(), "", "dense"),
        "masked": (lambda: masked(w, x, mask).block_until_ready(), "", "masked"),
    }
    results = {}
    for kind in ("model", "tuned"):
        fast = sj.sparsify(lambda w, x: x @ w, sj.TeSA(live))
        if kind == "tuned":
            fast.tune(w, x)
        for name, weight, baseline in ((f"packed, {kind}", fast.pack(w, x), "dense"), (f"params, {kind}", w, "masked")):
            (site,) = fast.report(weight, x).sites
            leaves, tree = jax.tree.flatten(weight)  # flat ones: what it costs to look into a tree is no choice
            call = jax.jit(lambda leaves, x, fast=fast, tree=tree: fast(jax.tree.unflatten(tree, leaves), x))
            kernel = "dense" if site.layout == "dense" and site.implementation == "dense" else f"{site.kernel} {site.config}"
            ways[name] = (lambda call=call, leaves=leaves: call(leaves, x).block_until_ready(), kernel.strip(), baseline)
            results[name] = call(leaves, x)
    scale = float(np.linalg.norm(exact)) or 1.0
    return ways, max(float(np.linalg.norm(np.asarray(y, float) - exact)) / scale for y in results.values())


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.sweep", description=__doc__)
    designs = parser.add_mutually_exclusive_group()
    quick, full = "a few points, to see that it runs", "every combination (hours)"
    designs.add_argument("--quick", dest="design", action="store_const", const="quick", default="covering", help=quick)
    designs.add_argument("--full", dest="design", action="store_const", const="full", help=full)
    parser.add_argument("--threads", type=int, help="cores to use (default: all)")
    parser.add_argument("--points", default="", metavar="REGEX", help="only points whose name it is found in")
    parser.add_argument("--rounds", type=int, default=5, help="samples per contender, more where one looks slower than dense")
    parser.add_argument("--shipped", action="store_true", help="choose by the tables that are shipped, without calibration")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where the calibration is kept (default: nowhere)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
