"""How calls, loops and branches pass labels on."""

from __future__ import annotations

from collections.abc import Sequence

from ..jaxprs import REMAT, Equation, body, flatten, scan_split
from .labels import Labels, Links, renamed
from .sweep import links_rule, sweep


@links_rule(*REMAT, "custom_jvp_call", "custom_vjp_call")
def call_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """As in the body."""
    return sweep(links, body(equation), inputs)


@links_rule("scan")
def scan_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """What is carried meets itself, and so do the slices of a stack: all iterations have the same channels."""
    consts, carried = scan_split(equation.params)
    program = flatten(equation.params["jaxpr"])
    stacks = [_inside(links.fixed(labels, [0])) for labels in inputs[consts + carried :]]
    carry = inputs[consts : consts + carried]
    for _ in range(2):
        outs = sweep(links, program, [*inputs[:consts], *carry, *stacks])
        carry = [links.joined(a, b) for a, b in zip(carry, outs[:carried], strict=True)]
    return [*carry, *(_outside(labels) for labels in outs[carried:])]


def _inside(labels: Labels) -> Labels:
    return renamed(labels, {a: a - 1 for f in labels for a in f.axes})


def _outside(labels: Labels) -> Labels:
    return renamed(labels, {a: a + 1 for f in labels for a in f.axes})


@links_rule("while")
def while_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """What is carried meets itself."""
    params = equation.params
    tests, consts = params["cond_nconsts"], params["body_nconsts"]
    carry = inputs[tests + consts :]
    for _ in range(2):
        outs = sweep(links, flatten(params["body_jaxpr"]), [*inputs[tests : tests + consts], *carry])
        carry = [links.joined(a, b) for a, b in zip(carry, outs, strict=True)]
    sweep(links, flatten(params["cond_jaxpr"]), [*inputs[:tests], *carry])
    return carry


@links_rule("cond")
def cond_links(links: Links, equation: Equation, inputs: list[Labels]) -> Sequence[Labels]:
    """The results of the branches meet."""
    outs = [sweep(links, flatten(branch), inputs[1:]) for branch in equation.params["branches"]]
    return [links.joined(*labels) for labels in zip(*outs, strict=True)]
