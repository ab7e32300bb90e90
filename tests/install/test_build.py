"""How the native library is compiled, and what happens where it cannot be: with a compiler that only writes down its calls."""

import re
import sys
import tomllib

import pytest

from tests.install.sources import ROOT, build_in_place, copy_sources

COMPILER = f"""#!{sys.executable}
import sys
from pathlib import Path
with open(Path(__file__).with_name("calls"), "a") as calls:
    print(*sys.argv[1:], file=calls)
Path(sys.argv[sys.argv.index("-o") + 1]).write_text("")
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return copy_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def calls(sources):
    """The compiler's calls, flags from the environment among them."""
    fake = sources / "compiler"
    fake.write_text(COMPILER)
    fake.chmod(0o755)
    done = build_in_place(sources, CXX=str(fake), CXXFLAGS="-DMORE", LDFLAGS="-lmore", SPARTA_JAX_REQUIRE_NATIVE="1")
    assert done.returncode == 0, done.stdout
    assert (sources / "sparta_jax" / "kernels" / "_native.so").is_file()
    return (sources / "calls").read_text().splitlines()


def test_no_flag_ties_the_library_to_the_machine_that_builds_it(calls):
    assert not [call for call in calls if re.search(r"-m(arch|tune|cpu)=", call)]


def test_only_the_units_of_an_instruction_set_are_compiled_for_it(calls):
    for call in calls:
        isa = re.search(r"-DISA=(\w+)", call)
        machine = re.findall(r"-m[\w-]+", call)
        assert bool(machine) == (isa is not None and isa[1] != "baseline"), call


def test_every_instruction_set_has_every_kernel(calls):
    """But for the dot products of bfloat16, which belong to one."""
    units = [(m[1], m[2]) for call in calls if (m := re.search(r"(\w+_?isa\.cc) -DISA=(\w+)", call))]
    sets = {isa for _, isa in units}
    assert "baseline" in sets
    assert set(units) == {(source, isa) for source, _ in units for isa in sets}
    compiled = {name for call in calls for name in re.findall(r"\w+\.cc", call)}
    assert compiled == {path.name for path in (ROOT / "sparta_jax" / "kernels" / "cpu").glob("*.cc")}


def test_flags_from_the_environment_come_last(calls):
    *units, link = calls
    assert all("-DMORE" in call for call in units)
    assert link.startswith("-shared")
    assert "-lmore" in link


@pytest.mark.parametrize(
    ("env", "why"),
    [
        (dict(PATH="/nowhere"), "no C++ compiler was found"),
        (dict(CXX="/nowhere/c++"), "/nowhere/c++ cannot be run"),
        (dict(CXX="false"), "`false -std=c++17"),
    ],
    ids=["none", "missing", "failing"],
)
def test_without_a_compiler_it_says_so_and_goes_on(sources, env, why):
    done = build_in_place(sources, **env)
    assert done.returncode == 0, done.stdout
    assert f"installed without native CPU kernels: {why}" in done.stdout
    required = build_in_place(sources, SPARTA_JAX_REQUIRE_NATIVE="1", **env)
    assert required.returncode != 0
    assert why in required.stdout


def test_wheels_are_built_once_for_all_pythons_on_the_oldest_headers():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheels = settings["tool"]["cibuildwheel"]
    assert wheels["build"] == "cp311-*"
    assert wheels["environment"]["SPARTA_JAX_REQUIRE_NATIVE"] == "1"
    oldest = next(r for r in settings["project"]["dependencies"] if r.startswith("jaxlib")).removeprefix("jaxlib>=")
    assert f"jaxlib=={oldest}" in settings["build-system"]["requires"]
