"""What candidates were measured to take, by problem: part of a chooser, and kept on disk if wanted."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..machine import key, read, write
from ..problem import SDDMM, Plan, SpMM

KIND = "tuned"
Candidate = tuple[str, str]  # a kernel's name, and its config as it prints itself


@dataclasses.dataclass(frozen=True, eq=False)
class Tuned:
    """Measured seconds. Hashed and compared by identity, as it is part of a planner.

    Attributes:
      seconds: of each candidate that was timed, by problem.
    """

    seconds: Mapping[Any, Mapping[Candidate, float]] = dataclasses.field(default_factory=dict)

    def of(self, plan: Plan) -> float | None:
        """What a plan was measured to take, None where it was not."""
        return self.seconds.get(plan.problem, {}).get(candidate(plan))

    def has(self, problem: Any) -> bool:
        return problem in self.seconds

    def with_(self, more: Mapping[SpMM | SDDMM, Mapping[Candidate, float]]) -> Tuned:
        return Tuned({**self.seconds, **more})


NOTHING = Tuned()


def candidate(plan: Plan) -> Candidate:
    return plan.kernel.name, str(plan.config)


def digest(problem: SpMM | SDDMM) -> str:
    """The same in every process, unlike a hash."""
    facts = {f.name: getattr(problem, f.name) for f in dataclasses.fields(problem) if f.name != "pattern"}
    text = repr((type(problem).__name__, problem.pattern.digest, sorted((name, str(v)) for name, v in facts.items())))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def load(problems: Sequence[SpMM | SDDMM], isa: str, threads: int) -> dict[SpMM | SDDMM, dict[Candidate, float]]:
    """What is on disk for these problems, measured on this machine."""
    table = (read(KIND, key(isa, threads)) or {}).get("seconds", {})
    found = {problem: _read(table.get(digest(problem))) for problem in problems}
    return {problem: seconds for problem, seconds in found.items() if seconds}


def store(measured: Mapping[SpMM | SDDMM, Mapping[Candidate, float]], isa: str, threads: int) -> None:
    """Adds to what is on disk; where two processes do so at once, one of them may be measured again later."""
    own = key(isa, threads)
    table = dict((read(KIND, own) or {}).get("seconds", {}))
    for problem, seconds in measured.items():
        table[digest(problem)] = {" ".join(name): float(f"{s:.4g}") for name, s in seconds.items()}
    write(KIND, own, {**own, "seconds": table})


def _read(entry: Any) -> dict[Candidate, float]:
    if not isinstance(entry, dict):
        return {}
    split = ((name.partition(" "), seconds) for name, seconds in entry.items())
    return {(kernel, config): float(s) for (kernel, _, config), s in split if isinstance(s, (int, float)) and s > 0}
