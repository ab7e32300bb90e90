"""`python -m benchmarks.training_step`: one training step of an MLP on compressed params, beside XLA's dense one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .machine import describe, pin
from .timing import Timing, interleave, ratio

MAX_ERROR = 1e-5
RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Setting:
    """An MLP of square layers with relu between them, its weights pruned in blocks, trained by SGD on a squared error."""

    size: int = 4096
    layers: int = 2
    batch: int = 256
    block: int = 32
    density: float = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 if a step's result differs from the masked dense step's."""
    args = _arguments(argv)
    pin(args.threads)
    machine, setting = describe(), Setting(args.size, args.layers, args.batch, args.block, args.density)
    print(machine, setting, sep="\n")
    steps, error = contenders(setting, args.tune)
    timings = interleave(steps, rounds=args.rounds)
    for name, timing in timings.items():
        times = ratio(timings["dense"], timing)
        print(f"{name:>11}: {timing.median * 1e3:8.2f} ms (min {timing.min * 1e3:.2f}), {times:.2f}x dense")
    print(f"relative error of the params after one step: {error:.1e}")
    if args.json is not None:
        command = shlex.join(["python", "-m", "benchmarks.training_step", *(sys.argv[1:] if argv is None else argv)])
        args.json.write_text(json.dumps(_record(machine, setting, command, timings, error), indent=1) + "\n")
    return int(error > MAX_ERROR)


def contenders(setting: Setting, tune: bool = False) -> tuple[dict[str, Callable[[], object]], float]:
    """By name a call of one step that keeps its params and waits for the result; and how far the compressed one is off.

    `dense` trains every element, `masked` keeps the pruned ones zero, `compressed` has no others."""
    # Not before `pin`: this imports jax, whose thread pool is made once.
    import jax
    import jax.numpy as jnp
    import numpy as np

    import sparta_jax as sj

    rng = np.random.default_rng(0)
    size, blocks = setting.size, setting.size // setting.block
    scale = (2 / (setting.density * size)) ** 0.5
    params, tesa = [], []
    for _ in range(setting.layers):
        live = rng.permutation(blocks * blocks).reshape(blocks, blocks) < round(setting.density * blocks * blocks)
        tesa.append({"kernel": sj.TeSA.blocks(live, (setting.block,) * 2, (size, size)), "bias": None})
        kernel = rng.standard_normal((size, size), np.float32) * scale * tesa[-1]["kernel"].mask
        params.append({"kernel": jnp.asarray(kernel), "bias": jnp.zeros(size)})
    x, y = (jnp.asarray(rng.standard_normal((setting.batch, size)), jnp.float32) for _ in range(2))

    def model(params, x):
        for i, layer in enumerate(params):
            x = x @ layer["kernel"] + layer["bias"]
            x = jax.nn.relu(x) if i + 1 < len(params) else x
        return x

    def step_of(apply: Callable, mask: Callable = lambda grads: grads) -> Callable:
        loss = lambda params, x, y: jnp.sum((apply(params, x) - y) ** 2) / len(x)

        @jax.jit
        def step(params, x, y):
            return jax.tree.map(lambda p, g: p - RATE * g, params, mask(jax.grad(loss)(params, x, y)))

        return step

    masks = [{"kernel": jnp.asarray(t["kernel"].mask), "bias": jnp.ones(size, bool)} for t in tesa]
    fast = sj.sparsify(model, tesa)
    lean = fast.compress(params, x)
    if tune:
        fast.tune(lean, x)
    masking = lambda grads: jax.tree.map(lambda g, m: jnp.where(m, g, 0), grads, masks)
    steps = {
        "dense": (step_of(model), params),
        "masked": (step_of(model, masking), params),
        "compressed": (step_of(fast), lean),
    }
    calls = {n: (lambda f=f, p=p: jax.block_until_ready(f(p, x, y))) for n, (f, p) in steps.items()}
    got, want = (jax.tree.leaves(tree) for tree in (fast.unpack(calls["compressed"]()), calls["masked"]()))
    before = jax.tree.leaves(params)
    apart = sum(float(jnp.sum((a - b) ** 2)) for a, b in zip(got, want, strict=True))
    moved = sum(float(jnp.sum((b - c) ** 2)) for b, c in zip(want, before, strict=True))
    return calls, (apart / moved) ** 0.5


def _record(machine, setting: Setting, command: str, timings: dict[str, Timing], error: float) -> dict:
    """What is kept of a run."""
    found = {n: {"seconds": t.samples, "ratio to dense": ratio(timings["dense"], t)} for n, t in timings.items()}
    return {
        "machine": dataclasses.asdict(machine),
        "command": command,
        "setting": dataclasses.asdict(setting),
        "steps": found,
        "error": error,
    }


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.training_step", description=__doc__)
    for field in dataclasses.fields(Setting):
        parser.add_argument(f"--{field.name}", type=float if field.name == "density" else int, default=field.default)
    parser.add_argument("--tune", action="store_true", help="time the kernels of the compressed step first")
    parser.add_argument("--threads", type=int, help="cores to use (default: all)")
    parser.add_argument("--rounds", type=int, default=15, help="samples per step")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
