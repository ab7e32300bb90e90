"""The README's numbers are those of the committed results."""

import pytest

from benchmarks import front_page


def test_the_tables_are_those_of_the_results():
    text = front_page.README.read_text()
    assert front_page.filled(text) == text


def test_a_table_without_a_place_is_an_error():
    with pytest.raises(ValueError, match="measured: encoder"):
        front_page.filled("# nothing")
