"""Builds the native CPU kernels where there is a C++ compiler; everything else is in `pyproject.toml`.

The library is plain C++ behind XLA's FFI and knows no Python, so one wheel serves every Python version. Where it cannot be
built, the package installs without it and runs on XLA's own operations; `SPARTA_JAX_REQUIRE_NATIVE=1` makes that an error.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCES = Path("sparta_jax", "kernels", "cpu")
NAME = "sparta_jax.kernels._native"
COMMON = ["-std=c++17", "-O3", "-fPIC", "-ffp-contract=fast", "-fvisibility=hidden", "-w"]
X86 = {
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mf16c", "-mprefer-vector-width=512"],
}
DOTS = [*X86["avx512"], "-mavx512bf16"]


class CannotBuildError(Exception):
    """Why there will be no native kernels."""


def headers() -> Path:
    """The directory of XLA's FFI headers, which `jaxlib` carries (found without importing it)."""
    spec = importlib.util.find_spec("jaxlib")
    for root in (spec.submodule_search_locations or []) if spec else []:
        if Path(root, "include", "xla", "ffi", "api", "ffi.h").is_file():
            return Path(root, "include")
    raise CannotBuildError("jaxlib with its FFI headers was not found")


def compiler() -> list[str]:
    named = os.environ.get("CXX")
    if named:
        return named.split()
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise CannotBuildError("no C++ compiler was found (CXX, c++, g++, clang++)")


def more(name: str) -> list[str]:
    """Flags from the environment, behind our own."""
    return os.environ.get(name, "").split()


def compile_native(target: Path) -> None:
    """Compiles every translation unit (the kernels once per instruction set) and links them into `target`."""
    cxx, include = compiler(), headers()
    sets = {"baseline": []} | (X86 if platform.machine().lower() in ("x86_64", "amd64") else {})
    with tempfile.TemporaryDirectory() as scratch:
        handlers = sorted(SOURCES.glob("*ffi.cc"))
        units = {str(Path(scratch, f"{source.stem}.o")): [str(source), f"-I{include}"] for source in handlers}
        for isa, flags in sets.items():
            for source in sorted(SOURCES.glob("*isa.cc")):
                units[str(Path(scratch, f"{isa}_{source.stem}.o"))] = [str(source), f"-DISA={isa}", *flags]
        if "avx512" in sets:
            units[str(Path(scratch, "dots.o"))] = [str(SOURCES / "bf16_dots.cc"), "-DISA=avx512_bf16", *DOTS]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda unit: run([*cxx, *COMMON, *more("CXXFLAGS"), "-c", *unit[1], "-o", unit[0]]), units.items()))
        target.parent.mkdir(parents=True, exist_ok=True)
        run([*cxx, "-shared", *units, *more("LDFLAGS"), "-o", str(target)])


def run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise CannotBuildError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        raise CannotBuildError(f"`{' '.join(command)}` failed:\n{done.stderr}")


class BuildNative(build_ext):
    """Builds the one library, or says in one line why not."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"  # no Python version in the name

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name))
        try:
            compile_native(target)
        except CannotBuildError as why:
            if os.environ.get("SPARTA_JAX_REQUIRE_NATIVE") == "1":
                raise
            print(f"sparta_jax: installed without native CPU kernels: {why}")


class PlainWheel(bdist_wheel):
    """A wheel for every Python, and for every platform where there is no library in it."""

    def get_tag(self) -> tuple[str, str, str]:
        built = any(Path(self.bdist_dir).rglob("_native.so"))
        return "py3", "none", super().get_tag()[2] if built else "any"


setup(
    ext_modules=[Extension(NAME, [], optional=True)],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": PlainWheel},
)
