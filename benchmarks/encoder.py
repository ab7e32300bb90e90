"""The demo's own measurements (`python examples/minilm.py --json FILE`), as a section of `docs/performance.md`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .machine import ROOT

FILE = ROOT / "benchmarks" / "results" / "demo" / "minilm.json"


def section(path: Path = FILE) -> str:
    """The demo's table with device, baseline and command; empty where it was not measured."""
    if not path.exists():
        return ""
    run = json.loads(path.read_text())
    block = "x".join(map(str, run["block"]))
    facts = {
        "Device": f"{run['device']}, {run['threads']} threads, jax {run['jax']}",
        "Baseline": "the same Flax model under `jax.jit`, with the masked weights",
        "Model": f"all-MiniLM-L6-v2, the six kernels of every encoder layer in {block} blocks, sequence {run['seq']}",
        "Method": f"interleaved calls, medians of {run['rounds']} rounds; one-shot magnitude pruning, no training afterwards",
        "Command": f"`{run['command']}`",
        "Data": f"`{path.relative_to(ROOT)}`",
    }
    return "\n\n".join(
        [
            "## A pretrained sentence encoder, end to end",
            "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
            table(run),
            "",
        ]
    )


def table(run: dict[str, Any]) -> str:
    """One row per density: speed beside quality."""
    batches = [entry["batch"] for entry in run["results"][0]["latencies"]]
    speed = [f"batch {b}: dense, sparse, ratio" for b in batches]
    head = ["kept", *speed, "stored / dense bytes", "error", "cosine", "ranking"]
    lines = [head, ["---"] * len(head)]
    for r in run["results"]:
        speeds = [latency(entry["dense"], entry["sparse"]) for entry in r["latencies"]]
        stored = f"{r['stored_bytes'] / r['dense_bytes']:.3f}"
        quality = [f"{r['error']:.1e}", f"{r['cosine']:.3f}", f"{r['ranking']:.3f}"]
        lines.append([kept(r), *speeds, stored, *quality])
    floor = run["nothing_left"]
    lines.append(["nothing left", *[""] * len(batches), "", "", f"{floor['cosine']:.3f}", f"{floor['ranking']:.3f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def kept(result: dict[str, Any]) -> str:
    """What pruning kept."""
    shares = {"heads and channels": result["channels"], "blocks": result["blocks"]}
    return ", ".join(f"{share:.0%} of {what}" for what, share in shares.items() if share is not None)


def latency(dense: float, sparse: float) -> str:
    """Both in milliseconds, and how many times as fast the second is."""
    return f"{dense * 1e3:.1f} ms, {sparse * 1e3:.1f} ms, {dense / sparse:.2f}x"
