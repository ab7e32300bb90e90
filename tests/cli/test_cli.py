import numpy as np
import pytest

import sparta_jax as sj
from sparta_jax import cli
from sparta_jax.checkpoint import container
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


def newer(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "VERSION", container.VERSION + 1)
        sj.save_packed(path, sj.sparsify(lambda p: p["w"], None).compress({"w": np.ones(4, "float32")}))


BAD = {
    "no file": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "an empty file": lambda path: path.touch(),
    "a foreign file": lambda path: path.write_bytes(b"no such thing"),
    "another safetensors file": lambda path: path.write_bytes((2).to_bytes(8, "little") + b"{}"),
    "a newer version": newer,
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_and_no_traceback(name, tmp_path, capsys):
    BAD[name](tmp_path / "f")
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", str(tmp_path / "f")])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Error" in line


def test_a_table_is_aligned():
    table = Table("title", ("a", "long"), (("1", "2"), ("333", "4")), ("foot",))
    assert str(table).splitlines() == ["title", "  a    long", "  1    2", "  333  4", "  foot"]
