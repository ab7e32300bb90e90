"""A curve never falls, whatever was measured."""

import numpy as np
import pytest

from sparta_jax.machine import Curve


@pytest.mark.parametrize(
    "measured",
    [{1: 5.0}, {1: 1.0, 16: 2.0, 64: 9.0}, {1: 7.0, 2: 3.0, 64: 1.0}, {4: 0.0, 8: 0.0}, {2: -1.0, 32: 4.0}],
    ids=str,
)
def test_more_rows_never_take_less(measured):
    values = [Curve.of(measured).at(m) for m in range(300)]
    assert min(values) >= 0
    assert np.all(np.diff(values) >= 0)


@pytest.mark.parametrize(("m", "value"), [(0, 2.0), (1, 2.0), (2, 4.0), (3, 6.0), (4, 6.0), (8, 12.0)])
def test_between_and_behind_the_knots(m, value):
    assert Curve.of({1: 2.0, 3: 6.0, 4: 6.0}).at(m) == value
