import os
import subprocess
import sys

import jax
import pytest

from benchmarks.machine import ROOT, describe, pin


def run(program: str) -> str:
    """What a fresh process prints."""
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_the_machine_is_described():
    machine = describe()
    assert machine.jax == jax.__version__
    assert machine.device
    assert 1 <= machine.threads <= machine.cores


def test_threads_are_refused_once_jax_has_its_pool():
    with pytest.raises(SystemExit, match="before jax"):
        pin(1)


def test_the_runner_can_still_pin():
    assert run("import sys, benchmarks.run; print('jax' in sys.modules)") == "False"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot pin")
def test_a_pinned_process_has_so_many_cores():
    assert run("import os, benchmarks.machine as m; m.pin(1); print(len(os.sched_getaffinity(0)))") == "1"
