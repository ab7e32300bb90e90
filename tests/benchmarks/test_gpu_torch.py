"""Torch's contenders of the GPU benchmark: on a CPU they agree with dense, or it is known why they cannot run there."""

import types

import pytest

from benchmarks import gpu_torch
from benchmarks.gpu_cases import Case

RUNS = [(case, name) for case in gpu_torch.CHECKED for name in gpu_torch.contenders(case)]


@pytest.mark.parametrize(("case", "name"), RUNS, ids=lambda value: getattr(value, "name", value))
@pytest.mark.filterwarnings("ignore")
def test_a_contender_agrees_with_dense_or_needs_a_gpu(case, name):
    torch = pytest.importorskip("torch")
    reason, expected = gpu_torch.wrong(torch, case, name, "cpu"), gpu_torch.expected(case, name)
    assert reason is None if expected is None else reason is not None and expected in reason


def test_only_the_contenders_of_sparse_weights_need_a_gpu():
    assert {name for case, name in RUNS if gpu_torch.expected(case, name)} == set(gpu_torch.ON_A_GPU_ALONE)
    assert {name for _, name in RUNS} == {"torch dense", *gpu_torch.ON_A_GPU_ALONE}


def test_without_torch_or_a_gpu_the_reason_is_told():
    found, refused = gpu_torch.ways(Case("square64", 64, 64, 64, (16, 16), 0.5), 1)
    assert found == {}
    assert refused.keys() == {"torch"}


def test_calls_are_captured_once_and_replayed():
    """With a torch that counts, for CUDA graphs need a GPU."""
    done = []

    class Graph:
        def replay(self):
            done.append("replay")

        def __enter__(self):
            done.append("begin")

        def __exit__(self, *_):
            done.append("end")

    cuda = types.SimpleNamespace(synchronize=lambda: done.append("wait"), CUDAGraph=Graph, graph=lambda graph: graph)
    call = gpu_torch._captured(types.SimpleNamespace(cuda=cuda), lambda: done.append("call"), 2)
    call()
    assert done == ["call"] * 3 + ["wait", "begin", "call", "call", "end", "replay", "wait"]
