"""Models of Flax linen equal their masked selves."""

import pytest
from models.linen_models import MODELS, shallow_decoder
from models.models import KINDS, check, check_compiled


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_masked_model(name, kind):
    check(MODELS[name], kind)


@pytest.mark.parametrize("build", [shallow_decoder, pytest.param(MODELS["resnet"], marks=pytest.mark.slow, id="resnet")])
def test_compiled(build):
    check_compiled(build, "block")
