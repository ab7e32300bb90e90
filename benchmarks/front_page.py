"""The README's tables of measurements, made from `benchmarks/results/`: what stands between its markers is never typed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import encoder
from .machine import ROOT
from .peers import show
from .peers.record import Outcome, load

README = ROOT / "README.md"
# By row of the table: which cases stand in it, on one thread.
PEERS = {
    "32x32 blocks, 2048 x 2048, M = 32 / 128 / 512 / 2048": [f"square2048-b32-d0.1-m{m}" for m in (32, 128, 512, 2048)],
    "4x4 blocks, M = 64 / 512": ["square2048-b4-d0.1-m64", "square2048-b4-d0.1-m512"],
    "single elements, M = 64 / 512": ["square2048-elements-d0.1-m64", "square2048-elements-d0.1-m512"],
    "32x32 blocks, 4096 x 4096, M = 1, out of cache": ["vector4096-b32-d0.1-m1"],
    "Lyra's WaveGRU, a step of all its matrices, M = 1": ["wavegru-step"],
    "MiniLM encoder, batch 1 x 128: blocks / elements": ["minilm-b32-d0.1-batch1", "minilm-elements-d0.1-batch1"],
    "training step of a 4096-wide MLP, batch 256": ["training-4096-b32-d0.1-m256"],
}


def write(readme: Path = README) -> None:
    """Puts every table anew between its markers."""
    readme.write_text(filled(readme.read_text()))


def filled(text: str) -> str:
    """The README's text with its tables made anew.

    Raises:
      ValueError: a table's markers are not in the text."""
    for name, table in {"encoder": _encoder(), "peers": _peers()}.items():
        between = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- /measured -->)", re.DOTALL)
        text, count = between.subn(lambda found, table=table: found[1] + table + "\n" + found[2], text)
        if count != 1:
            raise ValueError(f"README.md has {count} places marked `<!-- measured: {name} -->`, not one")
    return text


def _encoder() -> str:
    run = json.loads(encoder.FILE.read_text())
    batches = [entry["batch"] for entry in run["results"][0]["latencies"]]
    device = f"{run['device']}, {run['threads']} threads, jax {run['jax']}; `{run['command']}`"
    head = ["kept", *(f"batch {b}: dense, sparse" for b in batches), "pruned matrices, stored", "cosine to unpruned"]
    return "\n".join([f"({device})", "", _rows(head, [_encoder_row(result) for result in run["results"]])])


def _encoder_row(result: Mapping[str, Any]) -> list[str]:
    speeds = [_latency(entry["dense"], entry["sparse"]) for entry in result["latencies"]]
    stored = f"{result['stored_bytes'] / result['dense_bytes']:.3f} of dense"
    return [encoder.kept(dict(result)), *speeds, stored, f"{result['cosine']:.2f}"]


def _latency(dense: float, sparse: float) -> str:
    return f"{dense * 1e3:.1f} ms, {sparse * 1e3:.1f} ms: **{dense / sparse:.1f}x**"


def _peers() -> str:
    outcomes = [outcome for path in sorted(show.RESULTS.glob("*.jsonl")) for outcome in load(path)]
    alone = {outcome.bar.name: outcome for outcome in outcomes if outcome.threads == 1}
    head = ["", "times XLA dense", "times the best dense (oneDNN, ONNX Runtime)", "of DeepSparse's time"]
    rows = [[label, *_columns([alone[name] for name in names if name in alone])] for label, names in PEERS.items()]
    devices = ", ".join(sorted({outcome.machine["device"] for outcome in alone.values()}))
    return "\n".join([f"({devices}, one thread)", "", _rows(head, rows)])


def _columns(outcomes: list[Outcome]) -> list[str]:
    shares = [outcome.share_of_deepsparse for outcome in outcomes]
    numbers = [
        [f"{outcome.over_xla:.1f}" for outcome in outcomes],
        [f"{outcome.over_best:.1f}" for outcome in outcomes],
        [f"{share:.2f}" for share in shares if share is not None],
    ]
    return [" / ".join(column) for column in numbers]


def _rows(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])
