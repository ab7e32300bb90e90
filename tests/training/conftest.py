"""What every test of training shares."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _promotion():
    """As optax needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield
