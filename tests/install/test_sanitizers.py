"""The native kernels at odd sizes, with corrupt tables and from many threads, in a library that watches its memory."""

import shutil
import subprocess
import sys

import pytest

from tests.install.sources import build_in_place, copy_sources, run

SANITIZE = "-fsanitize=address,undefined"
TESTS = [f"tests/kernels/test_native_{name}.py" for name in ("odd_sizes", "robustness")]
FLAGS = f"-O0 -g1 {SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer"


def runtime(name: str) -> str | None:
    """The path of a sanitizer's library, None where the compiler has none."""
    if shutil.which("g++") is None:
        return None
    path = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    return path if "/" in path else None


@pytest.mark.slow
def test_kernels_stay_inside_their_buffers_and_do_nothing_undefined(tmp_path):
    libraries = [runtime("libasan.so"), runtime("libubsan.so")]
    if None in libraries:
        pytest.skip("no g++ with sanitizers here")
    sources = copy_sources(tmp_path / "sources", "tests", "benchmarks", "examples")
    built = build_in_place(sources, 1200, CXX="g++", CXXFLAGS=FLAGS, LDFLAGS=SANITIZE, SPARTA_JAX_REQUIRE_NATIVE="1")
    assert built.returncode == 0, built.stdout[-2000:]
    done = run(
        *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", *TESTS),
        cwd=sources,
        timeout=2400,
        LD_PRELOAD=" ".join(path for path in libraries if path),
        ASAN_OPTIONS="detect_leaks=0",  # Python itself leaks
        UBSAN_OPTIONS="print_stacktrace=1",
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout
