"""Dependence of latents: 1 for a copy, as if permuted for noise, and of random batches."""

from types import SimpleNamespace

import numpy as np
import pytest

from pvae_pyro.evaluate.dependence import dependence, measure
from pvae_pyro.evaluate.run import MeasureSettings


def noise(size, dim=3, seed=0):
    return np.random.default_rng(seed).normal(size=(size, dim))


def test_a_copy_depends_wholly_and_a_permuted_one_does_not():
    x = noise(200)
    found = dependence(x, 1 - 3 * x)
    assert found["dependence"] == pytest.approx(1.0)
    # 20 permutations of three batches of 64, each as in tests/objective/test_hsic.py.
    assert found["permuted_sd"] == pytest.approx((2 / (64 * 61) / 3) ** 0.5, rel=0.5)
    assert abs(found["permuted"]) < 4 * found["permuted_sd"] / 20**0.5
    assert found["num_examples"] == 192


def test_noise_is_as_if_permuted():
    found = dependence(noise(640), noise(640, 5, seed=1))
    assert abs(found["dependence"] - found["permuted"]) < 4 * found["permuted_sd"]


def test_examples_are_in_random_order():
    """Sorted by class, no batch would show that both latents have the class."""
    classes = np.repeat([[0.0], [9.0]], 128, 0)
    found = dependence(classes + noise(256, 1), classes + noise(256, 1, seed=1))
    assert found["dependence"] > 0.8


@pytest.mark.parametrize(("size", "used"), [(4, 4), (63, 63), (64, 64), (127, 64), (128, 128)])
def test_whole_batches_or_one(size, used):
    assert dependence(noise(size), noise(size, seed=1))["num_examples"] == used


def test_too_few_examples_have_none_and_why():
    found = dependence(noise(3), noise(3))
    assert (found["dependence"], found["permuted"], found["permuted_sd"]) == (None, None, None)
    assert "4 examples" in found["reason"]


def test_samples_and_means_of_each_modality():
    x = noise(64)
    means = {"z_sem": {"a": x, "b": noise(64, seed=1)}, "z_style": {"a": x, "b": noise(64, seed=2)}}
    samples = means | {"z_style": {"a": noise(64, seed=3), "b": means["z_sem"]["b"]}}
    run = SimpleNamespace(latents=lambda _, sampled=False: samples if sampled else means)
    found = measure(run, MeasureSettings())
    values = {(m, k): one["dependence"] for m, of in found.items() for k, one in of.items()}
    dependent = {("a", "means"), ("b", "samples")}
    assert {of for of, value in values.items() if value > 0.99} == dependent
    assert {of for of, value in values.items() if value < 0.15} == values.keys() - dependent
    run = SimpleNamespace(latents=lambda *_, **__: {"z": {"a": x}})
    assert measure(run, MeasureSettings()) == {}
