"""Retrieval across modalities, by hand and against a random order."""

import numpy as np
import pytest

from pvae_pyro.evaluate.retrieval import chance, retrieval_scores


def test_ranks_by_hand():
    gallery, gallery_labels = np.array([[0.0], [1.0], [2.0], [9.0]]), np.array([7, 8, 8, 7])
    queries, query_labels = np.array([[0.1], [0.2], [6.0]]), np.array([7, 8, 8])
    # Nearest relevant: itself first; 8 at 1.0 second; 8 at 2.0 after 9.0: ranks 1, 2, 2.
    scores = retrieval_scores(queries, query_labels, gallery, gallery_labels)
    assert scores["recall_at_1"] == pytest.approx(1 / 3)
    assert scores["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert scores["chance_recall_at_1"] == 0.5
    # Of four in random order, two relevant: first at 1, 2, 3 with 1/2, 1/3, 1/6.
    assert scores["chance_mrr"] == pytest.approx(1 / 2 + 1 / 6 + 1 / 18)
    assert scores["num_queries"] == 3


def test_a_latent_of_one_point_retrieves_nothing():
    labels = np.array([0, 0, 1, 1])
    scores = retrieval_scores(np.zeros((4, 2)), labels, np.zeros((4, 2)), labels)
    assert scores["recall_at_1"] == 0
    assert scores["mrr"] == pytest.approx(1 / 3)  # after the two of the other class


def test_queries_of_unknown_classes_are_left_out():
    gallery, labels = np.array([[0.0], [5.0]]), np.array([0, 1])
    scores = retrieval_scores(np.array([[0.0], [0.0]]), np.array([0, 2]), gallery, labels)
    assert scores["num_queries"] == 1
    assert scores["recall_at_1"] == 1
    with pytest.raises(ValueError, match="no query"):
        retrieval_scores(np.zeros((1, 1)), np.array([2]), gallery, labels)


def test_chance_is_what_a_random_order_reaches():
    recall, mrr = chance(3, 20)
    rng = np.random.default_rng(0)
    ranks = 1 + np.array([rng.permutation(20).argsort()[:3].min() for _ in range(20000)])
    assert recall == pytest.approx((ranks == 1).mean(), abs=0.01)
    assert mrr == pytest.approx((1 / ranks).mean(), abs=0.01)
    assert chance(4, 4) == (1.0, 1.0)
    # One of M: (1 + 1/2 + ... + 1/M) / M.
    assert chance(1, 4) == (0.25, pytest.approx(25 / 48))
