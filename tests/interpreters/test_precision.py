"""Propagation finds exactly this: neither less (that would be wrong) nor more (that would be dense)."""

import jax
import numpy as np
import pytest
from interpreters.precision import LETTERS, Case, letters, names
from interpreters.precision_table import PRECISION

from sparta_jax.interpreters.facts import ZERO
from sparta_jax.interpreters.jaxprs import trace
from sparta_jax.interpreters.propagate import propagate
from sparta_jax.interpreters.scores import Freedom


@pytest.mark.parametrize("name", PRECISION)
def test_exact_facts(name):
    case = PRECISION[name]
    found = found_letters(case)
    wrong = {k: (want, as_text(found[k])) for k, want in case.expected.items() if not same(found[k], letters(want))}
    assert not wrong, "\n".join(f"{k}: expected {want!r}, found {got!r}" for k, (want, got) in wrong.items())


def found_letters(case: Case) -> dict[str, np.ndarray]:
    """The letters of all variables that have a name."""
    program, _ = trace(case.fn, *(jax.ShapeDtypeStruct(o.shape, o.dtype) for o in case.operands))
    facts = propagate(program, [o.fact for o in case.operands], freedom=Freedom())
    many = len(program.outputs) > 1
    named = dict(zip(names(case.fn), program.inputs, strict=True))
    named |= {f"out{i}" if many else "out": v for i, v in enumerate(program.outputs)}
    named |= {e.params["name"]: e.outputs[0] for e in program.equations if e.name == "name"}
    return {k: letters_of(facts, v) for k, v in named.items()}


def letters_of(facts, variable) -> np.ndarray:
    value = facts.value(variable).value.elements()
    need = facts.need(variable).elements()
    shown = np.empty(value.shape, "<U1")
    for letter, fact in LETTERS.items():
        shown[value == fact] = letter
    return np.where(need | (value == ZERO), shown, "-")


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool((found == np.broadcast_to(expected, found.shape)).all())


def as_text(found: np.ndarray) -> str:
    if found.ndim < 2:
        return "".join(np.atleast_1d(found))
    join = lambda matrix: " ".join("".join(row) for row in matrix)
    return " | ".join(join(m) for m in found.reshape(-1, *found.shape[-2:]))
