"""Torch's contenders: its dense product and its block-sparse Triton kernel (`bsr_dense_addmm`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .gpu_cases import Case


def ways(case: Case, repeats: int) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """Functions that make `repeats` products and wait for them, by name, and why others do not serve."""
    if case.what != "forward":
        return {}, {}
    try:
        import torch
    except ImportError as reason:
        return {}, {"torch": str(reason)}
    if not torch.cuda.is_available():
        return {}, {"torch": "sees no GPU"}
    dtype = getattr(torch, case.dtype)
    torch.backends.cuda.matmul.allow_tf32 = True
    x = torch.randn(case.m, case.k, device="cuda", dtype=dtype)
    live = torch.from_numpy(np.asarray(case.tesa().mask)).cuda()
    w = torch.randn(case.k, case.n, device="cuda", dtype=dtype) * live / case.k**0.5
    made = {"torch dense": lambda: lambda: x @ w, "torch bsr_dense_addmm": lambda: _sparse(torch, x, w, case.block)}
    found, refused = {}, {}
    for name, make in made.items():
        try:
            found[name] = _captured(torch, make(), repeats)
        except Exception as reason:
            refused[name] = f"{type(reason).__name__}: {reason}"
    return found, refused


def _sparse(torch, x, w, block: int) -> Callable[[], object]:
    from torch.sparse._triton_ops import bsr_dense_addmm

    weight, given = w.t().contiguous().to_sparse_bsr((block, block)), x.t().contiguous()
    nothing = torch.zeros(w.shape[1], x.shape[0], device="cuda", dtype=x.dtype)
    return lambda: bsr_dense_addmm(nothing, weight, given, beta=0)


def _captured(torch, call: Callable[[], object], repeats: int) -> Callable[[], object]:
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
