import numpy as np
import pytest

from pvae_pyro.evaluate.clustering import (
    active_units,
    clustering_scores,
    hungarian_accuracy,
    partition_scores,
    purity,
)


def test_purity_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 2])
    clusters = np.array([5, 5, 9, 9, 9, 9])
    # cluster 5 holds two of class 0; cluster 9 holds at best two of class 1: (2 + 2) / 6.
    assert purity(labels, clusters) == pytest.approx(4 / 6)


def test_hungarian_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    clusters = np.array([4, 4, 4, 5, 4, 4, 5, 5, 4])
    # Two clusters for three classes: 4 is 0 (three), 5 is 2 (two); class 1 is lost.
    assert hungarian_accuracy(labels, clusters) == pytest.approx(5 / 9)
    # Both clusters are mostly of class 0; only one may be named so, where purity names both.
    labels, clusters = np.array([0, 0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 1, 1])
    assert purity(labels, clusters) == pytest.approx(5 / 6)
    assert hungarian_accuracy(labels, clusters) == pytest.approx(4 / 6)


def test_hungarian_of_more_clusters_than_classes():
    labels = np.arange(2).repeat(6)
    clusters = np.arange(4).repeat(3)
    assert hungarian_accuracy(labels, clusters) == 0.5
    assert hungarian_accuracy(clusters, labels) == 0.5
    assert hungarian_accuracy(labels, 9 - labels) == 1.0


def test_scores_of_separated_and_of_meaningless_latents():
    rng = np.random.default_rng(0)
    labels = np.arange(4).repeat(50)
    centres = 10 * np.eye(4)[labels]
    scores = clustering_scores(centres + 0.1 * rng.normal(size=(200, 4)), labels, 4)
    found = {score: scores[score] for score in ("purity", "nmi", "ari", "hungarian")}
    assert found == pytest.approx(dict.fromkeys(found, 1.0))
    noise = clustering_scores(rng.normal(size=(200, 4)), labels, 4)
    assert noise["purity"] < 0.45
    assert noise["hungarian"] < 0.45
    assert noise["nmi"] < 0.1
    assert abs(noise["ari"]) < 0.1
    for score in ("purity", "nmi", "hungarian"):
        assert noise[score] == pytest.approx(noise[f"{score}_chance"], abs=0.05)


def test_nmi_and_ari_by_hand():
    """Labels 0 0 1 1 in clusters 0 0 0 1."""
    scores = partition_scores(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
    # I = H(L) - H(L|C) = ln 2 - 3/4 (ln 3 - 2/3 ln 2); H(L) = ln 2; H(C) = ln 4 - 3/4 ln 3.
    information = np.log(2) - 0.75 * (np.log(3) - 2 / 3 * np.log(2))
    entropies = (np.log(2) + np.log(4) - 0.75 * np.log(3)) / 2
    assert scores["nmi"] == pytest.approx(information / entropies)
    # Pairs in both: 1; in labels: 2; in clusters: 3; of 6: (1 - 1) / (2.5 - 1) = 0.
    assert scores["ari"] == pytest.approx(0.0)
    assert scores["purity"] == scores["hungarian"] == 0.75


def test_active_units():
    locs = np.zeros((100, 4))
    locs[:, 0] = np.linspace(-1, 1, 100)  # its variance is 0.34
    locs[:, 1] = 0.01 * locs[:, 0]
    locs[:, 2] = 0.1 * locs[:, 0]  # 0.0034: below 0.01, though its standard deviation is 0.058
    locs[:, 3] = 0.2 * locs[:, 0]  # 0.014
    assert active_units(locs) == 2
