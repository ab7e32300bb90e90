"""Sentences that are on every machine: those of the documentation strings of installed packages."""

from __future__ import annotations

import ast
import dataclasses
import re
import sysconfig
import textwrap
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

STDLIB = "stdlib"
PACKAGES = (STDLIB, "absl", "equinox", "etils", "flax", "haiku", "hypothesis", "jax", "matplotlib", "numpy", "optax", "orbax")
PACKAGES += ("pip", "PIL", "pygments", "rich", "scipy", "setuptools", "sklearn")
WORDS = range(5, 61)
SEED = 7  # under it no package is held out that most sentences come from
SKIPPED = {"site-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__", "_vendor"}


@dataclasses.dataclass(frozen=True)
class Sentences:
    """No sentence twice, and no module in both parts: top-level packages and modules of the standard library as a whole.

    Attributes:
      train: sentences to train on, in an order of chance.
      held_out: sentences to be judged on.
      modules: that any were found in.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    modules: tuple[str, ...]


def collect(packages: Sequence[str] = PACKAGES, held_out: float = 0.15, seed: int = SEED) -> Sentences:
    """All sentences of the packages that are installed; the same on every machine that has the same versions.

    Args:
      packages: names of top-level packages; `"stdlib"`: all modules of the standard library.
      held_out: share of modules that only `held_out` is drawn from.
    """
    parts: dict[bool, dict[str, None]] = {False: {}, True: {}}
    modules = []
    for name, files in sorted(modules_of(packages)):
        aside = drawn(seed, name) < held_out
        found = [sentence for file in files for text in docstrings(file) for sentence in split(text)]
        modules += [name] * bool(found)
        parts[aside].update(dict.fromkeys(found))
    order = lambda sentences: tuple(sorted(sentences, key=lambda sentence: (drawn(seed, sentence), sentence)))
    return Sentences(order(parts[False].keys() - parts[True].keys()), order(parts[True]), tuple(modules))


def drawn(seed: int, text: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    return zlib.crc32(f"{seed}/{text}".encode()) / 2**32


def modules_of(packages: Iterable[str]) -> Iterator[tuple[str, list[Path]]]:
    """The name and the sources of each module."""
    paths = sysconfig.get_paths()
    for package in packages:
        if package == STDLIB:
            roots = [path for path in Path(paths["stdlib"]).iterdir() if path.name not in SKIPPED]
        else:
            roots = [Path(paths["purelib"]) / package]
        for root in roots:
            if root.suffix == ".py":
                yield root.stem, [root]
            elif root.is_dir():
                inside = [file for file in root.rglob("*.py") if not SKIPPED.intersection(file.relative_to(root).parts)]
                yield root.name, sorted(inside)


def docstrings(file: Path) -> Iterator[str]:
    """Those of a module, its classes and its functions, in the order of the file; none where it does not parse."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            text := ast.get_docstring(node)
        ):
            yield text


def split(text: str) -> Iterator[str]:
    """The sentences of a documentation string; without examples, tables, headings and signatures."""
    for paragraph in re.split(r"\n\s*\n", textwrap.dedent(text)):
        if ">>>" in paragraph or "::" in paragraph or "|" in paragraph:
            continue
        line = re.sub(r"[`*]+", "", " ".join(paragraph.split()))
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", line):
            if len(sentence.split()) in WORDS and is_prose(sentence):
                yield sentence


def is_prose(sentence: str) -> bool:
    """Begins with a capital, ends as a sentence does, and is made of letters."""
    letters = sum(c.isascii() and (c.isalpha() or c == " ") for c in sentence)
    return sentence[0].isupper() and sentence[-1] in ".!?" and letters >= 0.9 * len(sentence)
