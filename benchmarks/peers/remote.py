"""DeepSparse, which needs numpy before 2 and so computes in another environment's Python, behind a pipe."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WORKER = Path(__file__).with_name("deepsparse_worker.py")


class DeepSparse:
    """The other process."""

    def __init__(self, python: Path):
        self.directory = tempfile.TemporaryDirectory()
        env = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "PYTHONPATH", "PYTHONHOME")}
        env["NM_DISABLE_ANALYTICS"] = "1"
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.process = subprocess.Popen([python, WORKER], text=True, env=env, **pipes)
        self.version = self._answer()["version"]
        self._opened = 0

    def open(self, name: str, models: Sequence[bytes], inputs: dict[str, np.ndarray], batch: int, threads: int) -> Remote:
        """A runner that computes these models with these inputs, one behind the other."""
        keys = []
        for model in models:
            self._opened += 1
            key = f"model{self._opened}"
            onnx, npz = self.path(f"{key}.onnx"), self.path(f"{key}.npz")
            onnx.write_bytes(model)
            np.savez(npz, **inputs)
            try:
                self.ask("open", key, onnx, npz, batch, threads)
            finally:
                onnx.unlink()
            keys.append(key)
        return Remote(name, self, tuple(keys))

    def alive(self) -> bool:
        return self.process.poll() is None

    def forget(self, keys: Sequence[str]) -> None:
        """Frees these models; a process that has ended has."""
        with contextlib.suppress(RuntimeError):
            self.ask("forget", ",".join(keys))

    def path(self, name: str) -> Path:
        return Path(self.directory.name, name)

    def ask(self, *words: Any) -> dict[str, Any]:
        """Raises RuntimeError with what went wrong there."""
        try:
            print(*words, file=self.process.stdin, flush=True)
        except OSError as error:
            raise RuntimeError("the DeepSparse process ended") from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise RuntimeError("the DeepSparse process ended")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()


@dataclasses.dataclass(frozen=True)
class Remote:
    """A runner in that process."""

    name: str
    side: DeepSparse
    keys: tuple[str, ...]

    def slice(self, reps: int, warm_ms: float) -> tuple[float, bool]:
        seconds, disturbed = self.side.ask("run", ",".join(self.keys), reps, warm_ms)["sample"]
        return seconds, disturbed

    def result(self) -> np.ndarray:
        path = self.side.path("y.npy")
        self.side.ask("out", self.keys[0], path)
        y = np.load(path)
        return y.reshape(-1, y.shape[-1])  # a convolution's has four axes
