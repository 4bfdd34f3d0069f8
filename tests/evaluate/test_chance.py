"""Chance levels, by hand and by counting all permutations."""

from itertools import permutations

import numpy as np
import pytest

from pvae_pyro.evaluate.chance import (
    agreement,
    chance_agreement,
    chance_largest_share,
    largest_share,
    permuted_score,
)
from pvae_pyro.evaluate.clustering import hungarian_accuracy, purity


def test_chance_purity_by_hand():
    """Two pairs of labels in two clusters of two: apart in 1 of 3 cases, else one right of two."""
    two = np.array([0, 0, 1, 1])
    expected = 1 / 3 * 1 + 2 / 3 * 0.5
    assert permuted_score(purity, two, two, permutations=4000) == pytest.approx(expected, abs=0.02)
    assert permuted_score(purity, np.zeros(5), np.arange(5)) == 1.0
    assert permuted_score(purity, np.arange(5), np.arange(5)) == 1.0
    assert permuted_score(purity, np.arange(5), np.zeros(5)) == pytest.approx(0.2)


@pytest.mark.parametrize("score", [purity, hungarian_accuracy])
def test_chance_is_the_mean_over_all_permutations(score):
    labels, clusters = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 1])
    every = [score(labels, np.array(order)) for order in permutations(clusters)]
    found = permuted_score(score, labels, clusters, permutations=3000)
    assert found == pytest.approx(np.mean(every), abs=0.01)
    assert permuted_score(score, labels, clusters) == permuted_score(score, labels, clusters)


def test_chance_purity_falls_with_the_number_of_examples():
    """The issue's figures: some 19 % of 300 examples of ten classes, 11.6 % of 10,000."""
    few, many = np.arange(300) % 10, np.arange(10_000) % 10
    assert permuted_score(purity, few, few) == pytest.approx(0.195, abs=0.01)
    assert permuted_score(purity, many, many) == pytest.approx(0.116, abs=0.002)


def test_chance_agreement_is_the_mean_over_all_permutations():
    one, other = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    every = [float((one == np.array(order)).mean()) for order in permutations(other)]
    assert chance_agreement(one, other) == pytest.approx(np.mean(every))
    assert chance_agreement(one, np.array([0])) == 0.5  # of any number
    assert chance_agreement(np.array(["a", "b"]), np.array(["c"])) == 0.0
    assert agreement(one, other) == (0.5, chance_agreement(one, other))
    assert agreement(one[:0], other[:0]) == (None, None)


def test_the_largest_share_and_its_chance():
    assert largest_share(np.array([3, 1, 3, 3])) == 0.75
    assert chance_largest_share(np.zeros(9), 5) == 1.0
    # Of two draws from two classes the same one comes twice in half of the cases.
    assert chance_largest_share(np.array([0, 1]), 2) == pytest.approx(0.75, abs=0.05)
    assert chance_largest_share(np.arange(10), 1_000_000) == pytest.approx(0.1, abs=0.001)
