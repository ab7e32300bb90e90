import re

import pytest

from examples import equinox_model, haiku_model


@pytest.mark.parametrize("example", [haiku_model, equinox_model], ids=["haiku", "equinox"])
def test_models_that_need_no_wrapper(example, capsys):
    example.main()
    difference, report = re.match(r"largest difference (\S+)\n(.*)", capsys.readouterr().out, re.DOTALL).groups()
    assert float(difference) < 1e-5
    assert "2 products with a sparse weight" in report
