"""The demo's results, and how they are printed: speed is never shown without quality."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from .pairs import PAIRS
from .quality import Quality

ONE_SHOT = "one-shot magnitude pruning, no training afterwards"
CAUTION = """\
The speed is that of the pattern, and trained weights would have the same. The quality is not: pruned in one shot, this model
no longer says what it said. The ranking alone flatters: with nothing left, token embeddings still rank pairs by their words.
Milder: a higher --density, or --layers 'feed_forward/.*kernel'. For real use, train while or after pruning, mask in place."""


@dataclasses.dataclass(frozen=True)
class Latency:
    """Median seconds of a call of the masked dense program and of the sparse one, and the seconds to compile each."""

    batch: int
    seq: int
    dense: float
    sparse: float
    dense_compile: float
    sparse_compile: float

    @property
    def speedup(self) -> float:
        return self.dense / self.sparse


@dataclasses.dataclass(frozen=True)
class Pruning:
    """What is kept.

    Attributes:
      blocks: share of the blocks (of those of the kept channels), None: all.
      channels: share of attention heads and feed-forward channels, None: all.
    """

    blocks: float | None = None
    channels: float | None = None

    def __str__(self) -> str:
        parts = {"heads and channels": self.channels, "blocks": self.blocks}
        return ", ".join(f"{share:g} of {what}" for what, share in parts.items() if share is not None)


@dataclasses.dataclass(frozen=True)
class Result:
    """One way of pruning.

    Attributes:
      pruning: what was kept.
      kept: share of elements of the pruned matrices that pruning kept.
      live: share that is still live after propagation: what is kept, but never met by anything live, is dead as well.
      dense_bytes, stored_bytes: of the pruned matrices, stored dense and packed (index tables included).
      pack_seconds: to pack the params, once.
      error: relative error of the embeddings against those of the masked dense program.
      verified: what `verify` says, where it was asked.
    """

    pruning: Pruning
    kept: float
    live: float
    latencies: tuple[Latency, ...]
    dense_bytes: int
    stored_bytes: int
    pack_seconds: float
    error: float
    verified: str | None
    quality: Quality

    @property
    def bytes_ratio(self) -> float:
        return self.stored_bytes / self.dense_bytes


def one(result: Result, unpruned: Quality, block: Sequence[int]) -> str:
    """All that was measured at one density."""
    rows = [("", "masked, dense", "sparse", "")]
    rows += [
        (
            f"latency, batch {t.batch} x {t.seq}",
            f"{t.dense * 1e3:.1f} ms",
            f"{t.sparse * 1e3:.1f} ms",
            f"{t.speedup:.2f} times as fast",
        )
        for t in result.latencies
    ]
    rows.append(("live elements", f"{result.kept:.3f}", f"{result.live:.3f}", "kept by pruning, and after propagation"))
    rows.append(
        (
            "pruned matrices, stored",
            *(f"{n / 1e6:.2f} MB" for n in (result.dense_bytes, result.stored_bytes)),
            f"{result.bytes_ratio:.3f} of dense",
        )
    )
    rows += [
        (f"compile, batch {t.batch}", f"{t.dense_compile:.1f} s", f"{t.sparse_compile:.1f} s", "") for t in result.latencies
    ]
    rows.append(("pack, once", "", f"{result.pack_seconds:.1f} s", ""))
    rows.append(("error of the embeddings", "", f"{result.error:.1e}", "relative, against the masked program"))
    rows.append(("", "unpruned", "pruned", ""))
    rows.append(("cosine to the unpruned", "1", f"{result.quality.cosine:.3f}", verdict(result.quality)))
    correlation = f"{result.quality.rank_correlation:.3f}"
    rows.append(
        (
            f"ranking of {sum(map(len, PAIRS.values()))} pairs",
            "1",
            correlation,
            "Spearman's correlation with the unpruned ranking",
        )
    )
    for name, similarity in result.quality.group_similarity.items():
        rows.append((f"similarity, {name}", f"{unpruned.group_similarity[name]:.2f}", f"{similarity:.2f}", ""))
    size = "x".join(map(str, block))
    verified = [] if result.verified is None else [f"  verify: {result.verified}"]
    return "\n".join([f"{result.pruning} kept ({size} blocks), {ONE_SHOT}", *aligned(rows), *verified])


def summary(results: Sequence[Result], unpruned: Quality, floor: Quality) -> str:
    """Speed beside quality, one line per way of pruning; the last is the model with nothing left of the pruned matrices."""
    batches = [t.batch for t in results[0].latencies]
    rows = [("kept", *(f"speed, batch {b}" for b in batches), "bytes", "cosine", "ranking", "paraphrase / unrelated")]
    rows.append(("unpruned", *("1.00" for _ in batches), "1.000", *_quality(unpruned)))
    rows += [
        (str(r.pruning), *(f"{t.speedup:.2f}" for t in r.latencies), f"{r.bytes_ratio:.3f}", *_quality(r.quality))
        for r in results
    ]
    rows.append(("nothing left", *("" for _ in batches), "0.000", *_quality(floor)))
    lines = [f"speed beside quality ({ONE_SHOT}; speed relative to the masked dense program)", *aligned(rows)]
    if any(r.quality.cosine < 0.9 for r in results):
        lines += ["", CAUTION]
    return "\n".join(lines)


def verdict(quality: Quality) -> str:
    """What a cosine to the unpruned embeddings means for a user of them."""
    if quality.cosine >= 0.98:
        return "the embeddings survive"
    if quality.cosine >= 0.9:
        return "the embeddings are changed: check them on your task"
    return "the embeddings are NOT usable without recovery training"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines, every column but the first and the last flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    place = lambda i, cell: cell.ljust(widths[i]) if i in (0, last) else cell.rjust(widths[i])
    return ["  " + "  ".join(place(i, cell) for i, cell in enumerate(row)).rstrip() for row in rows]


def _quality(quality: Quality) -> tuple[str, str, str]:
    paraphrase, unrelated = (quality.group_similarity[name] for name in ("paraphrase", "unrelated"))
    return f"{quality.cosine:.3f}", f"{quality.rank_correlation:.3f}", f"{paraphrase:.2f} / {unrelated:.2f}"
