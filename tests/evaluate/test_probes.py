"""Probes: what is there is read, what is not is at chance."""

from types import SimpleNamespace

import numpy as np
import pytest

from pvae_pyro.evaluate import kl
from pvae_pyro.evaluate.probes import group_probe, linear_probe, measure, nonlinear_probe


def latents_of(labels, informative=True, seed=0):
    """Four dimensions; the label decides the first two, of which the second is tiny."""
    latents = np.random.default_rng(seed).normal(size=(len(labels), 4))
    if informative:
        labels = np.asarray(labels)
        latents[:, 0] += 10 * (labels % 2)
        latents[:, 1] = 1e-4 * (latents[:, 1] + 10 * (labels // 2))
    return latents


def test_a_linear_label_is_read_at_any_scale():
    train_labels, test_labels = np.arange(200) % 4, np.arange(40) % 4
    scores = linear_probe(
        latents_of(train_labels), train_labels, latents_of(test_labels, seed=1), test_labels
    )
    assert scores == {"accuracy": 1.0, "chance": 0.25, "num_train": 200, "num_test": 40}


def test_noise_is_at_chance():
    train_labels, test_labels = np.arange(2000) % 4, np.arange(1000) % 4
    scores = linear_probe(
        latents_of(train_labels, False),
        train_labels,
        latents_of(test_labels, False, seed=1),
        test_labels,
    )
    assert scores["accuracy"] == pytest.approx(0.25, abs=0.05)


def test_one_class_has_no_probe():
    """Also where the one that others are of is not drawn."""
    scores = linear_probe(np.eye(3), np.zeros(3), np.eye(3), np.arange(3))
    assert (scores["accuracy"], scores["chance"]) == (None, None)
    assert "one label" in scores["reason"]
    labels = np.arange(1000) // 999
    scores = linear_probe(np.zeros((1000, 1)), labels, np.zeros((2, 1)), np.arange(2), most=3)
    assert scores["accuracy"] is None
    found = group_probe(np.eye(9), ["a"] * 5 + ["b"] * 4, np.eye(9), ["a"] * 5 + ["b"] * 4, most=1)
    assert (found["accuracy"], found["chance"]) == (None, None)
    assert "one label" in found["reason"]


def test_a_class_that_no_line_separates_is_read_by_the_nonlinear_probe():
    """Exclusive or: the class is whether the signs of two dimensions differ."""
    rng = np.random.default_rng(0)
    train, test = rng.choice([-1.0, 1.0], (600, 2)), rng.choice([-1.0, 1.0], (200, 2))
    signs = [(part.prod(1) > 0).astype(int) for part in (train, test)]
    train, test = (part + 0.1 * rng.normal(size=part.shape) for part in (train, test))
    scores = nonlinear_probe(train, signs[0], test, signs[1])
    assert scores["accuracy"] == 1.0
    assert scores["chance"] == linear_probe(train, signs[0], test, signs[1])["chance"]
    assert linear_probe(train, signs[0], test, signs[1])["accuracy"] < 0.65
    assert nonlinear_probe(train, signs[0], test, signs[1]) == scores


def test_the_nonlinear_probe_finds_a_shape():
    """Both classes have the same mean and covariance: a ring and a Gaussian."""
    rng = np.random.default_rng(0)
    labels, z = np.arange(2000) % 2, rng.normal(size=(2000, 2))
    z[labels == 1] *= 2**0.5 / np.linalg.norm(z[labels == 1], axis=1, keepdims=True)
    known, test = slice(1500), slice(1500, 2000)
    scores = nonlinear_probe(z[known], labels[known], z[test], labels[test])
    assert scores["accuracy"] > 0.8  # the Gaussian crosses the ring
    assert linear_probe(z[known], labels[known], z[test], labels[test])["accuracy"] < 0.6


def test_active_dimensions_have_a_tenth_of_a_nat():
    assert kl.active_dimensions(np.array([0.0, 0.09, 0.1, 7.0])).tolist() == [
        *(False, False, True, True)
    ]


def test_probes_of_active_dimensions_do_not_see_the_others():
    """The class lies in a dimension that training hardly uses; the one in use is noise."""
    labels = {"train": np.arange(600) % 2, "test": np.arange(200) % 2}
    latents = {
        part: {
            "z_style": {"a": np.stack([of, np.random.default_rng(len(of)).normal(size=len(of))], 1)}
        }
        for part, of in labels.items()
    }
    examples = {part: {"a": SimpleNamespace(labels=of, groups=())} for part, of in labels.items()}
    used = {"train": np.array([0.05, 2.0]), "test": np.array([0.25, 1.5])}
    run = SimpleNamespace(
        test=examples["test"],
        examples=lambda part: examples[part],
        latents=lambda part, sampled=False: latents[part],
        kl=lambda part: {"z_style": {"a": used[part]}},
    )
    found = measure(run, None)["z_style"]["a"]
    assert found["class"]["accuracy"] == found["class_nonlinear"]["accuracy"] == 1.0
    for probe in ("class_of_active", "class_nonlinear_of_active"):
        assert found[probe]["accuracy"] < 0.65
        assert found[probe]["num_dims"] == 1
    assert kl.measure(run, None) == {"z_style": {"a": {"nats": 1.75, "active": 1, "dimensions": 2}}}
    used["train"][1] = 0.0
    found = measure(run, None)["z_style"]["a"]["class_of_active"]
    assert (found["accuracy"], found["num_dims"]) == (None, 0)
    assert "no such dimension" in found["reason"]


def names(groups):
    return [f"speaker{g}" for g in groups]


def test_groups_seen_in_training():
    train, test = np.arange(80) % 4, np.arange(20) % 2
    scores = group_probe(latents_of(train), names(train), latents_of(test, seed=1), names(test))
    assert scores == {
        "accuracy": 1.0,
        "chance": 0.5,
        "num_train": 40,
        "num_test": 20,
        "fitted_to": "train",
        "num_groups": 2,
    }


@pytest.mark.parametrize("train_groups", [["someone"] * 50, []])
def test_unseen_groups_are_probed_within_the_test_partition(train_groups):
    groups = np.array([0] * 20 + [1] * 20 + [2] * 10 + [3])
    scores = group_probe(
        np.zeros((len(train_groups), 4)), train_groups, latents_of(groups), names(groups)
    )
    assert scores == {
        "accuracy": 1.0,
        "chance": 0.4,
        "num_train": 25,
        "num_test": 25,
        "fitted_to": "half of test",
        "num_groups": 3,
    }


def test_a_probed_half_never_scores_itself():
    """Noise in many dimensions, which a linear probe reads perfectly where it was fitted."""
    latents = np.random.default_rng(0).normal(size=(60, 100))
    scores = group_probe(np.zeros((0, 100)), [], latents, names(np.arange(60) % 2))
    assert scores["accuracy"] < 0.8


@pytest.mark.parametrize(
    ("groups", "reason"),
    [([], "no groups"), (["a"] * 10, "fewer than two"), ([*"aaaabbb"], "fewer than two")],
)
def test_no_probe_and_why(groups, reason):
    scores = group_probe(np.zeros((0, 4)), [], np.zeros((len(groups), 4)), groups)
    assert scores["accuracy"] is None
    assert scores["chance"] is None
    assert reason in scores["reason"]
