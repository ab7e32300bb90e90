"""From a function to the machine code of its GPU kernels, on a machine without a GPU: XLA compiles for a described device.

The environment that compilers read is set here, so this module comes before JAX. It needs `jax-cuda13-plugin`, `ptxas` and
`nvdisasm` (`requirements.txt`). One process serves one target.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

DUMP = Path(tempfile.mkdtemp(prefix="sparta_jax_aot_"))
# The emitters' filter makes XLA write the PTX of Triton kernels.
os.environ["XLA_FLAGS"] = f"--xla_dump_to={DUMP} --xla_dump_emitter_re=.*"
os.environ["MOSAIC_GPU_DUMP_TO"] = str(DUMP)
os.environ["MOSAIC_GPU_DUMP_PTX"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import jax  # noqa: E402
from jax.experimental import topologies  # noqa: E402

TARGETS = Path(__file__).parent / "targets"
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*(?:\.\w+)*)", re.MULTILINE)
COUNTED = ("HGMMA", "HMMA", "UTMALDG", "UTMASTG", "LDGSTS", "LDSM")
"""Products on tensor cores, copies by TMA to and from shared memory, copies by cp.async, loads of matrix fragments."""


def structs(target: str, args):
    """`args` as shapes that live on the target, and the mesh to trace them under."""
    topology = topologies.get_topology_desc(
        platform="cuda", target_config=(TARGETS / f"{target}.txtpb").read_text(), topology="1x1x1"
    )
    mesh = topologies.make_mesh(topology, (1,), ("x",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=whole), args), mesh


def figures(run, args, target: str, kernel: str) -> list[dict]:
    """What the target's machine code of `run` takes, for every GPU kernel in it whose name has `kernel` in it."""
    before = set(DUMP.iterdir())
    placed, mesh = structs(target, args)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        jax.jit(run).trace(*placed).lower().compile()
    new = sorted(set(DUMP.iterdir()) - before)
    shared = _shared_memory(new)
    found = []
    for path in new:
        if path.suffix == ".ptx" and (entry := re.search(rf"\.entry\s+(\w*{kernel}\w*)", path.read_text())):
            found.append({"shared": shared.get(entry[1], shared.get("")), **_assembled(path, target)})
    for path in new:
        path.unlink(missing_ok=True)
    return found


def _shared_memory(paths: list[Path]) -> dict[str, int]:
    """Bytes of dynamic shared memory by the kernel's name; of a Mosaic kernel under `""`."""
    found = {}
    for path in paths:
        if path.name.endswith("resources.txt"):
            found[""] = int(re.search(r"smem_scratch_bytes=(\d+)", path.read_text())[1])
        elif path.name.endswith("thunk_sequence.txt"):
            for name, size in re.findall(r"\]\s+(\S+) grid: .*?shared_memory: (\d+)", path.read_text()):
                found[name] = int(size)
    return found


def _assembled(ptx: Path, target: str) -> dict:
    cubin = ptx.with_suffix(".cubin")
    log = _call("ptxas", "-v", f"-arch={target}", ptx, "-o", cubin)
    opcodes = collections.Counter(INSTRUCTION.findall(_call("nvdisasm", "-c", cubin)))
    cubin.unlink()
    families = collections.Counter()
    for opcode, count in opcodes.items():
        families[opcode.split(".")[0]] += count
    return {
        "registers": int(re.search(r"Used (\d+) registers", log)[1]),
        "spilled": sum(map(int, re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log).groups())),
        "serialized": "C7510" in log,
        "instructions": {name: families[name] for name in COUNTED if families[name]},
        "products": sorted(opcode for opcode in opcodes if opcode.startswith(("HGMMA", "HMMA"))),
    }


def _call(tool: str, *args) -> str:
    done = subprocess.run([str(_tool(tool)), *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{tool}: {done.stderr.strip()}")
    return done.stderr + done.stdout


def _tool(name: str) -> Path:
    for directory in map(Path, sys.path):
        with contextlib.suppress(OSError):
            path = directory / "nvidia" / "cu13" / "bin" / name
            if path.exists():
                return path
    raise FileNotFoundError(f"{name}: not installed with this Python (tests/aot/requirements.txt)")
