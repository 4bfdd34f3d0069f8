"""A run that is killed at any moment and resumed comes to the same bits."""

import pytest

from tests.kill import try_kills


def test_three_kills(tmp_path) -> None:
    found = try_kills(tmp_path, 3, seed=1)
    assert found["equal"] == 3, found
    assert len(found["hit"]) >= 2, found


@pytest.mark.slow
def test_twenty_kills(tmp_path) -> None:
    found = try_kills(tmp_path, 20, seed=0)
    assert found["equal"] == 20, found
    assert len(found["hit"].keys() - {"between"}) == 4, found
