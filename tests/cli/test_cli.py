import io
import sys

import jax
import numpy as np
import pytest
from flax.core import FrozenDict

import sparta_jax as sj
from sparta_jax import cli
from sparta_jax.checkpoint import container
from sparta_jax.cli.table import Table, show
from sparta_jax.kernels import native


def test_doctor_tells_versions_devices_and_kernels(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for words in ("jaxlib", "devices", "native kernels", "model of time", "cache"):
        assert words in out


def test_doctor_says_why_there_are_no_native_kernels(monkeypatch, capsys):
    monkeypatch.setenv("SPARTA_JAX_DISABLE_NATIVE", "1")
    assert cli.main(["doctor"]) == 0
    assert "turned off by SPARTA_JAX_DISABLE_NATIVE=1" in capsys.readouterr().out


@pytest.mark.parametrize("error", [RuntimeError("no such  backend"), AssertionError()])
def test_doctor_says_why_there_are_no_devices(error, monkeypatch, capsys):
    """As JAX raises where a platform was asked for that is not here."""

    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "nonsense")
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert f"none, with JAX_PLATFORMS=nonsense: {'no such backend' if str(error) else 'AssertionError'}" in out
    assert "cache" in out


def test_doctor_says_how_native_kernels_are_had(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "none.so")
    monkeypatch.setattr(native, "_loaded", native._loaded.__wrapped__)
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "not built (no C++ compiler when sparta_jax was installed)" in out
    assert "native kernels are built by `pip install .`" in out


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


def test_report_of_a_file_of_other_containers(tmp_path, capsys):
    params = FrozenDict(w=np.ones((8, 4), "float32"))
    sj.save_packed(tmp_path / "f", sj.sparsify(lambda p: p["w"], None).compress(params))
    assert cli.main(["report", str(tmp_path / "f")]) == 0
    assert "p['w']  8x4" in capsys.readouterr().out


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


TABLE = Table("title", ("a", "long"), (("1", "2"), ("[bold]", "4")), ("foot",))


def test_a_table_is_aligned():
    assert str(TABLE).splitlines() == ["title", "  a       long", "  1       2", "  [bold]  4", "  foot"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("present", [True, False])
def test_a_table_is_drawn_by_rich_in_a_terminal(terminal, present, monkeypatch):
    """Where `rich` is present; plain otherwise, and where the output is read by a program."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal() if terminal else io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", out)
        for name in () if present else ("rich", "rich.console", "rich.table", "rich.text"):
            patch.setitem(sys.modules, name, None)
        show(TABLE)
    if terminal and present:
        assert "│ [bold] │ 4    │" in out.getvalue()
        assert "foot" in out.getvalue()
    else:
        assert out.getvalue() == f"{TABLE}\n\n"
