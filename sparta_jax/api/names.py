"""What the variables of a program are called."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ..explanation import listed
from ..interpreters import Atom, Constant, Equation, Program, Variable


@dataclasses.dataclass(frozen=True, eq=False)
class Names:
    """Names of the variables of a program, unique, and the same for every trace of it.

    Attributes:
      variables: an input's key path; `scope/operation:number` of an intermediate, counted per scope and operation.
      definitions: the equation of each intermediate.
      inputs: the inputs.
      outputs: the key path of each result of the program: `output['logits']`.
      sources: key paths of the params that a variable derives from, if from params alone.
    """

    variables: dict[Variable, str]
    definitions: dict[Variable, Equation]
    inputs: frozenset[Variable]
    outputs: tuple[str, ...]
    sources: Callable[[Variable], tuple[str, ...]]

    @classmethod
    def make(
        cls, program: Program, inputs: Sequence[str], out_tree: Any, sources: Callable[[Variable], tuple[str, ...]]
    ) -> Names:
        names = dict(zip(program.inputs, inputs, strict=True))
        names |= {v: f"constant:{i}" for i, v in enumerate(program.constants)}
        counts: collections.Counter[str] = collections.Counter()
        definitions = {v: e for e in program.equations for v in e.outputs}
        for variable, equation in definitions.items():
            stem = "/".join(part for part in (equation.scope, title(equation)) if part)
            names[variable] = f"{stem}:{counts[stem]}"
            counts[stem] += 1
        paths, _ = jax.tree_util.tree_flatten_with_path(jax.tree.unflatten(out_tree, range(out_tree.num_leaves)))
        outputs = tuple("output" + jax.tree_util.keystr(path) for path, _ in paths)
        return cls(names, definitions, frozenset(program.inputs), outputs, sources)

    def of(self, atom: Atom) -> str:
        return f"the constant {atom.value}" if isinstance(atom, Constant) else self.variables[atom]

    def origin(self, atom: Atom) -> str:
        """The params that a variable derives from alone, else its own name."""
        sources = self.sources(atom) if isinstance(atom, Variable) else ()
        return listed(sources) or self.of(atom)

    def place(self, variable: Variable) -> tuple[str, str]:
        """The module path and the source line of an intermediate."""
        equation = self.definitions.get(variable)
        return ("", "") if equation is None else (equation.scope, equation.line)


def title(equation: Equation) -> str:
    """The operation's name; of a call with a custom derivative, or marked for rematerialisation, the function's."""
    body = equation.params.get("call_jaxpr") or (equation.params.get("jaxpr") if "remat" in equation.name else None)
    info = getattr(getattr(body, "jaxpr", body), "debug_info", None)
    name = getattr(info, "func_name", "")
    return name if name.isidentifier() else equation.name
