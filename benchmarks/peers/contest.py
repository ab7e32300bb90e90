"""What stands in every contest: its runners, what they must compute, and the libraries that take part."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .race import Local, Runner
from .remote import DeepSparse, Remote

NONE_GIVEN = "no directory of the peers benchmark was given"
DENSE = ("jax dense", "onednn dense", "ort dense")
OURS, XLA = "sparta_jax", "jax dense"
SPARSE = ("deepsparse", "deepsparse conv")  # its two forms of a product; for few rows the second is the better one


class AbsentError(Exception):
    """Why a case cannot be measured here."""


@dataclasses.dataclass
class Contest:
    """One case, ready to be timed.

    Attributes:
      runners: the first is XLA's dense program with masked weights.
      exact: what all compute.
      tolerance: the relative error above which a result is wrong.
      absent: the peers that do not take part, and why.
    """

    runners: list[Runner]
    exact: np.ndarray
    tolerance: float = 1e-5
    absent: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, name: str, make: Callable[[], Runner]) -> None:
        """One more runner; what goes wrong in making it is why it is absent."""
        try:
            self.runners.append(make())
        except Exception as error:  # a library that cannot do this case must not end the run
            self.absent[name] = f"{type(error).__name__}: {error}"[:160]

    @property
    def processes(self) -> list[int]:
        """The other processes that compute."""
        return [runner.side.process.pid for runner in self.runners if isinstance(runner, Remote)]

    def close(self) -> None:
        """Lets go of what the other process holds."""
        for runner in self.runners:
            if isinstance(runner, Remote):
                runner.side.forget(runner.keys)


@dataclasses.dataclass(frozen=True)
class Libraries:
    """The other libraries, where they are.

    Attributes:
      threads: of each.
      module: `peers.py` of the peers benchmark, None where it is not given.
      python: of the environment with DeepSparse, None where there is none.
      processes: that were started there; the last one is in use.
    """

    threads: int
    module: ModuleType | None
    python: Path | None
    processes: list[DeepSparse] = dataclasses.field(default_factory=list)

    @classmethod
    def find(cls, threads: int, peers: Path | None, home: Path | None) -> Libraries:
        python = home / "deepsparse" / "bin" / "python" if home else None
        return cls(threads, _load(peers) if peers else None, python if python and python.exists() else None)

    def versions(self) -> dict[str, str]:
        from importlib.metadata import PackageNotFoundError, version

        found = {}
        for name in ("numpy", "jax", "jaxlib", "torch", "scipy", "mkl", "onnxruntime"):
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        if self.python is not None:
            self.processes.append(DeepSparse(self.python))
            found["deepsparse"] = self.processes[-1].version
        return found

    def products(
        self, w: np.ndarray, mask: np.ndarray, x: np.ndarray, block: int, wanted: str
    ) -> tuple[list[Runner], dict[str, str]]:
        """The peers' ways to compute `x @ w`, XLA's dense one first, and the reasons of those that are absent.

        `block` is the side of the mask's blocks, 0 where they are to be found; only peers whose name `wanted` is found in."""
        if self.module is None:
            return [dense(w, x)], {"peers": NONE_GIVEN}
        pattern = "block" if block > 1 else "real" if block == 0 else "unstructured"
        case = self.module.Case("case", *x.shape, w.shape[1], pattern, float(mask.mean()), block)
        made, absent = {}, {}
        for name, make in self.module.PEERS.items():
            if make.feature_major or not (name == XLA or re.search(wanted, name)):
                continue
            try:
                call = make(case, w, mask, x, self.threads)
            except Exception as error:  # one that cannot do this case must not end the run
                absent[name] = f"{type(error).__name__}: {error}"[:160]
                continue
            if call is not None:
                made[name] = self.module.Local(name, call)
        return [made.pop(XLA), *made.values()], absent

    def rotating(self, name: str, weights: Sequence[np.ndarray], mask: np.ndarray, x: np.ndarray, block: int) -> Runner:
        """One of the peers, taking another weight in every call."""
        if self.module is None:
            raise AbsentError(NONE_GIVEN)
        case = self.module.Case("case", *x.shape, mask.shape[1], "block", float(mask.mean()), block)
        calls = [self.module.Local(name, self.module.PEERS[name](case, w, mask, x, self.threads)).call for w in weights]
        return Local(name, turns(calls))

    def onnx_product(self, w: np.ndarray, m: int, convolution: bool = False) -> bytes:
        """`x [m, k]` times `w`; or as a convolution of an image of one column, `x [1, m, 1, k]`."""
        if self.module is None:
            raise AbsentError(NONE_GIVEN)
        return self.module.onnx_model(w, m, convolution)

    def onnx_session(self, name: str, model: bytes, inputs: dict[str, np.ndarray]) -> Runner:
        """ONNX Runtime with this model."""
        if self.module is None:
            raise AbsentError(NONE_GIVEN)
        session = self.module.ort_session(model, self.threads)
        return Local(name, lambda: session.run(None, inputs)[0])

    def deepsparse(self, models: Sequence[bytes], inputs: dict[str, np.ndarray], batch: int, name: str = SPARSE[0]) -> Runner:
        """DeepSparse with these models, in turns; its process is started at the first call."""
        if self.python is None:
            raise AbsentError("no environment with DeepSparse was given")
        if not self.processes or not self.processes[-1].alive():
            self.processes.append(DeepSparse(self.python))
        return self.processes[-1].open(name, models, inputs, batch, self.threads)

    def close(self) -> None:
        for process in self.processes:
            process.close()


def dense(w: np.ndarray, x: np.ndarray) -> Runner:
    """XLA's product of the masked weight."""
    import jax

    product, operands = jax.jit(lambda x, w: x @ w), (jax.numpy.asarray(x), jax.numpy.asarray(w))
    return Local(XLA, lambda: product(*operands).block_until_ready())


def turns(calls: Sequence[Callable[[], Any]]) -> Callable[[], Any]:
    """A callable that calls one behind the other."""
    cycle = itertools.cycle(calls)
    return lambda: next(cycle)()


def _load(directory: Path) -> ModuleType:
    path = directory / "peers.py" if directory.is_dir() else directory
    spec = importlib.util.spec_from_file_location("sparta_jax_peers", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path}: no peers benchmark")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module
