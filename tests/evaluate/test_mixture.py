"""Mixtures of Gaussians against closed forms."""

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pvae_pyro.evaluate.mixture import (
    Mixture,
    factor_gaussian,
    fit_diagonal,
    overlaps,
    search,
    valley,
)


def test_one_component_is_the_maximum_likelihood_gaussian():
    points = np.random.default_rng(0).normal(size=(200, 3)) * [1.0, 2.0, 0.5] + 4
    mixture = fit_diagonal(points, np.zeros(200, int))
    density = multivariate_normal(points.mean(axis=0), np.diag(points.var(axis=0)))
    np.testing.assert_allclose(mixture.log_joint[:, 0], density.logpdf(points), atol=0.1)
    assert mixture.num_parameters.tolist() == [7]  # with its weight, of which one is not free
    expected = density.logpdf(points).sum() - 6 / 2 * math.log(200)
    assert mixture.bic == pytest.approx(expected, abs=0.1)


def test_em_finds_weights_and_the_best_number():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(300, 2)), rng.normal(size=(100, 2)) + 6])
    mixture, bic = search(points, 20)
    assert mixture.log_joint.shape == (400, 2)
    assert mixture.bic == max(bic) == bic[1]
    assert len(bic) == 2 + 5  # where the search stops
    weights = mixture.responsibilities.mean(axis=0)
    assert sorted(weights) == pytest.approx([0.25, 0.75], abs=0.005)


def test_factors_describe_a_long_cluster_and_a_round_one_has_none():
    rng = np.random.default_rng(0)
    axis = np.ones(6) / math.sqrt(6)
    covariance = np.eye(6) + 15 * np.outer(axis, axis)
    points = rng.multivariate_normal(np.zeros(6), covariance, 2000)
    column, parameters = factor_gaussian(points, np.ones(2000))
    assert parameters == 6 + 6 + 6 + 1  # means, diagonal, one factor, weight
    expected = multivariate_normal(points.mean(axis=0), np.cov(points.T)).logpdf(points)
    assert column.mean() == pytest.approx(expected.mean(), abs=0.02)
    assert factor_gaussian(rng.normal(size=(2000, 6)), np.ones(2000))[1] == 13


def test_shares_weigh_the_points():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(100, 3)), rng.normal(size=(60, 3)) + 5])
    shares = np.repeat([1.0, 0.0], [100, 60])
    column, _ = factor_gaussian(points, shares)
    alone, _ = factor_gaussian(points[:100], np.ones(100))
    np.testing.assert_allclose(column[:100], alone + math.log(100 / 160), atol=0.1)


def test_responsibilities_by_hand():
    mixture = Mixture(np.log([[0.3, 0.1], [0.2, 0.2]]), np.array([3, 3]))
    np.testing.assert_allclose(mixture.responsibilities, [[0.75, 0.25], [0.5, 0.5]])
    assert mixture.bic == pytest.approx(math.log(0.4) * 2 - 5 / 2 * math.log(2))


def test_overlaps_by_hand():
    """Of component 0's 1.7 points, 0.3 are in the one that goes to component 1; of the other, 0.2
    of 1.3."""
    shares = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    expected = max(0.3 / 1.7, 0.6 / 1.3)
    np.testing.assert_allclose(overlaps(shares), [[0, expected], [expected, 0]])


def test_valley_of_normal_groups():
    """Of two unit normals, 2 apart or less, the mixture has a single mode."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 4000, 3))
    line = np.array([1.0, 0.0, 0.0])
    assert valley(one, other + 6 * line) < 0.1
    assert valley(one, other + 3.5 * line) < 0.8
    assert valley(one, other + 2 * line) > 0.95
    assert valley(one, one) == 1.0
    shifted = valley(5 * one + 3, 5 * (other + 3.5 * line) + 3)
    assert shifted == pytest.approx(valley(one, other + 3.5 * line))
