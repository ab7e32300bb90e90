"""The sentence encoder, pruned and recovered (`python -m examples.distill`), as a section of `docs/performance.md`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .encoder import latency
from .machine import ROOT, Machine

FILE = ROOT / "benchmarks" / "results" / "distillation" / "minilm.json"


def section(path: Path = FILE) -> str:
    """Quality after pruning and after recovery, with device, text and command; empty where it was not measured."""
    if not path.exists():
        return ""
    run = json.loads(path.read_text())
    text, rows = run["sentences"], run["rows"]
    trained = {str(Machine(**row["machine"])): None for row in rows}
    facts = {
        "Device": f"trained on {'; '.join(trained)}; timed on {Machine(**run['timed_on'])}",
        "Model": f"all-MiniLM-L6-v2, the six kernels of every encoder layer in {'x'.join(map(str, run['block']))} blocks",
        "Text": f"documentation strings of installed packages: {text['train']} sentences to learn from; judged on "
        f"{run['judged']} of {text['held_out']} sentences of other modules",
        "Pruning": "blocks by what the others cannot take over, these solved anew by least squares on some sentences; each "
        "density starts from what the one before recovered",
        "Recovery": "Adam on compressed params: one minus the embeddings' cosine, plus the relative squared errors of all "
        "layers' outputs",
        "Columns": "mean cosine to the dense embeddings (fifth percentile); the share of each sentence's ten nearest "
        "neighbours that both models name; the mean cosine of the demo's 72 everyday sentences, which are no documentation",
        "Baseline": "the same Flax model under `jax.jit`, with the masked weights; interleaved calls, medians",
        "Commands": ", ".join(dict.fromkeys(f"`{row['command']}`" for row in rows)),
        "Data": f"`{path.relative_to(ROOT)}`",
    }
    lines = "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
    return "\n\n".join(["## A pretrained sentence encoder, pruned and recovered", lines, table(run), ""])


def table(run: dict[str, Any]) -> str:
    """One row per density."""
    batches = [f"batch {at['batch']} x {at['seq']}: masked, packed, ratio" for at in run["rows"][0]["latencies"]]
    stages = ("pruned", "recovered")
    head = ["live blocks", "sentences", *(f"{s}: cosine" for s in stages), "neighbours", "everyday", "training", *batches]
    lines = [head, ["---"] * len(head)]
    for row in run["rows"]:
        cosines = [f"{row[s]['held_out']['cosine']:.3f} ({row[s]['held_out']['low']:.3f})" for s in stages]
        pair = lambda sample, key, row=row: ", ".join(f"{row[s][sample][key]:.2f}" for s in stages)
        times = [latency(at["masked recovered"], at["packed recovered"]) for at in row["latencies"]]
        shared = [pair("held_out", "neighbours"), pair("pairs", "cosine"), training(row)]
        lines.append([f"{row['density']:.0%}", str(row["calibration"]), *cosines, *shared, *times])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def training(row: dict[str, Any]) -> str:
    """How long a row's encoder learnt."""
    steps = row["settings"]
    return f"{steps['steps']} steps of {steps['tokens']} tokens, {row['training_seconds'] / 60:.0f} minutes"
