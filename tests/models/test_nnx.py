"""Models of Flax nnx equal their masked selves."""

import pytest
from models.models import KINDS, check, check_compiled
from models.nnx_models import MODELS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_masked_model(name, kind):
    check(MODELS[name], kind)


@pytest.mark.parametrize("name", ["mlp", pytest.param("encoder", marks=pytest.mark.slow)])
def test_compiled(name):
    check_compiled(MODELS[name], "block")
