"""Names that look alike are found, and reported with their numbers."""

import pytest

from pvae_pyro.data.spelling import look_alike, look_alike_lines


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Yes", "yes"),
        ("7", "7.0"),
        ("7", "07"),
        ("new-york", "New_York"),
        ("Straße", "STRASSE"),
    ],
)
def test_alike(one, other):
    assert look_alike([one, "another"], [other]) == [sorted([one, other])]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("si", "sí"),
        ("s1_1", "s11"),
        ("-1", "1"),
        ("7", "7.5"),
        ("7", "7"),
    ],
)
def test_not_alike(one, other):
    assert look_alike([one], [other]) == []


def test_both_names_and_their_numbers_are_reported():
    (line,) = look_alike_lines("classes", {"Yes": 1234, "no": 7, "yes": 5})
    assert all(part in line for part in ("classes", "'Yes' (1,234)", "'yes' (5)"))
    letters = {name: 1 for letter in "abcdefgh" for name in (letter, letter.upper())}
    assert len(look_alike_lines("classes", letters)) == 6
    assert "3 more" in look_alike_lines("classes", letters)[-1]
