"""Fixtures of the tests of commands."""

import pytest
from matplotlib.figure import Figure

from pvae_pyro.experiments import figures


@pytest.fixture
def drawn(monkeypatch):
    """Replaces every figure by an empty one: the names and seeds of those that are drawn."""
    found = []

    def empty(name):
        def draw(run, seed):
            found.append((name, seed))
            yield name, Figure(figsize=(1, 1))

        return draw

    for name in figures.FIGURES:
        monkeypatch.setitem(figures.FIGURES, name, empty(name))
    return found
