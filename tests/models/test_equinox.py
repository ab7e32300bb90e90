"""Models of Equinox equal their masked selves."""

import pytest
from models.equinox_models import MODELS
from models.models import KINDS, check, check_compiled


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_masked_model(name, kind):
    check(MODELS[name], kind)


@pytest.mark.parametrize("name", ["gru", pytest.param("unet", marks=pytest.mark.slow)])
def test_compiled(name):
    check_compiled(MODELS[name], "block")
