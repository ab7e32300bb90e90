import numpy as np
import pytest

import sparta_jax as sj
from sparta_jax import cli
from sparta_jax.cli.table import Table


def test_doctor_tells_versions_devices_and_kernels(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for words in ("jaxlib", "devices", "native kernels", "model of time", "cache"):
        assert words in out


def test_doctor_says_why_there_are_no_native_kernels(monkeypatch, capsys):
    monkeypatch.setenv("SPARTA_JAX_DISABLE_NATIVE", "1")
    assert cli.main(["doctor"]) == 0
    assert "turned off by SPARTA_JAX_DISABLE_NATIVE=1" in capsys.readouterr().out


@pytest.mark.parametrize("make", ["pack", "compress"])
def test_report_of_a_file(make, tmp_path, capsys):
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(64, 64)).astype("float32"), "b": np.ones(64, "float32")}
    x = np.ones((4, 64), "float32")
    fast = sj.sparsify(lambda p, x: x @ p["w"] + p["b"], sj.masks.magnitude(params, density=0.25, block=(16, 16)))
    sj.save_packed(tmp_path / "f", fast.pack(params, x) if make == "pack" else fast.compress(params))
    assert cli.main(["report", str(tmp_path / "f")]) == 0
    out = capsys.readouterr().out
    assert "64x64" in out
    assert "25.0%" in out
    assert "dense" in out


@pytest.mark.parametrize("content", [None, b"no such thing"])
def test_a_bad_file_is_an_error_and_no_traceback(content, tmp_path, capsys):
    if content is not None:
        (tmp_path / "f").write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", str(tmp_path / "f")])
    assert stop.value.code == 1
    assert "Error" in capsys.readouterr().err


def test_a_table_is_aligned():
    table = Table("title", ("a", "long"), (("1", "2"), ("333", "4")), ("foot",))
    assert str(table).splitlines() == ["title", "  a    long", "  1    2", "  333  4", "  foot"]
