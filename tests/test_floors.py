"""Imports go down the floors: a module imports lower floors and its own package, never up, never sideways."""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "sparta_jax"

FLOORS = (
    {"errors", "grid", "progress"},
    {"tesa"},
    {"trees"},
    {"problem", "machine", "formats", "masks", "records", "explanation", "sources"},
    {"stored"},
    {"products", "packed"},
    {"compressed", "fused"},
    {"kernels", "interpreters"},
    {"specialize"},
    {"verify", "checkpoint"},
    {"api"},
    {"nn", "training", "pruning", "render", "cli"},
    {"__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Who alone may import what. `()` in the place of rooms: nobody.
GUESTS = {
    "flax": ("nn",),
    "optax": ("training",),
    "matplotlib": ("render",),
    "safetensors": ("checkpoint",),
    "jax.interpreters": ("products", "fused"),
    "jax._src": (),
}


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported name, as `module` or `module.name`, absolute."""

    name: str
    line: int


def module_name(path: Path, root: Path = ROOT) -> str:
    """`sparta_jax.formats.bsr` of `.../sparta_jax/formats/bsr.py`; a package's name of its `__init__.py`."""
    parts = (root.name, *path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, is_package: bool) -> Iterator[Import]:
    """Every import in a module, at any depth of nesting, and every attribute chain that starts at an imported `jax`."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (Import(f"{stem}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("jax."):
            yield Import(ast.unparse(node), node.lineno)


def room_of(name: str, root: str = ROOT.name) -> str | None:
    """The module or package directly under the root that a dotted name lies in; None outside, and for the root itself."""
    parts = name.split(".")
    return parts[1] if parts[0] == root and len(parts) > 1 else None


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def faults(source: str, module: str, is_package: bool) -> list[str]:
    """What is wrong with a module's imports, one phrase each."""
    home = room_of(module)
    if home is None:
        return []  # the root's own `__init__` gathers the public names
    if home not in FLOOR:
        return [f"{module}: `{home}` has no floor"]
    found = []
    for item in imports(source, module, is_package):
        room = room_of(item.name)
        where = f"{module}:{item.line} imports {item.name}"
        if within(item.name, ROOT.name):
            if room is None or room not in FLOOR:
                found.append(f"{where}: `{room}` has no floor")
            elif room != home and FLOOR[room] >= FLOOR[home]:
                found.append(f"{where}: floor {FLOOR[room]} from floor {FLOOR[home]}")
        found += [
            f"{where}: for {hosts} alone" for guest, hosts in GUESTS.items() if within(item.name, guest) and home not in hosts
        ]
    return found


MODULES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_down(path: Path):
    assert not faults(path.read_text(), module_name(path), path.name == "__init__.py")


def test_every_module_of_the_package_is_seen():
    rooms = {room_of(module_name(path)) for path in MODULES} - {None}
    assert {"errors", "tesa", "problem", "formats", "kernels", "interpreters"} <= rooms <= set(FLOOR)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tesa", "from . import api"),
        ("tesa", "from .api import sparsify"),
        ("kernels.table", "from ..interpreters import jaxprs"),
        ("interpreters.jaxprs", "import sparta_jax.kernels.table"),
        ("interpreters.rules.contraction", "from ...kernels.table import kernels"),
        ("formats.bsr", "def pack():\n    from ..problem import SpMM"),
        ("grid", "import sparta_jax"),
        ("grid", "from .unheard import of"),
        ("unheard", ""),
        ("api", "import flax.linen as nn"),
        ("nn.linen", "import optax"),
        ("training", "from matplotlib import pyplot"),
        ("api", "from jax.interpreters import ad"),
        ("api", "from jax import interpreters"),
        ("api", "import jax\njax.interpreters.ad.primitive_jvps"),
        ("products", "from jax._src import core"),
        ("products", "import jax\njax._src.core.Tracer"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str):
    assert faults(source, f"{ROOT.name}.{module}", is_package=False)


@pytest.mark.parametrize(
    ("module", "source", "is_package"),
    [
        ("tesa", "from .grid import Grid\nimport numpy as np", False),
        ("formats", "from .bsr import BSR", True),
        ("formats.dense", "from .bsr import BSR\nfrom ..tesa import TeSA", False),
        ("interpreters.rules.contraction", "from ..facts import Fact\nfrom ...grid import Grid", False),
        ("products", "from jax.interpreters import ad", False),
        ("nn.linen", "import flax.linen as nn\nfrom ..api import sparsify", False),
    ],
)
def test_a_right_import_passes(module: str, source: str, is_package: bool):
    assert not faults(source, f"{ROOT.name}.{module}", is_package)
