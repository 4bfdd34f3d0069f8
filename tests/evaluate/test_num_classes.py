"""The number of clusters, where it is known; and each criterion by hand."""

import numpy as np
import pytest

from pvae_pyro.evaluate.num_classes import find_num_classes, pairs_kept

ALL = {"silhouette", "prediction_strength", "density"}


def clusters_of(sizes, dim=16, distance=10.0, seed=0):
    """Round clusters of unit scale; any two centres are about `distance` apart."""
    rng = np.random.default_rng(seed)
    centres = distance / np.sqrt(2 * dim) * rng.normal(size=(len(sizes), dim))
    return centres.repeat(sizes, axis=0) + 0.5 * rng.normal(size=(sum(sizes), dim))


@pytest.mark.parametrize("k", [2, 5, 10])
def test_every_criterion_finds_separated_clusters(k):
    found = find_num_classes(clusters_of([300 // k] * k), most=12)
    assert found["criteria"] == dict.fromkeys(ALL, k)
    assert found["agreed"] == k
    assert found["agreed_by"] == 3


@pytest.mark.parametrize("kind", ["one cluster", "uniform"])
def test_no_structure_is_one_class(kind):
    rng = np.random.default_rng(0)
    points = clusters_of([300]) if kind == "one cluster" else rng.uniform(size=(300, 3))
    found = find_num_classes(points, most=6)
    assert found["agreed"] == 1
    # The silhouette cannot say 1, and chance makes some regions denser than others.
    assert found["criteria"]["prediction_strength"] == 1


def test_two_criteria_decide_else_the_silhouette(monkeypatch):
    module = "pvae_pyro.evaluate.num_classes"
    points = clusters_of([20] * 3)  # the silhouette says 3
    for strength, density, agreed, by in (
        (3, 3, 3, 3), (3, 9, 3, 2), (4, 4, 4, 2), (1, 3, 3, 2), (1, 1, 1, 2),
        (2, 4, 3, 1), (1, 9, 1, 1), (4, 1, 3, 1),
    ):  # fmt: skip
        curve = np.array([1.0] * strength + [0.0] * (4 - strength))
        monkeypatch.setattr(f"{module}.prediction_strength", lambda *_, curve=curve: curve)
        monkeypatch.setattr(f"{module}.density_clusters", lambda *_, density=density: density)
        found = find_num_classes(points, most=4)
        assert (found["agreed"], found["agreed_by"]) == (agreed, by)


def test_outliers_are_no_classes():
    """Eight points among 600, three times as far out as the clusters are from each other."""
    rng = np.random.default_rng(0)
    points = clusters_of([100] * 6, distance=12)
    points[rng.choice(600, 8, replace=False)] = 9 * rng.normal(size=(8, 16))
    assert find_num_classes(points, most=16)["agreed"] == 6


def test_classes_in_groups():
    """Three groups of three clusters; groups are ten times as far apart as their clusters."""
    rng = np.random.default_rng(0)
    groups = clusters_of([1] * 3, distance=120).repeat(3, axis=0)
    centres = groups + clusters_of([1] * 9, distance=12, seed=1)
    points = centres.repeat(60, axis=0) + 0.5 * rng.normal(size=(540, 16))
    found = find_num_classes(points, most=12)
    assert found["criteria"]["silhouette"] < 9  # groups
    assert found["agreed"] == 9


def test_inertia_is_of_all_points():
    points = clusters_of([100] * 4)
    found = find_num_classes(points, most=6, most_points=150)
    assert found["num_points"] == 150
    assert found["agreed"] == 4
    assert found["inertia"][0] == pytest.approx(400 * points.var(axis=0).sum())
    within = points.reshape(4, 100, -1).var(axis=1).sum() * 100
    assert found["inertia"][3] == pytest.approx(within)
    assert (np.diff(found["inertia"]) < 0).all()
    assert find_num_classes(points, most=6)["num_points"] == 400


def test_pairs_kept_by_hand():
    clusters = np.array([0] * 6 + [1] * 5)
    assert pairs_kept(clusters, clusters) == 1
    assert pairs_kept(clusters, np.zeros(11, int)) == 1
    # Of cluster 0's fifteen pairs six stay together, of cluster 1's ten all.
    assigned = np.array([0, 0, 0, 1, 1, 1] + [2] * 5)
    assert pairs_kept(clusters, assigned) == pytest.approx(6 / 15)
    # Of cluster 1's ten pairs four.
    assigned = np.array([0] * 6 + [2, 2, 2, 3, 3])
    assert pairs_kept(clusters, assigned) == pytest.approx(4 / 10)
    # Clusters of fewer than five points, which would keep none, are outliers.
    outliers = np.array([2, 3, 4, 4]), np.array([0, 0, 0, 1])
    assert pairs_kept(np.append(clusters, outliers[0]), np.append(clusters, outliers[1])) == 1
    assert pairs_kept(np.array([0, 0, 1]), np.zeros(3, int)) == 0
