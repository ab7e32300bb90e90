"""Torch's contenders: its dense product, its block-sparse Triton kernel (`bsr_dense_addmm`), and what its own operators choose.

`python -m benchmarks.gpu_torch` checks on the CPU, without timing anything, those that run there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .gpu_cases import PARTS, Case

TOLERANCE = {"bfloat16": 8e-3, "float16": 1e-3, "float32": 2e-3}
CHECKED = [
    Case("square256", 256, 256, 256, (64, 64), 0.3, "float32"),
    Case("rectangular", 64, 192, 320, (32, 64), 0.4, "float32"),
    Case("square256", 256, 256, 256, (64, 64), 0.3, "float32", "step"),
    Case("square256", 256, 256, 256, (64, 64), 0.3, "bfloat16"),
]
ON_A_GPU_ALONE = {
    "torch bsr addmm": {"": "NameError"},
    "torch bsr operator": {"rectangular": "MKL Sparse doesn't support", "bfloat16": "not implemented for 'BFloat16'"},
}
"""What CPUs cannot run, by contender: part of the case's name, and of the error. Torch defines its Triton kernels where it
finds Triton and a GPU; its products of BSR matrices on CPUs are MKL's: float32, square blocks."""


def ways(case: Case, repeats: int) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """Functions that make `repeats` times the case's products and wait for them, by name, and why others do not serve."""
    try:
        import torch
    except ImportError as reason:
        return {}, {"torch": str(reason)}
    if not torch.cuda.is_available():
        return {}, {"torch": "sees no GPU"}
    torch.backends.cuda.matmul.allow_tf32 = True
    found, refused = {}, {}
    given = operands(torch, case, "cuda")
    for name, make in contenders(case).items():
        try:
            found[name] = _captured(torch, make(torch, case, *given), repeats)
        except Exception as reason:
            refused[name] = f"{type(reason).__name__}: {reason}"[:300]
    return found, refused


def operands(torch: Any, case: Case, place: str) -> tuple[Any, Any, Any]:
    """`x`, the weight and the result's gradient, random, on the place."""
    dtype = getattr(torch, case.dtype)
    draw = lambda *sizes: torch.randn(*sizes, device=place, dtype=dtype)
    live = torch.from_numpy(np.array(case.tesa().mask)).to(place)
    return draw(case.m, case.k), draw(case.k, case.n) * live / case.k**0.5, draw(case.m, case.n)


def contenders(case: Case) -> dict[str, Callable[..., Callable[[], Any]]]:
    """By name, what makes the function of no arguments that computes the case's products."""
    sparse = {"torch bsr addmm": _addmm, "torch bsr operator": _operator} if case.what == "forward" else {}
    return {"torch dense": _dense, **sparse}


def _dense(torch: Any, case: Case, x: Any, w: Any, g: Any) -> Callable[[], Any]:
    live = w != 0
    products = {"forward": lambda: x @ w, "dx": lambda: g @ w.t(), "dw": lambda: (x.t() @ g) * live}
    return lambda: tuple(products[part]() for part in PARTS[case.what])


def _addmm(torch: Any, case: Case, x: Any, w: Any, g: Any) -> Callable[[], Any]:
    from torch.sparse._triton_ops import bsr_dense_addmm

    weight, given = _transposed(case, w), x.t().contiguous()
    nothing = torch.zeros(case.n, case.m, device=x.device, dtype=x.dtype)
    return lambda: (bsr_dense_addmm(nothing, weight, given, beta=0).t(),)


def _operator(torch: Any, case: Case, x: Any, w: Any, g: Any) -> Callable[[], Any]:
    weight, given = _transposed(case, w), x.t().contiguous()
    return lambda: ((weight @ given).t(),)


def _transposed(case: Case, w: Any) -> Any:
    """The weight's transpose in BSR, whose blocks are turned with it."""
    return w.t().contiguous().to_sparse_bsr(case.block[::-1])


def wrong(torch: Any, case: Case, name: str, place: str) -> str | None:
    """What is wrong with a contender's result; None where it agrees with the dense product in float32."""
    torch.manual_seed(0)
    given = operands(torch, case, place)
    try:
        got = contenders(case)[name](torch, case, *given)()
    except Exception as reason:
        return f"{type(reason).__name__}: {reason}"
    for result, wanted in zip(got, _dense(torch, case, *(a.float() for a in given))(), strict=True):
        if result.shape != wanted.shape:
            return f"shape {tuple(result.shape)}, not {tuple(wanted.shape)}"
        if not (far := float((result.float() - wanted).norm() / wanted.norm())) <= TOLERANCE[case.dtype]:
            return f"relative error {far:.1e}"
    return None


def expected(case: Case, name: str) -> str | None:
    """Part of the error with which the contender ends on a CPU; None where it runs there."""
    errors = ON_A_GPU_ALONE.get(name, {})
    return next((phrase for part, phrase in errors.items() if part in case.name), None)


def _captured(torch: Any, call: Callable[[], object], repeats: int) -> Callable[[], object]:
    """The calls as one CUDA graph, so that launching them takes no time."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            call()

    def run():
        graph.replay()
        torch.cuda.synchronize()

    return run


def main() -> int:
    import torch

    failed = 0
    for case in CHECKED:
        for name in contenders(case):
            reason = wrong(torch, case, name, "cpu")
            print(f"{case.name} {name}: {reason or 'agrees with dense'}")
            failed += (expected(case, name) or "agrees") not in (reason or "agrees")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
