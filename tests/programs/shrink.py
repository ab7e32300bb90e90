"""Makes a failing program smaller while it keeps failing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator

from .program import Data, Param, Program, Statement


def shrink(program: Program, fails: Callable[[Program], bool]) -> Program:
    """A program that still fails, of which no single part can be taken away."""
    best, changed = program, True
    while changed:
        changed = False
        for smaller in candidates(best):
            if fails(smaller):
                best, changed = smaller, True
                break
    return best


def candidates(program: Program) -> Iterator[Program]:
    """Programs with one part less, the largest parts first."""
    change = lambda **parts: pruned(dataclasses.replace(program, **parts))
    for statement in program.statements:
        for target in statement.targets:
            if (target,) != program.outputs:
                yield change(outputs=(target,))
    if len(program.outputs) > 1:
        yield from (change(outputs=tuple(o for o in program.outputs if o != name)) for name in program.outputs)
    for i, statement in enumerate(program.statements):
        if not re.fullmatch(r"v\d+ = x\[\d+\]", statement.text):
            yield _given(program, i)
        for name, shape in _earlier(program, i):
            if (shape,) == statement.shapes:
                swap = [_renamed(s, statement.targets[0], name) for s in program.statements[i + 1 :]]
                outputs = tuple(name if o == statement.targets[0] else o for o in program.outputs)
                yield change(statements=(*program.statements[:i], *swap), outputs=outputs)
    for i, param in enumerate(program.params):
        if param.mask is not None:
            yield change(params=_replaced(program.params, i, dataclasses.replace(param, mask=None)))
    for i, statement in enumerate(program.statements):
        for text in _without_a_line(statement.text):
            yield change(statements=_replaced(program.statements, i, dataclasses.replace(statement, text=text)))
    if program.derived:
        yield change(derived=False)


def pruned(program: Program) -> Program:
    """Without the statements, params and data that no output reads."""
    wanted, kept = set(program.outputs), []
    for statement in reversed(program.statements):
        if wanted.intersection(statement.targets):
            kept.append(statement)
            wanted |= set(re.findall(r"\bv\d+\b", statement.text))
    statements = tuple(reversed(kept))
    text = "\n".join([*(s.text for s in statements), *program.outputs])
    params, to_param = _used("p", program.params, text)
    data, to_data = _used("x", program.data, text)
    move = lambda t: re.sub(r"\b([px])\[(\d+)\]", lambda m: f"{m[1]}[{(to_param if m[1] == 'p' else to_data)[int(m[2])]}]", t)
    statements = tuple(dataclasses.replace(s, text=move(s.text)) for s in statements)
    outputs = tuple(map(move, program.outputs))
    return dataclasses.replace(program, params=params, data=data, statements=statements, outputs=outputs)


def _used(letter: str, items: tuple[Param, ...] | tuple[Data, ...], text: str):
    used = sorted({int(i) for i in re.findall(rf"\b{letter}\[(\d+)\]", text)}) or ([0] if items and letter == "p" else [])
    return tuple(items[i] for i in used), {i: k for k, i in enumerate(used)}


def _given(program: Program, i: int) -> Program:
    """With a statement's values as data."""
    statement, n = program.statements[i], len(program.data)
    texts = (
        Statement(f"{t} = x[{n + k}]", (t,), (s,))
        for k, (t, s) in enumerate(zip(statement.targets, statement.shapes, strict=True))
    )
    data = (*program.data, *map(Data, statement.shapes))
    return pruned(
        dataclasses.replace(program, data=data, statements=(*program.statements[:i], *texts, *program.statements[i + 1 :]))
    )


def _earlier(program: Program, i: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for statement in program.statements[:i]:
        yield from zip(statement.targets, statement.shapes, strict=True)


def _renamed(statement: Statement, old: str, new: str) -> Statement:
    return dataclasses.replace(statement, text=re.sub(rf"\b{old}\b", new, statement.text))


def _without_a_line(text: str) -> Iterator[str]:
    """The text of a function's body without one of its statements; what reads its value reads another."""
    lines = text.split("\n")
    for i, line in enumerate(lines):
        if (match := re.fullmatch(r"\s+(v\d+) = .*", line)) is None:
            continue
        rest = lines[:i] + lines[i + 1 :]
        names = re.findall(r"\b[vc]\d+\b", line)[1:]
        for name in dict.fromkeys(names):
            yield "\n".join(re.sub(rf"\b{match[1]}\b", name, other) for other in rest)


def _replaced(items: tuple, i: int, item) -> tuple:
    return (*items[:i], item, *items[i + 1 :])
