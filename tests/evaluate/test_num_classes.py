"""The number of classes, where it is known; and each step of the rule by hand."""

import numpy as np
import pytest

from pvae_pyro.evaluate.num_classes import (
    are_classes,
    find_num_classes,
    inertias,
    join_alike,
    join_touching,
)


def clusters_of(sizes, dim=16, distance=10.0, seed=0):
    """Round clusters of unit scale; any two centres are about `distance` apart."""
    rng = np.random.default_rng(seed)
    centres = distance / np.sqrt(2 * dim) * rng.normal(size=(len(sizes), dim))
    return centres.repeat(sizes, axis=0) + rng.normal(size=(sum(sizes), dim))


@pytest.mark.parametrize(("k", "size", "dim"), [(2, 150, 8), (5, 60, 16), (10, 60, 32)])
def test_separated_clusters_are_counted(k, size, dim):
    found = find_num_classes(clusters_of([size] * k, dim))
    assert found["number"] == found["components"] == k
    assert found["sizes"] == pytest.approx([1 / k] * k, abs=0.01)
    assert np.argmax(found["bic"]) == k - 1
    assert not found["capped"]


def test_the_search_goes_beyond_thirty_and_says_where_it_was_stopped():
    points = clusters_of([25] * 35, distance=16)
    assert find_num_classes(points)["number"] == 35
    capped = find_num_classes(points, most=32)
    assert capped["number"] == 32
    assert capped["capped"]
    assert "--most-classes" in capped["reason"]
    assert find_num_classes(points, most=1)["number"] == 1


def test_sizes_may_be_very_unequal():
    """Two of the classes have 0.5 % of the points, as many as 10."""
    found = find_num_classes(clusters_of([10, 10, 80, 300, 600, 1000], distance=14))
    assert found["number"] == 6
    assert found["sizes"] == sorted(found["sizes"], reverse=True)


@pytest.mark.parametrize("kind", ["round", "heavy tails", "elongated"])
def test_no_structure_is_one_class(kind):
    rng = np.random.default_rng(0)
    points = {
        "round": rng.normal(size=(500, 16)),
        "heavy tails": rng.standard_t(6, size=(500, 8)),
        "elongated": rng.normal(size=(500, 8)) * np.r_[4.0, 2.0, np.ones(6)],
    }[kind]
    turned = points @ np.linalg.qr(rng.normal(size=(points.shape[1],) * 2))[0]
    assert find_num_classes(turned)["number"] == 1


def test_parts_that_touch_are_one_class_and_parts_that_do_not_are_two():
    """Two speakers of each of three words, 2 and 6 standard deviations apart."""
    rng = np.random.default_rng(0)
    words = clusters_of([1] * 3, distance=20).repeat(200, axis=0)
    for apart, expected in ((2.0, 3), (6.0, 6)):
        speakers = np.tile(np.eye(2, 16).repeat(100, axis=0) * apart / np.sqrt(2), (3, 1))
        points = words + speakers + rng.normal(size=words.shape)
        assert find_num_classes(points)["number"] == expected


def test_outliers_are_no_classes():
    """Eight points among 600, three times as far out as the clusters are from each other."""
    rng = np.random.default_rng(0)
    points = clusters_of([100] * 6, distance=12)
    points[rng.choice(600, 8, replace=False)] = 9 * rng.normal(size=(8, 16))
    found = find_num_classes(points)
    assert found["number"] == 6
    assert 0.98 < sum(found["sizes"]) < 1


def test_classes_in_groups():
    """Three groups of three clusters; groups are ten times as far apart as their clusters."""
    groups = clusters_of([1] * 3, distance=120).repeat(3, axis=0)
    centres = groups + clusters_of([1] * 9, distance=12, seed=1)
    points = centres.repeat(60, axis=0) + np.random.default_rng(0).normal(size=(540, 16))
    assert find_num_classes(points)["number"] == 9


def test_number_does_not_depend_on_scale_place_or_order():
    points = clusters_of([50] * 5)
    expected = find_num_classes(points)
    turned = 1000 * points[::-1] + 7
    found = find_num_classes(turned)
    assert found["number"] == expected["number"] == 5
    assert found["sizes"] == pytest.approx(expected["sizes"])


def test_at_most_so_many_points_are_used():
    points = clusters_of([200] * 4)
    found = find_num_classes(points, most_points=300)
    assert (found["number"], found["num_points"]) == (4, 300)
    with pytest.raises(ValueError, match="fewer than 8 distinct points"):
        find_num_classes(np.ones((100, 3)))


def test_what_a_single_gaussian_explains_is_joined():
    """Two halves of one long cluster, and a cluster of its own; each point is in one component."""
    rng = np.random.default_rng(0)
    long = rng.normal(size=(400, 4)) * [5.0, 1.0, 1.0, 1.0]
    points = np.concatenate([long, rng.normal(size=(100, 4)) + 5 * np.eye(4)[1]])
    component = np.r_[long[:, 0] > 0, np.full(100, 2)].astype(int)
    shares = join_alike(points, np.eye(3)[component])
    assert shares.shape == (500, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert sorted(np.bincount(shares.argmax(axis=1))) == pytest.approx([100, 400], abs=5)


def test_components_without_a_valley_are_joined_through_their_neighbours():
    """Three thirds of a uniform interval: the outer ones are joined through the one between."""
    points = np.linspace(0, 3, 600)[:, None]
    component = np.minimum(points[:, 0], 2.99).astype(int)
    shares = 0.94 * np.eye(3)[component] + 0.02
    assert join_touching(points, shares).shape == (600, 1)
    apart = points + 2.0 * component[:, None]
    np.testing.assert_allclose(join_touching(apart, shares), shares)


def test_few_points_and_wide_groups_are_background():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2, 3], [100, 100, 4, 20])
    points = rng.normal(size=(224, 6)) + 9 * group[:, None]
    points[group == 3] *= 4
    assert are_classes(points, np.eye(4)[group]).tolist() == [True, True, False, False]


def test_inertia_is_of_all_points():
    points = clusters_of([100] * 4)
    curve = inertias(points, most=6, most_points=150)
    assert len(curve) == 6
    assert curve[0] == pytest.approx(400 * points.var(axis=0).sum())
    assert curve[3] == pytest.approx(points.reshape(4, 100, -1).var(axis=1).sum() * 100)
    assert (np.diff(curve) < 0).all()
