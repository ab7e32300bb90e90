"""What every test shares: the environment that JAX reads once, a seeded generator, real masks where they are present."""

import os
from pathlib import Path

# Read when JAX starts, hence set before anything imports it. Eight devices on the host make sharding testable anywhere; they
# also widen XLA's thread pool to eight, so a time measured under pytest says nothing.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ["SPARTA_JAX_CACHE_DIR"] = os.devnull  # choices by the tables that are shipped, whatever is calibrated here
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("tests", derandomize=True, deadline=None, database=None, max_examples=30)
hypothesis.settings.load_profile("tests")


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that starts the same in every test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The directory of real masks and weights (`dlmc_masks.npz`, `lyra_wavegru.npz`)."""
    directory = os.environ.get("SPARTA_JAX_DATA")
    if not directory:
        pytest.skip("SPARTA_JAX_DATA names no directory of real masks")
    return Path(directory)
