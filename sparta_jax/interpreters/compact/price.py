"""What is worth a conversion: a rough price of moved elements and of multiplications, of one CPU core."""

from __future__ import annotations

MOVED = 5e-9  # seconds, of an element that a gather brings into another view, in the operations that it is fused into
MULTIPLIED = 2e-11  # of one multiplication and addition in a product


def moves_pay(elements: float, multiplications: float) -> bool:
    """Whether moving so many elements costs less than so many multiplications."""
    return elements * MOVED < multiplications * MULTIPLIED
