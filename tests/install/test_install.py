"""The package installed from its sources, with a compiler and without, and one library under every JAX."""

import shutil
import sys
import zipfile

import pytest

from sparta_jax.kernels import native
from tests.install.sources import ROOT, copy_sources, run

USE = """
import jax, jax.numpy as jnp, numpy as np
import sparta_jax as sj
from sparta_jax.kernels import native
mask = np.kron(np.eye(2, dtype=bool), np.ones((16, 16), bool))
fast = sj.sparsify(lambda w, x: x @ w, sj.TeSA(mask))
w, x = jnp.arange(1024.0).reshape(32, 32), jnp.ones((4, 32))
want = x @ jnp.where(mask, w, 0)
assert jnp.allclose(jax.jit(fast)(fast.pack(w, x), x), want)
print("isa:", native.isa(), "why:", native.why_unavailable())
"""


def has_compiler():
    return any(shutil.which(name) for name in ("c++", "g++", "clang++"))


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False])
def test_a_wheel_has_the_library_or_does_without_it(tmp_path, compiler):
    if compiler and not has_compiler():
        pytest.skip("no C++ compiler here")
    sources = copy_sources(tmp_path / "sources")
    without = {} if compiler else {"PATH": "/nowhere"}
    wheel = run(
        sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "-w", tmp_path, ".", cwd=sources, timeout=900, **without
    )
    assert wheel.returncode == 0, wheel.stdout[-2000:]
    assert ("installed without native CPU kernels: no C++ compiler was found" in wheel.stdout) == (not compiler)
    (path,) = tmp_path.glob("*.whl")
    assert path.stem.endswith("py3-none-any") == (not compiler)
    assert "-py3-none-" in path.name
    names = zipfile.ZipFile(path).namelist()
    assert ("sparta_jax/kernels/_native.so" in names) == compiler
    assert not [name for name in names if name.endswith((".cc", ".h"))]
    installed = tmp_path / "installed"
    zipfile.ZipFile(path).extractall(installed)
    done = run(sys.executable, "-c", USE, cwd=installed, JAX_PLATFORMS="cpu")
    assert done.returncode == 0, done.stdout
    assert ("why: None" if compiler else "why: not built") in done.stdout


@pytest.mark.skipif(native.why_unavailable() is not None, reason=str(native.why_unavailable()))
def test_the_library_serves_every_jax_that_has_an_environment_here():
    pythons = [p for p in sorted(ROOT.glob(".venv*/bin/python")) if run(p, "-c", "import jax", cwd=ROOT).returncode == 0]
    if not pythons:
        pytest.skip("no environment beside this one")
    for python in pythons:
        done = run(python, "-c", USE, cwd=ROOT, JAX_PLATFORMS="cpu")
        assert done.returncode == 0, done.stdout
        assert "why: None" in done.stdout
