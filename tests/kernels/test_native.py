import subprocess
import sys

import jax.numpy as jnp
import pytest

from sparta_jax.formats.bsr import BSR, Pattern
from sparta_jax.kernels import native
from tests.kernels.native_cases import block_tesa, need_native, normal


def test_unavailable_is_a_phrase_and_no_error(monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_DISABLE_NATIVE", "1")
    assert "SPARTA_JAX_DISABLE_NATIVE" in native.why_unavailable()
    assert native.isa() == "none"


def test_not_built_is_a_phrase(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "_native.so")
    native._loaded.cache_clear()
    try:
        assert "not built" in native.why_unavailable()
        (tmp_path / "_native.so").write_bytes(b"not a library")
        native._loaded.cache_clear()
        assert "cannot be loaded" in native.why_unavailable()
        assert native.isa() == "none"
    finally:
        native._loaded.cache_clear()


def test_importing_loads_nothing_and_starts_no_client():
    code = (
        "import sparta_jax.kernels.native as native, sparta_jax.kernels.native_bsr_spmm, jax;"
        "assert native._loaded.cache_info().currsize == 0;"
        "from jax.extend import backend;"
        "jax.config.update('jax_platforms', 'cpu'); jax.config.update('jax_num_cpu_devices', 3); assert jax.device_count() == 3"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@need_native()
def test_an_unknown_instruction_set_is_a_phrase(monkeypatch):
    monkeypatch.setenv("SPARTA_JAX_ISA", "sse9")
    assert "sse9" in native.why_unavailable()
    monkeypatch.delenv("SPARTA_JAX_ISA")
    assert native.isa() in ("baseline", "avx2", "avx512")


@need_native()
@pytest.mark.parametrize(("shape", "block"), [((64, 96), (32, 32)), ((45, 70), (16, 4)), ((9, 9), (16, 16)), ((5, 0), (4, 4))])
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_pack_and_unpack_are_those_of_the_format(shape, block, density):
    tesa = block_tesa(shape, block, density)
    w = jnp.where(tesa.mask, normal(shape, 1), 0)
    bsr, pattern = BSR.pack(w, tesa, block), Pattern.of(tesa, block)
    blocks = native.pack(w, pattern.indptr, pattern.indices, block)
    assert (blocks == bsr.blocks).all()
    assert (native.unpack(blocks, pattern.indptr, pattern.indices, shape) == w).all()
